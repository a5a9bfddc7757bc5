"""Solving a puzzle by many runs: several at once, the best by the model's own judgement, mended where they do not agree.

The choice among noisy runs by a model's own judgement is that of recursive models of symbolic grids; here the judgement is the
pseudo-likelihood of every cell given the others (`systems/consistency.py`). A search ends as soon as a run breaks no rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from becalm.core.sample import Step
from becalm.core.sampler import Sampler
from becalm.core.typing import Bool, Float, Tensor
from becalm.systems.consistency import Consistency
from becalm.systems.puzzles import Solution, track_solution
from becalm.systems.refine import resample, worst_variables
from becalm.systems.srm import SRM

Measure = Callable[[Float[Tensor, "run cell channel"], Bool[Tensor, "run cell"]], Consistency]
"""The consistency of solved grids, given which cells were unknown."""


@dataclass(frozen=True)
class Effort:
    """How much is tried."""

    tries: int = 1
    """Runs at most."""
    refine: int = 0
    """Rounds for each run in which the quarter of the cells that fits the others least is solved again."""
    backtrack: int = 0
    """Rounds for each run in which an uncertain decision is undone, with all that was decided after it."""
    at_once: int = 4
    """Runs in a batch."""
    beam: int = 16
    """Grids that a search by decisions keeps at most (`systems/beam.py`)."""

    @property
    def batches(self) -> list[int]:
        """Runs of each batch: one alone, since most puzzles need no other, then those that make it a whole one, and so on."""
        first = [1, min(self.at_once, self.tries) - 1]
        rest = [min(self.at_once, self.tries - k) for k in range(self.at_once, self.tries, self.at_once)]
        return [runs for runs in first + rest if runs]

    def reports(self, steps: int) -> int:
        """Reports of a search at most, where each run has so many steps."""
        batches, rounds = len(self.batches), self.refine + self.backtrack
        return batches * (steps + self.compares) + max(batches - 1, 1) * rounds

    @property
    def compares(self) -> bool:
        """Whether there is anything to choose from: more than one run, or rounds that mend it."""
        return self.tries > 1 or self.refine + self.backtrack > 0


class Attempt(NamedTuple):
    """A search under way, or at its end."""

    step: Step | None
    """A step of the runs in progress; None after a round."""
    solution: Solution
    """The runs in progress, or, in the last report, the best run alone."""
    calls: int
    """Steps and rounds so far."""


def search(
    model: SRM,
    cells: Float[Tensor, "1 cell channel"],
    unknown: Bool[Tensor, "1 cell"],
    sampler: Sampler,
    effort: Effort,
    measure: Measure,
    generator: torch.Generator | None = None,
) -> Iterator[Attempt]:
    """Solve a puzzle; yields a report after every step and round, the last of which holds the best run."""
    best, record, calls, first = None, (False, -torch.inf), 0, None
    for number, runs in enumerate(effort.batches):
        x, open_cells = cells.repeat(runs, 1, 1), unknown.repeat(runs, 1)
        solution = None
        for step, solution in track_solution(model.solve(x, open_cells, sampler, generator), open_cells, model):
            calls += 1
            yield Attempt(step, solution, calls)
        if solution is None or not effort.compares:
            return
        if first and number == 1:
            solution, open_cells = first.with_runs(solution), unknown.repeat(1 + runs, 1)
        first, mending = solution, effort
        if number == 0 and effort.tries > 1:
            mending = replace(effort, refine=0, backtrack=0)  # with the others of its batch
        for mended, found in rounds(model, solution, open_cells, sampler, mending, measure, generator):
            scores = [(bool(v), float(s)) for v, s in zip(found.valid, found.score, strict=True)]
            if max(scores) > record:
                record = max(scores)
                best = mended.only(scores.index(record))
            calls += 1
            yield Attempt(None, mended, calls)
            if record[0]:
                break
        if record[0]:
            break
    if best is not None:
        yield Attempt(None, best, calls)


def rounds(
    model: SRM,
    solution: Solution,
    unknown: Bool[Tensor, "run cell"],
    sampler: Sampler,
    effort: Effort,
    measure: Measure,
    generator: torch.Generator | None,
) -> Iterator[tuple[Solution, Consistency]]:
    """The runs with their consistency, as they are and after every round: those of `refine`, then those of `backtrack`.

    A round of backtracking that makes a run less consistent is taken back.
    """
    found = measure(solution.cells, unknown)
    yield solution, found
    for k in range(effort.refine + effort.backtrack):
        backtracking = k >= effort.refine
        again = undone_cells(solution, found.fit, unknown) if backtracking else worst_variables(-found.fit, unknown)
        cells = resample(model, solution.cells, again, sampler, generator)
        now = measure(cells, unknown)
        kept = (
            ((found.score > now.score) & ~now.valid.to(found.score.device))
            if backtracking
            else torch.zeros_like(found.valid)
        )
        cells = torch.where(kept.to(cells.device)[:, None, None], solution.cells, cells)
        found = Consistency(*(pick(kept, old, new) for old, new in zip(found, now, strict=True)))
        tried = (
            solution.certainty.masked_fill(first_undone(again, solution), torch.inf)
            if backtracking
            else solution.certainty
        )
        solution = solution._replace(cells=cells, certainty=tried)
        yield solution, found


def pick(kept: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """The old rows where `kept`, else the new ones."""
    return torch.where(kept.to(old.device).view(-1, *[1] * (old.ndim - 1)), old, new)


def undone_cells(
    solution: Solution, fit: Float[Tensor, "run cell"], unknown: Bool[Tensor, "run cell"]
) -> Bool[Tensor, "run cell"]:
    """The cells that backtracking solves again: the least certain decision up to the cell that fits the others least, and all
    that were decided after it.

    Decisions whose certainty is infinite, undone before, are passed over.
    """
    order, certainty, hidden = solution.order, solution.certainty, unknown.cpu()
    worst = fit.cpu().masked_fill(~hidden, torch.inf).argmin(1, keepdim=True)
    before = hidden & (order <= order.gather(1, worst))
    blamed = certainty.nan_to_num(torch.inf).masked_fill(~before, torch.inf).argmin(1, keepdim=True)
    return (hidden & (order >= order.gather(1, blamed))).to(unknown.device)


def first_undone(again: Bool[Tensor, "run cell"], solution: Solution) -> Bool[Tensor, "run cell"]:
    """The earliest decision among the cells that are solved again."""
    again = again.cpu()
    order = solution.order.masked_fill(~again, 2**31)
    return again & (order == order.amin(1, keepdim=True))
