"""Contrastive divergence: training of an energy by the difference between its values at data and at its own Langevin samples.

The gradient of E_data[E] − E_model[E] is that of −log p exactly if the negatives are samples of the model (Hinton 2002). Short
chains from the data (CD-k) and persistent chains (Tieleman 2008; with a replay buffer, Du & Mordatch 2019) approximate them.
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
    """Configuration of the chains that sample negatives: unadjusted Langevin."""

    steps: int = 20
    """k of CD-k."""
    step_size: float = 0.01
    """h of z − h∇E + √(2hτ) n."""
    temperature: float = 1.0
    """τ; below 1 the chains concentrate at the modes, and e^{−E} is then not the density of the data."""


def contrastive_loss(
    energy: Energy, x: Float[Tensor, "batch *data"], negatives: Float[Tensor, "batch *data"], penalty: float = 0.0
) -> Float[Tensor, " batch"]:
    """E(x) − E(x⁻) + a (E(x)² + E(x⁻)²), the penalty a keeping the energies near 0."""
    data, model = energy_values(energy, x), energy_values(energy, negatives)
    return data - model + penalty * (data.square() + model.square())


def cd_negatives(
    energy: Energy, x: Float[Tensor, "batch *data"], chains: LangevinChains, generator: torch.Generator | None = None
) -> Float[Tensor, "batch *data"]:
    """Negatives of CD-k, detached: ends of chains that start at the data. Raises ValueError where a chain diverges."""
    return run_chains(energy, x.detach(), chains, generator)


def run_chains(energy: Energy, z: Tensor, chains: LangevinChains, generator: torch.Generator | None) -> Tensor:
    """The end states of chains from z."""
    for state in ula(detached_score(energy), z, chains.step_size, chains.steps, chains.temperature, generator):
        z = state.z
    return z


class PersistentNegatives(NamedTuple):
    """Negatives of persistent chains, with the updated replay buffer."""

    z: Float[Tensor, "batch *data"]
    """End states of this step's chains, detached."""
    buffer: Float[Tensor, "place *data"]
    """The replay buffer with these states written back."""
    indices: Int[Tensor, " batch"]
    """Their indices in the buffer, all different."""


ChainStarts = Callable[[int, torch.Generator | None], Tensor]
"""Start states of new chains [n, *data] from (n, generator): noise about as wide as the data."""


def persistent_negatives(
    energy: Energy,
    buffer: Float[Tensor, "place *data"],
    count: int,
    new_starts: ChainStarts,
    chains: LangevinChains,
    generator: torch.Generator | None = None,
    keep_probability: float = 0.95,
) -> PersistentNegatives:
    """Negatives of persistent CD: `count` chains of the buffer, run on and written back.

    Each chain is continued with probability `keep_probability` and restarted from `new_starts` otherwise.
    `buffer` itself is not changed. Raises ValueError where it is smaller than `count`, or where a chain diverges.
    """
    if count > len(buffer):
        raise ValueError(f"persistent: {count} chains of a buffer of {len(buffer)}; give a larger buffer")
    places = torch.randperm(len(buffer), generator=generator)[:count].to(buffer.device)
    renewed = (torch.rand(count, generator=generator) >= keep_probability).to(buffer.device)
    new = new_starts(count, generator).to(buffer)
    start = torch.where(renewed.reshape(-1, *[1] * (new.ndim - 1)), new, buffer[places])
    ends = run_chains(energy, start, chains, generator)
    return PersistentNegatives(ends, buffer.index_copy(0, places, ends), places)
