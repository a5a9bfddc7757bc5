"""Noise-conditional scores (NCSN, Song & Ermon 2019) and energies: a vector field, or the gradient of one number, at every σ.

z = x + σε, σ from σ_max to σ_min on a ladder of levels. With p the mean square of the data and w = √(σ² + p), the network F takes
z/w, of unit size, and gives what the score of N(0, p) leaves over (the preconditioning of Karras et al. 2022, § 5, for ε):

    ε̂(z, σ) = σ z/w² + (√p/w) F(z/w, σ),      E(z, σ) = ‖z‖²/2w² + (√p/σ) Σ F(z/w, σ),

so that σ∇E has the same form as ε̂. The score is −ε̂/σ or −∇E. Where σ is far above the data nothing is left to learn, and far from
the data the square makes the energy grow.
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


class NoiseConditionalModel(nn.Module):
    """The network, the ladder of noise levels and the scale of the data, which scores and energies share.

    With `side` 0 each variable is a vector of `channels` numbers, by itself; else the variables are the pixels of a square.
    """

    scalar_output = False
    """Whether the network gives one number a variable, in place of one a channel."""

    def __init__(
        self,
        channels: int = 2,
        side: int = 0,
        width: int = 128,
        depth: int = 3,
        data_variance: float = 1.0,
        ladder: Ladder | None = None,
    ):
        """`data_variance` is p, the mean square of the data; `width` and `depth` are those of the network."""
        super().__init__()
        self.schedule, self.data_variance = ladder or Ladder(), data_variance
        outputs = 1 if self.scalar_output else channels
        self.network = ConvNet(channels, outputs, side, width, depth) if side else Mlp(channels, outputs, width, depth)
        self.config = {"channels": channels, "side": side, "width": width, "depth": depth, "power": data_variance}
        levels = self.schedule
        self.config |= {"high": levels.sigma_max, "low": levels.sigma_min, "steps": levels.steps}

    @classmethod
    def build(
        cls,
        channels: int = 2,
        side: int = 0,
        width: int = 128,
        depth: int = 3,
        power: float = 1.0,
        high: float = 10.0,
        low: float = 0.01,
        steps: int = 10,
    ):
        """The model of a `config` as weight files store it: flat, under the field names of the file format."""
        return cls(channels, side, width, depth, power, Ladder(high, low, steps))

    def network_output(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F(z/w, σ), σ and w, the last two broadcasting over z."""
        level = self.schedule(t)
        scale = (level.sigma.square() + self.data_variance).sqrt().to(z)
        return self.network(z / scale, level.gamma), level.sigma.to(z), scale


class ScoreModel(NoiseConditionalModel):
    """ε̂ = −σ times the score, called as network(z, t, given)."""

    @property
    def denoiser(self) -> Denoiser:
        """The model as every sampler, loss and likelihood takes it."""
        return Denoiser(self, self.schedule, kinds.eps)

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "batch variable channel"]:
        """t [batch, variables, 1] or anything that broadcasts, above 0."""
        output, sigma, scale = self.network_output(z, t)
        return sigma / scale.square() * z + self.data_variance**0.5 / scale * output


class EnergyModel(NoiseConditionalModel):
    """E(z, t), one number a sample, called as network(z, t, given)."""

    scalar_output = True

    @property
    def denoiser(self) -> Denoiser:
        """The model as every sampler, loss and likelihood takes it."""
        return energy_denoiser(self, self.schedule)

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, " batch"]:
        """t [batch, variables, 1] or anything that broadcasts, above 0."""
        output, sigma, scale = self.network_output(z, t)
        return (z / scale).square().sum((1, 2)) / 2 + (self.data_variance**0.5 / sigma * output).sum((1, 2))


class TrainingState(nn.Module):
    """A model in training with its persistent Langevin chains, which are part of the state: a run can be continued."""

    chains: Tensor

    def __init__(self, model: ScoreModel | EnergyModel, chains: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("chains", chains)

    @property
    def denoiser(self) -> Denoiser:
        """The model as a denoiser."""
        return self.model.denoiser

    @property
    def t_min(self) -> Float[Tensor, "1 1 1"]:
        """t of the lowest level, σ_min."""
        return torch.full((1, 1, 1), 1 / self.model.schedule.steps, dtype=torch.float64)

    def sample_sigmas(self, size: int, generator: torch.Generator | None) -> Float[Tensor, " size"]:
        """σ for each sample of a batch, log σ stratified over [log σ_min, log σ_max]."""
        return self.sigmas_at((torch.arange(size, dtype=torch.float64) + torch.rand(1, generator=generator)) / size)

    def sigmas_at(self, u: Float[Tensor, " size"]) -> Float[Tensor, " size"]:
        """σ for u in [0, 1), log σ between log σ_min and log σ_max, and not only at the levels, for the ODE."""
        t_min = 1 / self.model.schedule.steps
        return self.model.schedule(t_min + u * (1 - t_min)).sigma


def score_of_sigma(denoiser: Denoiser) -> LeveledScore:
    """The score as a function of (z, σ/α), for `scores.denoising_multilevel`."""
    return lambda z, sigma: score_at_level(denoiser, denoiser.schedule.time(2 * sigma.double().log()))(z)
