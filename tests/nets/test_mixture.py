"""Mixtures of Gaussians that a network predicts: density and samples against torch's own."""

import math

import torch

from becalm.nets.mixture import OUTLIER_SHARE, OUTLIER_STD, Mixture, MixtureHead, quasi_normal


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(rows: int = 2, parts: int = 3) -> Mixture:
    share = torch.randn(rows, parts, generator=gen(1)).log_softmax(-1)
    middle, log_scale, below = (torch.randn(rows, parts, 3, generator=gen(seed)) for seed in (2, 3, 4))
    return Mixture(share, middle, 0.5 * log_scale, below)


def normals(density: Mixture) -> torch.distributions.MultivariateNormal:
    """The parts, by their precision LᵀL."""
    lower = torch.diag_embed(density.log_scale.exp())
    lower[..., 1, 0], lower[..., 2, 0], lower[..., 2, 1] = density.lower.unbind(-1)
    return torch.distributions.MultivariateNormal(density.mean, precision_matrix=lower.mT @ lower)


def test_the_density_is_that_of_torch_with_a_share_of_outliers():
    density, x = mixture(), 2 * torch.randn(2, 7, 3, generator=gen())
    each = normals(density).log_prob(x.movedim(1, 0)[:, :, None]).movedim(0, 1)
    parts = (density.log_share[:, None] + each).logsumexp(-1)
    stray = torch.distributions.Normal(0, OUTLIER_STD).log_prob(x).sum(-1)
    expected = torch.logaddexp(parts + math.log(1 - OUTLIER_SHARE), stray + math.log(OUTLIER_SHARE))
    torch.testing.assert_close(density.log_density(x), expected, rtol=1e-4, atol=1e-4)


def test_samples_of_a_component_have_its_mean_and_covariance():
    density = mixture(1)
    many = Mixture(*(each.expand(60_000, *each.shape[1:]) for each in density))
    points = many.sample(torch.full((60_000, 1), 2), torch.randn(60_000, 3, generator=gen()))
    covariance = normals(density).covariance_matrix[0, 2]
    size = float(covariance.diagonal().max())
    torch.testing.assert_close(points.mean(0), density.mean[0, 2], rtol=0, atol=0.03 * size**0.5)
    torch.testing.assert_close(points.T.cov(), covariance, rtol=0, atol=0.03 * size)


def test_quasi_random_numbers_are_normal_and_more_evenly_spaced():
    found = quasi_normal(500, 8, gen())
    assert abs(float(found.mean())) < 0.04 and abs(float(found.std()) - 1) < 0.04
    one = found[:, 3].T
    torch.testing.assert_close(one.cov(), torch.eye(3), rtol=0, atol=0.2)
    quantiles = one.flatten().sort().values
    expected = torch.special.ndtri((torch.arange(1500) + 0.5) / 1500)
    assert (quantiles - expected).abs()[50:-50].max() < 0.2
    alone = torch.randn(500, 8, 3, generator=gen(1))
    near = [(torch.cdist(x, x) + 9 * torch.eye(8)).amin(1).mean() for x in (found, alone)]
    assert near[0] > 1.1 * near[1]


def test_a_head_begins_with_the_same_mixture_for_all_and_learns_each():
    torch.manual_seed(0)
    head, condition = MixtureHead(16, 2, 4, 0.5, 0.3), torch.eye(2)
    first = head(condition)
    assert all(torch.equal(part[0], part[1]) for part in first)
    assert torch.allclose(first.log_scale, torch.tensor(-math.log(0.3)))
    x = torch.stack([torch.randn(256, 3, generator=gen()), 0.1 * torch.randn(256, 3, generator=gen(1)) + 1])
    optimiser = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(150):
        loss = -head(condition).log_density(x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    entropy = 1.5 * math.log(2 * math.pi * math.e) + 1.5 * math.log(0.1)
    assert float(loss) < entropy + 0.1
