"""An energy as a denoiser: the same law as the score's, by every sampler; vectors and kinks are refused."""

import pytest
import torch
from torch import nn

from becalm.core import kinds, scores
from becalm.core.denoiser import Denoiser
from becalm.core.langevin import annealed_langevin, mala, ula
from becalm.core.process import corrupt
from becalm.core.sample import heun, reverse, sample
from becalm.core.schedule import Ladder, Linear
from becalm.core.walk import together
from becalm.systems.ebm import (
    EnergyScore,
    ResidualEnergy,
    UnconditionalEnergy,
    energy_at_level,
    energy_denoiser,
    smooth_score_at_level,
)
from tests.core.test_sample import final, generator, two_sample
from tests.worlds import MIXTURE, optimal

SCHEDULE = Linear(-6.0, 4.0)


def exact(schedule=SCHEDULE):
    """The energy of the mixture's noisy data at any level, one variable a sample."""

    def network(z, t, given):
        level = schedule(t)
        return -MIXTURE.posterior(z, level.alpha, level.sigma)[1]

    return network


class Small(nn.Module):
    """Numbers or vectors of two channels from z and t."""

    def __init__(self, width: int, activation: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 32), activation, nn.Linear(32, width)).double()

    def forward(self, z, t, given=None):
        seen = torch.cat([z, t.expand(*z.shape[:2], 1).to(z)], -1)
        return self.layers(seen)


def levels(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 1, generator=generator(7), dtype=torch.float64)


def test_an_energy_is_the_denoiser_of_its_density():
    z = torch.randn(9, 1, 2, generator=generator(), dtype=torch.float64)
    found, best = energy_denoiser(exact(), SCHEDULE)(z, levels(9)), optimal(MIXTURE, SCHEDULE)(z, levels(9))
    torch.testing.assert_close(found.x, best.x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.eps, best.eps, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("stepper", [reverse(), heun()], ids=["reverse", "heun"])
def test_the_samplers_of_diffusion_take_an_energy(stepper):
    schedule = Linear(-6.0, 5.0)
    z = torch.randn(500, 1, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(1, 1, 1, dtype=torch.float64)
    last = final(
        sample(energy_denoiser(exact(schedule), schedule), z, t, together(30), stepper, generator=generator(1))
    )
    assert not last.z.requires_grad
    assert two_sample(last.prediction.x[:, 0], MIXTURE.draw(500, 1, generator(2))[:, 0]) < 4


def test_langevin_takes_an_energy_in_all_its_forms():
    t = torch.full((1, 1, 1), 0.4, dtype=torch.float64)
    ebm = energy_denoiser(exact(), SCHEDULE)
    z = torch.randn(20, 1, 2, generator=generator(), dtype=torch.float64)
    energy = energy_at_level(ebm, t)
    torch.testing.assert_close(scores.score_of_energy(energy)(z), scores.score_at_level(ebm, t)(z))
    plain = final(ula(scores.score_at_level(ebm, t), z, 0.01, 20, generator=generator(1))).z
    same = final(ula(scores.score_of_energy(energy), z, 0.01, 20, generator=generator(1))).z
    torch.testing.assert_close(plain, same)
    assert final(mala(energy, z, 0.05, 20, generator=generator(1))).acceptance.mean() > 0.5
    ladder = Ladder(3.0, 0.1, 4)
    stepped = final(sample(energy_denoiser(exact(ladder), ladder), z, t / 0.4, together(4), annealed_langevin(0.1, 3)))
    assert torch.isfinite(stepped.z).all()


def test_it_works_without_gradients_and_carries_a_graph_only_for_its_weights():
    ebm = energy_denoiser(Small(1, nn.SiLU()), SCHEDULE)
    z = torch.randn(6, 1, 2, dtype=torch.float64)
    assert ebm(z, levels(6)).eps.requires_grad
    with torch.no_grad():
        quiet = ebm(z, levels(6)).eps
        assert not quiet.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(ebm(z, levels(6)).eps.clone(), quiet)
    assert not z.requires_grad


@pytest.mark.parametrize("loss", ["denoising", "sliced"])
def test_it_learns(loss):
    """The energy of the mixture's noisy data, in a hundred steps, to a small relative Fisher divergence."""
    t = torch.full((1, 1, 1), 0.6, dtype=torch.float64)
    ebm = energy_denoiser(Small(1, nn.SiLU()), SCHEDULE)
    optimiser = torch.optim.Adam(ebm.parameters(), lr=3e-2)
    for k in range(120):
        x = MIXTURE.draw(256, 1, generator(k))
        z, eps = corrupt(x, t, SCHEDULE, generator(1000 + k))
        if loss == "denoising":
            value = (ebm(z, t).eps - eps).square().sum(-1).mean()
        else:
            value = scores.sliced_reduced(
                smooth_score_at_level(ebm, t), z, scores.rademacher_probes(z, generator(k))
            ).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    z, _ = corrupt(MIXTURE.draw(2000, 1, generator(5)), t, SCHEDULE, generator(6))
    truth = optimal(MIXTURE, SCHEDULE)(z, t).eps
    with torch.no_grad():
        assert (ebm(z, t).eps - truth).square().sum() < 0.08 * truth.square().sum()


def test_a_residual_is_a_scalar_and_a_timeless_one_does_not_look_at_t():
    z = torch.randn(5, 3, 2, generator=generator())
    halved = energy_denoiser(ResidualEnergy(lambda z, t, given: z / 2), SCHEDULE)
    t = torch.full((5, 1, 1), 0.5)
    torch.testing.assert_close(energy_at_level(halved, t)(z), z.square().sum((1, 2)) / 8)
    torch.testing.assert_close(scores.score_at_level(halved, t)(z), -z / 4, rtol=1e-5, atol=1e-6)
    clean = EnergyScore(UnconditionalEnergy(lambda z: z.square().sum((1, 2), keepdim=True)))
    torch.testing.assert_close(clean(z, t), -2 * z)


def test_vectors_are_refused_where_an_energy_is_wanted():
    vectors = Small(2, nn.SiLU())
    z = torch.randn(4, 1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="one number per sample") as error:
        energy_denoiser(vectors, SCHEDULE)(z, levels(4))
    assert "½‖x − f(x)‖²" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="Small is a network of vectors"):
        energy_at_level(Denoiser(vectors, SCHEDULE, kinds.score), levels(4))


def test_kinks_are_refused_for_traces_alone():
    z = torch.randn(4, 1, 2, dtype=torch.float64)
    for kink in (nn.ReLU(), nn.LeakyReLU(), nn.Hardtanh()):
        ebm = energy_denoiser(Small(1, kink), SCHEDULE)
        with pytest.raises(ValueError, match=rf"layers.1 is {type(kink).__name__}"):
            smooth_score_at_level(ebm, levels(4))
        assert scores.denoising(scores.score_at_level(ebm, levels(4)), z, z, 0.5).shape == (4,)
        with pytest.raises(ValueError, match="derivative is exactly 0"):
            scores.implicit(scores.score_at_level(ebm, levels(4)), z)
    relu = Denoiser(Small(2, nn.ReLU()), SCHEDULE, kinds.score)
    vectors = smooth_score_at_level(relu, levels(4))
    assert scores.sliced(vectors, z, z[None]).shape == (4,)


def test_the_weights_are_those_of_the_network():
    network = Small(1, nn.Softplus())
    ebm = energy_denoiser(network, SCHEDULE)
    assert set(ebm.state_dict()) == {f"network.network.{name}" for name in network.state_dict()}
