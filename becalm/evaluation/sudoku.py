"""Evaluation of a Sudoku solver: the same puzzles for every walk, read by a digit classifier that is measured as well."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import isqrt, sqrt
from typing import Literal, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.core.typing import Tensor
from becalm.images import sudoku
from becalm.images.digits import Digits
from becalm.images.extreme_sudoku import sample_extreme_puzzles
from becalm.images.sudoku import Puzzles
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems.beam import fit_templates, rewrite_cells, search_digits
from becalm.systems.consistency import measure_consistency
from becalm.systems.givens import Handwriting, read_givens, rewrite_givens, sample_handwriting
from becalm.systems.puzzles import Puzzle
from becalm.systems.refine import refine
from becalm.systems.search import Effort, search
from becalm.systems.solver import Order, Pace
from becalm.systems.srm import SRM

WalkName = Literal[Order, "refine", "tries", "digits"]

WALKS: tuple[WalkName, ...] = ("certainty", "graph", "random", "together", "refine", "digits")
"""Most certain first; most known neighbours first; random order; all at once; most certain first, then rounds of `refine`.
`digits` solves as `becalm solve` does, given cells read together, and `tries` as it does with a walk that denoises
(`systems.search`)."""

LEVELS = {4: {"8 given": (8, 8), "4 given": (4, 4), "none given": (0, 0)}, 9: sudoku.GIVEN | {"extreme": (17, 17)}}
"""Puzzles by the side of the grid: how many cells are given, at least and at most; `extreme` ones have one solution."""


def sample_levels(side: int, names: tuple[str, ...], count: int, digits: Digits, seed: int) -> dict[str, Puzzles]:
    """Held-out puzzles of the named levels, of all where none is named. Raises InputError for a name that is none."""
    if unknown := set(names) - set(LEVELS[side]):
        raise InputError(f"--levels {' '.join(sorted(unknown))}: choose from {', '.join(LEVELS[side])}")
    chosen = {name: given for name, given in LEVELS[side].items() if name in names or not names}
    return {
        name: sample_extreme_puzzles(count, digits, seed)
        if name == "extreme"
        else sudoku.sample_puzzles(side, count, given, digits, "test", seed)
        for name, given in chosen.items()
    }


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
    """The share that the real solutions would have, whose cells are all handwritten: what the classifier's errors leave."""
    right: float
    """Share of the cells of the real solutions that the classifier reads right."""
    calls: float
    """Network calls a puzzle."""
    seconds: float
    """Seconds a puzzle."""
    gflop: float
    """Floating-point operations a puzzle, × 10⁹."""


def evaluate_walks(
    model: SRM,
    puzzles: dict[str, Puzzles],
    reader: DigitClassifier,
    walks: tuple[WalkName, ...] = WALKS,
    pace: Pace | None = None,
    effort: Effort | None = None,
    batch: int = 64,
    seed: int = 0,
) -> Iterator[Row]:
    """Solve every set of puzzles by every walk, with the same puzzles and seeds.

    A grid is valid if it breaks no rule with its given digits and those that the classifier reads in the other cells. Of
    `effort`, the walk `refine` takes its rounds of refinement alone, `digits` its beam, `tries` all; other walks take nothing.
    What `digits` and `tries` need of the model's handwriting is sampled once, and not counted.
    """
    flops, pace, effort = flops_per_call(model), pace or Pace(), effort or Effort(refine=10)
    by_user = {"tries", "digits"} & set(walks)
    hand = sample_handwriting(model, reader.probabilities, torch.Generator().manual_seed(seed)) if by_user else None
    for kind, group in puzzles.items():
        found = reader.read(group.cells)
        real = float(sudoku.is_valid(torch.where(group.given, group.grids, found)).double().mean())
        right = float((found == group.grids).double().mean())
        for name in walks:
            started, calls, parts = time.time(), 0, []
            size = 1 if name in by_user else batch
            for start in range(0, len(group.cells), size):
                some = slice(start, start + size)
                x, given = group.cells[some], group.given[some]
                solved, count = solve_and_count(model, x, ~given, (name, pace, effort), (reader, hand), seed + start)
                parts.append(torch.where(given, group.grids[some], reader.read(solved)))
                calls += count
            grids = torch.cat(parts)
            share, low, high = wilson_interval(int(sudoku.is_valid(grids).sum()), len(grids))
            each = calls / len(grids), (time.time() - started) / len(grids), calls / len(grids) * flops / 1e9
            distance = float(sudoku.distance(grids).double().mean())
            yield Row(kind, name, len(grids), share, low, high, distance, real, right, *each)


