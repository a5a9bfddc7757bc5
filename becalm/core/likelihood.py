"""The variational bound −log p(x) ≤ prior + reconstruction + diffusion, each term in nats a datum and in bits a dimension.

Kingma et al., "Variational diffusion models", 2021, §§ 3 and 4. Data lie on K evenly spaced levels of [−1, 1]. The bound is that
of z/α, hence the same in every scaling: at t = 1 the model is N(0, I) in `preserve`. All sums are float64; gradients flow into
the network and into a learned schedule.
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
"""Levels farther than this many standard deviations from z₀/α₀ weigh less than e⁻⁷² beside the nearest."""


class Estimate(NamedTuple):
    """A mean over data, with the standard error of that mean."""

    nats: float
    """A datum."""
    nats_error: float
    """Standard error; NaN for a single datum."""
    bits: float
    """A dimension."""
    bits_error: float
    """Standard error."""


def mean_estimate(nats: Float[Tensor, " datum"], dimensions: int) -> Estimate:
    """The mean of what each datum costs; bits a dimension are nats/(D log 2)."""
    nats, scale = nats.detach().double(), dimensions * math.log(2)
    error = float(nats.std() / len(nats) ** 0.5) if len(nats) > 1 else math.nan
    return Estimate(float(nats.mean()), error, float(nats.mean()) / scale, error / scale)


@dataclass(frozen=True)
class Bound:
    """What each datum costs, in nats."""

    prior: Float[Tensor, " datum"]
    """KL(q(z₁|x) ‖ N(0, I))."""
    reconstruction: Float[Tensor, " datum"]
    """−log p(x|z₀) at one draw of z₀ or the mean of several."""
    diffusion: Float[Tensor, " datum"]
    """The estimate of all that lies between, from one or more times."""
    dimensions: int
    """Numbers a datum."""

    @property
    def total(self) -> Float[Tensor, " datum"]:
        """The bound itself."""
        return self.prior + self.reconstruction + self.diffusion

    def estimates(self) -> dict[str, Estimate]:
        """The three terms and their sum over the data, by name."""
        terms = {name: getattr(self, name) for name in ("prior", "reconstruction", "diffusion", "total")}
        return {name: mean_estimate(values, self.dimensions) for name, values in terms.items()}


def concatenate_bounds(bounds: Iterable[Bound]) -> Bound:
    """The bounds of several batches as one."""
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
    """−log p(x|z₀) at one draw of z₀/α₀ = x + e^{γ₀/2} ε, γ₀ = γ(`start`). x must lie on the levels."""
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
    """m = |ε − ε̂(z_t)|² of each datum, z = αx + σε."""
    _, alpha, sigma = denoiser.schedule(t)
    guess = denoiser(alpha.to(x) * x + sigma.to(x) * eps, t, given).eps
    return (eps.double() - guess.double()).square().sum((1, 2))


def continuous_time_weight(
    schedule, u: Float[Tensor, "batch 1 1"], start: float = 0.0
) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, " batch"]]:
    """t = start + (1 − start)u for u of [0, 1), and ½(1 − start)γ′(t), what m costs with infinitely many steps (VDM, eq. 17)."""
    t = start + (1 - start) * u
    return t, (1 - start) * schedule.slope(t)[:, 0, 0] / 2


def discrete_time_weight(
    schedule, u: Float[Tensor, "batch 1 1"], steps: int, start: float = 0.0
) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, " batch"]]:
    """The end t of that of T equal steps in which u lies, and ½T(e^{γ(t)−γ(s)} − 1), what m costs then (VDM, eq. 14)."""
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
    """The bound of each datum x, from `encode_levels` on K `levels`, for T equal `steps`, or infinitely many where None is said.

    Every datum gets `draws` times, stratified over the batch and over its own, and as many ε for either random term. z₀ is z at
    t = `start`, above 0 where γ(0) = −∞: T = 999 from 1/1000 is DDPM's chain of 1000. Raises ValueError at an infinite end.
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
    """Raise ValueError for a schedule without finite γ(start) and γ(1): its bound is infinite."""
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
    """`bound` of many data, `batch` at a time and without gradients; `.estimates()["total"].bits` is the number published."""
    parts = []
    for first in range(0, len(x), batch):
        rows = slice(first, first + batch)
        known = None if given is None else {name: value[rows] for name, value in given.items()}
        parts.append(variational_bound(denoiser, x[rows], levels, steps, draws, start, known, generator))
    return concatenate_bounds(parts)
