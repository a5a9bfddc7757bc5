"""Contrastive divergence: an energy learned by pushing data down and the samples of its own Langevin chains up.

∇ of E_data[E] − E_model[E] is that of −log p exactly when the negatives are samples of the model (Hinton 2002); chains that are
short (CD-k) or go on from step to step (persistent, Tieleman 2008; with a replay buffer, Du & Mordatch 2019) come near.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from becalm.core.langevin import ula
from becalm.core.scores import Energy, detached_score, energy_values
from becalm.core.typing import Float, Int, Tensor


@dataclass(frozen=True)
class LangevinChains:
    """How negatives are sampled: unadjusted Langevin steps."""

    steps: int = 20
    """k of CD-k."""
    step_size: float = 0.01
    """h of z − h∇E + √(2hτ) n."""
    temperature: float = 1.0
    """τ; below 1 the chains are drawn to the modes, and the energy is then not that of the data's density."""


def contrastive_loss(
    energy: Energy, x: Float[Tensor, "batch *data"], negatives: Float[Tensor, "batch *data"], penalty: float = 0.0
) -> Float[Tensor, " batch"]:
    """E(x) − E(x⁻) + a (E(x)² + E(x⁻)²), a = `penalty` holding the energies near 0."""
    data, model = energy_values(energy, x), energy_values(energy, negatives)
    return data - model + penalty * (data.square() + model.square())


def cd_negatives(
    energy: Energy, x: Float[Tensor, "batch *data"], chains: LangevinChains, generator: torch.Generator | None = None
) -> Float[Tensor, "batch *data"]:
    """The negatives of CD-k: chains that begin at the data; detached. Raises ValueError where they explode."""
    return run_chains(energy, x.detach(), chains, generator)


def run_chains(energy: Energy, z: Tensor, chains: LangevinChains, generator: torch.Generator | None) -> Tensor:
    """Where the chains from z end."""
    for state in ula(detached_score(energy), z, chains.step_size, chains.steps, chains.temperature, generator):
        z = state.z
    return z


class PersistentNegatives(NamedTuple):
    """What persistent chains give."""

    z: Float[Tensor, "batch *data"]
    """Where this step's chains ended, detached."""
    buffer: Float[Tensor, "place *data"]
    """The buffer with them in their places."""
    indices: Int[Tensor, " batch"]
    """Which they are, all different."""


ChainStarts = Callable[[int, torch.Generator | None], Tensor]
"""Starts of new chains, from (how many, generator): noise about as wide as the data, [n, *data]."""


def persistent_negatives(
    energy: Energy,
    buffer: Float[Tensor, "place *data"],
    count: int,
    new_starts: ChainStarts,
    chains: LangevinChains,
    generator: torch.Generator | None = None,
    keep_probability: float = 0.95,
) -> PersistentNegatives:
    """The negatives of persistent CD: `count` chains of the buffer run on and are put back, each anew with chance 1 − `kept`.

    The buffer given is not changed. Raises ValueError where it is smaller than `count`, or where a chain explodes.
    """
    if count > len(buffer):
        raise ValueError(f"persistent: {count} chains of a buffer of {len(buffer)}; give a greater buffer")
    places = torch.randperm(len(buffer), generator=generator)[:count].to(buffer.device)
    renewed = (torch.rand(count, generator=generator) >= keep_probability).to(buffer.device)
    new = new_starts(count, generator).to(buffer)
    start = torch.where(renewed.reshape(-1, *[1] * (new.ndim - 1)), new, buffer[places])
    ends = run_chains(energy, start, chains, generator)
    return PersistentNegatives(ends, buffer.index_copy(0, places, ends), places)
