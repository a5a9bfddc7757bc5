"""The Gaussian process: noising, its conditionals, and one step of its reversal; elementwise in t.

z_t = α_t x + σ_t ε. Coefficients are computed in float64 from γ with expm1 and cast once; where two levels are equal the
variable stays bit for bit. Sources: Kingma et al. 2021 (VDM), appendix A; Song et al. 2021 (DDIM), eq. 12; Nichol & Dhariwal
2021 for the learned variance.
"""

from typing import Literal, NamedTuple

import torch

from becalm.core.schedule import Level
from becalm.core.typing import Float, Tensor

Variance = Literal["small", "large", "learned"]


class Output(NamedTuple):
    """Output of a network that predicts more than its target: an error variance, or a reverse variance."""

    value: Tensor
    """Estimate of the target: ε, x, u, …, shaped as the kind requires."""
    log_var: Tensor | None = None
    """Log-variance of the error of `value`, one per variable [batch, variables, 1]."""
    spread: Tensor | None = None
    """Interpolation weight of the reverse log-variance between its lower (0) and upper (1) bound (Nichol & Dhariwal 2021, eq. 15,
    their v), shaped like z or [batch, variables, 1]."""


class Prediction(NamedTuple):
    """Estimates of the clean data and of the noise, always both: z = αx + σε."""

    x: Float[Tensor, "*data"]
    """Estimate of the clean data."""
    eps: Float[Tensor, "*data"]
    """Estimate of the noise."""
    log_var: Tensor | None = None
    """Log-variance of the error of x, or of functions of it, one per variable; None where the network predicts none."""
    spread: Tensor | None = None
    """Interpolation weight of the reverse variance, as in `Output`; None where the network predicts none."""


def corrupt(x: Tensor, t: Tensor, schedule, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Noisy data z = α_t x + σ_t ε and the noise ε ~ N(0, I), both shaped like x; t broadcasts. Drawn on the CPU."""
    eps = noise_like(x, generator)
    level = schedule(t)
    return level.alpha.to(x) * x + level.sigma.to(x) * eps, eps


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of the shape and dtype of x, drawn on the CPU and moved."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def gamma_difference(level_t: Level, level_s: Level) -> Tensor:
    """γ_s − γ_t ≤ 0; 0 where the two are equal, even if infinite."""
    return torch.where(level_t.gamma == level_s.gamma, 0.0, level_s.gamma - level_t.gamma)


def transition(t: Tensor, s: Tensor, schedule) -> tuple[Tensor, Tensor]:
    """q(z_t | z_s), s ≤ t, as (factor, standard deviation): α_t/α_s and √(−expm1(γ_s − γ_t)) σ_t."""
    level_t, level_s = schedule(t), schedule(s)
    same = level_t.gamma == level_s.gamma
    factor = torch.where(same, 1.0, level_t.alpha / level_s.alpha)
    return factor, torch.sqrt(-torch.expm1(gamma_difference(level_t, level_s))) * level_t.sigma


def posterior(z: Tensor, x: Tensor, t: Tensor, s: Tensor, schedule) -> tuple[Tensor, Tensor]:
    """q(z_s | z_t, x), s ≤ t, as (mean, standard deviation).

    Mean (α_t σ_s²)/(α_s σ_t²) z + α_s (1 − e^{γ_s−γ_t}) x, variance (1 − e^{γ_s−γ_t}) σ_s².
    """
    level_t, level_s = schedule(t), schedule(s)
    kept = -torch.expm1(gamma_difference(level_t, level_s))
    same = level_t.gamma == level_s.gamma
    factor = torch.where(same, 1.0, level_t.alpha * level_s.sigma**2 / (level_s.alpha * level_t.sigma**2))
    mean = torch.where(same, z, factor.to(z) * z + (level_s.alpha * kept).to(z) * x)
    return mean, (torch.sqrt(kept) * level_s.sigma).to(z).expand_as(z)


def reverse_moments(
    prediction: Prediction,
    z: Tensor,
    t: Tensor,
    s: Tensor,
    schedule,
    eta: int | float = 1.0,
    variance: Variance = "small",
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of z_s given z_t and the prediction, both shaped like z.

    Mean α_s x̂ + √(σ_s² − σ_η²) ε̂ with σ_η = η σ_s √(1 − e^{γ_s−γ_t}): η = 1 is ancestral sampling, η = 0 DDIM. `variance`
    changes the deviation alone: `small` is σ_η, `large` η σ_t √(1 − e^{γ_s−γ_t}), `learned` lies between them in logarithm
    at the prediction's `spread`. No noise is added where σ_s = 0.
    """
    level_t, level_s = schedule(t), schedule(s)
    drop = gamma_difference(level_t, level_s)
    root = torch.sqrt(-torch.expm1(drop))
    rest = level_s.sigma * torch.sqrt((1 - eta) * (1 + eta) + eta**2 * torch.exp(drop))
    mean = level_s.alpha.to(z) * prediction.x + rest.to(z) * prediction.eps
    deviation = reverse_deviation(eta * level_s.sigma * root, eta * level_t.sigma * root, prediction.spread, variance)
    same = level_t.gamma == level_s.gamma
    still = same | (level_s.sigma == 0)
    return torch.where(same, z, mean), torch.where(still, 0.0, deviation).to(z).expand_as(z)


MIN_DEVIATION = 1e-20
"""Lower bound of standard deviations before their logarithm is taken."""


def reverse_deviation(small: Tensor, large: Tensor, spread: Tensor | None, variance: Variance) -> Tensor:
    """The standard deviation selected by `variance`; raises ValueError for `learned` where the network predicts no `spread`."""
    if variance == "small":
        return small
    if variance == "large":
        return large
    if spread is None:
        raise ValueError(
            "variance 'learned': the network predicts no spread; return becalm.Output(value, spread=…), or use 'small'"
        )
    low, high = small.clamp_min(MIN_DEVIATION).log(), large.clamp_min(MIN_DEVIATION).log()
    return torch.where(small == 0, 0.0, torch.exp(low + spread.double() * (high - low)))


def reverse_step(
    prediction: Prediction,
    z: Tensor,
    t: Tensor,
    s: Tensor,
    schedule,
    eta: int | float = 1.0,
    variance: Variance = "small",
    generator: torch.Generator | None = None,
) -> Tensor:
    """One elementwise reverse step from z_t to z_s, shaped like z. Noise is drawn for all of z, used or not."""
    mean, deviation = reverse_moments(prediction, z, t, s, schedule, eta, variance)
    return mean + deviation * noise_like(z, generator)
