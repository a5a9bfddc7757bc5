"""Noise schedules: signal-to-noise ratio as a function of t, and the scaling of the noisy variable z = αx + σε.

γ(t) = −log SNR(t) = log(σ²/α²) rises with t and defines the process; a scaling only fixes the units of z
(Kingma et al., "Variational diffusion models", 2021, § 5.1). t = 0 is clean, t = 1 is noise. All is computed in float64.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from becalm.core.typing import Float, Tensor

Scaling = Literal["preserve", "explode", "interpolate"]


class Level(NamedTuple):
    """A noise level, each part float64 and shaped like t."""

    gamma: Float[Tensor, "*shape"]
    """Negative logarithm of the signal-to-noise ratio, from −∞ to ∞."""
    alpha: Float[Tensor, "*shape"]
    """Factor of the signal."""
    sigma: Float[Tensor, "*shape"]
    """Standard deviation of the noise."""


def level_from_gamma(gamma: Float[Tensor, "*shape"], scaling: Scaling) -> Level:
    """The level with α² + σ² = 1 (preserve), α = 1 (explode) or α + σ = 1 (interpolate); exact at γ = ±∞."""
    gamma = gamma.double()
    if scaling == "preserve":
        half = torch.nn.functional.logsigmoid
        return Level(gamma, torch.exp(half(-gamma) / 2), torch.exp(half(gamma) / 2))
    ratio = torch.exp(gamma / 2)
    if scaling == "explode":
        return Level(gamma, torch.ones_like(gamma), ratio)
    return Level(gamma, 1 / (1 + ratio), 1 / (1 + torch.exp(-gamma / 2)))


class Schedule:
    """Base of all schedules: the level at t, and γ′(t)."""

    scaling: Scaling

    def gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """γ(t), for t of float64."""
        raise NotImplementedError

    def time(self, gamma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inverse of γ: t with γ(t) = `gamma`."""
        raise NotImplementedError

    def __call__(self, t: Float[Tensor, "*shape"]) -> Level:
        return level_from_gamma(self.gamma(t.double()), self.scaling)

    def slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """γ′(t), by forward differentiation."""
        t = t.double()
        return torch.func.jvp(self.gamma, (t,), (torch.ones_like(t),))[1]


def check_finite_noise(schedule: Schedule) -> None:
    """Raise ValueError for scaling `explode` on a schedule with infinite γ(1), where σ would be infinite."""
    if schedule.scaling == "explode":
        name = type(schedule).__name__
        raise ValueError(f"{name}: scaling 'explode' has no finite noise at t = 1; use 'preserve' or 'interpolate'")


@dataclass(frozen=True)
class Linear(Schedule):
    """γ linear in t (VDM's fixed schedule, § 4.1 and appendix)."""

    gamma_min: float = -13.3
    """γ(0)."""
    gamma_max: float = 5.0
    """γ(1)."""
    scaling: Scaling = "preserve"
    """Units of z."""

    def gamma(self, t):
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t

    def time(self, gamma):
        return (gamma.double() - self.gamma_min) / (self.gamma_max - self.gamma_min)


@dataclass(frozen=True)
class Cosine(Schedule):
    """α = cos(πt/2), σ = sin(πt/2) in `preserve`: γ = 2 log tan(πt/2) (Nichol & Dhariwal 2021, without their offset)."""

    scaling: Scaling = "preserve"
    """Units of z; not `explode`."""

    def __post_init__(self):
        check_finite_noise(self)

    def gamma(self, t):
        angle = math.pi / 2 * t
        return 2 * torch.where(t == 1, torch.inf, torch.log(torch.tan(angle)))

    def time(self, gamma):
        return 2 / math.pi * torch.atan(torch.exp(gamma.double() / 2))


