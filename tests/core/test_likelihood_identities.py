"""Identities of the bound that hold for exact denoisers, in closed form or by quadrature."""

import math

import numpy as np
import pytest
import torch

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.learned import Learned
from becalm.core.likelihood import (
    bits_per_dim,
    continuous_time_weight,
    discrete_time_weight,
    encode_levels,
    noise_error,
    prior_kl,
)
from becalm.core.schedule import Linear, Schedule
from tests.worlds import CORRELATED, MIXTURE, optimal

FLOAT = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(world, schedule) -> Denoiser:
    """The world's posterior mean as a denoiser of ε."""
    return Denoiser(lambda z, t, given: optimal(world, schedule)(z, t).eps, schedule, kinds.eps)


def expected_error(schedule, t: torch.Tensor) -> torch.Tensor:
    """E|ε − ε̂|² at each t for the correlated Gaussian, exact: ε̂ is linear, so 2·4 points of x and ε do."""
    root = torch.linalg.cholesky(CORRELATED.covariance)
    points = 2 * torch.cat([torch.eye(4, dtype=FLOAT), -torch.eye(4, dtype=FLOAT)])
    x = (CORRELATED.mean + points[:, :2] @ root.T)[:, None].repeat(len(t), 1, 1)
    eps = points[:, 2:][:, None].repeat(len(t), 1, 1)
    times = t.repeat_interleave(8)[:, None, None]
    return noise_error(exact(CORRELATED, schedule), x, times, eps).reshape(-1, 8).mean(1)


def total_of(schedule, steps: int | None) -> float:
    """The diffusion term of the Gaussian, exact for T steps and by quadrature for infinitely many."""
    if steps is None:
        nodes, parts = np.polynomial.legendre.leggauss(120)
        u, parts = torch.tensor((nodes + 1) / 2)[:, None, None], torch.tensor(parts / 2)
        t, weight = continuous_time_weight(schedule, u)
    else:
        u = ((torch.arange(steps, dtype=FLOAT) + 0.5) / steps)[:, None, None]
        (t, weight), parts = discrete_time_weight(schedule, u, steps), torch.tensor(1 / steps, dtype=FLOAT)
    return float((weight * parts * expected_error(schedule, t[:, 0, 0])).sum().detach())


def closed_form() -> float:
    """½ Σ log (1 + v SNR₀)/(1 + v SNR₁) over the variances v along the axes."""
    v = torch.linalg.eigvalsh(CORRELATED.covariance)
    return float((torch.log1p(v * math.exp(13.3)) - torch.log1p(v * math.exp(-5.0))).sum() / 2)


def test_more_steps_are_never_worse_and_tend_to_the_integral():
    limit, losses = closed_form(), {steps: total_of(Linear(), steps) for steps in (5, 10, 20, 40, 500, 1000)}
    values = list(losses.values())
    assert all(a > b for a, b in zip(values[:-1], values[1:], strict=True)) and values[-1] > limit
    assert 1000 * (losses[1000] - limit) == pytest.approx(500 * (losses[500] - limit), rel=0.01)


def test_more_steps_are_worse_for_a_denoiser_that_errs_more_at_less_noise():
    """What the claim needs: an error that falls with the noise does not."""

    def cost(steps: int) -> float:
        u = ((torch.arange(steps, dtype=FLOAT) + 0.5) / steps)[:, None, None]
        t, weight = discrete_time_weight(Linear(-2.0, 2.0), u, steps)
        return float((weight * torch.exp(-3 * Linear(-2.0, 2.0)(t).gamma[:, 0, 0])).mean())

    assert cost(20) > cost(10)


class Quadratic(Schedule):
    """γ of t + t², from −13.3 to 5."""

    scaling = "interpolate"

    def gamma(self, t):
        return -13.3 + 18.3 * (t + t**2) / 2


def random_course() -> Learned:
    generator, schedule = seeded(4), Learned(width=8, scaling="explode").requires_grad_(False)
    for weight in schedule.interior_parameters():
        weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=FLOAT)
    return schedule


@pytest.mark.parametrize("schedule", [Linear(), Linear(scaling="explode"), Quadratic(), random_course()])
def test_the_integral_knows_only_the_ends(schedule):
    assert total_of(schedule, None) == pytest.approx(closed_form(), abs=1e-8)


