"""Langevin: the law of each step size in closed form, exactness where it is promised, chains that stop when they explode."""

import re

import pytest
import torch

from becalm.core import trajectory
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import score as score_kind
from becalm.core.langevin import (
    annealed_langevin,
    log_acceptance_ratio,
    mala,
    mala_warm_up,
    predictor_corrector,
    ula,
    value_and_grad,
)
from becalm.core.process import Prediction
from becalm.core.sample import Step, reverse, sample
from becalm.core.schedule import Ladder, Linear, Rectified
from becalm.core.scores import score_at_level, score_of_energy
from becalm.core.walk import in_order, together
from tests.core.test_sample import denoiser, final, generator, two_sample
from tests.worlds import CORRELATED, MIXTURE, Gaussian


def bowl(x):
    return x.square().flatten(1).sum(1) / 2


def valley(x):
    return -torch.logsumexp(torch.cat([-2 * (x - 1) ** 2, 0.5 - 2 * (x + 0.8) ** 2], 1), 1)


@pytest.mark.parametrize("eps", [0.3, 1.0, 1.4])
def test_the_unadjusted_variance_is_that_of_its_step(eps):
    h, start = eps**2 / 2, torch.randn(60_000, 1, generator=generator(1))
    states = list(ula(score_of_energy(bowl), start, h, 50, generator=generator()))
    pooled = torch.stack([s.z for s in states[30:]]).var()
    assert abs(pooled * (1 - eps**2 / 4) - 1) < 0.01


def test_temperature_scales_the_variance():
    zero = torch.zeros(40_000, 1)
    cold = final(ula(score_of_energy(bowl), zero, 0.5, 15, temperature=0.25, generator=generator())).z
    assert abs(cold.var() * (1 - 0.25) / 0.25 - 1) < 0.02
    adjusted = final(mala(bowl, zero, 0.5, 20, temperature=0.25, generator=generator())).z
    assert abs(adjusted.var() / 0.25 - 1) < 0.02


@pytest.mark.parametrize(("eps", "rate"), [(0.3, 0.998), (0.5, 0.990), (1.0, 0.921), (1.4, 0.790)])
def test_mala_s_variance_is_exact_and_its_acceptance_known(eps, rate):
    start = torch.randn(40_000, 1, generator=generator())
    states = list(mala(bowl, start, eps**2 / 2, 20, generator=generator(1)))
    assert abs(torch.stack([s.z for s in states[-1::-9]]).var() - 1) < 0.02
    assert abs(torch.stack([s.acceptance for s in states]).mean() - rate) < 0.003


def test_mala_is_exact_where_the_unadjusted_chain_is_not():
    grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)
    mass = torch.exp(-valley(grid[:, None]))
    truth = torch.stack([(mass * grid**k).sum() / mass.sum() for k in (1, 2)])
    start = torch.linspace(-1, 1, 10_000, dtype=torch.float64)[:, None]

    def off(chain):
        z = final(chain).z[:, 0]
        powers = torch.stack([z, z**2])
        return ((powers.mean(1) - truth).abs() / powers.std(1) * 10_000**0.5).max()

    assert off(mala(valley, start, 0.3, 80, generator=generator())) < 4
    assert off(ula(score_of_energy(valley), start, 0.3, 80, generator=generator())) > 8


def test_the_ratio_of_acceptance_is_antisymmetric():
    x, y = (torch.randn(50, 1, generator=generator(s), dtype=torch.float64) for s in (0, 1))
    size = torch.rand(50, generator=generator(2), dtype=torch.float64)
    here, there = value_and_grad(valley, x), value_and_grad(valley, y)
    forth, back = log_acceptance_ratio(here, there, size, 0.7), log_acceptance_ratio(there, here, size, 0.7)
    assert (forth + back).abs().max() < 1e-10
    assert forth.abs().max() > 0.1


def test_warming_up_finds_the_acceptance():
    widths = torch.tensor([0.1, 0.3, 1.0, 2.0, 0.5, 1.5, 0.8, 0.2], dtype=torch.float64)

    def energy(x):
        return (x / widths).square().sum(1) / 2

    start = widths * torch.randn(200, 8, generator=generator(), dtype=torch.float64)
    for first in (1.0, 1e-3):
        warm = final(mala_warm_up(energy, start, first, 150, generator=generator(1)))
        states = list(mala(energy, warm.z, warm.step_size, 20, generator=generator(2)))
        assert warm.step_size.shape == (200,)
        assert abs(torch.stack([s.acceptance for s in states]).mean() - 0.574) < 0.03


def test_each_step_has_its_own_noise():
    states = list(ula(torch.zeros_like, torch.zeros(4000, 1).double(), 0.5, 3, generator=generator()))
    moves = torch.cat([states[0].z, states[1].z - states[0].z, states[2].z - states[1].z], 1)
    torch.testing.assert_close(moves.T.cov(), torch.eye(3).double(), rtol=0, atol=0.1)


