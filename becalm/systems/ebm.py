"""EBM: an energy as a denoiser. A network puts out one number E(z, t) a sample, log q(z) = −E − log Z, and its score is −∇_z E.

Energies can be compared (what does not belong?), accept or refuse a step (MALA) and be given a log Z. `Energy` turns a scalar
network into a network of scores, `energy_denoiser` into a Denoiser that every sampler takes. It learns by denoising score
matching as any other, by the losses with traces where its activations are smooth, or by contrastive divergence. For energies of
many levels let the network divide by σ (Song & Ermon 2020): scores grow as 1/σ.
"""

from collections.abc import Callable

from torch import nn

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.scores import Energy as Scalar
from becalm.core.scores import Score, energy_values, score_at_level, score_of_energy
from becalm.core.typing import Float, Tensor

KINKED = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardsigmoid),
    *(nn.Hardshrink, nn.Softshrink),
)
"""Activations that are piecewise linear: their second derivative is 0 wherever it is defined."""


class Energy(nn.Module):
    """A scalar network, called as network(z, t, given) → [batch] or [batch, 1], as a network of scores."""

    def __init__(self, network: nn.Module | Callable):
        super().__init__()
        self.network = network

    def energy(
        self, z: Float[Tensor, "batch *data"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, " batch"]:
        """E(z, t); raises ValueError where the network gives vectors."""
        return energy_values(lambda place: self.network(place, t, given), z)

    def forward(
        self, z: Float[Tensor, "batch *data"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, "batch *data"]:
        """−∇_z E; it carries a graph for the weights only where gradients are on."""
        return score_of_energy(lambda place: self.network(place, t, given))(z)


class Residual(nn.Module):
    """The energy ½‖z − f(z, t, given)‖² of a network of vectors f, shaped like z: it grows far away where f is bounded."""

    def __init__(self, network: nn.Module | Callable):
        super().__init__()
        self.network = network

    def forward(
        self, z: Float[Tensor, "batch *data"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Float[Tensor, " batch"]:
        return (z - self.network(z, t, given)).square().flatten(1).sum(1) / 2


class Timeless(nn.Module):
    """An energy E(z) of clean data as a network of (z, t, given) that does not look at t."""

    def __init__(self, network: nn.Module | Callable):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, t: Tensor, given: dict[str, Tensor] | None = None) -> Tensor:
        return self.network(z)


def energy_denoiser(network: nn.Module | Callable, schedule) -> Denoiser:
    """A denoiser whose score is −∇_z of network(z, t, given)."""
    return Denoiser(Energy(network), schedule, kinds.score)


def energy_at(denoiser: Denoiser, t: Tensor, given: dict[str, Tensor] | None = None) -> Scalar:
    """E(z) at level t, for MALA, contrastive divergence and log Z; raises ValueError where the denoiser has no energy."""
    network = denoiser.network
    if not isinstance(network, Energy):
        name = type(network).__name__
        raise ValueError(
            f"energy: {name} is a network of vectors; an energy is wanted: energy_denoiser(network, schedule)"
        )
    return lambda z: network.energy(z, t, given)


def traceable_at(denoiser: Denoiser, t: Tensor, given: dict[str, Tensor] | None = None) -> Score:
    """The score at level t for a loss with a trace (implicit, sliced); raises ValueError for an energy with ReLU or its like.

    Their Hessian is 0 wherever it is defined, so that the trace would tell nothing.
    """
    if isinstance(denoiser.network, Energy):
        for name, part in denoiser.network.named_modules():
            if isinstance(part, KINKED):
                raise ValueError(
                    f"energy: {name} is {type(part).__name__}, whose second derivative is 0: a loss with a trace learns "
                    "nothing from it; use SiLU or softplus, or denoising score matching"
                )
    return score_at_level(denoiser, t, given)