@dataclass(frozen=True)
class Rectified(Schedule):
    """α = 1 − t, σ = t in `interpolate`: γ = 2 logit(t) (rectified flow; Liu et al. 2022).

    A shift s makes it γ = 2 logit(t) + 2 log s, σ = st/(1 + (s − 1)t): s > 1 spends more steps at high noise, where the
    content of variables with many channels is decided (Esser et al. 2024, eq. 23).
    """

    scaling: Scaling = "interpolate"
    """Units of z; not `explode`."""
    shift: float = 1.0
    """s, above 0."""

    def __post_init__(self):
        check_finite_noise(self)
        if not self.shift > 0:
            raise ValueError(f"Rectified: shift {self.shift} must be above 0")

    def gamma(self, t):
        return 2 * (torch.log(t) - torch.log1p(-t) + math.log(self.shift))

    def time(self, gamma):
        return 1 / (1 + self.shift * torch.exp(-gamma.double() / 2))


@dataclass(frozen=True)
class Karras(Schedule):
    """σ/α from `sigma_min` to `sigma_max`, linear in t in its ρ-th root (Karras et al. 2022, eq. 5)."""

    sigma_min: float = 0.002
    """σ/α at t = 0, in units of the data."""
    sigma_max: float = 80.0
    """σ/α at t = 1."""
    rho: float = 7.0
    """ρ; greater values put more of equally spaced t at low noise."""
    scaling: Scaling = "explode"
    """Units of z."""

    def gamma(self, t):
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return 2 * self.rho * torch.log(low + t * (high - low))

    def time(self, gamma):
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (torch.exp(gamma.double() / (2 * self.rho)) - low) / (high - low)


@dataclass(frozen=True)
class Betas(Schedule):
    """DDPM's chain: β₁ … β_T linear, ᾱ_i = Π(1 − β), at t = i/T (Ho et al. 2020, § 4).

    Between grid points γ is linear in t; before the first, σ/α is: γ = γ(1/T) + 2 log(tT), so that t = 0 is clean.
    """

    beta_start: float = 1e-4
    """β₁."""
    beta_end: float = 0.02
    """β_T."""
    steps: int = 1000
    """T."""
    scaling: Scaling = "preserve"
    """Units of z."""

    def gamma_grid(self, like: Tensor) -> Tensor:
        """γ at t = 1/T, 2/T, …, 1."""
        betas = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64, device=like.device)
        return torch.log(torch.expm1(-torch.log1p(-betas).cumsum(0)))

    def gamma(self, t):
        grid, place = self.gamma_grid(t), t * self.steps
        low = (place.detach().ceil().long() - 1).clamp(1, self.steps - 1) - 1
        between = grid[low] + (place - (low + 1)) * (grid[low + 1] - grid[low])
        return torch.where(place < 1, grid[0] + 2 * torch.log(place), between)

    def time(self, gamma):
        grid, gamma = self.gamma_grid(gamma), gamma.double()
        low = (torch.searchsorted(grid, gamma.contiguous()) - 1).clamp(0, self.steps - 2)
        between = low + 1 + (gamma - grid[low]) / (grid[low + 1] - grid[low])
        return torch.where(gamma < grid[0], torch.exp((gamma - grid[0]) / 2), between) / self.steps


@dataclass(frozen=True)
class Ladder(Schedule):
    """NCSN's levels: σ/α from `sigma_max` to `sigma_min` in `steps` equal ratios, at t = 1, …, 1/steps; below, linear in t.

    The walk `together(steps)` visits each level once and ends at t = 0.
    """

    sigma_max: float = 10.0
    """σ₁: about the greatest distance between two data (Song & Ermon 2020)."""
    sigma_min: float = 0.01
    """σ_L."""
    steps: int = 10
    """L; with 1, `sigma_min` alone."""
    scaling: Scaling = "explode"
    """Units of z."""

    def gamma(self, t):
        place = t * self.steps
        ratio = math.log(self.sigma_max / self.sigma_min) / max(self.steps - 1, 1)
        return 2 * (math.log(self.sigma_min) + torch.where(place < 1, torch.log(place), (place - 1) * ratio))

    def time(self, gamma):
        ratio = math.log(self.sigma_max / self.sigma_min) / max(self.steps - 1, 1)
        above = gamma.double() / 2 - math.log(self.sigma_min)
        return torch.where(above < 0, above.exp(), 1 + above / ratio) / self.steps
