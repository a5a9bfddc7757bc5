"""The variational bound −log p(x) ≤ prior + reconstruction + diffusion, each term in nats per datum and in bits per dimension.

Kingma et al., "Variational diffusion models", 2021, §§ 3 and 4. Data lie on K evenly spaced levels of [−1, 1]. The bound is that
of z/α, hence the same in every scaling; at t = 1 the model is N(0, I) in `preserve`. All sums are float64; gradients reach the
network and a learned schedule.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from becalm.core.denoiser import Denoiser
from becalm.core.process import noise_like
from becalm.core.times import stratified
from becalm.core.typing import Float, Int, Shaped, Tensor

DECODER_REACH = 12.0
"""Levels farther than this many standard deviations from z₀/α₀ have less than e⁻⁷² of the nearest's probability."""


class Estimate(NamedTuple):
    """A mean over data with its standard error."""

    nats: float
    """Nats per datum."""
    nats_error: float
    """Its standard error; NaN for a single datum."""
    bits: float
    """Bits per dimension."""
    bits_error: float
    """Its standard error."""


def mean_estimate(nats: Float[Tensor, " datum"], dimensions: int) -> Estimate:
    """Mean and standard error of nats per datum; bits per dimension are nats/(D log 2)."""
    nats, scale = nats.detach().double(), dimensions * math.log(2)
    error = float(nats.std() / len(nats) ** 0.5) if len(nats) > 1 else math.nan
    return Estimate(float(nats.mean()), error, float(nats.mean()) / scale, error / scale)


@dataclass(frozen=True)
class Bound:
    """Terms of the variational bound of each datum, in nats."""

    prior: Float[Tensor, " datum"]
    """KL(q(z₁|x) ‖ N(0, I))."""
    reconstruction: Float[Tensor, " datum"]
    """−log p(x|z₀), the mean over one or more samples of z₀."""
    diffusion: Float[Tensor, " datum"]
    """Monte-Carlo estimate of the diffusion loss from one or more times t."""
    dimensions: int
    """Numbers per datum, D."""

    @property
    def total(self) -> Float[Tensor, " datum"]:
        """The bound: the sum of the three terms."""
        return self.prior + self.reconstruction + self.diffusion

    def estimates(self) -> dict[str, Estimate]:
        """Means over the data of the three terms and of their sum, by name."""
        terms = {name: getattr(self, name) for name in ("prior", "reconstruction", "diffusion", "total")}
        return {name: mean_estimate(values, self.dimensions) for name, values in terms.items()}


def concatenate_bounds(bounds: Iterable[Bound]) -> Bound:
    """The bounds of several batches, concatenated."""
    bounds = list(bounds)
    prior, reconstruction, diffusion = (
        torch.cat([getattr(bound, name) for bound in bounds]) for name in ("prior", "reconstruction", "diffusion")
    )
    return Bound(prior, reconstruction, diffusion, bounds[0].dimensions)


