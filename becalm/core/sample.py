"""Sampling: a generator that predicts, lowers the noise levels and updates z until every variable is clean.

A stepper is a function (predict, state, s, schedule, previous, generator) → z_s. `predict(z, t)` evaluates the denoiser again
(Heun); `previous` is the state before (None at the first step), for multistep methods.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.process import Prediction, Variance, reverse_step
from becalm.core.typing import Float, Tensor
from becalm.core.walk import Walk


class Step(NamedTuple):
    """One state of the sampling loop."""

    z: Float[Tensor, "batch variable channel"]
    """The variables."""
    t: Tensor
    """Their noise levels [batch, variables, 1], or one for all [1, 1, 1]."""
    prediction: Prediction
    """The prediction at the state before, from which z was computed."""


Predict = Callable[[Tensor, Tensor], Prediction]
Stepper = Callable[[Predict, Step, Tensor, Callable, Step | None, torch.Generator | None], Tensor]


def reverse(eta: int | float = 1.0, variance: Variance = "small") -> Stepper:
    """Stepper of ancestral sampling (η = 1), DDIM (η = 0), and all between; `variance` as in `reverse_moments`."""

    def stepper(predict, state, s, schedule, previous, generator):
        return reverse_step(state.prediction, state.z, state.t, s, schedule, eta, variance, generator)

    return stepper


def heun() -> Stepper:
    """Deterministic stepper of second order: Heun's rule for y = z/(α + σ) along τ = σ/(α + σ), where dy/dτ = ε̂ − x̂.

    In these variables no end is singular and the scaling does not matter (compare Karras et al. 2022, algorithm 1, along σ/α).
    The last step, to σ = 0, is of first order, as theirs.
    """

    def stepper(predict, state, s, schedule, previous, generator):
        here, there = schedule(state.t), schedule(s)
        width = (there.sigma / (there.alpha + there.sigma) - here.sigma / (here.alpha + here.sigma)).to(state.z)
        unit, next_unit = (here.alpha + here.sigma).to(state.z), (there.alpha + there.sigma).to(state.z)
        slope = state.prediction.eps - state.prediction.x
        first = (state.z / unit + width * slope) * next_unit
        again = predict(first, s)
        mean = torch.where(there.sigma == 0, slope, (slope + again.eps - again.x) / 2)
        return torch.where(here.gamma == there.gamma, state.z, (state.z / unit + width * mean) * next_unit)

    return stepper


def dpm_solver_pp_2m() -> Stepper:
    """Stepper of DPM-Solver++(2M): deterministic, second order from one prediction per step (Lu et al. 2022, algorithm 2).

    z_s = (σ_s/σ_t) z_t − α_s (e^{−h} − 1) D with h = λ_s − λ_t, λ = −γ/2, D = x̂ + (x̂ − x̂_before)/(2r), r = h_before/h;
    of first order where a step starts or ends at infinite λ, and at the first step of a variable.
    """

    def stepper(predict, state, s, schedule, previous, generator):
        here, there = schedule(state.t), schedule(s)
        still = here.gamma == there.gamma
        h = torch.where(still, 1.0, here.gamma - there.gamma) / 2
        estimate = state.prediction.x
        if previous is not None:
            before = (schedule(previous.t).gamma - here.gamma) / 2
            ratio = torch.where((before > 0) & torch.isfinite(h) & torch.isfinite(before), h / before, 0.0)
            estimate = estimate + (ratio / 2).to(state.z) * (estimate - previous.prediction.x)
        kept = torch.where(still, 1.0, there.sigma / here.sigma)
        moved = kept.to(state.z) * state.z - (there.alpha * torch.expm1(-h)).to(state.z) * estimate
        return torch.where(still, state.z, moved)

    return stepper


def sample(
    denoiser: Denoiser,
    z: Float[Tensor, "batch variable channel"],
    t: Tensor,
    walk: Walk,
    step: Stepper | None = None,
    given: dict[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Sample from z at levels t [batch, variables, 1] (or [1, 1, 1]: one for all) down to t = 0, yielding every state.

    `step` is `reverse()` where none is given. The last state's z is the sample, or its prediction's x where σ(0) > 0. Variables
    that start at t = 0 are given and stay bit for bit. Raises ValueError before the first step where the network's kind does not
    determine x at the starting levels, and with the index of the step where the stepper raises.
    """
    stepper = step or reverse()
    start = t = t.double()
    check_start(denoiser, t)

    def predict(z: Tensor, t: Tensor) -> Prediction:
        return denoiser(z, t, given)

    k, previous = 0, None
    while bool((t > 0).any()):
        with torch.no_grad():
            state = Step(z, t, predict(z, t))
            s = walk(k, t, start, state.prediction)
            if bool((s > t).any()):
                raise ValueError(f"walk: a noise level rises at step {k}; a walk never goes back")
            z = torch.where(
                t == s, z, with_step_index(k, stepper, predict, state, s, denoiser.schedule, previous, generator)
            )
        t, k, previous = s, k + 1, state
        yield Step(z, t, state.prediction)


def with_step_index(k: int, stepper: Stepper, *arguments) -> Tensor:
    """The result of the stepper; a ValueError that it raises is raised anew with the index of the step."""
    try:
        return stepper(*arguments)
    except ValueError as error:
        raise ValueError(f"sample: step {k}: {error}") from error


def check_start(denoiser: Denoiser, t: Tensor) -> None:
    """Raise ValueError where a network of ε or the score starts at α = 0, where they do not determine x."""
    if denoiser.kind in (kinds.eps, kinds.score) and bool((denoiser.schedule(t).alpha == 0).any()):
        raise ValueError(
            f"sample: a network of kind {denoiser.kind.__name__} does not determine x where α = 0; "
            "start below t = 1, or use a schedule whose γ(1) is finite"
        )