def solve_and_count(
    model: SRM,
    x: Tensor,
    unknown: Tensor,
    how: tuple[WalkName, Pace, Effort],
    reading: tuple[DigitClassifier, Handwriting | None],
    seed: int,
) -> tuple[Tensor, int]:
    """The solved puzzles, on the CPU, and how often the network was called, once a puzzle of a batch."""
    name, pace, effort = how
    generator, device = torch.Generator().manual_seed(seed), next(model.parameters()).device
    dependency = sudoku.peers(isqrt(x.shape[1])).double().to(device)
    order: Order = "certainty" if name in ("refine", "tries", "digits") else name  # type: ignore[assignment]
    sampler = pace.sampler(order, len(x), x.shape[1], seed, dependency)
    calls: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    try:
        if name in ("tries", "digits"):
            x = solve_as_user(model, Puzzle(x, unknown), sampler, effort, reading, generator, name == "digits")
        else:
            x, unknown = x.to(device), unknown.to(device)
            for step in model.solve(x, unknown, sampler, generator):
                x = step.z
            for refined in refine(model, x, unknown, effort.refine * (name == "refine"), 0.25, sampler, generator):
                x = refined
    finally:
        hook.remove()
    return x.cpu(), sum(calls)


def solve_as_user(
    model: SRM,
    puzzle: Puzzle,
    sampler: Sampler,
    effort: Effort,
    reading: tuple[DigitClassifier, Handwriting | None],
    generator: torch.Generator,
    by_digits: bool = False,
) -> Tensor:
    """The cells of a puzzle solved as `becalm solve` does, by decisions where that is asked for and the model tells digits, else
    by walks of the sampler; where its given cells are refused, the puzzle with empty cells."""
    (reader, hand), device = reading, next(model.parameters()).device
    hand = hand or sample_handwriting(model, reader.probabilities, generator)
    try:
        given = read_givens(puzzle, reader.probabilities(puzzle.cells)[0], "puzzle")
    except InputError:
        return torch.where(puzzle.unknown[..., None], -1.0, puzzle.cells)
    templates = fit_templates(model, hand) if by_digits else None
    if templates is not None:
        cells = rewrite_cells(puzzle, given.digits, templates).cells.to(device)
        attempts = search_digits(model, cells, given.digits, templates, effort.beam, generator)
    else:
        effort = replace(effort, tries=1, backtrack=0) if by_digits else effort
        cells = rewrite_givens(puzzle, given, hand, generator).cells.to(device)
        measure = partial(
            measure_consistency, model, read=reader.probabilities, given=given.digits.to(device), generator=generator
        )
        attempts = search(model, cells, puzzle.unknown.to(device), sampler, effort, measure, generator)
    for attempt in attempts:
        cells = attempt.solution.cells
    return cells


def flops_per_call(model: SRM) -> float:
    """Floating-point operations of one network call for one datum."""
    device = next(model.parameters()).device
    variables = 0 if model.places is None else len(model.places)
    z = torch.zeros(1, variables, model.channels, device=device)
    t = torch.ones(1, variables, 1, device=device).double()
    with FlopCounterMode(display=False) as counter:
        model.predict(z, t)
    return float(counter.get_total_flops())


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float, float]:
    """A share and its 95 % interval (Wilson 1927), which stays within 0 and 1."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return share, max(0.0, middle - half) if hits else 0.0, middle + half if hits < count else 1.0
