"""Points on the ridge of a decoded density: the same density, thinner sheets, rods that stay."""

import pytest
import torch

from becalm.systems import lion_sparse_autoencoder, lion_sparse_surface
from becalm.systems.lion import Latent
from becalm.systems.lion_sparse_autoencoder import Autoencoder, Sizes, decode_density, sample_density
from becalm.systems.lion_sparse_surface import Gaussians, move_to_ridge, smoothed_gaussians


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussians(mean: torch.Tensor, deviation: list[float]) -> Gaussians:
    """One Gaussian of these deviations along x, y and z about each mean."""
    precision = torch.tensor(deviation).pow(-2).diag().expand(len(mean), 3, 3)
    return Gaussians(torch.zeros(1, len(mean)), mean[None], precision[None])


def test_two_sheets_that_disagree_become_one():
    places = torch.cartesian_prod(torch.arange(-4.0, 5), torch.arange(-4.0, 5))
    sheets = torch.cat([torch.cat([places, torch.full((81, 1), z)], 1) for z in (-0.1, 0.1)])
    points = torch.rand(1, 500, 3, generator=gen()) * 4 - 2
    points[..., 2] = 0.1 * torch.randn(500, generator=gen()).sign() + 0.05 * torch.randn(500, generator=gen(1))
    moved = move_to_ridge(points, gaussians(sheets, [0.7, 0.7, 0.15]))
    assert moved[..., 2].abs().max() < 0.35 * points[..., 2].abs().max()
    assert (moved - points)[..., :2].abs().max() < 1e-3, "along the sheet points stay"


def test_rods_and_balls_stay():
    along = torch.stack([torch.arange(-5.0, 6), torch.zeros(11), torch.zeros(11)], 1)
    points = torch.randn(1, 300, 3, generator=gen()) * torch.tensor([2.0, 0.1, 0.1])
    torch.testing.assert_close(move_to_ridge(points, gaussians(along, [0.7, 0.1, 0.1])), points)
    torch.testing.assert_close(move_to_ridge(points, gaussians(torch.zeros(1, 3), [1.0, 1.0, 1.0])), points)


def test_the_gaussians_are_those_that_points_are_sampled_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lion_sparse_autoencoder, "TEMPERATURE", 1.0)
    monkeypatch.setattr(lion_sparse_surface, "SMOOTHING", 3.0)
    torch.manual_seed(0)
    made = Autoencoder(Sizes(4, 8, 16, 2, 2, 3), 0.2).eval()
    for parameter in made.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    latent = Latent(torch.randn(1, 66, generator=gen()), torch.randn(1, 4, 11, generator=gen(1)))
    with torch.inference_mode():
        density = decode_density(made, latent)
        found = smoothed_gaussians(density, latent, 0.2)
    covariance = torch.linalg.inv(found.precision[0].double())
    share = (found.log_weight[0] + torch.logdet(covariance * 0.2**-2) / 2).exp()
    torch.testing.assert_close(float(share.sum()), 1.0, atol=1e-3, rtol=0)
    mean = (share[:, None] * found.mean[0]).sum(0)
    spread = found.mean[0] - mean
    smoothing = (3.0 * 0.2) ** 2 * torch.eye(3)
    whole = (share[:, None, None] * (covariance - smoothing + spread[:, :, None] * spread[:, None])).sum(0)
    sampled = sample_density(density, latent, 0.2, 20_000, gen())[0].double()
    torch.testing.assert_close(sampled.mean(0), mean.double(), atol=0.02, rtol=0)
    torch.testing.assert_close(sampled.T.cov(), whole.double(), atol=0.03, rtol=0.03)
