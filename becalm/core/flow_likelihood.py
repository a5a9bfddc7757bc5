"""Likelihood by the probability-flow ODE along γ: log p₀(z₀) = log p₁(z₁) + ∫ div f dγ, dz/dγ = f.

In units of `preserve` f(z, γ) = ½σ(ε̂ − σz), not singular at either end (Song et al. 2021, eq. 39, with γ for time); a denoiser
of another scaling is evaluated in its own units. The result is the log-density of the data with the least noise added, z₀/α₀ =
x + e^{γ₀/2}ε, in the units of the data. The state is float64; the network gets the dtype of x. Rows must be independent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from becalm.core.denoiser import Denoiser
from becalm.core.flow_solvers import FlowProblem, FlowState, Solver, runge_kutta
from becalm.core.likelihood import decoder_log_prob, prior_kl
from becalm.core.process import noise_like
from becalm.core.schedule import Linear, level_from_gamma
from becalm.core.scores import rademacher_probes, score_and_quadratic_forms, score_and_trace
from becalm.core.typing import Float, Tensor

LogProb = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FlowLikelihood:
    """The log-density of each datum, with estimates of its three errors."""

    nats: Float[Tensor, " datum"]
    """log p in the units of the data."""
    end_error: Float[Tensor, " datum"]
    """KL(q(z₁|x) ‖ N(0, I)): its mean over data bounds the error of the assumed end density; 0 where `end_log_prob` is given."""
    solver_error: Float[Tensor, " datum"]
    """Estimate of the ODE solver's error in log p."""
    trace_error: Float[Tensor, " datum"]
    """Standard error of the estimated divergence: 0 for an exact trace, NaN for a single probe."""
    evaluations: Float[Tensor, " datum"]
    """Number of network evaluations."""
    dimensions: int
    """Numbers per datum, D."""

    @property
    def bits(self) -> Float[Tensor, " datum"]:
        """−log₂ p per dimension."""
        return -self.nats / (self.dimensions * math.log(2))

    def add_nats(self, nats: Float[Tensor, " datum"]) -> "FlowLikelihood":
        """The same with `nats` added to log p."""
        return replace(self, nats=self.nats + nats)


def standard_normal_log_prob(z: Float[Tensor, "row variable channel"]) -> Float[Tensor, " row"]:
    """log N(z; 0, I)."""
    return -(z.square() + math.log(2 * math.pi)).sum((1, 2)) / 2


def noise_and_trace(
    noise: Callable[[Tensor], Tensor], z: Float[Tensor, "row variable channel"], probes: Tensor | None
) -> tuple[Tensor, Float[Tensor, "slice row"]]:
    """ε̂(z) and tr ∂ε̂/∂z: exact, or one Hutchinson estimate for each of the `probes` [slice, row, variable, channel]."""
    if probes is not None:
        return score_and_quadratic_forms(noise, z, probes)
    eps, trace = score_and_trace(noise, z)
    return eps, trace[None]


def flow_field(
    denoiser: Denoiser, dtype: torch.dtype, given: dict[str, Tensor] | None, probes: Tensor | None
) -> Callable[[FlowState, Tensor, Tensor], FlowState]:
    """The derivative f by γ and its divergence ½σ(tr ∂ε̂/∂z − σD).

    The trace is exact where `probes` [slice, batch, variable, channel] is None.
    """

    def field(state: FlowState, gamma: Tensor, rows: Tensor) -> FlowState:
        gamma = gamma[:, None, None]
        t, sigma = denoiser.schedule.time(gamma), level_from_gamma(gamma, "preserve").sigma
        unit = (level_from_gamma(gamma, denoiser.schedule.scaling).sigma / sigma).to(dtype)
        known = None if given is None else {name: value[rows] for name, value in given.items()}
        v = None if probes is None else probes[:, rows].to(dtype)
        eps, trace = noise_and_trace(lambda z: denoiser(unit * z, t, known).eps, state.z.to(dtype), v)
        slope = sigma * (eps.double() - sigma * state.z) / 2
        width = sigma[:, 0, 0]
        return FlowState(slope, width * (trace.double() - width * state.z[0].numel()) / 2)

    return field


