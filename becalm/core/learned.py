"""Learned schedules: γ(t) = γ₀ + (γ₁ − γ₀) γ̃(t), with trained end points γ₀, γ₁ and trained or fitted interior γ̃.

γ̃ rises from exactly 0 to exactly 1, so that γ(0) = γ₀ and γ(1) = γ₁; γ₁ = γ₀ + softplus(·) keeps their order (Kingma et al.,
"Variational diffusion models", 2021, § 4.1 and appendix H). In continuous time the bound depends on the end points alone; the
interior changes the variance of its Monte-Carlo estimate.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from becalm.core.schedule import Level, Scaling, Schedule, level_from_gamma
from becalm.core.typing import Float, Tensor

softplus, logsigmoid = nn.functional.softplus, nn.functional.logsigmoid


def inverse_softplus(value: float) -> Tensor:
    """log(e^value − 1), the inverse of softplus at a positive number, float64."""
    return torch.tensor(value + math.log(-math.expm1(-value)), dtype=torch.float64)


class LearnedSchedule(nn.Module, Schedule):
    """Base of learned schedules: two trained end points. Weights may be of any precision and are cast to float64 where used."""

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0, scaling: Scaling = "preserve"):
        """γ(0) and γ(1) at initialisation; raises ValueError unless `gamma_min` < `gamma_max`."""
        super().__init__()
        if not gamma_min < gamma_max:
            raise ValueError(f"{type(self).__name__}: gamma_min {gamma_min} must be below gamma_max {gamma_max}")
        self.scaling = scaling
        self.low = nn.Parameter(torch.tensor(gamma_min, dtype=torch.float64))
        self.raw_rise = nn.Parameter(inverse_softplus(gamma_max - gamma_min))

    @property
    def gamma_min(self) -> Tensor:
        """γ(0)."""
        return self.low.double()

    @property
    def gamma_range(self) -> Tensor:
        """γ(1) − γ(0), above 0."""
        return softplus(self.raw_rise.double())

    def endpoint_parameters(self) -> list[nn.Parameter]:
        """Parameters of the end points, trained to lower the bound."""
        return [self.low, self.raw_rise]

    def interior_parameters(self) -> list[nn.Parameter]:
        """All other parameters, trained to lower the variance of the bound's estimate; there may be none."""
        ends = {id(weight) for weight in self.endpoint_parameters()}
        return [weight for weight in self.parameters() if id(weight) not in ends]

    def normalized_gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """γ̃(t) = (γ(t) − γ₀)/(γ₁ − γ₀), float64, from exactly 0 to exactly 1."""
        raise NotImplementedError

    def gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.gamma_min + self.gamma_range * self.normalized_gamma(t)

    def forward(self, t: Float[Tensor, "*shape"]) -> Level:
        """The level at t, float64, shaped like t and on the device of the schedule."""
        return level_from_gamma(self.gamma(t.to(self.low.device).double()), self.scaling)

    def normalize(self, gamma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """(γ − γ₀)/(γ₁ − γ₀), clamped to [0, 1]."""
        return ((gamma.double() - self.gamma_min) / self.gamma_range).clamp(0, 1)


class LearnedLinear(LearnedSchedule):
    """γ linear in t between trained end points."""

    def normalized_gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return t

    def time(self, gamma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.normalize(gamma)


class Learned(LearnedSchedule):
    """VDM's monotone network: u = w₁t + b₁, g(t) = u + Σ_j w₃ⱼ sigmoid(w₂ⱼ u + b₂ⱼ), γ̃ = (g(t) − g(0))/(g(1) − g(0)).

    All w are softplus of the parameters, hence positive. The initialisation is deterministic and nearly linear, the centres of
    the sigmoids evenly spaced over [−¼, 1¼]. A level costs `width` numbers, so pass one t per datum where all variables share
    it.
    """

    def __init__(
        self, gamma_min: float = -13.3, gamma_max: float = 5.0, scaling: Scaling = "preserve", width: int = 64
    ):
        """`width` is the number of sigmoids; the paper has 1024."""
        super().__init__(gamma_min, gamma_max, scaling)
        bends, steepness = torch.linspace(-0.25, 1.25, width, dtype=torch.float64), 8.0
        self.raw_w1 = nn.Parameter(inverse_softplus(1.0))
        self.b1 = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.raw_w2 = nn.Parameter(inverse_softplus(steepness).expand(width).clone())
        self.b2 = nn.Parameter(-steepness * bends)
        self.raw_w3 = nn.Parameter(inverse_softplus(1.0 / width).expand(width).clone())

    def unnormalized_gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """g(t), strictly increasing."""
        w1, w2, w3 = (softplus(raw.double()) for raw in (self.raw_w1, self.raw_w2, self.raw_w3))
        u = (w1 * t + self.b1.double())[..., None]
        # exp(logsigmoid), unlike sigmoid, is the same bit for bit in a tensor of any length
        return u[..., 0] + (w3 * torch.exp(logsigmoid(w2 * u + self.b2.double()))).sum(-1)

    def normalized_gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        first, last = self.unnormalized_gamma(t.new_zeros(())), self.unnormalized_gamma(t.new_ones(()))
        return (self.unnormalized_gamma(t) - first) / (last - first)

    @torch.no_grad()
    def time(self, gamma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """By bisection, to float64 precision; without gradients."""
        normalized = self.normalize(gamma)
        low, high = torch.zeros_like(normalized), torch.ones_like(normalized)
        for _ in range(54):
            middle = (low + high) / 2
            below = self.normalized_gamma(middle) < normalized
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


class LeastVariance(LearnedSchedule):
    """Interior of least variance in closed form, dt/dγ ∝ √E[m²], fitted to the errors m = |ε − ε̂|² observed in training.

    With one draw of t the estimate ½γ′m has E[(½γ′m)²] = ¼∫ (dγ/dt) E[m²] dγ, least at that density. γ is linear in t within each
    bin of γ; the sums of m² and their counts decay exponentially with every observation. Before any, γ is linear.
    """

    power = 2
    """Exponent of m in the running mean."""

    total: Tensor
    count: Tensor

    def __init__(
        self,
        gamma_min: float = -13.3,
        gamma_max: float = 5.0,
        scaling: Scaling = "preserve",
        bins: int = 100,
        decay: float = 0.99,
    ):
        """`decay` multiplies the running sums at each call of `observe`."""
        super().__init__(gamma_min, gamma_max, scaling)
        self.decay = decay
        self.gather: Callable[[Tensor], Tensor] = torch.flatten
        """Gives the observations of all processes that train together, of this one's."""
        self.register_buffer("total", torch.zeros(bins, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(bins, dtype=torch.float64))

    @torch.no_grad()
    def observe(self, gamma: Float[Tensor, "*shape"], error: Float[Tensor, "*shape"]) -> None:
        """Update the running sums with squared errors m = |ε − ε̂|² at γ, one per datum."""
        gamma, error, bins = self.gather(gamma), self.gather(error).double(), len(self.total)
        bin = (self.normalize(gamma) * bins).long().clamp(0, bins - 1).flatten()
        self.total.mul_(self.decay).index_add_(0, bin, error.pow(self.power).to(self.total))
        self.count.mul_(self.decay).index_add_(0, bin, torch.ones_like(error).to(self.count))

    def bin_edges(self) -> Float[Tensor, " edge"]:
        """t at the edges of the bins, from 0 to 1. To each bin one observation of the overall mean is added."""
        total, count = self.total.double(), self.count.double()
        mean = torch.where(count.sum() > 0, total.sum() / count.sum().clamp_min(1e-300), 1.0)
        density = ((total + mean) / (count + 1)).clamp_min(1e-200).sqrt()
        reached = density.cumsum(0) / density.sum()
        return torch.cat([reached.new_zeros(1), reached[:-1], reached.new_ones(1)])

    def normalized_gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        edges, bins = self.bin_edges(), len(self.total)
        bin = (torch.searchsorted(edges, t.detach().contiguous(), right=True) - 1).clamp(0, bins - 1)
        return (bin + (t - edges[bin]) / (edges[bin + 1] - edges[bin])) / bins

    def time(self, gamma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        edges, place = self.bin_edges(), self.normalize(gamma) * len(self.total)
        bin = place.detach().long().clamp(0, len(self.total) - 1)
        return edges[bin] + (place - bin) * (edges[bin + 1] - edges[bin])


class FewSteps(LeastVariance):
    """Interior at which the bound of T steps is about least, dt/dγ ∝ √E[m], fitted likewise: for compression in few steps.

    A step of h in γ costs ½(e^h − 1)m, so T of them exceed the bound of infinitely many by (1/4T) ∫ (dγ/dt)(m + dm/dγ) dγ to
    first order, least where dt/dγ ∝ √(m + dm/dγ). The derivative, poorly estimated from few observations, is left out: on MNIST
    that costs 1 % of the bound at T = 40.
    """

    power = 1


class InteriorGradient(Schedule):
    """A learned schedule whose interior parameters get `factor` times the gradient of each datum, its end points the plain one.

    With factor 2ℓ the interior is trained on E ℓ² and everything else on E ℓ, in one backward pass (VDM, appendix H).
    """

    def __init__(self, schedule: LearnedSchedule):
        self.schedule, self.scaling, self.factor = schedule, schedule.scaling, torch.ones(())

    def scale_gradient(self, normalized: Tensor) -> Tensor:
        """Register the gradient factor on γ̃ of a batch."""
        # a scalar is γ̃ at an end point, which does not depend on the interior
        if normalized.requires_grad and normalized.ndim:
            normalized.register_hook(lambda gradient: gradient * self.factor)
        return normalized

    def gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.schedule.gamma_min + self.schedule.gamma_range * self.scale_gradient(
            self.schedule.normalized_gamma(t)
        )

    def slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        normalized = torch.func.jvp(self.schedule.normalized_gamma, (t,), (torch.ones_like(t),))[1]
        return self.schedule.gamma_range * self.scale_gradient(normalized)
