"""Solvers of the probability-flow ODE along γ with estimates of their error in log p: RK4 with equal steps, adaptive order 5.

A solver is a function of a `FlowProblem`: start, ends, derivative and end log-density.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from becalm.core.typing import Float, Tensor


class FlowState(NamedTuple):
    """State of the ODE or its derivative by γ: z in `preserve`, and the integral of the divergence for each probe."""

    z: Float[Tensor, "row variable channel"]
    integral: Float[Tensor, "slice row"]


class FlowProblem(NamedTuple):
    """The initial-value problem of a solver."""

    start: FlowState
    """z₀ and integrals of 0."""
    gamma_min: float
    """γ at the data."""
    gamma_max: float
    """γ at the noise."""
    derivative: Callable[[FlowState, Tensor, Tensor], FlowState]
    """The derivative by γ at (state, γ [row], indices of the rows [row])."""
    end_log_prob: Callable[[Tensor], Tensor]
    """log-density of z₁ in `preserve`."""


class FlowSolution(NamedTuple):
    """Result of a solver."""

    end: FlowState
    """z₁ and its integrals."""
    error: Float[Tensor, " row"]
    """Estimated error in log p."""
    evaluations: Float[Tensor, " row"]
    """Number of evaluations of the derivative."""


Solver = Callable[[FlowProblem], FlowSolution]


def advance(state: FlowState, slopes: tuple[FlowState, ...], weights: tuple[float, ...], step: Tensor) -> FlowState:
    """state + step Σ weight · slope, step [row]."""
    z = torch.stack([w * slope.z for w, slope in zip(weights, slopes, strict=True)]).sum(0)
    integral = torch.stack([w * slope.integral for w, slope in zip(weights, slopes, strict=True)]).sum(0)
    return FlowState(state.z + step[:, None, None] * z, state.integral + step * integral)


def runge_kutta(steps: int = 200) -> Solver:
    """Classical Runge–Kutta of order 4 with equal steps of γ; the error is estimated by a run with half as many (Richardson)."""

    def run(task: FlowProblem, count: int) -> FlowState:
        state, rows = task.start, torch.arange(len(task.start.z), device=task.start.z.device)
        width = task.start.z.new_full((len(rows),), (task.gamma_max - task.gamma_min) / count)
        for i in range(count):
            gamma = task.gamma_min + i * width
            k1 = task.derivative(state, gamma, rows)
            k2 = task.derivative(advance(state, (k1,), (0.5,), width), gamma + width / 2, rows)
            k3 = task.derivative(advance(state, (k2,), (0.5,), width), gamma + width / 2, rows)
            k4 = task.derivative(advance(state, (k3,), (1.0,), width), gamma + width, rows)
            state = advance(state, (k1, k2, k3, k4), (1 / 6, 1 / 3, 1 / 3, 1 / 6), width)
        return state

    def solve(task: FlowProblem) -> FlowSolution:
        fine, coarse = run(task, steps), run(task, max(steps // 2, 1))
        values = [task.end_log_prob(last.z) + last.integral.mean(0) for last in (fine, coarse)]
        evaluations = values[0].new_full(values[0].shape, 4.0 * (steps + max(steps // 2, 1)))
        return FlowSolution(fine, (values[0] - values[1]).abs() / 15, evaluations)

    return solve


STAGE_TIMES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGE_WEIGHTS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR_WEIGHTS = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Dormand & Prince 1980, 5(4): times, stages (the last is the step itself), and the step less that of order 4."""


def dormand_prince(tolerance: float = 1e-6, max_steps: int = 10_000) -> Solver:
    """Dormand–Prince of order 5 with adaptive steps per datum, the estimated error of each step at most `tolerance` nats.

    An error (δz, δl) of a step changes the result by δl + ∇log p(z)·δz, since l + log p is constant along the exact flow: this
    is controlled beside δz itself, and the sum of its absolute values is the estimated error. Finished data are not evaluated
    any more. Raises RuntimeError after `max_steps` steps: the network is not smooth or precise enough for the tolerance.
    """

    def solve(task: FlowProblem) -> FlowSolution:
        last = FlowState(task.start.z.clone(), task.start.integral.clone())
        rows = torch.arange(len(last.z), device=last.z.device)
        error, evaluations = last.z.new_zeros(len(rows)), last.z.new_zeros(len(rows))
        state, gamma = task.start, last.z.new_full((len(rows),), task.gamma_min)
        width, first = (
            torch.full_like(gamma, (task.gamma_max - task.gamma_min) / 100),
            task.derivative(state, gamma, rows),
        )
        for _ in range(max_steps):
            rest = task.gamma_max - gamma
            width = torch.minimum(width, rest)
            tried, slope, wrong, excess = embedded_step(task, state, first, gamma, width, rows, tolerance)
            good = excess <= 1
            evaluations[rows] += 6
            error[rows] += torch.where(good, wrong.abs(), 0.0)
            state, first = where_rows(good, tried, state), where_rows(good, slope, first)
            gamma, going = torch.where(good, gamma + width, gamma), ~good | (width < rest)
            last.z[rows], last.integral[:, rows] = state
            width = width * (0.9 * excess.clamp_min(1e-9) ** -0.2).clamp(0.2, 5.0)
            rows, gamma, width, state, first = (
                rows[going],
                gamma[going],
                width[going],
                take_rows(going, state),
                take_rows(going, first),
            )
            if len(rows) == 0:
                return FlowSolution(last, error, evaluations + 1)
        raise RuntimeError(
            f"dormand_prince: {len(rows)} data not done after {max_steps} steps at tolerance {tolerance:g}"
        )

    return solve


def embedded_step(
    task: FlowProblem, state: FlowState, first: FlowState, gamma: Tensor, width: Tensor, rows: Tensor, tolerance: float
) -> tuple[FlowState, FlowState, Tensor, Tensor]:
    """The next state, its derivative, the step's error in log p and the error relative to the tolerance, both [row]."""
    slopes, tried = [first], state
    for node, weights in zip(STAGE_TIMES, STAGE_WEIGHTS, strict=True):
        tried = advance(state, tuple(slopes), weights, width)
        slopes.append(task.derivative(tried, gamma + node * width, rows))
    off = advance(
        FlowState(torch.zeros_like(state.z), torch.zeros_like(state.integral)), tuple(slopes), ERROR_WEIGHTS, width
    )
    power = torch.sigmoid(gamma + width)[:, None, None]
    score = -(2 * slopes[-1].z / power + tried.z)
    wrong = off.integral.mean(0) + (score * off.z).sum((1, 2))
    coarse = (off.z / (1 + state.z.abs())).square().mean((1, 2)).sqrt()
    return tried, slopes[-1], wrong, torch.maximum(wrong.abs(), coarse) / tolerance


def where_rows(good: Tensor, new: FlowState, old: FlowState) -> FlowState:
    """Rows of `new` where `good`, of `old` elsewhere."""
    return FlowState(torch.where(good[:, None, None], new.z, old.z), torch.where(good, new.integral, old.integral))


def take_rows(rows: Tensor, state: FlowState) -> FlowState:
    """The state of the selected rows."""
    return FlowState(state.z[rows], state.integral[:, rows])
