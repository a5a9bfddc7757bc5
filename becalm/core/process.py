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
    """What a network says of its own target, where it says more than a value."""

    value: Tensor
    """The target: ε, x, u, …, shaped as its kind wants."""
    log_var: Tensor | None = None
    """Logarithm of the variance of its error, one a variable [batch, variables, 1]."""
    spread: Tensor | None = None
    """Place of the reverse variance between small (0) and large (1), shaped like z or [batch, variables, 1]."""


class Prediction(NamedTuple):
    """What is thought of the clean data and the noise: always both, z = αx + σε."""

    x: Float[Tensor, "*data"]
    """Estimate of the clean data."""
    eps: Float[Tensor, "*data"]
    """Estimate of the noise."""
    log_var: Tensor | None = None
    """Logarithm of the variance of the error of x, or of functions of it, one a variable, where the network tells it."""
    spread: Tensor | None = None
    """The learned range's v in [0, 1], where the network tells it."""


def corrupt(x: Tensor, t: Tensor, schedule, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Noisy data z = α_t x + σ_t ε and the noise ε ~ N(0, I), both shaped like x; t broadcasts. Drawn on the CPU."""
    eps = noise_like(x, generator)
    level = schedule(t)
    return level.alpha.to(x) * x + level.sigma.to(x) * eps, eps


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of the shape and dtype of x, drawn on the CPU and moved."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def gamma_difference(now: Level, then: Level) -> Tensor:
    """γ_s − γ_t ≤ 0, and 0 where the levels are equal though infinite."""
    return torch.where(now.gamma == then.gamma, 0.0, then.gamma - now.gamma)


def transition(t: Tensor, s: Tensor, schedule) -> tuple[Tensor, Tensor]:
    """q(z_t | z_s), s ≤ t, as (factor, standard deviation): α_t/α_s and √(−expm1(γ_s − γ_t)) σ_t."""
    now, then = schedule(t), schedule(s)
    same = now.gamma == then.gamma
    factor = torch.where(same, 1.0, now.alpha / then.alpha)
    return factor, torch.sqrt(-torch.expm1(gamma_difference(now, then))) * now.sigma


def posterior(z: Tensor, x: Tensor, t: Tensor, s: Tensor, schedule) -> tuple[Tensor, Tensor]:
    """q(z_s | z_t, x), s ≤ t, as (mean, standard deviation).

    Mean (α_t σ_s²)/(α_s σ_t²) z + α_s (1 − e^{γ_s−γ_t}) x, variance (1 − e^{γ_s−γ_t}) σ_s².
    """
    now, then = schedule(t), schedule(s)
    kept = -torch.expm1(gamma_difference(now, then))
    same = now.gamma == then.gamma
    factor = torch.where(same, 1.0, now.alpha * then.sigma**2 / (then.alpha * now.sigma**2))
    mean = torch.where(same, z, factor.to(z) * z + (then.alpha * kept).to(z) * x)
    return mean, (torch.sqrt(kept) * then.sigma).to(z).expand_as(z)


def reverse_moments(
    prediction: Prediction,
    z: Tensor,
    t: Tensor,
    s: Tensor,
    schedule,
    eta: int | float = 1.0,
    variance: Variance = "small",
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of z_s given z_t and what is predicted, both shaped like z.

    Mean α_s x̂ + √(σ_s² − σ_η²) ε̂ with σ_η = η σ_s √(1 − e^{γ_s−γ_t}): η = 1 is ancestral sampling, η = 0 DDIM. `variance`
    changes the deviation alone: `small` is σ_η, `large` η σ_t √(1 − e^{γ_s−γ_t}), `learned` lies between them in logarithm
    at the prediction's `spread`. No noise is added where σ_s = 0.
    """
    now, then = schedule(t), schedule(s)
    drop = gamma_difference(now, then)
    root = torch.sqrt(-torch.expm1(drop))
    rest = then.sigma * torch.sqrt((1 - eta) * (1 + eta) + eta**2 * torch.exp(drop))
    mean = then.alpha.to(z) * prediction.x + rest.to(z) * prediction.eps
    deviation = reverse_deviation(eta * then.sigma * root, eta * now.sigma * root, prediction.spread, variance)
    same = now.gamma == then.gamma
    still = same | (then.sigma == 0)
    return torch.where(same, z, mean), torch.where(still, 0.0, deviation).to(z).expand_as(z)


MIN_DEVIATION = 1e-20
"""Least standard deviation whose logarithm is taken."""


def reverse_deviation(small: Tensor, large: Tensor, spread: Tensor | None, variance: Variance) -> Tensor:
    """The standard deviation chosen; raises ValueError where the learned one is asked of a network that tells none."""
    if variance == "small":
        return small
    if variance == "large":
        return large
    if spread is None:
        raise ValueError("variance 'learned': the network gives no spread; use 'small' or 'large'")
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
    """One elementwise reverse step from z_t to z_s, shaped like z. Noise is drawn for the whole of z, used or not."""
    mean, deviation = reverse_moments(prediction, z, t, s, schedule, eta, variance)
    return mean + deviation * noise_like(z, generator)