@pytest.mark.parametrize("ratio", [1.0, 2.0], ids=["paper", "code"])
def test_a_level_s_stationary_variance_is_known_in_both_conventions(ratio):
    """a = εσ²/σ_L²: the paper's variance is V/(1 − a/(4V)), the code's V/(1 − a/(2V)), V = v + σ²."""
    v, eps, low, sigma = 0.3, 2e-3, 0.05, 1.0
    a = eps * sigma**2 / low**2
    world = Gaussian(torch.zeros(1), torch.tensor([[v]]))
    ladder = Ladder(sigma, low, 3)
    z = torch.randn(60_000, 1, 1, generator=generator(), dtype=torch.float64)
    size = ratio * eps / (2 * low**2)
    t = torch.ones(1, 1, 1, dtype=torch.float64)
    state = next(
        sample(denoiser(world, ladder), z, t, together(3), annealed_langevin(size, 40), generator=generator(1))
    )
    whole = v + sigma**2
    assert abs(state.z.var() / (whole / (1 - ratio * a / (4 * whole))) - 1) < 0.02
    assert ratio * a / (4 * whole) > 0.1, "the test can tell"


def test_the_ladder_s_levels_are_geometric_and_end_clean():
    ladder = Ladder(10.0, 0.01, 7)
    t = torch.arange(8, dtype=torch.float64) / 7
    sigma = ladder(t).sigma
    assert sigma[0] == 0
    torch.testing.assert_close(sigma[1:], torch.logspace(-2, 1, 7, dtype=torch.float64))
    inner = torch.rand(100, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(ladder.time(ladder.gamma(inner)), inner, rtol=1e-12, atol=1e-12)
    assert (ladder.slope(inner) > 0).all()


def test_annealed_langevin_samples_the_mixture():
    ladder = Ladder(4.0, 0.05, 10)
    z = 4 * torch.randn(1000, 1, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(1, 1, 1, dtype=torch.float64)
    last = final(
        sample(denoiser(MIXTURE, ladder), z, t, together(10), annealed_langevin(0.1, 20), generator=generator(1))
    )
    found = last.z[:, 0]
    assert two_sample(found, MIXTURE.draw(1000, 1, generator(2))[:, 0]) < 4
    share = torch.cdist(found, MIXTURE.centres).argmin(1).bincount() / 1000
    assert ((share - MIXTURE.weights).abs() < 4 * (MIXTURE.weights * (1 - MIXTURE.weights) / 1000).sqrt()).all()


def test_the_corrector_mends_a_coarse_predictor():
    schedule = Linear(-7.0, 5.0)
    z = torch.randn(1000, 3, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(1, 1, 1, dtype=torch.float64)
    truth = MIXTURE.draw(1000, 3, generator(5))
    distances = []
    for stepper in (reverse(), predictor_corrector(reverse(), 0.3, 6)):
        found = final(sample(denoiser(MIXTURE, schedule), z, t, together(5), stepper, generator=generator(1))).z
        distances.append(two_sample(found[:, 0], truth[:, 0]))
    assert distances[0] > 10 and distances[1] < 4


def test_steps_without_noise_are_as_long_as_said():
    """At temperature 0: annealed moves by −r σ ε̂ each time, the corrector by −2r² D/‖ε̂‖² σ ε̂, at most −σ ε̂/2."""
    schedule = Linear(-4.0, 4.0, "explode")
    t, s = (torch.full((1, 1, 1), v, dtype=torch.float64) for v in (0.8, 0.6))
    z = torch.zeros(2, 3, 2, dtype=torch.float64)
    eps = torch.randn(2, 3, 2, generator=generator(), dtype=torch.float64)
    eps[1] *= 0.01
    now = Step(z, t, Prediction(z, eps))

    def ask(z, t):
        return now.prediction

    def stay(ask, now, s, schedule, previous, generator):
        return now.z

    found = annealed_langevin(0.2, 5, temperature=0.0)(ask, now, s, schedule, None, None)
    torch.testing.assert_close(found, -5 * 0.2 * schedule(t).sigma * eps)
    found = predictor_corrector(stay, 0.3, 2, temperature=0.0)(ask, now, s, schedule, None, None)
    size = torch.stack([2 * 0.3**2 * 6 / eps[0].square().sum(), torch.tensor(0.5)])
    torch.testing.assert_close(found, -2 * size[:, None, None] * schedule(s).sigma * eps)


STEPPERS = {"annealed": annealed_langevin(0.1, 3), "corrected": predictor_corrector(inner_steps=2)}


@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS.keys())
def test_a_step_is_the_same_in_every_scaling(stepper):
    ends = []
    for scaling in ("preserve", "explode", "interpolate"):
        schedule = Linear(-6.0, 3.0, scaling)
        level = schedule(torch.ones(1))
        z = torch.randn(8, 2, 2, generator=generator(), dtype=torch.float64) * level.sigma
        t = torch.ones(8, 2, 1, dtype=torch.float64)
        states = sample(denoiser(MIXTURE, schedule), z, t, together(5), stepper, generator=generator(1))
        ends.append(torch.stack([s.z / schedule(s.t).alpha for s in states]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS.keys())
def test_given_variables_stay_and_no_sample_depends_on_another(stepper):
    z = torch.randn(4, 3, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(4, 3, 1, dtype=torch.float64)
    t[:, 1], t[3] = 0, 0
    net = denoiser(CORRELATED, Linear(-6.0, 4.0))

    def run(z):
        return list(sample(net, z, t, in_order(steps_per_variable=4), stepper, generator=generator(1)))

    states, other = run(z), z.clone()
    other[1:] *= 3
    for a, b in zip(states, run(other), strict=True):
        assert torch.isfinite(a.z).all()
        assert torch.equal(a.z[:, 1], z[:, 1]) and torch.equal(a.z[3], z[3])
        torch.testing.assert_close(a.z[0], b.z[0], rtol=1e-12, atol=1e-12)


def test_trajectories_are_recorded(tmp_path):
    z = torch.randn(5, 2, 3, generator=generator())
    kept = trajectory.record_steps(ula(score_of_energy(bowl), z, 0.1, 6, generator=generator(1)), {"size": 0.1})
    trajectory.write(kept, tmp_path / "chain.safetensors")
    back = trajectory.read(tmp_path / "chain.safetensors")
    assert back.z.shape == (6, 5, 2, 3) and (back.t == 0).all()
    assert torch.equal(
        back.z, torch.stack([s.z for s in ula(score_of_energy(bowl), z, 0.1, 6, generator=generator(1))])
    )
    assert trajectory.record_steps(mala(bowl, z, 0.1, 4)).z.shape == (4, 5, 2, 3)


@pytest.mark.parametrize("energy", [lambda x: 200 * bowl(x), lambda x: (x**4).sum(1)], ids=["narrow", "quartic"])
def test_an_explosion_stops_with_its_step_and_a_size_that_holds(energy):
    z = torch.randn(100, 2, generator=generator(), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"step \d+: chain \d+ has ‖z‖ = .* with step size 0.5; try") as error:
        list(ula(score_of_energy(energy), z, 0.5, 200, generator=generator(1)))
    size = float(re.findall(r"try ([\d.e+-]+)", str(error.value))[0])
    while size > 1e-6:
        try:
            list(ula(score_of_energy(energy), z, size, 200, generator=generator(1)))
            break
        except ValueError as again:
            size = float(re.findall(r"try ([\d.e+-]+)", str(again))[0])
    assert size > 1e-6


def test_nan_stops_a_chain():
    with pytest.raises(ValueError, match="step 0: chain 1 has ‖z‖ = nan"):
        next(ula(lambda x: x / torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [0.0]]), 0.1, 5))
    with pytest.raises(ValueError, match="E of chain 1 is not finite"):
        next(mala(lambda x: x.sum(1).log(), torch.tensor([[1.0], [-1.0]]), 0.1, 5))
    wild = Denoiser(lambda z, t, given: z * torch.inf, Ladder(), score_kind)
    with pytest.raises(ValueError, match="sample: step 0: langevin: inner step 0 at σ = 10, sizes in σ²"):
        next(sample(wild, torch.ones(2, 1, 1), torch.ones(1, 1, 1), together(10), annealed_langevin()))
    late = Denoiser(lambda z, t, given: -z / torch.where(t < 0.45, 0.0, 100.0).to(z), Ladder(), score_kind)
    for stepper, step in ((annealed_langevin(0.1, 3), 6), (predictor_corrector(inner_steps=2), 5)):
        with pytest.raises(ValueError, match=f"sample: step {step}: langevin: inner step 0 at σ = .*; try"):
            list(sample(late, torch.ones(2, 1, 1), torch.ones(1, 1, 1), together(10), stepper))
    noise = torch.ones(2, 1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="z/α is infinite"):
        next(sample(denoiser(CORRELATED, Rectified()), noise, noise[..., :1], together(3), annealed_langevin()))
    with pytest.raises(ValueError, match="size 2.5 must lie in"):
        annealed_langevin(2.5)


def test_a_denoiser_at_a_level_is_a_score_for_plain_langevin():
    ladder = Ladder(2.0, 0.3, 4)
    t = torch.full((1, 1, 1), 0.25, dtype=torch.float64)
    z = MIXTURE.draw(1000, 1, generator())
    last = final(ula(score_at_level(denoiser(MIXTURE, ladder), t), z, 5e-3, 100, generator=generator(1)))
    noisy = MIXTURE.draw(1000, 1, generator(2))
    noisy = noisy + 0.3 * torch.randn(noisy.shape, generator=generator(3), dtype=torch.float64)
    assert two_sample(last.z[:, 0], noisy[:, 0]) < 4
    assert isinstance(last.prediction, Prediction) and not isinstance(last, Step)
