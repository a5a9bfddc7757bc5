"""Noise levels for training: distributions of t [batch, variables, 1], float64 in [0, 1], t = 0 clean.

`uniform_mean` is SRM's (Wewer et al. 2025): the mean of t over the variables is uniform, so that states in which nearly all
variables are noise or clean, as at the start and the end of sampling, are trained as often as those between.
"""

from collections.abc import Callable
from typing import Literal

import torch

from becalm.core.typing import Float, Tensor

Distribution = Literal["uniform_mean", "independent", "shared"]
"""Levels with a uniform mean (SRM), independent levels (Diffusion Forcing), or one level for all variables (diffusion)."""


def uniform(batch: int, variables: int, generator: torch.Generator | None = None) -> Float[Tensor, "batch variable 1"]:
    """One uniform t per datum, shared by its variables."""
    return torch.rand(batch, 1, 1, generator=generator, dtype=torch.float64).repeat(1, variables, 1)


def stratified(
    batch: int, variables: int, generator: torch.Generator | None = None
) -> Float[Tensor, "batch variable 1"]:
    """One t per datum, t_k = (u + k/B) mod 1: uniform, and evenly spaced over the batch (VDM, appendix I.1)."""
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    t = (shift + torch.arange(batch, dtype=torch.float64) / batch) % 1.0
    return t[:, None, None].repeat(1, variables, 1)


def independent(
    batch: int, variables: int, generator: torch.Generator | None = None
) -> Float[Tensor, "batch variable 1"]:
    """One uniform t per variable (Diffusion Forcing)."""
    return torch.rand(batch, variables, 1, generator=generator, dtype=torch.float64)


def uniform_mean(
    batch: int, variables: int, generator: torch.Generator | None = None, sharpness: float = 1.0
) -> Float[Tensor, "batch variable 1"]:
    """One t per variable; the mean over the variables is uniform. A greater `sharpness` makes the levels more alike."""
    mean = torch.rand(batch, generator=generator, dtype=torch.float64)
    return recursive_allocation(mean, variables, generator, sharpness)


def sequential(
    batch: int, variables: int, generator: torch.Generator | None = None, active: int = 2
) -> Float[Tensor, "batch variable 1"]:
    """Levels of the states that a sequential walk visits, variables in random order.

    The first n variables are denoised (t = 0), n uniform; the next 1 to `active` share one uniform t; the rest are noise (t = 1).
    """
    place = torch.rand(batch, variables, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    known = torch.randint(0, variables, (batch, 1), generator=generator)
    moving = torch.randint(1, active + 1, (batch, 1), generator=generator)
    level = torch.rand(batch, 1, generator=generator, dtype=torch.float64)
    t = torch.where(place < known, 0.0, torch.where(place < known + moving, level, 1.0))
    return t[..., None]


def recursive_allocation(
    mean: Float[Tensor, " batch"], variables: int, generator: torch.Generator | None = None, sharpness: float = 1.0
) -> Float[Tensor, "batch variable 1"]:
    """Levels in [0, 1] with the given `mean` over the variables (SRM's recursive allocation sampling).

    The sum S of a group of m variables is split between its first ⌊m/2⌋ and the others: with m₁ = min(S, ⌊m/2⌋),
    m₂ = min(S, ⌈m/2⌉) and lo = max(0, S − m₂), the first get lo + (m₁ − lo) r, r ~ Beta(a, a), a = (m − 1 − m mod 2)^1.05 ·
    sharpness. Finally the variables of each datum are shuffled. All groups of one recursion depth are split at once.
    """
    sizes = torch.tensor([variables], dtype=torch.float64)
    sums = mean.double()[:, None] * variables
    while bool((sizes > 1).any()):
        first, second = torch.floor(sizes / 2), torch.ceil(sizes / 2)
        most, other = torch.minimum(sums, first), torch.minimum(sums, second)
        low = (sums - other).clamp_min(0)
        share = sample_beta((sizes - 1 - sizes % 2).clamp_min(1) ** 1.05 * sharpness, len(sums), generator)
        left = low + (most - low).clamp_min(0) * share
        split = torch.stack([left, sums - left], -1).flatten(1)
        kept = torch.stack([first, second], -1).flatten() > 0
        sizes, sums = torch.stack([first, second], -1).flatten()[kept], split[:, kept]
    order = torch.rand(sums.shape, generator=generator, dtype=torch.float64).argsort(1)
    return sums.gather(1, order).clamp(0, 1)[..., None]


def sample_times(
    kind: Distribution, batch: int, variables: int, generator: torch.Generator | None = None, sharpness: float = 1.0
) -> Float[Tensor, "batch variable 1"]:
    """Levels drawn from a distribution chosen by name; `sharpness` is that of `uniform_mean`."""
    if kind == "uniform_mean":
        return uniform_mean(batch, variables, generator, sharpness)
    return {"independent": independent, "shared": uniform}[kind](batch, variables, generator)


def sample_beta(
    a: Float[Tensor, " group"], batch: int, generator: torch.Generator | None
) -> Float[Tensor, "batch group"]:
    """Samples of Beta(a, a) as ratios of gamma variates: torch's own distribution takes no generator."""
    concentration = a.expand(2, batch, len(a)).contiguous()
    x, y = torch._standard_gamma(concentration, generator=generator)  # type: ignore[attr-defined]
    return x / (x + y)


def inverse_density_weight(
    draw: Callable[[int, int, torch.Generator], Tensor], variables: int, generator: torch.Generator, draws: int = 80_000
) -> Callable[[Tensor], Tensor]:
    """The loss weight 1/p(t) for levels with density p, drawn by `draw(batch, variables, generator)`; p has mean 1 over [0, 1].

    p is a histogram of `draws` samples in 1000 bins, smoothed by a Gaussian of standard deviation 0.2 bins: the outermost bins
    hold ten times the mean, which a wider kernel would flatten (SRM, 2025).
    """
    count = torch.histc(draw(draws, variables, generator).flatten(), 1000, 0.0, 1.0)
    taps = torch.exp(-(torch.arange(-2, 3, dtype=count.dtype) ** 2) / (2 * 0.2**2))
    padded = torch.nn.functional.pad((count / count.mean())[None, None], (2, 2), mode="replicate")
    weight = 1 / torch.nn.functional.conv1d(padded, (taps / taps.sum())[None, None])[0, 0].clamp_min(1e-3)
    return lambda t: weight.to(t.device)[bin_index(t)]


def bin_index(t: Tensor) -> Tensor:
    """Index of the bin of the 1000 that contains t."""
    return (t * 1000).long().clamp(0, 999)
