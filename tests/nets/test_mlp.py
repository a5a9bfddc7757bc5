"""Small smooth networks: begin at nothing, are smooth, see what they should see and nothing else."""

import pytest
import torch

from becalm.nets.conv import ConvNet
from becalm.nets.mlp import LEVEL_FEATURES, Mlp, embed_noise_level


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """The same network with no weight at 0, in float64."""
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(parameter.numel())).double())
    return network


NETWORKS = {"mlp": (Mlp(2, 3, 16, 3), (5, 4, 2)), "conv": (ConvNet(2, 3, 4, 8, 2), (5, 16, 2))}


@pytest.mark.parametrize(("network", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_a_fresh_network_says_nothing(network, shape):
    assert (network.float()(torch.randn(shape), torch.zeros(1, 1, 1)) == 0).all()


@pytest.mark.parametrize(("network", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_one_level_is_the_same_however_it_is_told(network, shape):
    u = torch.randn(shape, generator=generator()).double()
    ways = [torch.full(s, -1.5).double() for s in ((1, 1, 1), (5, 1, 1), (*shape[:2], 1))]
    stirred(network)
    first, *others = (network(u, gamma) for gamma in ways)
    assert first.shape == (*shape[:2], 3) and first.abs().min() > 0
    for other in others:
        torch.testing.assert_close(other, first)
    assert (network(u, ways[0] + 1) - first).abs().max() > 1e-3, "the level matters"


@pytest.mark.parametrize(("network", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_a_sample_s_level_is_its_own(network, shape):
    u, gamma = torch.randn(shape, generator=generator()).double(), torch.zeros(5, 1, 1).double()
    first = stirred(network)(u, gamma)
    gamma[2] = 3
    changed = (network(u, gamma) - first).abs().amax((1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


def test_vectors_are_seen_alone_and_pixels_together():
    for (network, shape), together in zip(NETWORKS.values(), (False, True), strict=True):
        u = torch.randn(shape, generator=generator()).double()
        first, gamma = stirred(network)(u, torch.zeros(1, 1, 1).double()), torch.zeros(1, 1, 1).double()
        u[:, 0] += 1
        moved = (network(u, gamma) - first).abs().amax((0, 2)) > 0
        assert moved[0] and bool(moved[1:].all()) == together and bool(moved[1:].any()) == together


@pytest.mark.parametrize(("network", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_second_derivatives_live(network, shape):
    u = torch.randn(1, *shape[1:], generator=generator()).double()
    gamma = torch.zeros(1, 1, 1).double()
    energy = stirred(network)
    hessian = torch.autograd.functional.hessian(lambda place: energy(place, gamma).sum(), u)
    assert hessian.abs().max() > 1e-3  # type: ignore[union-attr]


def test_pixels_are_read_row_by_row():
    """A convolution that only copies its left neighbour moves what it sees to the right."""
    network = ConvNet(1, 1, 4, 1, 1)
    with torch.no_grad():
        network.enter.weight.copy_(torch.eye(3)[0].expand(1, 1, 3, 3) * torch.tensor([0, 1, 0])[:, None])
        network.enter.bias.zero_()  # type: ignore[union-attr]
        network.leave.weight.zero_()[..., 1, 1] = 1
    u = torch.zeros(1, 16, 1)
    u[0, 5] = 1
    assert network(u, torch.zeros(1, 1, 1))[0, :, 0].nonzero()[:, 0].tolist() == [6]


def test_levels_are_told_smoothly_and_apart():
    gamma = torch.linspace(-10, 6, 400, dtype=torch.float64)[:, None]
    seen = embed_noise_level(gamma)
    assert seen.shape == (400, LEVEL_FEATURES) and (seen[:, 1:].abs() <= 1).all()
    apart = torch.cdist(seen, seen) + 10 * torch.eye(400)
    assert apart.min() > 0.01
    assert (seen.diff(dim=0).norm(dim=1) < 0.2).all()
