"""A trial of a Sudoku solver: the same puzzles for every walk, read by a judge whose own accuracy is told beside the score."""

import time
from collections.abc import Iterator
from math import isqrt, sqrt
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from becalm.core import walk
from becalm.core.sample import reverse
from becalm.core.typing import Tensor
from becalm.images import sudoku
from becalm.images.sudoku import Puzzles
from becalm.nets.precision import inference_iter
from becalm.systems.puzzles import Read
from becalm.systems.refine import refine
from becalm.systems.srm import SRM, Way, denoiser_of, solve

WALKS = ("certainty", "graph", "random", "together", "refine")
"""Surest first; best known neighbours first; random order; all at once; surest first, then rounds of `refine`."""

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
    """Share of the grids that are valid as the judge reads them."""
    low: float
    """Lower end of its 95 % interval (Wilson)."""
    high: float
    """Upper end of the same."""
    distance: float
    """Mean over the grids of what is wrong in rows, columns and boxes; 0 where valid."""
    judge: float
    """Share of the real solved grids of the set that the judge calls valid: no score can be expected above it."""
    calls: float
    """Network calls a puzzle."""
    seconds: float
    """Seconds a puzzle."""
    gflop: float
    """Floating-point operations a puzzle, × 10⁹."""


def way_of(name: str, side: int, steps_per_variable: int, eta: float, batch: int, seed: int) -> Way:
    """The walk and the step of a name in WALKS, or of `order`, for a batch of puzzles of a side; all make as many steps."""
    random = torch.rand(batch, side**2, generator=torch.Generator().manual_seed(seed))
    walks = {
        "certainty": lambda: walk.by_certainty(steps_per_variable=steps_per_variable),
        "refine": lambda: walk.by_certainty(steps_per_variable=steps_per_variable),
        "graph": lambda: walk.by_graph(sudoku.peers(side).double(), steps_per_variable=steps_per_variable),
        "random": lambda: walk.in_order(random, steps_per_variable=steps_per_variable),
        "order": lambda: walk.in_order(steps_per_variable=steps_per_variable),
        "together": lambda: walk.together(steps_per_variable * side**2),
    }
    return Way(walks[name](), reverse(eta=eta))


def trial(
    model: SRM,
    puzzles: dict[str, Puzzles],
    read: Read,
    names: tuple[str, ...] = WALKS,
    rounds: int = 10,
    steps_per_variable: int = 12,
    eta: float = 1.0,
    batch: int = 64,
    seed: int = 0,
) -> Iterator[Row]:
    """Solve every set of puzzles by every walk, with the same puzzles and seeds; `rounds` are those of the walk `refine`."""
    flop = operations(model)
    for kind, group in puzzles.items():
        real = float(sudoku.valid(read(group.cells)).double().mean())
        for name in names:
            started, calls, grids = time.time(), 0, []
            for start in range(0, len(group.cells), batch):
                x, unknown = group.cells[start : start + batch], ~group.given[start : start + batch]
                way = way_of(name, isqrt(x.shape[1]), steps_per_variable, eta, len(x), seed + start)
                x, asked = answered(model, x, unknown, way, rounds if name == "refine" else 0, seed + start)
                grids.append(read(x))
                calls += asked * len(x)
            found = torch.cat(grids)
            share, low, high = wilson(int(sudoku.valid(found).sum()), len(found))
            each = calls / len(found), (time.time() - started) / len(found), calls / len(found) * flop / 1e9
            distance = float(sudoku.distance(found).double().mean())
            yield Row(kind, name, len(found), share, low, high, distance, real, *each)


def answered(model: SRM, x: Tensor, unknown: Tensor, way: Way, rounds: int, seed: int) -> tuple[Tensor, int]:
    """The solved puzzles and the number of network calls it took."""
    generator = torch.Generator().manual_seed(seed)
    counts: list[int] = []
    counted = model.register_forward_pre_hook(lambda module, inputs: counts.append(1))
    try:
        for step in solve(model, x, unknown, way, generator):
            x = step.z
        for better in refine(model, x, unknown, rounds, way=way, generator=generator):
            x = better
    finally:
        counted.remove()
    return x, len(counts)


def operations(model: SRM) -> float:
    """Floating-point operations of one network call for one puzzle."""
    cells, channels = len(model.places), model.config["channels"]
    z, t = torch.zeros(1, cells, channels), torch.ones(1, cells, 1).double()
    with FlopCounterMode(display=False) as counter:
        next(inference_iter(denoiser_of(model)(z, t, None) for _ in (0,)))
    return float(counter.get_total_flops())


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson 1927), which stays within 0 and 1."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return share, max(0.0, middle - half) if hits else 0.0, middle + half if hits < count else 1.0
