"""EBM: energy-based models. A network gives one number E(z, t) a sample, log q(z) = −E − log Z, and its score is −∇_z E.

Energies can be compared between samples, accept or refuse a step (MALA), and be given a log Z. `EnergyScore` turns a network of
scalars into one of scores, `energy_denoiser` into a Denoiser that every sampler takes. It learns by denoising score matching as
any other, by losses with a trace where its activations are smooth, or by contrastive divergence. For energies of many levels let
the network divide by σ (Song & Ermon 2020): scores grow as 1/σ.
"""

from collections.abc import Callable

from torch import nn

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.scores import Energy, Score, energy_values, score_at_level, score_of_energy
from becalm.core.typing import Float, Tensor

PIECEWISE_LINEAR = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid),
    *(nn.Hardshrink, nn.Softshrink),
)
"""Activations that are piecewise linear: their second derivative is 0 wherever it is defined."""


class EnergyScore(nn.Module):
    """The score −∇_z E of a network of scalars, called as network(z, t, given) → [batch] or [batch, 1]."""

    def __init__(self, network: nn.Module | Callable):
        super().__init__()
        self.network = network

    def energy(
        self, z: Float[Tensor, "batch *data"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, " batch"]:
        """E(z, t); raises ValueError where the network gives vectors."""
        return energy_values(lambda x: self.network(x, t, given), z)

    def forward(
        self, z: Float[Tensor, "batch *data"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "batch *data"]:
        """−∇_z E, with a graph for the weights only where gradients are enabled."""
        return score_of_energy(lambda x: self.network(x, t, given))(z)


class ResidualEnergy(nn.Module):
    """The energy ½‖z − f(z, t, given)‖² of a network f with outputs shaped like z; it grows far away if f is bounded."""

    def __init__(self, network: nn.Module | Callable):
        super().__init__()
        self.network = network

    def forward(
        self, z: Float[Tensor, "batch *data"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, " batch"]:
        return (z - self.network(z, t, given)).square().flatten(1).sum(1) / 2


class UnconditionalEnergy(nn.Module):
    """An energy E(z) without noise level as a network of (z, t, given) that ignores t."""

    def __init__(self, network: nn.Module | Callable):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, t: Tensor, given: dict[str, Tensor] | None = None) -> Tensor:
        return self.network(z)


def energy_denoiser(network: nn.Module | Callable, schedule) -> Denoiser:
    """A denoiser whose score is −∇_z of network(z, t, given)."""
    return Denoiser(EnergyScore(network), schedule, kinds.score)


def energy_at_level(denoiser: Denoiser, t: Tensor, given: dict[str, Tensor] | None = None) -> Energy:
    """E(z) at level t, for MALA, contrastive divergence and log Z; raises ValueError for a denoiser without energy."""
    network = denoiser.network
    if not isinstance(network, EnergyScore):
        name = type(network).__name__
        raise ValueError(
            f"energy: {name} is a network of vectors; an energy is wanted: energy_denoiser(network, schedule)"
        )
    return lambda z: network.energy(z, t, given)


def smooth_score_at_level(denoiser: Denoiser, t: Tensor, given: dict[str, Tensor] | None = None) -> Score:
    """The score at level t for a loss with a trace (implicit, sliced); raises ValueError for a piecewise linear energy.

    The Hessian of such an energy is 0 wherever it is defined, and with it the trace.
    """
    if isinstance(denoiser.network, EnergyScore):
        for name, part in denoiser.network.named_modules():
            if isinstance(part, PIECEWISE_LINEAR):
                raise ValueError(
                    f"energy: {name} is {type(part).__name__}, whose second derivative is 0: a loss with a trace learns "
                    "nothing from it; use SiLU or softplus, or denoising score matching"
                )
    return score_at_level(denoiser, t, given)
