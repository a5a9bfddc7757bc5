"""log Z = log ∫ e^{−E}: annealed importance sampling from a normalised density (Neal 2001)."""

import math
from typing import NamedTuple

import torch

from becalm.core.densities import Density
from becalm.core.langevin import mala_step, value_and_grad
from becalm.core.scores import Energy, energy_values
from becalm.core.typing import Float, Tensor


class LogPartition(NamedTuple):
    """An estimate of log Z with its errors."""

    log_z: float
    """log of the mean weight; its expectation lies below log Z (Jensen), so poor runs err downwards."""
    error: float
    """Standard error of log_z, √(1/effective − 1/count); an underestimate where the effective sample size is a handful."""
    effective_samples: float
    """Effective sample size (Σw)²/Σw², of `count` chains: from 1 (useless) to `count` (best)."""
    acceptance: float
    """Mean acceptance of the MALA steps; if far from 0.6, change `step_size`."""
    log_weights: Float[Tensor, " chain"]
    """log w of each chain."""
    z: Float[Tensor, "chain d"]
    """End states of the chains: with the weights, samples of e^{−E}/Z."""


def log_partition(
    energy: Energy,
    start: Density,
    chains: int = 2000,
    levels: int = 200,
    step_size: float = 0.05,
    inner_steps: int = 1,
    generator: torch.Generator | None = None,
) -> LogPartition:
    """Annealed importance sampling of log Z of e^{−E(x)}, x [chain, d] of the dtype of `start`, whose support must cover it.

    Along E_β = (1 − β)(−log p₀) + βE, β = k/K, k = 1 … K = `levels`: log w += (E_{k−1} − E_k)(x), then `inner_steps` MALA steps
    of h = `step_size` that leave e^{−E_k} invariant. Raises ValueError where a weight is not a number.
    """
    z = start.sample(chains, generator)
    log, chances = z.new_zeros(chains), []
    with torch.no_grad():
        for k in range(1, levels + 1):
            log = log + (energy_values(lambda x: -start.log_prob(x), z) - energy_values(energy, z)) / levels
            here = value_and_grad(interpolated_energy(energy, start, k / levels), z)
            for _ in range(inner_steps if k < levels else 0):
                here, chance = mala_step(
                    interpolated_energy(energy, start, k / levels), here, z.new_tensor(step_size), 1.0, generator
                )
                chances.append(chance.mean())
            z = here.z
    return log_partition_from_weights(log, z, float(torch.stack(chances).mean()) if chances else math.nan)


def interpolated_energy(energy: Energy, start: Density, beta: float) -> Energy:
    """E_β = (1 − β)(−log p₀) + βE."""
    return lambda x: beta * energy_values(energy, x) - (1 - beta) * start.log_prob(x)


def log_partition_from_weights(log: Float[Tensor, " chain"], z: Tensor, accepted: float) -> LogPartition:
    """The estimate of log Z from the log-weights; raises ValueError where one is NaN or all are −∞."""
    if bool(log.isnan().any()) or not bool(torch.isfinite(log.logsumexp(0))):
        raise ValueError(
            "log_partition: a weight is not a number: the energy is NaN or infinite where `start` has samples"
        )
    count = len(log)
    effective = float(torch.exp(2 * log.logsumexp(0) - (2 * log).logsumexp(0)))
    error = math.sqrt(max(1 / effective - 1 / count, 0.0))
    return LogPartition(float(log.logsumexp(0)) - math.log(count), error, effective, accepted, log, z)
