"""Dense LION and the diffusion of points: near the identity at first, order does not matter, every weight learns."""

import pytest
import torch

from becalm.systems import lion, pvd
from becalm.systems.lion import DenseLion
from becalm.systems.lion_sparse import Way
from becalm.systems.lion_sparse_autoencoder import Latent
from becalm.systems.pvd import PointDiffusion
from becalm.weights.store import load, save

LABEL = torch.tensor([1, 0])


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(seed: int = 0) -> DenseLion:
    torch.manual_seed(seed)
    return DenseLion(["a", "b"], [8, 16, 24, 2, 1])


def points(seed: int = 0) -> PointDiffusion:
    torch.manual_seed(seed)
    return PointDiffusion(["a", "b"], [16, 24, 2, 1], 0.5)


def stirred(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module


@pytest.mark.parametrize("seed", range(5))
def test_a_fresh_autoencoder_is_near_the_identity_whatever_z_is_drawn(seed):
    made, x = dense(seed), torch.randn(3, 50, 3, generator=gen(seed))
    with torch.no_grad():
        posterior, latent = made.encode(x, gen(seed))
        found = made.decode(Latent(30 * torch.randn(3, 8, generator=gen()), latent.h))
    assert (found - x).abs().mean() < 1e-2
    assert ((posterior.h.log_sigma + 6).abs() < 1).all()
    assert torch.allclose(posterior.z.log_sigma, torch.tensor(-3.0))


def test_the_order_of_points_does_not_matter():
    made, x, order = (
        stirred(dense()).eval(),
        torch.randn(2, 40, 3, generator=gen()),
        torch.randperm(40, generator=gen(1)),
    )
    with torch.no_grad():
        (z, _), latent = made.encode(x, gen())
        torch.testing.assert_close(z.mean, made.encode(x[:, order], gen())[0].z.mean, rtol=1e-4, atol=1e-4)
        moved = Latent(latent.z, latent.h[:, order])
        torch.testing.assert_close(made.decode(latent)[:, order], made.decode(moved), rtol=1e-4, atol=1e-4)


def test_every_weight_learns_in_its_stage():
    made, x = stirred(dense()), torch.randn(4, 40, 3, generator=gen())
    lion.autoencoder_losses(made, x, 0.1, gen())["loss"].backward()
    latent = Latent(torch.randn(4, 8, generator=gen()), torch.randn(4, 40, 4, generator=gen(1)))
    lion.prior_losses(made, latent, torch.tensor([1, 2, 1, 2]), gen())["loss"].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_the_loss_is_the_papers():
    made, x = dense(), torch.randn(2, 40, 3, generator=gen())
    terms = lion.autoencoder_losses(made, x, 0.5, gen(1))
    with torch.no_grad():
        (z, h), latent = made.encode(x, gen(1))
        total = (x - made.decode(latent)).abs().sum() + 0.5 * (z.divergence().sum() + h.divergence().sum())
    torch.testing.assert_close(terms["loss"] * 120, total / 2, rtol=1e-4, atol=0)


def test_dense_shapes_are_drawn_and_kept(tmp_path):
    made = stirred(dense()).eval()
    made.measure(Latent(2 * torch.randn(9, 8, generator=gen()), torch.randn(9, 40, 4, generator=gen(1))))
    one, same, other = (lion.generate(made, LABEL, 40, Way(2), gen(seed)) for seed in (0, 0, 1))
    assert one.shape == (2, 40, 3)
    assert torch.isfinite(one).all() and torch.equal(one, same) and not torch.allclose(one, other)
    save(made, tmp_path / "d.safetensors", {})
    assert torch.equal(lion.generate(load(tmp_path / "d.safetensors", DenseLion), LABEL, 40, Way(2), gen()), one)


def test_points_are_diffused_in_any_number_and_any_order():
    made, order = stirred(points()).eval(), torch.randperm(30, generator=gen(1))
    z, t = torch.randn(2, 30, 3, generator=gen()), torch.full((1, 1, 1), 0.4)
    with torch.no_grad():
        said = made(z, t, {"label": LABEL})
        torch.testing.assert_close(said[:, order], made(z[:, order], t, {"label": LABEL}), rtol=1e-4, atol=1e-4)
    assert pvd.generate(made, LABEL, 70, 2, gen()).shape == (2, 70, 3)


def test_a_diffusion_of_points_learns_where_points_are():
    """All points at one of two places, by class."""
    made = points()
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    places = torch.tensor([[0.5, 0.5, 0.0], [-0.5, 0.0, 0.5]])
    for step in range(120):
        label = torch.randint(1, 3, (32,), generator=gen(step))
        optimiser.zero_grad()
        terms = pvd.losses(made, places[label - 1][:, None].repeat(1, 4, 1), label, gen(step))
        terms["loss"].backward()
        optimiser.step()
    found = pvd.generate(made, torch.tensor([1, 2] * 8), 4, 10, gen())
    near = torch.cdist(found.flatten(0, 1), places).argmin(1).reshape(16, 4) + 1
    assert (near == torch.tensor([1, 2] * 8)[:, None]).float().mean() > 0.95
