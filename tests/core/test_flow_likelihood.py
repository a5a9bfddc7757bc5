"""The flow's likelihood against densities in closed form, each of its errors against the truth."""

import math

import pytest
import torch

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.flow_likelihood import dequantize_noise, dequantize_uniform, log_density
from becalm.core.flow_solvers import dormand_prince, runge_kutta
from becalm.core.learned import Learned
from becalm.core.likelihood import encode_levels
from becalm.core.schedule import Linear, Rectified
from tests.worlds import CORRELATED, MIXTURE, Gaussian, Mixture

FLOAT = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(world, schedule) -> Denoiser:
    """The world's ε̂ = −σ∇log q(z) from the axes of its covariance: the same as `optimal`, and many times as fast."""
    parts, weights = (world.parts, world.weights) if isinstance(world, Mixture) else ([world], torch.ones(1))
    variances, axes = torch.linalg.eigh(parts[0].covariance)
    centres = torch.stack([part.mean for part in parts])

    def noise(z, t, given):
        _, alpha, sigma = schedule(t)
        away = (z[..., None, :] - alpha[..., None] * centres) @ axes
        solved = away / (alpha**2 * variances + sigma**2)[..., None, :]
        share = torch.softmax(weights.log() - (away * solved).sum(-1) / 2, -1)
        return sigma * (share[..., None, :] @ solved)[..., 0, :] @ axes.mT

    return Denoiser(noise, schedule, kinds.eps)


def number(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1), value, dtype=FLOAT)


def truth(world, x: torch.Tensor, gamma: float = -13.3) -> torch.Tensor:
    """log-density of x + e^{γ/2}ε."""
    return world.posterior(x, number(1.0), number(math.exp(gamma / 2)))[1].sum(1)


def end_of(world, high: float = 5.0):
    """log-density of z₁ in `preserve`."""
    level = Linear(0.0, high)(number(1.0))
    return lambda z: world.posterior(z, level.alpha, level.sigma)[1].sum(1)


def test_the_density_of_a_mixture_to_five_digits():
    x = MIXTURE.draw(12, 1, seeded())
    found = log_density(exact(MIXTURE, Linear()), x, runge_kutta(200), end_log_prob=end_of(MIXTURE))
    error = (found.nats - truth(MIXTURE, x)).abs()
    assert error.max() < 1e-5
    assert (error <= 2 * found.solver_error + 1e-7).all()
    assert found.end_error.max() == 0 and found.trace_error.max() == 0 and found.evaluations[0] == 1200


def test_adaptive_steps_reach_their_tolerance_and_tell_the_error():
    x = torch.cat([MIXTURE.draw(16, 1, seeded()), torch.full((1, 1, 2), 4.0, dtype=FLOAT)])
    errors = {}
    for tolerance in (1e-5, 1e-7):
        solver = dormand_prince(tolerance)
        found = log_density(exact(MIXTURE, Linear(scaling="explode")), x, solver, end_log_prob=end_of(MIXTURE))
        error = (found.nats - truth(MIXTURE, x)).abs()
        assert error.max() < 20 * tolerance
        assert (error <= found.solver_error + 1e-9).all()
        assert found.evaluations.min() < found.evaluations.max() < 500
        errors[tolerance] = error.mean()
    assert errors[1e-7] < errors[1e-5] / 20


def test_a_datum_s_answer_does_not_depend_on_the_others():
    x = MIXTURE.draw(5, 1, seeded())
    denoiser, solver = exact(MIXTURE, Linear()), dormand_prince(1e-4)
    together, alone = log_density(denoiser, x, solver), log_density(denoiser, x[3:4], solver)
    torch.testing.assert_close(together.nats[3:4], alone.nats, rtol=0, atol=1e-9)
    assert together.evaluations[3] == alone.evaluations[0]


def test_equal_steps_are_of_fourth_order():
    x = CORRELATED.draw(4, 2, seeded())
    denoiser, end = exact(CORRELATED, Linear(-6.0, 4.0)), end_of(CORRELATED, 4.0)
    errors = [
        (log_density(denoiser, x, runge_kutta(n), end_log_prob=end).nats - truth(CORRELATED, x, -6.0)).abs().mean()
        for n in (12, 24)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.5)


def test_probes_estimate_the_trace_within_their_error():
    x = CORRELATED.draw(300, 2, seeded())
    denoiser, solver = exact(CORRELATED, Linear(-6.0, 4.0)), runge_kutta(24)
    full = log_density(denoiser, x, solver, end_log_prob=end_of(CORRELATED, 4.0))
    found = log_density(denoiser, x, solver, probes=8, end_log_prob=end_of(CORRELATED, 4.0), generator=seeded(1))
    away = found.nats - full.nats
    assert away.mean().abs() < 4 * away.std() / 300**0.5
    assert found.trace_error.square().mean().item() == pytest.approx(away.square().mean().item(), rel=0.25)
    single = log_density(denoiser, x[:2], runge_kutta(2), probes=1, generator=seeded())
    assert single.trace_error.isnan().all() and single.nats.isfinite().all()


def test_probes_of_plus_and_minus_one_are_exact_for_independent_channels():
    world = Gaussian(torch.zeros(2), torch.diag(torch.tensor([1.0, 0.3])))
    x, denoiser = world.draw(3, 2, seeded()), exact(world, Linear())
    full, found = (log_density(denoiser, x, runge_kutta(6), probes=n, generator=seeded()) for n in (None, 2))
    torch.testing.assert_close(found.nats, full.nats, rtol=1e-10, atol=1e-10)


