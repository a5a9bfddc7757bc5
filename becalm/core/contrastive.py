"""Contrastive divergence: an energy learned by pushing data down and the samples of its own Langevin chains up.

∇ of E_data[E] − E_model[E] is that of −log p exactly when the negatives are samples of the model (Hinton 2002); chains that are
short (CD-k) or go on from step to step (persistent, Tieleman 2008; with a replay buffer, Du & Mordatch 2019) come near.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from becalm.core.langevin import unadjusted
from becalm.core.scores import Energy, energies, for_sampling
from becalm.core.typing import Float, Int, Tensor


@dataclass(frozen=True)
class Chains:
    """How negatives are sampled: unadjusted Langevin steps."""

    steps: int = 20
    """k of CD-k."""
    size: float = 0.01
    """h of z − h∇E + √(2hτ) n."""
    temperature: float = 1.0
    """τ; below 1 the chains are drawn to the modes, and the energy is then not that of the data's density."""


def contrast(
    energy: Energy, x: Float[Tensor, "batch *data"], negatives: Float[Tensor, "batch *data"], penalty: float = 0.0
) -> Float[Tensor, " batch"]:
    """E(x) − E(x⁻) + a (E(x)² + E(x⁻)²), a = `penalty` holding the energies near 0."""
    data, model = energies(energy, x), energies(energy, negatives)
    return data - model + penalty * (data.square() + model.square())


def diverged(
    energy: Energy, x: Float[Tensor, "batch *data"], chains: Chains, generator: torch.Generator | None = None
) -> Float[Tensor, "batch *data"]:
    """The negatives of CD-k: chains that begin at the data; detached. Raises ValueError where they explode."""
    return last(energy, x.detach(), chains, generator)


def last(energy: Energy, z: Tensor, chains: Chains, generator: torch.Generator | None) -> Tensor:
    """Where the chains from z end."""
    for state in unadjusted(for_sampling(energy), z, chains.size, chains.steps, chains.temperature, generator):
        z = state.z
    return z


class Negatives(NamedTuple):
    """What persistent chains give."""

    z: Float[Tensor, "batch *data"]
    """Where this step's chains ended, detached."""
    buffer: Float[Tensor, "place *data"]
    """The buffer with them in their places."""
    places: Int[Tensor, " batch"]
    """Which they are, all different."""


Fresh = Callable[[int, torch.Generator | None], Tensor]
"""Starts of new chains, from (how many, generator): noise about as wide as the data, [n, *data]."""


def persistent(
    energy: Energy,
    buffer: Float[Tensor, "place *data"],
    count: int,
    fresh: Fresh,
    chains: Chains,
    generator: torch.Generator | None = None,
    kept: float = 0.95,
) -> Negatives:
    """The negatives of persistent CD: `count` chains of the buffer run on and are put back, each anew with chance 1 − `kept`.

    The buffer given is not changed. Raises ValueError where it is smaller than `count`, or where a chain explodes.
    """
    if count > len(buffer):
        raise ValueError(f"persistent: {count} chains of a buffer of {len(buffer)}; give a greater buffer")
    places = torch.randperm(len(buffer), generator=generator)[:count].to(buffer.device)
    renewed = (torch.rand(count, generator=generator) >= kept).to(buffer.device)
    new = fresh(count, generator).to(buffer)
    start = torch.where(renewed.reshape(-1, *[1] * (new.ndim - 1)), new, buffer[places])
    ends = last(energy, start, chains, generator)
    return Negatives(ends, buffer.index_copy(0, places, ends), places)
