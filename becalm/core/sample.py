"""Sampling: a generator that asks, walks and steps until every variable is clean.

A stepper is a function (ask, now, s, schedule, previous, generator) → z_s. It may ask the denoiser again, and `previous` is the
step before (None at first), so that multistep methods need no memory of their own.
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
    """A state of the walk."""

    z: Float[Tensor, "batch variable channel"]
    """The variables."""
    t: Tensor
    """Their noise levels [batch, variables, 1], or one for all [1, 1, 1]."""
    prediction: Prediction
    """What was thought when they were last asked about, before the step that led here."""


Predict = Callable[[Tensor, Tensor], Prediction]
Stepper = Callable[[Predict, Step, Tensor, Callable, Step | None, torch.Generator | None], Tensor]


def reverse(eta: int | float = 1.0, variance: Variance = "small") -> Stepper:
    """Ancestral sampling at η = 1, DDIM at η = 0, and all between."""

    def stepper(ask, now, s, schedule, previous, generator):
        return reverse_step(now.prediction, now.z, now.t, s, schedule, eta, variance, generator)

    return stepper


def heun() -> Stepper:
    """Second order, deterministic: the trapezium rule for y = z/(α + σ) along τ = σ/(α + σ), where dy/dτ = ε̂ − x̂.

    Written so, it knows no singular end and no scaling (compare Karras et al. 2022, algorithm 1, along σ/α). The last
    step, into σ = 0, is of first order, as theirs.
    """

    def stepper(ask, now, s, schedule, previous, generator):
        here, there = schedule(now.t), schedule(s)
        width = (there.sigma / (there.alpha + there.sigma) - here.sigma / (here.alpha + here.sigma)).to(now.z)
        unit, next_unit = (here.alpha + here.sigma).to(now.z), (there.alpha + there.sigma).to(now.z)
        slope = now.prediction.eps - now.prediction.x
        first = (now.z / unit + width * slope) * next_unit
        again = ask(first, s)
        mean = torch.where(there.sigma == 0, slope, (slope + again.eps - again.x) / 2)
        return torch.where(here.gamma == there.gamma, now.z, (now.z / unit + width * mean) * next_unit)

    return stepper


def dpm_solver_pp_2m() -> Stepper:
    """DPM-Solver++(2M), deterministic, second order from one prediction a step (Lu et al. 2022, algorithm 2).

    z_s = (σ_s/σ_t) z_t − α_s (e^{−h} − 1) D with h = λ_s − λ_t, λ = −γ/2, D = x̂ + (x̂ − x̂_before)/(2r), r = h_before/h;
    of first order where a step begins or ends at infinite λ, and where a variable begins.
    """

    def stepper(ask, now, s, schedule, previous, generator):
        here, there = schedule(now.t), schedule(s)
        still = here.gamma == there.gamma
        h = torch.where(still, 1.0, here.gamma - there.gamma) / 2
        estimate = now.prediction.x
        if previous is not None:
            before = (schedule(previous.t).gamma - here.gamma) / 2
            ratio = torch.where((before > 0) & torch.isfinite(h) & torch.isfinite(before), h / before, 0.0)
            estimate = estimate + (ratio / 2).to(now.z) * (estimate - previous.prediction.x)
        kept = torch.where(still, 1.0, there.sigma / here.sigma)
        moved = kept.to(now.z) * now.z - (there.alpha * torch.expm1(-h)).to(now.z) * estimate
        return torch.where(still, now.z, moved)

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
    """Walk from z at levels t [batch, variables, 1] (or [1, 1, 1]: one for all) to t = 0, yielding every state.

    `step` is `reverse()` where none is given. The last state's z is the sample, or its prediction's x where σ(0) > 0. Variables
    with t = 0 are given and stay bit for bit. Raises ValueError before the first step where the network's kind cannot tell x
    at the starting levels, and with the step's number where the stepper must stop.
    """
    stepper = step or reverse()
    start = t = t.double()
    check_start(denoiser, t)

    def ask(z: Tensor, t: Tensor) -> Prediction:
        return denoiser(z, t, given)

    k, previous = 0, None
    while bool((t > 0).any()):
        with torch.no_grad():
            now = Step(z, t, ask(z, t))
            s = walk(k, t, start, now.prediction)
            if bool((s > t).any()):
                raise ValueError(f"walk: a noise level rises at step {k}; a walk never goes back")
            z = torch.where(t == s, z, with_step_index(k, stepper, ask, now, s, denoiser.schedule, previous, generator))
        t, k, previous = s, k + 1, now
        yield Step(z, t, now.prediction)


def with_step_index(k: int, stepper: Stepper, *asked) -> Tensor:
    """What the stepper makes of what it is asked; where it must stop, the error names the step."""
    try:
        return stepper(*asked)
    except ValueError as error:
        raise ValueError(f"sample: step {k}: {error}") from error


def check_start(denoiser: Denoiser, t: Tensor) -> None:
    """Raise ValueError where a network of ε or the score would have to tell x from noise without any signal."""
    if denoiser.kind in (kinds.eps, kinds.score) and bool((denoiser.schedule(t).alpha == 0).any()):
        raise ValueError(
            f"sample: a network of kind {denoiser.kind.__name__} cannot tell x where α = 0; "
            "start below t = 1, or use a schedule whose γ(1) is finite"
        )