def encode_levels(v: Int[Tensor, "*data"], levels: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*data"]:
    """x = 2(v + ½)/K − 1 for v of 0 … K − 1; raises ValueError for values outside."""
    low, high = (int(v.min()), int(v.max())) if v.numel() else (0, 0)
    if low < 0 or high >= levels:
        raise ValueError(f"values {low} to {high} do not fit {levels} levels, 0 to {levels - 1}")
    return _unchecked_levels(v, levels, dtype)


def level_values(levels: int, like: Tensor) -> Float[Tensor, " level"]:
    """x of every level 0 … K − 1, of the dtype and on the device of `like`."""
    return _unchecked_levels(torch.arange(levels, device=like.device), levels, like.dtype)


def _unchecked_levels(v: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    return ((2 * v.double() + 1) / levels - 1).to(dtype)


def nearest_level(x: Shaped[Tensor, "*data"], levels: int) -> Int[Tensor, "*data"]:
    """The level v nearest to x: the inverse of `encode_levels`."""
    return torch.round((x.double() + 1) * levels / 2 - 0.5).long().clamp(0, levels - 1)


def prior_kl(x: Float[Tensor, "batch variable channel"], schedule) -> Float[Tensor, " batch"]:
    """KL(q(z₁|x) ‖ N(0, I)) in `preserve`: ½Σ(α²x² + σ² − log σ² − 1), stable where γ(1) is great."""
    gamma = schedule(x.new_ones((), dtype=torch.float64)).gamma
    alpha2 = torch.sigmoid(-gamma)
    u = torch.exp(-gamma.clamp_min(0.0))
    series = u**2 / 2 - 2 * u**3 / 3 + 3 * u**4 / 4
    # σ² − log σ² − 1: its two parts agree to first order in u = e^{−γ}
    rest = torch.where(u < 1e-3, series, torch.nn.functional.softplus(-gamma) - alpha2)
    return (alpha2 * x.double().square() + rest).sum((1, 2)) / 2


def decoder_log_prob(
    x: Float[Tensor, "*data"], y: Float[Tensor, "*data"], gamma: Float[Tensor, ""], levels: int
) -> Float[Tensor, "*data"]:
    """log p(x | z₀), p ∝ exp(−½e^{−γ}(y − x)²) over the K levels, y = z₀/α₀, γ = γ(0) (VDM, eq. 8).

    Of the sum that normalises it only the levels within REACH of y are formed: 5 of 256 at γ = −13.3.
    """
    width = torch.exp(gamma / 2)
    near = nearest_level(y, levels)
    reach = min(levels - 1, math.ceil(DECODER_REACH * float(width.detach()) * levels / 2))
    other = near[..., None] + torch.arange(-reach, reach + 1, device=x.device)
    away = (y.double()[..., None] - ((2 * other.double() + 1) / levels - 1)) / width
    weights = torch.where((other >= 0) & (other < levels), -away.square() / 2, -torch.inf)
    return -((y.double() - x.double()) / width).square() / 2 - torch.logsumexp(weights, -1)


def reconstruction_nats(
    x: Float[Tensor, "batch variable channel"],
    schedule,
    levels: int,
    start: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """−log p(x|z₀) at one sample z₀/α₀ = x + e^{γ₀/2} ε, γ₀ = γ(`start`). x must lie on the levels."""
    gamma = schedule(x.new_full((), start, dtype=torch.float64)).gamma
    eps = noise_like(x, generator).double()
    return -decoder_log_prob(x, x.double() + torch.exp(gamma / 2) * eps, gamma, levels).sum((1, 2))


def noise_error(
    denoiser: Denoiser,
    x: Float[Tensor, "batch variable channel"],
    t: Float[Tensor, "batch 1 1"],
    eps: Float[Tensor, "batch variable channel"],
    given: dict[str, Tensor] | None = None,
) -> Float[Tensor, " batch"]:
    """Squared error of the predicted noise, m = |ε − ε̂(z_t)|², of each datum, z = αx + σε."""
    _, alpha, sigma = denoiser.schedule(t)
    guess = denoiser(alpha.to(x) * x + sigma.to(x) * eps, t, given).eps
    return (eps.double() - guess.double()).square().sum((1, 2))


def continuous_time_weight(
    schedule, u: Float[Tensor, "batch 1 1"], start: float = 0.0
) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, " batch"]]:
    """t = start + (1 − start)u for u of [0, 1), and the weight ½(1 − start)γ′(t) of m in L_∞ (VDM, eq. 17)."""
    t = start + (1 - start) * u
    return t, (1 - start) * schedule.slope(t)[:, 0, 0] / 2


def discrete_time_weight(
    schedule, u: Float[Tensor, "batch 1 1"], steps: int, start: float = 0.0
) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, " batch"]]:
    """End t of the discrete step, of T, that contains u, and its weight ½T(e^{γ(t)−γ(s)} − 1) in L_T (VDM, eq. 14)."""
    last = torch.ceil(u * steps).clamp(1, steps)
    t, s = (start + (1 - start) * (i / steps) for i in (last, last - 1))
    return t, steps * torch.expm1(schedule(t).gamma - schedule(s).gamma)[:, 0, 0] / 2


def variational_bound(
    denoiser: Denoiser,
    x: Float[Tensor, "batch variable channel"],
    levels: int,
    steps: int | None = None,
    draws: int = 1,
    start: float = 0.0,
    given: dict[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Bound:
    """The bound of each datum x, from `encode_levels` on K `levels`, for T equal `steps`, or infinitely many where None.

    For every datum `draws` times t, stratified over the batch and the draws, with a new ε for each random term. z₀ is z at
    t = `start`, above 0 where γ(0) = −∞: T = 999 from 1/1000 is DDPM's chain of 1000. Raises ValueError where γ(start) or γ(1)
    is infinite.
    """
    schedule = denoiser.schedule
    check_finite_ends(schedule, start)
    shares = stratified(draws * len(x), 1, generator).reshape(draws, len(x), 1, 1).to(x.device)
    decoding, diffusion = [], []
    for u in shares:
        decoding.append(reconstruction_nats(x, schedule, levels, start, generator))
        t, weight = (
            continuous_time_weight(schedule, u, start)
            if steps is None
            else discrete_time_weight(schedule, u, steps, start)
        )
        diffusion.append(weight * noise_error(denoiser, x, t, noise_like(x, generator), given))
    decoded, between = torch.stack(decoding).mean(0), torch.stack(diffusion).mean(0)
    return Bound(prior_kl(x, schedule), decoded, between, x[0].numel())


def check_finite_ends(schedule, start: float = 0.0) -> None:
    """Raise ValueError unless γ(start) and γ(1) are finite; otherwise the bound is infinite."""
    low, high = schedule(torch.tensor([start, 1.0], dtype=torch.float64)).gamma.tolist()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"likelihood: {type(schedule).__name__} has γ({start:g}) = {low:g} and γ(1) = {high:g}; "
            "both must be finite: start above 0, or take a schedule such as Linear"
        )


@torch.no_grad()
def bits_per_dim(
    denoiser: Denoiser,
    x: Float[Tensor, "datum variable channel"],
    levels: int,
    steps: int | None = None,
    draws: int = 1,
    start: float = 0.0,
    given: dict[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
    batch: int = 128,
) -> Bound:
    """`variational_bound` of many data, `batch` at a time, without gradients; `.estimates()["total"].bits` are the bits/dim."""
    parts = []
    for first in range(0, len(x), batch):
        rows = slice(first, first + batch)
        condition = None if given is None else {name: value[rows] for name, value in given.items()}
        parts.append(variational_bound(denoiser, x[rows], levels, steps, draws, start, condition, generator))
    return concatenate_bounds(parts)
