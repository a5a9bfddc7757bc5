"""The models of scores and energies: exact before they have learned where data are Gaussian, and what files keep of them."""

import math

import pytest
import torch

from becalm.core import kinds
from becalm.core.compare import score_agreement, two_sample_test
from becalm.core.densities import GaussianMixture, eight_gaussians, isotropic_gaussian
from becalm.core.flow_likelihood import log_density
from becalm.core.flow_solvers import runge_kutta
from becalm.core.langevin import annealed_langevin, mala
from becalm.core.sample import sample
from becalm.core.schedule import Ladder
from becalm.core.scores import denoising, denoising_multilevel, score_at_level, score_of_energy
from becalm.core.walk import together
from becalm.systems.ebm import energy_at_level, smooth_score_at_level
from becalm.systems.fields import EnergyModel, ScoreModel, TrainingState, score_of_sigma
from becalm.weights.store import load, save

MODES = GaussianMixture(
    torch.tensor([[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]]).double(),
    torch.tensor([0.5, 0.3, 0.2]).double(),
    torch.full((3,), 0.3).double(),
)
FAMILIES = {"score": ScoreModel, "energy": EnergyModel}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stirred(model):
    """The same model with a last layer that says something."""
    with torch.no_grad():
        for parameter in model.network.leave.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(parameter.numel())))
    return model


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("t", [0.1, 0.55, 1.0])
def test_a_fresh_model_is_the_score_of_a_gaussian_as_wide_as_the_data(family, t):
    model = family(2, data_variance=0.7, ladder=Ladder(5.0, 0.05, 10))
    z, level = torch.randn(6, 1, 2, generator=generator()), torch.full((1, 1, 1), t, dtype=torch.float64)
    sigma = float(model.schedule(level).sigma)
    truth = isotropic_gaussian(2, math.sqrt(0.7)).convolve(sigma).score(z)
    torch.testing.assert_close(score_at_level(model.denoiser, level)(z), truth, rtol=1e-4, atol=1e-5)


