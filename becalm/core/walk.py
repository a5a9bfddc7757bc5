"""Walks: the order in which variables are denoised, as pure functions (step k, t, starting t, prediction) → next t.

t [batch, variables, 1] never rises. A given variable has starting t = 0; a denoised one has starting t > 0 and t = 0. Sequential
walks follow SRM (Wewer et al. 2025): n unknown variables form B = ⌈n/g⌉ blocks of g; a new block starts every L(1 − overlap)
steps, and the noise levels of a block fall linearly to 0 over L steps. The number of started blocks is computed from t.
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
"""Tolerance of floors and ceilings of products that are integers but for rounding."""


def together(steps: int) -> Walk:
    """All variables at once, from their starting levels to 0 in `steps` equal steps: ordinary diffusion."""
    if steps < 1:
        raise ValueError(f"together: steps {steps}: at least 1 is needed")
    return lambda k, t, start, prediction: start * (max(steps - k - 1, 0) / steps)


@dataclass(frozen=True)
class Budget:
    """Block size, overlap and number of steps of a sequential walk; give either `steps` or `steps_per_variable`."""

    group: int = 1
    """Variables in a block, denoised together."""
    overlap: int | float = 0.0
    """Fraction of a block's steps during which the next block is denoised too, from 0 to below 1."""
    steps: int | None = None
    """Total number of steps."""
    steps_per_variable: int | float | None = None
    """L, steps of each block; the walk then takes ⌈L((B − 1)(1 − overlap) + 1)⌉ steps."""

    def __post_init__(self):
        if self.group < 1 or not 0 <= self.overlap < 1:
            raise ValueError(f"walk: group {self.group} must be at least 1, overlap {self.overlap} from 0 to below 1")
        if (self.steps is None) == (self.steps_per_variable is None):
            raise ValueError("walk: give either steps or steps_per_variable")

    def lengths(self, start: Float[Tensor, "batch variable 1"]) -> Float[Tensor, " batch"]:
        """Steps of a block, L, for each datum; raises ValueError where L < 1: a variable would go to 0 in less than a step."""
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
    """Walk whose blocks are formed by ascending `priority(t, start, prediction)` [batch, variables], ties by variable index."""

    def walk(k: int, t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        t, start = t.double(), start.double()
        length = budget.lengths(start)
        ramp = torch.ceil(length - ROUNDING)[:, None, None]
        waiting = (t == start) & (start > 0)
        n_started = ((start > 0) & ~waiting).sum((1, 2))
        due = n_blocks_due(k, length * (1 - budget.overlap)) * budget.group
        rank = torch.where(waiting[..., 0], finite_ranks(priority(t, start, prediction)), torch.inf)
        place = torch.sort(rank, dim=1, stable=True).indices.argsort(1)
        chosen = waiting & (place < (due - n_started)[:, None])[..., None]
        done = torch.round((1 - t / torch.where(start > 0, start, 1.0)) * ramp)
        return torch.where(waiting & ~chosen, t, start * (ramp - done - 1).clamp_min(0) / ramp)

    return walk


def finite_ranks(rank: Tensor) -> Tensor:
    """The ranks with NaN and infinity replaced by the greatest finite number: infinity marks variables that do not wait."""
    return rank.double().nan_to_num(nan=torch.finfo(torch.float64).max)


def n_blocks_due(k: int, stride: Float[Tensor, " batch"]) -> Tensor:
    """Number of blocks b = 0, 1, … that start at or before step k, block b starting at step ⌊b · stride + ROUNDING⌋."""
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
    """Sequential walk by ascending `order` [variables] or [batch, variables]; by variable index where it is None."""

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
    """Sequential walk by descending certainty K(I + D/2): variables whose neighbours are least noisy come first (SRM).

    K = 1 − t [batch, variables]; D is `dependency` with each row divided by its sum. Computed anew whenever a block starts.
    """
    rows = dependency / dependency.sum(1, keepdim=True).clamp_min(torch.finfo(dependency.dtype).tiny)

    def uncertainty(t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        known = 1 - t[..., 0]
        return -(known + known @ rows.to(known) / 2)

    return sequential(Budget(group, overlap, steps, steps_per_variable), uncertainty)


def by_certainty(
    group: int = 1, overlap: int | float = 0.0, steps: int | None = None, steps_per_variable: int | float | None = None
) -> Walk:
    """Sequential walk by ascending predicted `log_var`, read whenever a block starts: most certain variables first (SRM).

    Raises ValueError where the network predicts no `log_var`.
    """

    def log_var(t: Tensor, start: Tensor, prediction: Prediction) -> Tensor:
        if prediction.log_var is None:
            raise ValueError(
                "by_certainty: the network predicts no log_var; let it return becalm.Output(value, log_var), log_var "
                "[batch, variables, 1] the log-variance of its error, or take another walk: together, in_order, by_graph"
            )
        return prediction.log_var.expand(*t.shape[:2], -1).mean(-1)

    return sequential(Budget(group, overlap, steps, steps_per_variable), log_var)
