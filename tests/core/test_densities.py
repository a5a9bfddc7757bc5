"""Densities: normalised, with the score of their logarithm, and samples that are theirs."""

import math

import pytest
import torch

from becalm.core.densities import (
    Checkerboard,
    Gaussian,
    GaussianMixture,
    Mixture,
    Ring,
    eight_gaussians,
    isotropic_gaussian,
    rings,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated(d: int) -> Gaussian:
    root = torch.randn(d, d, generator=generator(d), dtype=torch.float64)
    return Gaussian(torch.arange(d).double() / 2, root @ root.T / d + 0.2 * torch.eye(d).double())


FLAT = {
    "gaussian": correlated(2),
    "eight": eight_gaussians(),
    "unlike": GaussianMixture(
        torch.eye(2).double(), torch.tensor([0.2, 0.8]).double(), torch.tensor([0.3, 0.6]).double()
    ),
    "ring": Ring(2.0, 0.2),
    "no hole": Ring(0.0, 0.7),
    "rings": rings((1.0, 2.0), 0.15),
    "board": Checkerboard(deviation=0.15),
    "blend": Mixture((correlated(2), Ring(1.5, 0.2)), torch.tensor([0.3, 0.7]).double()),
}
DEEP = {
    "gaussian 5": correlated(5),
    "ring 3": Ring(1.0, 0.3, 3),
    "ring 6": Ring(0.5, 0.4, 6),
    "board 1": Checkerboard(2, 1.0, 0.2, 1),
    "board 3": Checkerboard(4, 2.0, 0.25, 3),
    "standard 4": isotropic_gaussian(4, 0.5),
    "blurred ring": Ring(1.2, 0.3).convolve(0.3),
}
ALL = {**FLAT, **DEEP}


@pytest.mark.parametrize("density", FLAT.values(), ids=FLAT.keys())
def test_a_density_is_normalised(density):
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)
    assert abs(density.log_prob(x).exp().sum() * 4e-4 - 1) < 1e-6


@pytest.mark.parametrize("d", [2, 3, 6, 40])
def test_a_ring_s_radii_are_normalised(d):
    ring = Ring(1.0, 0.3, d)
    r = torch.linspace(1e-6, 8, 200_001, dtype=torch.float64)
    area = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
    along = torch.zeros(len(r), d).double()
    along[:, 0] = r
    mass = torch.exp(ring.log_prob(along) + (d - 1) * r.log() + area)
    assert abs(torch.trapezoid(mass, r) - 1) < 1e-6
    assert math.isfinite(Ring(10.0, 0.1, 2000).log_normalizer())


@pytest.mark.parametrize("density", ALL.values(), ids=ALL.keys())
def test_the_score_is_the_gradient_of_log_p(density):
    x = density.sample(20, generator()) + 0.1
    slope = density.score(x)
    automatic = torch.func.grad(lambda place: density.log_prob(place).sum())(x)
    torch.testing.assert_close(slope, automatic, rtol=1e-10, atol=1e-10)
    h = 1e-5
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, i] = h
        difference = (density.log_prob(x + step) - density.log_prob(x - step)) / (2 * h)
        torch.testing.assert_close(slope[:, i], difference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("density", ALL.values(), ids=ALL.keys())
def test_samples_and_score_belong_together(density):
    """Stein: E[s] = 0 and E[s xᵀ] = −I."""
    x = density.sample(60_000, generator(5))
    s = density.score(x)
    for draws, expected in ((s, 0.0), (s[:, :, None] * x[:, None, :], -torch.eye(x.shape[1]).double())):
        error = draws.std(0) / len(x) ** 0.5
        assert ((draws.mean(0) - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize("name", ["eight", "ring", "board", "blend"])
def test_samples_have_the_moments_of_the_density(name):
    density, grid = FLAT[name], torch.linspace(-5, 5, 801, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    mass = density.log_prob(places).exp() * (grid[1] - grid[0]) ** 2
    x = density.sample(60_000, generator(6))
    for wave in (torch.tensor([1.0, 0.0]), torch.tensor([2.0, -1.0]), torch.tensor([math.pi, math.pi])):
        for f in (torch.sin, torch.cos):
            draws = f(x @ wave.double())
            assert abs(draws.mean() - (mass * f(places @ wave.double())).sum()) < 4 * draws.std() / 60_000**0.5


@pytest.mark.parametrize("name", ["gaussian", "eight", "board", "ring", "rings"])
def test_blurring_is_convolution(name):
    density, sigma = FLAT[name], 0.4
    grid = torch.linspace(-6, 6, 601, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    for x in torch.tensor([[0.3, 0.2], [1.9, -0.4], [-2.5, 1.0]]).double():
        kernel = isotropic_gaussian(2, sigma).log_prob(x - places)
        whole = torch.exp(density.log_prob(places) + kernel).sum() * (grid[1] - grid[0]) ** 2
        torch.testing.assert_close(density.convolve(sigma).log_prob(x).exp(), whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("density", ALL.values(), ids=ALL.keys())
def test_far_away_and_in_between_all_is_finite_and_leads_back(density):
    d = density.sample(1, generator()).shape[1]
    x = torch.full((1, d), 30.0)
    x[0, 0] = -35.0
    assert density.score(x).dtype == density.log_prob(x).dtype == torch.float32
    assert torch.isfinite(density.log_prob(x)).all()
    assert (density.score(x) * x).sum() < 0
    assert torch.isfinite(density.score(torch.zeros(2, 3, d))).all()
    assert density.log_prob(torch.zeros(2, 3, d)).shape == (2, 3)


def test_the_middle_of_a_white_cell_keeps_its_digits():
    board = Checkerboard(4, 2.0, 0.02)
    white = torch.tensor([[0.5, -0.5], [0.4, -0.5]]).double()
    log = board.log_prob(white)
    nearest = math.log(4 * 0.5 * math.erfc(0.5 / (0.02 * math.sqrt(2)))) - math.log(8)
    torch.testing.assert_close(float(log[0]), nearest, rtol=1e-6, atol=0)
    assert log[1] > log[0] + 50
    assert board.score(white)[1, 0] < -400


def test_draws_follow_the_generator():
    for density in ALL.values():
        assert torch.equal(density.sample(50, generator(1)), density.sample(50, generator(1)))
        assert not torch.equal(density.sample(50, generator(1)), density.sample(50, generator(2)))


@pytest.mark.parametrize("wrong", [{"radius": -1.0}, {"width": 0.0}, {"dimension": 1}])
def test_impossible_rings_are_refused(wrong):
    with pytest.raises(ValueError, match="Ring"):
        Ring(**wrong)


@pytest.mark.parametrize("wrong", [{"cells_per_side": 3}, {"deviation": 0.0}, {"half_width": 0.0}, {"dimension": 0}])
def test_impossible_boards_are_refused(wrong):
    with pytest.raises(ValueError, match="Checkerboard"):
        Checkerboard(**wrong)