def test_the_assumed_end_costs_less_than_is_told_and_vanishes_with_more_noise():
    x, solver = CORRELATED.draw(200, 1, seeded()), runge_kutta(24)
    mistakes, told = [], []
    for high in (3.0, 12.0):
        found = log_density(exact(CORRELATED, Linear(-6.0, 5.0)), x, solver, gamma_max=high)
        mistakes.append((truth(CORRELATED, x, -6.0) - found.nats).mean().item())
        told.append(found.end_error.mean().item())
    assert 1e-3 < mistakes[0] < told[0]
    assert abs(mistakes[1]) < 1e-3 and told[1] < 1e-4


def test_the_density_has_the_units_of_the_data():
    """Data a times as wide, seen at γ + 2 log a, have a density a^D times as low."""
    x, scale = CORRELATED.draw(4, 1, seeded()), 3.0
    wide = Gaussian(scale * CORRELATED.mean, scale**2 * CORRELATED.covariance)
    shift = 2 * math.log(scale)
    narrow = log_density(exact(CORRELATED, Linear(-6.0, 6.0)), x, runge_kutta(24), end_log_prob=end_of(CORRELATED, 6.0))
    found = log_density(
        exact(wide, Linear(-6 + shift, 6 + shift)), scale * x, runge_kutta(24), end_log_prob=end_of(wide, 6 + shift)
    )
    torch.testing.assert_close(found.nats, narrow.nats - 2 * math.log(scale), rtol=0, atol=5e-5)
    torch.testing.assert_close(found.bits, -found.nats / (2 * math.log(2)))


def test_only_gamma_counts_not_the_schedule():
    x = MIXTURE.draw(3, 1, seeded())
    linear, learned = (
        log_density(exact(MIXTURE, schedule), x, runge_kutta(6)).nats
        for schedule in (Linear(), Learned(width=8, scaling="interpolate"))
    )
    torch.testing.assert_close(learned, linear, rtol=1e-8, atol=1e-8)


def uniform_levels(levels: int, schedule) -> Denoiser:
    """The exact denoiser of data uniform over the levels, independent."""
    kind = kinds.levels(encode_levels(torch.arange(levels), levels, FLOAT))
    return Denoiser(lambda z, t, given: torch.zeros(*z.shape, levels, dtype=z.dtype), schedule, kind)


def test_discrete_data_get_their_probability_at_every_draw():
    """log P = −D log K exactly: the decoder is the exact posterior; dequantised uniformly it is a bound below."""
    levels, schedule = 4, Linear(-3.0, 14.0)
    v = torch.randint(0, levels, (6, 3, 1), generator=seeded())
    x, denoiser = encode_levels(v, levels, FLOAT), uniform_levels(levels, Linear(-3.0, 14.0))
    y, more = dequantize_noise(x, schedule, levels, seeded(1))
    found = log_density(denoiser, y, dormand_prince(1e-6)).add_nats(more)
    torch.testing.assert_close(found.nats, torch.full((6,), -3 * math.log(4), dtype=FLOAT), rtol=0, atol=1e-4)
    y, more = dequantize_uniform(x, levels, seeded(1))
    assert ((y - x).abs() <= 1 / levels).all()
    rough = log_density(denoiser, y, dormand_prince(1e-4)).add_nats(more)
    assert -20 < rough.nats.mean() < -3 * math.log(4)


def test_noise_of_the_bottom_level_is_added():
    """y − x is Gaussian with the standard deviation e^{γ(0)/2}; the identity above holds for any other noise too."""
    x = torch.zeros(4000, 2, 1, dtype=FLOAT)
    y, _ = dequantize_noise(x, Linear(-3.0, 14.0), 4, seeded(2))
    scaled = y * math.exp(1.5)
    assert abs(float(scaled.mean())) < 0.05 and abs(float(scaled.square().mean()) - 1) < 0.07
    assert abs(float(scaled.pow(4).mean()) - 3) < 0.5


def test_single_precision_networks_are_served():
    x = CORRELATED.draw(4, 1, seeded()).float()
    schedule = Linear(-8.0, 5.0)
    double = exact(CORRELATED, schedule)
    single = Denoiser(lambda z, t, given: double(z.double(), t).eps.float(), schedule, kinds.eps)
    for solver in (runge_kutta(24), dormand_prince(1e-3)):
        found = log_density(single, x, solver, end_log_prob=end_of(CORRELATED))
        torch.testing.assert_close(found.nats, truth(CORRELATED, x.double(), -8.0), rtol=0, atol=5e-3)


def test_infinite_ends_are_refused_and_finite_ones_may_be_given():
    x = CORRELATED.draw(2, 1, seeded())
    with pytest.raises(ValueError, match="finite"):
        log_density(exact(CORRELATED, Rectified()), x)
    found = log_density(
        exact(CORRELATED, Rectified()),
        x,
        runge_kutta(24),
        gamma_min=-6.0,
        gamma_max=6.0,
        end_log_prob=end_of(CORRELATED, 6.0),
    )
    torch.testing.assert_close(found.nats, truth(CORRELATED, x, -6.0), rtol=0, atol=1e-3)


def test_too_rough_a_network_is_told():
    denoiser = Denoiser(lambda z, t, given: z + torch.sign(torch.sin(1e4 * z)), Linear(), kinds.eps)
    with pytest.raises(RuntimeError, match="not done after 30 steps"):
        log_density(denoiser, torch.randn(2, 1, 1, generator=seeded(), dtype=FLOAT), dormand_prince(1e-8, max_steps=30))
