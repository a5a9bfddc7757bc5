"""NCSN and its energy: the scores of noisy data at the levels of a ladder, as vectors or as the gradient of one number.

z = x + σε, σ from `high` to `low` (Song & Ermon 2019). With p the mean square of the data and w = √(σ² + p), the network F sees
z/w, of unit size, and tells what the linear guess leaves over (the preconditioning of Karras et al. 2022, § 5, for ε):

    ε̂(z, σ) = σ z/w² + (√p/w) F(z/w, σ),      E(z, σ) = ‖z‖²/2w² + (√p/σ) Σ F(z/w, σ),

so that σ∇E has the same shape as ε̂. The score is −ε̂/σ or −∇E; nothing is learned where noise drowns the data, and far away the
square holds the energy up.
"""

import torch
from torch import nn

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.schedule import Ladder
from becalm.core.scores import LeveledScore, score_at_level
from becalm.core.typing import Float, Tensor
from becalm.nets.conv import ConvNet
from becalm.nets.mlp import Mlp
from becalm.systems.ebm import energy_denoiser


class Field(nn.Module):
    """What the two have in common: network, ladder and scale.

    With `side` 0 each variable is a vector of `channels` numbers, by itself; else the variables are the pixels of a square.
    """

    single = False
    """Whether the network tells one number of a variable, in place of as many as the variable has."""

    def __init__(
        self,
        channels: int = 2,
        side: int = 0,
        width: int = 128,
        depth: int = 3,
        power: float = 1.0,
        high: float = 10.0,
        low: float = 0.01,
        steps: int = 10,
    ):
        super().__init__()
        self.schedule, self.power = Ladder(high, low, steps), power
        outputs = 1 if self.single else channels
        self.network = ConvNet(channels, outputs, side, width, depth) if side else Mlp(channels, outputs, width, depth)
        self.config = {"channels": channels, "side": side, "width": width, "depth": depth, "power": power}
        self.config |= {"high": high, "low": low, "steps": steps}

    def asked(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F, σ and w, the last two broadcasting over z."""
        level = self.schedule(t)
        wide = (level.sigma.square() + self.power).sqrt().to(z)
        return self.network(z / wide, level.gamma), level.sigma.to(z), wide


class ScoreModel(Field):
    """ε̂ = −σ times the score, called as network(z, t, given)."""

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "batch variable channel"]:
        """t [batch, variables, 1] or anything that broadcasts, above 0."""
        said, sigma, wide = self.asked(z, t)
        return sigma / wide.square() * z + self.power**0.5 / wide * said


class EnergyModel(Field):
    """E(z, t), one number a sample, called as network(z, t, given)."""

    single = True

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, " batch"]:
        """t [batch, variables, 1] or anything that broadcasts, above 0."""
        said, sigma, wide = self.asked(z, t)
        return (z / wide).square().sum((1, 2)) / 2 + (self.power**0.5 / sigma * said).sum((1, 2))


def denoiser_of(model: ScoreModel | EnergyModel) -> Denoiser:
    """The model as what every sampler, loss and likelihood takes."""
    if isinstance(model, EnergyModel):
        return energy_denoiser(model, model.schedule)
    return Denoiser(model, model.schedule, kinds.eps)


class Learner(nn.Module):
    """A model in training, with its persistent chains: they are part of the state, so that a run can be continued."""

    chains: Tensor

    def __init__(self, model: ScoreModel | EnergyModel, chains: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("chains", chains)

    @property
    def denoiser(self) -> Denoiser:
        """The model as a denoiser."""
        return denoiser_of(self.model)

    def least(self) -> Float[Tensor, "1 1 1"]:
        """t of the least noise."""
        return torch.full((1, 1, 1), 1 / self.model.schedule.steps, dtype=torch.float64)

    def spread(self, size: int, generator: torch.Generator | None) -> Float[Tensor, " size"]:
        """σ of each sample of a batch, log σ evenly over the whole ladder, not only its rungs: an ODE passes between them."""
        share = (torch.arange(size, dtype=torch.float64) + torch.rand(1, generator=generator)) / size
        first = 1 / self.model.schedule.steps
        return self.model.schedule(first + share * (1 - first)).sigma


def by_sigma(denoiser: Denoiser) -> LeveledScore:
    """The score as a function of (z, σ/α), for `scores.denoising_multilevel`."""
    return lambda z, sigma: score_at_level(denoiser, denoiser.schedule.time(2 * sigma.double().log()))(z)
