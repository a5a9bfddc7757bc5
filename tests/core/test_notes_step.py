"""The diffusion chain as it is usually written (x_t, β_t, ᾱ_t) against ours in units of the data, y = x_t/√ᾱ_t."""

import pytest
import torch

from becalm.core.process import Prediction, posterior, reverse_moments
from becalm.core.schedule import Betas, Linear

T = 1000
BETA = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
KEPT = torch.cumprod(1 - BETA, 0)
LEVELS = pytest.mark.parametrize("i", [1, 2, 3, 50, 500, 999, 1000])


def chain(i: int):
    """β, α, ᾱ of level i (from 1) and ᾱ of the level before it."""
    return BETA[i - 1], 1 - BETA[i - 1], KEPT[i - 1], KEPT[i - 2] if i > 1 else torch.tensor(1.0, dtype=torch.float64)


def times(i: int):
    return (torch.tensor(k / T, dtype=torch.float64) for k in (i, i - 1))


def drawn(*shape: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]


@LEVELS
def test_the_sampling_step_is_our_explode_step(i):
    beta, alpha, kept, before = chain(i)
    noisy, eps, z = drawn(50, 3)
    tilde = beta * (1 - before) / (1 - kept)
    expected = (noisy - beta / torch.sqrt(1 - kept) * eps) / alpha.sqrt() + tilde.sqrt() * z

    schedule = Betas(1e-4, 0.02, T, scaling="explode")
    (t, s), y = times(i), noisy / kept.sqrt()
    guess = Prediction(y - schedule(t).sigma * eps, eps)
    mean, deviation = reverse_moments(guess, y, t, s, schedule, eta=1.0)
    torch.testing.assert_close(mean + deviation * z, expected / before.sqrt(), rtol=1e-12, atol=1e-12)


@LEVELS
def test_the_increment_s_best_guess_is_the_total_noise(i):
    beta, alpha, kept, _ = chain(i)
    x, eps, _ = drawn(50, 3)
    noisy = kept.sqrt() * x + torch.sqrt(1 - kept) * eps
    t, s = times(i)
    mean, deviation = posterior(noisy, x, t, s, Betas(1e-4, 0.02, T, scaling="preserve"))
    increment = (noisy - alpha.sqrt() * mean) / beta.sqrt()
    torch.testing.assert_close(increment, torch.sqrt(beta / (1 - kept)) * eps, rtol=1e-9, atol=1e-10)
    left = alpha * deviation[0, 0] ** 2 / beta
    torch.testing.assert_close(left, 1 - beta / (1 - kept), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("i", [2, 3, 50, 500, 999, 1000])
def test_the_bound_s_weight_is_the_same_in_both_notations(i):
    beta, alpha, kept, before = chain(i)
    tilde = beta * (1 - before) / (1 - kept)
    t, s = times(i)
    gamma = Betas(1e-4, 0.02, T).gamma
    ours = torch.expm1(gamma(t) - gamma(s)) / 2
    torch.testing.assert_close(ours, beta**2 / (2 * tilde * alpha * (1 - kept)), rtol=1e-9, atol=0)


def walked(steps: int, eta: float, width: float, high: float) -> float:
    """What y_T = 1 becomes under x ~ N(0, width²), noise `high`, in `steps` equal steps of √SNR down to (almost) none."""
    schedule = Linear(-60.0, 2 * torch.log(torch.tensor(high)).item(), scaling="explode")
    levels = high * torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    t = schedule.time(2 * levels.log()).clamp_min(0)
    y = torch.ones(1, dtype=torch.float64)
    for now, then in zip(t[:-1], t[1:], strict=True):
        r = schedule(now).sigma
        x = width**2 / (width**2 + r**2) * y
        y = reverse_moments(Prediction(x, (y - x) / r), y, now, then, schedule, eta)[0]
    return float(y)


@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_the_mean_rule_ends_at_the_posterior_mean_for_every_number_of_steps(steps):
    assert walked(steps, 1.0, 0.3, 0.8) == pytest.approx(0.3**2 / (0.3**2 + 0.8**2), rel=1e-12)


def test_the_flow_s_rule_ends_at_the_quantile_and_not_at_the_mean():
    total = 0.3**2 + 0.8**2
    assert walked(2000, 0.0, 0.3, 0.8) == pytest.approx(0.3 / total**0.5, rel=2e-3)
    assert walked(1, 0.0, 0.3, 0.8) == pytest.approx(0.3**2 / total, rel=1e-12), "one step is x̂ by either rule"