def log_density(
    denoiser: Denoiser,
    x: Float[Tensor, "datum variable channel"],
    solver: Solver | None = None,
    probes: int | None = None,
    gamma_min: float | None = None,
    gamma_max: float | None = None,
    end_log_prob: LogProb | None = None,
    given: dict[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> FlowLikelihood:
    """log p(x) under the flow whose density at `gamma_max` (γ(1)) is N(0, I), or `end_log_prob`; data at `gamma_min` (γ(0)).

    `solver` is `runge_kutta()` where none is given. `probes` Rademacher vectors a datum, constant along the path, estimate the
    divergence (Hutchinson); None computes the trace exactly, one backward pass per dimension. `end_log_prob` gives
    log-densities of z₁ in `preserve`. Discrete data must be dequantized first (`dequantize_noise`, `dequantize_uniform`).
    Raises ValueError where an end of γ is infinite.
    """
    gamma_min, gamma_max = gamma_ends(denoiser.schedule, gamma_min, gamma_max)
    least, size = (
        level_from_gamma(torch.tensor(gamma_min, dtype=torch.float64, device=x.device), "preserve"),
        x[0].numel(),
    )
    v = None if probes is None else rademacher_probes(x, generator, probes)
    start = FlowState(least.alpha * x.double(), x.new_zeros((probes or 1, len(x)), dtype=torch.float64))
    field = flow_field(denoiser, x.dtype, given, v)
    with torch.no_grad():
        task = FlowProblem(start, gamma_min, gamma_max, field, end_log_prob or standard_normal_log_prob)
        last, solver_error, evaluations = (solver or runge_kutta())(task)
        nats = task.end_log_prob(last.z) + last.integral.mean(0) + size * torch.log(least.alpha)
        end_error = prior_kl(x, Linear(gamma_min, gamma_max)) if end_log_prob is None else torch.zeros_like(nats)
    return FlowLikelihood(nats, end_error, solver_error, probe_standard_error(last.integral, probes), evaluations, size)


def probe_standard_error(integral: Float[Tensor, "slice row"], probes: int | None) -> Float[Tensor, " row"]:
    """Standard error of the mean of the integral over the probes."""
    if probes == 1:
        return torch.full_like(integral[0], math.nan)
    return torch.zeros_like(integral[0]) if probes is None else integral.std(0) / probes**0.5


def gamma_ends(schedule, low: float | None, high: float | None) -> tuple[float, float]:
    """γ at the data and at the noise; raises ValueError unless finite and ascending."""
    first, last = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64)).gamma.tolist()
    low, high = first if low is None else low, last if high is None else high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        name = type(schedule).__name__
        raise ValueError(f"log_density: γ from {low:g} to {high:g} of {name}; give finite gamma_min < gamma_max")
    return low, high


def dequantize_uniform(
    x: Float[Tensor, "datum variable channel"], levels: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "datum variable channel"], Float[Tensor, " datum"]]:
    """(y, correction) with log P(x) ≥ E[log p(y) + correction] for x on K levels.

    Uniform dequantization: y is uniform over the cell of x, the correction the log of its volume (Theis et al. 2016).
    """
    share = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device) - 0.5
    return x + 2 / levels * share, x.new_full((len(x),), x[0].numel() * math.log(2 / levels), dtype=torch.float64)


def dequantize_noise(
    x: Float[Tensor, "datum variable channel"],
    schedule,
    levels: int,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "datum variable channel"], Float[Tensor, " datum"]]:
    """(y, correction) with log P(x) ≥ E[log p(y) + correction] for x on K levels: y = z₀/α₀, log p(x|z₀) − log q(y|x).

    Variational dequantization by VDM's decoder at γ(0); an equality at every sample for an exact denoiser and decoder.
    """
    gamma = schedule(x.new_zeros((), dtype=torch.float64)).gamma
    y = x + torch.exp(gamma / 2).to(x) * noise_like(x, generator)
    eps = (y.double() - x.double()) * torch.exp(-gamma / 2)
    log_q = -(eps.square() + math.log(2 * math.pi) + gamma) / 2
    return y, (decoder_log_prob(x, y, gamma, levels) - log_q).sum((1, 2))
