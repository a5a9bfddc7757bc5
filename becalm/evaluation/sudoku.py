"""Evaluation of a Sudoku solver: the same puzzles for every walk, read by a digit classifier that is measured as well."""

import time
from collections.abc import Iterator
from math import isqrt, sqrt
from typing import Literal, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from becalm.core.sampler import Sampler
from becalm.core.typing import Tensor
from becalm.images import sudoku
from becalm.images.sudoku import Puzzles
from becalm.nets.precision import inference_iter
from becalm.systems.puzzles import ReadDigits
from becalm.systems.refine import refine
from becalm.systems.solver import Order, Pace
from becalm.systems.srm import SRM

WalkName = Literal[Order, "refine"]

WALKS: tuple[WalkName, ...] = ("certainty", "graph", "random", "together", "refine")
"""Most certain first; most known neighbours first; random order; all at once; most certain first, then rounds of `refine`."""

LEVELS = {4: {"8 given": (8, 8), "4 given": (4, 4), "none given": (0, 0)}, 9: sudoku.GIVEN}
"""Puzzles by the side of the grid: how many cells are given, at least and at most."""


class Row(NamedTuple):
    """How one walk did on one set of puzzles."""

    puzzles: str
    """Name of the set."""
    walk: str
    """Name of the walk."""
    number: int
    """Puzzles in the set."""
    valid: float
    """Share of the grids that are valid as the classifier reads them."""
    low: float
    """Lower end of its 95 % interval (Wilson)."""
    high: float
    """Upper end of the same."""
    distance: float
    """Mean over the grids of what is wrong in rows, columns and boxes; 0 where valid."""
    real_valid: float
    """Share of the real solved grids that are valid as the classifier reads them: no score can be expected above it."""
    calls: float
    """Network calls a puzzle."""
    seconds: float
    """Seconds a puzzle."""
    gflop: float
    """Floating-point operations a puzzle, × 10⁹."""


def evaluate_walks(
    model: SRM,
    puzzles: dict[str, Puzzles],
    read: ReadDigits,
    walks: tuple[WalkName, ...] = WALKS,
    pace: Pace | None = None,
    rounds: int = 10,
    batch: int = 64,
    seed: int = 0,
) -> Iterator[Row]:
    """Solve every set of puzzles by every walk, with the same puzzles and seeds; `rounds` are those of the walk `refine`."""
    flops, pace = flops_per_call(model), pace or Pace()
    for kind, group in puzzles.items():
        real = float(sudoku.is_valid(read(group.cells)).double().mean())
        dependency = sudoku.peers(isqrt(group.cells.shape[1])).double()
        for name in walks:
            started, calls, parts = time.time(), 0, []
            for start in range(0, len(group.cells), batch):
                x, unknown = group.cells[start : start + batch], ~group.given[start : start + batch]
                order: Order = "certainty" if name == "refine" else name
                sampler = pace.sampler(order, len(x), x.shape[1], seed + start, dependency)
                x, count = solve_and_count(model, x, unknown, sampler, rounds if name == "refine" else 0, seed + start)
                parts.append(read(x))
                calls += count * len(x)
            grids = torch.cat(parts)
            share, low, high = wilson_interval(int(sudoku.is_valid(grids).sum()), len(grids))
            each = calls / len(grids), (time.time() - started) / len(grids), calls / len(grids) * flops / 1e9
            distance = float(sudoku.distance(grids).double().mean())
            yield Row(kind, name, len(grids), share, low, high, distance, real, *each)


def solve_and_count(
    model: SRM, x: Tensor, unknown: Tensor, sampler: Sampler, rounds: int, seed: int
) -> tuple[Tensor, int]:
    """The solved puzzles, on the CPU, and the number of network calls it took."""
    generator, device = torch.Generator().manual_seed(seed), next(model.parameters()).device
    x, unknown = x.to(device), unknown.to(device)
    calls: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    try:
        for step in model.solve(x, unknown, sampler, generator):
            x = step.z
        for refined in refine(model, x, unknown, rounds, sampler=sampler, generator=generator):
            x = refined
    finally:
        hook.remove()
    return x.cpu(), len(calls)


def flops_per_call(model: SRM) -> float:
    """Floating-point operations of one network call for one datum."""
    device = next(model.parameters()).device
    variables = 0 if model.places is None else len(model.places)
    z = torch.zeros(1, variables, model.channels, device=device)
    t = torch.ones(1, variables, 1, device=device).double()
    with FlopCounterMode(display=False) as counter:
        next(inference_iter(model.denoiser()(z, t, None) for _ in (0,)))
    return float(counter.get_total_flops())


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson 1927), which stays within 0 and 1."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return share, max(0.0, middle - half) if hits else 0.0, middle + half if hits < count else 1.0
