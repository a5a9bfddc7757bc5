"""log Z = log ∫ e^{−E}: annealed importance sampling from a density whose own is known (Neal 2001)."""

import math
from typing import NamedTuple

import torch

from becalm.core.densities import Density
from becalm.core.langevin import placed, proposal
from becalm.core.scores import Energy, energies
from becalm.core.typing import Float, Tensor


class Partition(NamedTuple):
    """An estimate of log Z and how far to trust it."""

    log_z: float
    """log of the mean weight; its expectation lies below log Z (Jensen), so an unlucky run errs downwards."""
    error: float
    """Standard error of log_z, √(1/effective − 1/count); too small where the effective number is a handful."""
    effective: float
    """Effective sample size (Σw)²/Σw², of `count` chains: near `count` is well, near 1 is worth nothing."""
    accepted: float
    """Mean acceptance of the MALA steps; far from 0.6, change their size."""
    log_weights: Float[Tensor, " chain"]
    """log w of each chain."""
    z: Float[Tensor, "chain d"]
    """Where the chains ended: with the weights, samples of e^{−E}/Z."""


def log_partition(
    energy: Energy,
    start: Density,
    chains: int = 2000,
    levels: int = 200,
    size: float = 0.05,
    inner: int = 1,
    generator: torch.Generator | None = None,
) -> Partition:
    """Annealed importance sampling of log Z of e^{−E(x)}, x [chain, d] of the type of `start`, which must cover it.

    Along E_β = (1 − β)(−log p₀) + βE, β = k/K, k = 1 … K = `levels`: log w += (E_{k−1} − E_k)(x), then `inner` MALA steps of h =
    `size` that leave e^{−E_k} as it is. Raises ValueError where a weight is not a number.
    """
    z = start.sample(chains, generator)
    log, chances = z.new_zeros(chains), []
    with torch.no_grad():
        for k in range(1, levels + 1):
            log = log + (energies(lambda x: -start.log_prob(x), z) - energies(energy, z)) / levels
            here = placed(between(energy, start, k / levels), z)
            for _ in range(inner if k < levels else 0):
                here, chance = proposal(between(energy, start, k / levels), here, z.new_tensor(size), 1.0, generator)
                chances.append(chance.mean())
            z = here.z
    return summed(log, z, float(torch.stack(chances).mean()) if chances else math.nan)


def between(energy: Energy, start: Density, beta: float) -> Energy:
    """E_β = (1 − β)(−log p₀) + βE."""
    return lambda x: beta * energies(energy, x) - (1 - beta) * start.log_prob(x)


def summed(log: Float[Tensor, " chain"], z: Tensor, accepted: float) -> Partition:
    """The estimate from the weights."""
    if bool(log.isnan().any()) or not bool(torch.isfinite(log.logsumexp(0))):
        raise ValueError(
            "log_partition: a weight is not a number: the energy is NaN or infinite where `start` has samples"
        )
    count = len(log)
    effective = float(torch.exp(2 * log.logsumexp(0) - (2 * log).logsumexp(0)))
    error = math.sqrt(max(1 / effective - 1 / count, 0.0))
    return Partition(float(log.logsumexp(0)) - math.log(count), error, effective, accepted, log, z)
