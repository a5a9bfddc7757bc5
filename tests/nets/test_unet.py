"""The U-Nets: shapes, the norm against the slow one, gradients everywhere, who can see whom."""

import pytest
import torch

from becalm.nets.unet import FlatUNet, FusedGroupNormSiLU, GroupNormSiLU, Perceptron, UNet

NETWORKS = {
    "flat": lambda: FlatUNet((6, 8), 3, 5, width=8, depth=2),
    "unet": lambda: UNet((8, 12), 3, 5, widths=[8, 16, 16], depth=1),
    "patched": lambda: UNet((8, 12), 3, 5, widths=[8, 16], depth=2, patch=2),
    "mlp": lambda: Perceptron((6, 8), 3, 5, width=32, depth=2),
}


def made(name: str):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    side = {"unet": (8, 12), "patched": (8, 12)}.get(name, (6, 8))
    x = torch.randn(2, *side, 3, generator=torch.Generator().manual_seed(1))
    return network, x, torch.tensor([0.2, 1.1])


def awake(network):
    """The network with every weight that begins at zero somewhere else."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_an_answer_a_pixel_and_a_gradient_for_every_weight(name):
    network, x, level = made(name)
    answer = awake(network)(x, level)
    assert answer.shape == (*x.shape[:3], 5)
    answer.square().mean().backward()
    still = [n for n, weight in network.named_parameters() if weight.grad is None or not weight.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("name", NETWORKS)
def test_the_level_matters_and_data_do_not_see_each_other(name):
    network, x, level = made(name)
    awake(network)
    both, one = network(x, level), network(x[:1], level[:1])
    torch.testing.assert_close(both[:1], one, rtol=1e-4, atol=1e-5)
    assert (network(x, level.flip(0)) - both).abs().max() > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_says_about_the_same(name):
    network, x, level = made(name)
    awake(network)
    exact = network(x, level)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x, level).float()
    assert (rough - exact).norm() < 0.05 * exact.norm()


def test_the_fused_norm_is_group_norm_and_silu_with_their_gradients():
    generator = torch.Generator().manual_seed(0)
    h, gradient = (torch.randn(3, 30, 12, generator=generator, dtype=torch.float64) + 0.5 for _ in range(2))
    weight, bias = (torch.randn(12, generator=generator, dtype=torch.float64) for _ in range(2))
    leaves = [part.requires_grad_() for part in (h, weight, bias)]
    slow = torch.nn.functional.silu(torch.nn.functional.group_norm(h.mT, 3, weight, bias)).mT
    fast = FusedGroupNormSiLU.apply(h, weight, bias, 3)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    for found, expected in zip(
        torch.autograd.grad(fast, leaves, gradient), torch.autograd.grad(slow, leaves, gradient), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_norm_takes_its_fast_way_in_bfloat16_and_agrees_with_the_other():
    norm = GroupNormSiLU(16)
    h = torch.randn(2, 16, 5, 7, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    fast = norm(h.bfloat16())
    made_by = fast.grad_fn.next_functions[0][0].next_functions[0][0]
    assert "NormSiLU" in type(made_by).__name__ and fast.dtype == torch.bfloat16
    torch.testing.assert_close(fast.float(), norm(h), rtol=0.03, atol=0.03)


def test_the_ordinary_one_sees_the_whole_picture_and_refuses_what_it_cannot_halve():
    network, x, level = made("unet")
    awake(network)
    seen = x[:1].clone().requires_grad_()
    network(seen, level[:1])[0, 0, 0].sum().backward()
    assert (seen.grad.abs().sum(-1) > 0).all()
    with pytest.raises(ValueError, match="no multiples of 4"):
        UNet((6, 8), 1, 1, widths=[8, 16, 16])


def test_a_fresh_vdm_network_is_vdm_s_size():
    """C = 64, n = 4 on CIFAR-10's colours with four Fourier features each: 1.33 million weights."""
    assert sum(w.numel() for w in FlatUNet((32, 32), 15, 3, 64, 4).parameters()) == pytest.approx(1.33e6, rel=0.01)
