"""Walks: which variables are denoised when. A pure function (step k, t, starting t, prediction) → next t.

t [batch, variables, 1] never rises. A given variable has t = 0 from the start, a finished one only by now: the starting t tells
them apart. Sequential walks follow SRM (Wewer et al. 2025): n unknown variables make B = ⌈n/g⌉ blocks of g; a block begins
every L(1 − overlap) steps and falls linearly to 0 over L. How many blocks have begun is read off t itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from becalm.core.process import Prediction
from becalm.core.typing import Float, Tensor

Walk = Callable[[int, Tensor, Tensor, Prediction], Tensor]
Priority = Callable[[Tensor, Tensor, Prediction], Tensor]

ROUNDING = 1e-9
"""Keeps a product that ought to be whole from falling just below it."""


def together(steps: int) -> Walk:
    """All variables at once, from where they start to 0 in equal steps: ordinary diffusion."""
    if steps < 1:
        raise ValueError(f"together: steps {steps}: at least 1 is needed")
    return lambda k, t, start, prediction: start * (max(steps - k - 1, 0) / steps)


@dataclass(frozen=True)
class Budget:
    """How a sequential walk spends its steps; give `steps` or `steps_per_variable`."""

    group: int = 1
    """Variables in a block."""
    overlap: int | float = 0.0
    """Share of a block's steps that its successor runs along, from 0 to below 1."""
    steps: int | None = None
    """Steps in all."""
    steps_per_variable: int | float | None = None
    """Steps of each block; the walk then takes ⌈L((B − 1)(1 − overlap) + 1)⌉ in all."""

    def __post_init__(self):
        if self.group < 1 or not 0 <= self.overlap < 1:
            raise ValueError(f"walk: group {self.group} must be at least 1, overlap {self.overlap} from 0 to below 1")
        if (self.steps is None) == (self.steps_per_variable is None):
            raise ValueError("walk: give either steps or steps_per_variable")

    def lengths(self, start: Float[Tensor, "batch variable 1"]) -> Float[Tensor, " batch"]:
        """L*, the steps of a block of each datum; raises ValueError where it is below 1: a variable would have to jump."""
        unknown = (start > 0).sum((1, 2)).double()
        spans = (torch.ceil(unknown / self.group).clamp_min(1) - 1) * (1 - self.overlap) + 1
        total = spans.new_full(spans.shape, self.steps or 0)
        if self.steps_per_variable is not None:
            total = torch.ceil(self.steps_per_variable * spans - ROUNDING)
        length = total / spans
        if bool((length[unknown > 0] < 1).any()):
            least = math.ceil(float(spans.max()))
            raise ValueError(
                f"walk: {int(total.max())} steps leave a variable less than one of its own; give {least} or more"
            )
        return length


def sequential(budget: Budget, priority: Priority) -> Walk:
    """Blocks of the variables that `priority(t, start, prediction)` [batch, variables] puts first: least first, ties in order."""

    def walk(k: int, t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        t, start = t.double(), start.double()
        length = budget.lengths(start)
        ramp = torch.ceil(length - ROUNDING)[:, None, None]
        waiting = (t == start) & (start > 0)
        begun = ((start > 0) & ~waiting).sum((1, 2))
        due = n_blocks_due(k, length * (1 - budget.overlap)) * budget.group
        rank = torch.where(waiting[..., 0], finite_ranks(priority(t, start, prediction)), torch.inf)
        place = torch.sort(rank, dim=1, stable=True).indices.argsort(1)
        chosen = waiting & (place < (due - begun)[:, None])[..., None]
        done = torch.round((1 - t / torch.where(start > 0, start, 1.0)) * ramp)
        return torch.where(waiting & ~chosen, t, start * (ramp - done - 1).clamp_min(0) / ramp)

    return walk


def finite_ranks(rank: Tensor) -> Tensor:
    """Ranks below infinity, which is kept for the variables that are not waiting; NaN comes last of those that are."""
    return rank.double().nan_to_num(nan=torch.finfo(torch.float64).max)


def n_blocks_due(k: int, stride: Float[Tensor, " batch"]) -> Tensor:
    """How many blocks b = 0, 1, … have begun by step k when block b begins at ⌊b · stride + ROUNDING⌋."""
    guess = torch.floor((k + 1) / stride).long()
    candidates = guess[:, None] + torch.arange(-2, 3, device=stride.device)
    began = torch.floor(candidates * stride[:, None] + ROUNDING) <= k
    return torch.where(began & (candidates >= 0), candidates + 1, 0).amax(1)


def in_order(
    order: Float[Tensor, "*rank"] | None = None,
    group: int = 1,
    overlap: int | float = 0.0,
    steps: int | None = None,
    steps_per_variable: int | float | None = None,
) -> Walk:
    """The variables by rising `order` [variables] or [batch, variables]; as they are numbered where it is None."""

    def rank(t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        ranks = torch.arange(t.shape[1], device=t.device) if order is None else order.to(t.device)
        return ranks.expand(t.shape[:2])

    return sequential(Budget(group, overlap, steps, steps_per_variable), rank)


def by_graph(
    dependency: Float[Tensor, "variable variable"],
    group: int = 1,
    overlap: int | float = 0.0,
    steps: int | None = None,
    steps_per_variable: int | float | None = None,
) -> Walk:
    """First those whose neighbours are best known: certainty K(I + D/2), K = 1 − t, D the dependencies with rows of sum 1."""
    rows = dependency / dependency.sum(1, keepdim=True).clamp_min(torch.finfo(dependency.dtype).tiny)

    def uncertainty(t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        known = 1 - t[..., 0]
        return -(known + known @ rows.to(known) / 2)

    return sequential(Budget(group, overlap, steps, steps_per_variable), uncertainty)


def by_certainty(
    group: int = 1, overlap: int | float = 0.0, steps: int | None = None, steps_per_variable: int | float | None = None
) -> Walk:
    """First those of which the network is most certain, by its `log_var` when a block begins; raises where it tells none."""

    def log_var(t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        if prediction.log_var is None:
            raise ValueError(
                "by_certainty: the network predicts no log_var; let it return becalm.Output(value, log_var), log_var "
                "[batch, variables, 1] the log-variance of its error, or take another walk: together, in_order, by_graph"
            )
        return prediction.log_var.expand(*t.shape[:2], -1).mean(-1)

    return sequential(Budget(group, overlap, steps, steps_per_variable), log_var)