def test_the_integral_of_each_datum_of_a_mixture_knows_only_the_ends():
    nodes, parts = np.polynomial.legendre.leggauss(200)
    u, parts = torch.tensor((nodes + 1) / 2), torch.tensor(parts / 2)
    x, eps = MIXTURE.draw(4, 1, seeded()), torch.randn(4, 1, 2, generator=seeded(1), dtype=FLOAT)
    found = []
    for schedule in (Linear(), Quadratic(), random_course()):
        t, weight = continuous_time_weight(schedule, u.repeat_interleave(4)[:, None, None])
        error = noise_error(exact(MIXTURE, schedule), x.repeat(200, 1, 1), t, eps.repeat(200, 1, 1))
        found.append(((weight * error).reshape(200, 4) * parts[:, None]).sum(0))
    torch.testing.assert_close(found[1], found[0], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found[2], found[0], rtol=1e-7, atol=1e-7)


def test_the_bound_of_gaussian_data_is_their_entropy_and_the_gap_at_the_end():
    """With a Gaussian decoder: prior + E[−log N(x; z₀/α₀, e^γ₀)] + diffusion = h(x + e^{γ₀/2}ε) + KL(q(z₁) ‖ N(0, I))."""
    root, mean = torch.linalg.cholesky(CORRELATED.covariance), CORRELATED.mean
    points = 2**0.5 * torch.cat([torch.eye(2, dtype=FLOAT), -torch.eye(2, dtype=FLOAT)])
    costs = prior_kl((mean + points @ root.T)[:, None], Linear()).mean().item()
    decoding = math.log(2 * math.pi * math.e) - 13.3
    eye = torch.eye(2, dtype=FLOAT)
    noisy = torch.distributions.MultivariateNormal(mean, CORRELATED.covariance + math.exp(-13.3) * eye)
    level = Linear()(torch.ones((), dtype=FLOAT))
    last = torch.distributions.MultivariateNormal(
        level.alpha * mean, level.alpha**2 * CORRELATED.covariance + level.sigma**2 * eye
    )
    gap = torch.distributions.kl_divergence(last, torch.distributions.MultivariateNormal(0 * mean, eye))
    expected = float(noisy.entropy() + gap)
    assert costs + decoding + total_of(Linear(), None) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scaling", ["preserve", "explode"])
def test_a_head_that_knows_nothing_costs_log_levels_on_any_data(scaling):
    """Zero logits: log₂ K a dimension and the prior's gap, whatever the data (here: one repeated level)."""
    levels, low = 17, -13.3 + 2 * math.log(256 / 17)
    kind = kinds.levels(encode_levels(torch.arange(levels), levels, FLOAT))
    schedule = Linear(low, 5.0, scaling)
    denoiser = Denoiser(lambda z, t, given: torch.zeros(*z.shape, levels, dtype=z.dtype), schedule, kind)
    v = torch.randint(0, levels, (3000, 4, 2), generator=seeded())
    v[:, 0] = 3
    found = bits_per_dim(denoiser, encode_levels(v, levels, FLOAT), levels, draws=10, generator=seeded(1), batch=1000)
    total, gap = found.estimates()["total"], found.estimates()["prior"].bits
    assert total.bits_error < 0.025
    assert total.bits == pytest.approx(math.log2(levels) + gap, abs=4 * total.bits_error)


def test_the_bound_of_a_finite_law_is_its_entropy():
    """The exact denoiser of a few weighted points; their levels are told apart with certainty at γ(0)."""
    points, weights = torch.tensor([[0, 0], [7, 1], [2, 5], [3, 5]]), torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=FLOAT)
    places = encode_levels(points, 8, FLOAT)
    schedule = Linear(-13.3 + 2 * math.log(256 / 8), 6.0)

    def noise(z, t, given):
        _, alpha, sigma = schedule(t)
        away = (z - alpha * places).square().sum(-1, keepdim=True) / (2 * sigma**2)
        share = torch.softmax(weights.log()[:, None] - away, 1)
        return (z - alpha * (share * places).sum(1, keepdim=True)) / sigma

    rows = torch.multinomial(weights, 20_000, replacement=True, generator=seeded())
    denoiser = Denoiser(noise, schedule, kinds.eps)
    found = bits_per_dim(denoiser, places[rows][:, None], 8, draws=2, generator=seeded(1), batch=20_000).estimates()
    entropy = -(weights * weights.log()).sum().item()
    total = found["total"]
    assert total.nats_error < 0.05
    assert total.nats == pytest.approx(entropy + found["prior"].nats, abs=4 * total.nats_error + 0.002)