def test_the_flow_of_a_fresh_model_gives_the_gaussian_s_log_density():
    denoiser = ScoreModel(2, data_variance=0.7, ladder=Ladder(40.0, 0.05, 10)).double().denoiser
    x, ends = torch.randn(5, 1, 2, generator=generator()).double(), [2 * math.log(v) for v in (0.05, 40.0)]
    found = log_density(denoiser, x, runge_kutta(40), gamma_min=ends[0], gamma_max=ends[1])
    truth = isotropic_gaussian(2, math.sqrt(0.7)).convolve(0.05).log_prob(x[:, 0])
    torch.testing.assert_close(found.nats, truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("side", [0, 4])
def test_an_energy_s_score_is_its_gradient_and_as_large_as_the_score_model_s(side):
    model = stirred(EnergyModel(1, side, 8, 2, 0.5, Ladder(3.0, 0.05, 6))).double()
    denoiser, z = model.denoiser, torch.randn(3, 16, 1, generator=generator()).double()
    for t in (1 / 6, 1.0):
        level = torch.full((1, 1, 1), t, dtype=torch.float64)
        energy = energy_at_level(denoiser, level)
        torch.testing.assert_close(denoiser(z, level).eps, -model.schedule(level).sigma * score_of_energy(energy)(z))
        assert denoiser(z, level).eps.abs().max() < 10, "of unit size at every level, as noise is"
        h = 1e-6 * torch.randn(z.shape, generator=generator(1)).double()
        change = energy(z + h) - energy(z - h)
        torch.testing.assert_close(
            change, -2 * (score_at_level(denoiser, level)(z) * h).sum((1, 2)), rtol=1e-4, atol=1e-10
        )


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_levels_may_differ_from_sample_to_sample(family):
    denoiser = stirred(family(2, data_variance=1.0, ladder=Ladder(4.0, 0.1, 5))).denoiser
    z, t = torch.randn(4, 1, 2, generator=generator()), torch.tensor([0.2, 0.4, 0.75, 1.0]).double()[:, None, None]
    whole = denoiser(z, t).eps
    for i in range(4):
        torch.testing.assert_close(denoiser(z[i : i + 1], t[i : i + 1]).eps, whole[i : i + 1], rtol=1e-4, atol=1e-5)
    sigma = denoiser.schedule(t).sigma.to(z)
    torch.testing.assert_close(score_of_sigma(denoiser)(z, sigma), -whole / sigma, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", [0, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_keeps_a_model(name, side, tmp_path):
    model = stirred(FAMILIES[name](1, side, 8, 2, 0.4, Ladder(7.0, 0.03, 9)))
    save(model, tmp_path / "model.safetensors", {"task": "learn"})
    back = load(tmp_path / "model.safetensors", FAMILIES[name])
    assert back.schedule == model.schedule and back.config == model.config
    z, t = torch.randn(2, 16, 1, generator=generator()), torch.full((1, 1, 1), 0.5).double()
    torch.testing.assert_close(back(z, t), model(z, t))


def test_a_score_has_no_energy_and_the_message_says_so():
    denoiser, level = ScoreModel().denoiser, torch.ones(1, 1, 1)
    assert denoiser.kind is kinds.eps
    with pytest.raises(ValueError, match="ScoreModel is a network of vectors; an energy is wanted"):
        energy_at_level(denoiser, level)
    assert smooth_score_at_level(EnergyModel().denoiser, level) is not None


def test_a_learner_spreads_levels_over_the_whole_ladder_and_its_chains_are_state():
    training = TrainingState(EnergyModel(ladder=Ladder(8.0, 0.02, 7)), torch.randn(5, 1, 2))
    sigma = training.sample_sigmas(700, generator())
    assert sigma.min() >= 0.02 * 0.999 and sigma.max() <= 8.001
    share = torch.log(sigma / 0.02) / math.log(400)
    assert torch.histc(share, 7, 0, 1).tolist() == pytest.approx([100] * 7, abs=1)
    assert torch.equal(training.state_dict()["chains"], training.chains)
    assert float(training.model.schedule(training.t_min).sigma) == pytest.approx(0.02)
    assert {id(p) for p in training.parameters()} == {id(p) for p in training.model.parameters()}


def train_model(training: TrainingState, loss, steps: int, rate: float) -> None:
    optimiser = torch.optim.Adam(training.parameters(), lr=rate, betas=(0.9, 0.99))
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for k in range(steps):
        optimiser.zero_grad()
        loss(training, generator(k)).backward()
        optimiser.step()
        plan.step()


def test_many_levels_learn_a_mixture_that_annealed_langevin_and_the_flow_then_know():
    """Three unequal Gaussians in a second: score, mode weights within 4 binomial SE, two-sample test, and nats."""

    def loss(training, g):
        x = MODES.sample(512, g).float()[:, None]
        sigma, eps = training.sample_sigmas(512, g), torch.randn(x.shape, generator=g)
        return denoising_multilevel(score_of_sigma(training.denoiser), x, eps, sigma).mean()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        training = TrainingState(ScoreModel(2, 0, 64, 3, 1.0, Ladder(4.0, 0.3, 6)), torch.zeros(0, 1, 2))
    train_model(training, loss, 500, 5e-3)
    denoiser, truth = training.denoiser, MODES.convolve(0.3)
    x = truth.sample(4000, generator(9)).float()[:, None]
    found = score_agreement(score_at_level(denoiser, training.t_min), x, truth.score)
    assert found.cosine > 0.98 and found.fisher < 0.05
    z = 4 * torch.randn(800, 1, 2, generator=generator(1))
    ones = torch.ones(1, 1, 1, dtype=torch.float64)
    for state in sample(denoiser, z, ones, together(6), annealed_langevin(0.2, 15), generator=generator(2)):
        z = state.z[:, 0].double()
    share = torch.cdist(z, MODES.centres).argmin(1).bincount(minlength=3) / 800
    assert ((share - MODES.weights).abs() < 4 * (MODES.weights * (1 - MODES.weights) / 800).sqrt()).all()
    test = two_sample_test(z, MODES.sample(800, generator(3)), 299, generator(4))
    assert test.distance < test.critical_value
    nats = log_density(
        denoiser, x[:100], runge_kutta(12), gamma_min=2 * math.log(0.3), gamma_max=2 * math.log(4.0)
    ).nats
    assert abs((nats - truth.log_prob(x[:100, 0].double())).mean()) < 0.05


def test_an_energy_learns_and_mala_keeps_its_law():
    density = eight_gaussians(1.0, 0.6).convolve(0.3)

    def loss(training, g):
        x = eight_gaussians(1.0, 0.6).sample(512, g).float()[:, None]
        return denoising(
            score_at_level(training.denoiser, training.t_min), x, torch.randn(x.shape, generator=g), 0.3
        ).mean()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        training = TrainingState(EnergyModel(2, 0, 32, 2, 0.86, Ladder(0.3, 0.3, 1)), torch.zeros(0, 1, 2))
    train_model(training, loss, 150, 1e-2)
    x = density.sample(2000, generator(5)).float()[:, None]
    found = score_agreement(score_at_level(training.denoiser, training.t_min), x, density.score)
    assert found.cosine > 0.98 and found.fisher < 0.05
    for state in mala(energy_at_level(training.denoiser, training.t_min), x, 0.2, 20, generator=generator(6)):
        z = state.z
    assert abs(z.square().sum((1, 2)).mean() / x.square().sum((1, 2)).mean() - 1) < 0.06
