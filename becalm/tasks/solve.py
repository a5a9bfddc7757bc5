"""Solving puzzles: `becalm.solve(image, mask)` fills in the cells of a Sudoku in an image, the most certain one first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from becalm.core.device import device_of
from becalm.core.files import InputError, atomic_file
from becalm.core.process import Variance
from becalm.core.sample import Step
from becalm.core.typing import Tensor
from becalm.images import puzzle_picture, sudoku
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems import puzzles
from becalm.systems.puzzles import Puzzle, ReadDigits, Solution
from becalm.systems.refine import refine
from becalm.systems.solver import Order, Pace
from becalm.systems.srm import SRM
from becalm.tasks.html import summary_html
from becalm.tasks.progress import Progress, final_result
from becalm.weights.store import load

SOLVERS = {4: "sudoku4", 9: "sudoku9"}
"""Packaged models by the cells in a row of their puzzles."""

READER = "reader14"
"""The packaged classifier of digits."""


@dataclass(frozen=True)
class Options:
    """How a puzzle is solved; `solve` takes these as keyword arguments."""

    walk: Order = "certainty"
    """Which cell when: the most certain one first, most known neighbours first, at random, as numbered, or all at once."""
    steps_per_variable: int = 12
    """Steps of each block of cells, from noise to data."""
    group: int = 1
    """Cells in a block, which are started together."""
    overlap: float = 0.0
    """Share of a block's steps that the next block runs along with it, from 0 to below 1."""
    eta: float = 1.0
    """Noise put back in each step: 0 none, 1 as much as ancestral sampling does."""
    variance: Variance = "small"
    """Variance of that noise: the lower bound, the upper bound, or where between the network learned it to be."""
    refine: int = 0
    """Rounds in which the quarter of the cells that fits the others least is solved again."""
    reader: str | None = None
    """What reads digits, to check what is given and what was solved: a packaged model, a file, or `none`; None: reader14."""
    seed: int = 0
    """Decides every random draw."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""

    def __post_init__(self):
        if self.steps_per_variable < 1 or not 0 <= self.eta <= 1 or self.refine < 0:
            raise InputError("--steps-per-variable must be at least 1, --eta from 0 to 1, --refine at least 0")
        if self.group < 1 or not 0 <= self.overlap < 1:
            raise InputError("--group must be at least 1, --overlap from 0 to below 1")

    @property
    def pace(self) -> Pace:
        """Steps, groups, overlap and noise."""
        return Pace(self.steps_per_variable, self.group, self.overlap, None, self.eta, self.variance)

    def total_steps(self, unknown: int, cells: int) -> int:
        """Steps that solving takes, ⌈L((B − 1)(1 − overlap) + 1)⌉ for B blocks of L steps."""
        if self.walk == "together":
            return self.steps_per_variable * cells
        blocks = math.ceil(unknown / self.group)
        return math.ceil(self.steps_per_variable * ((blocks - 1) * (1 - self.overlap) + 1) - 1e-9)


class State(NamedTuple):
    """A puzzle while it is being solved."""

    step: Step
    """Cells, noise levels and prediction."""
    solution: Solution
    """The solution as it stands."""


@dataclass(frozen=True, eq=False, repr=False)
class SolveResult:
    """A solved puzzle; arrays [row, column] have an entry a cell."""

    image: np.ndarray
    """The solved image, grey values in [0, 1], float32 [height, width]; given cells are those of the puzzle."""
    order: np.ndarray
    """When denoising of each cell started, from 1; cells started together share a number, given ones have 0."""
    certainty: np.ndarray
    """Of each cell when it was started: 1 − expected squared error over the data's mean square; NaN where given."""
    digits: np.ndarray | None
    """The digit read in each cell; None where nothing read them."""
    valid: bool | None
    """Whether every row, column and box has every digit once; None where nothing read them."""
    conflicts: list[tuple[int, int]]
    """Row and column, from 1, of every cell whose digit is repeated or is not one of the grid."""
    model: str
    """The model that solved it."""
    steps: int
    """Steps of the walk, without refinement."""
    notes: tuple[str, ...] = ()
    """What could not be done, such as reading cells of another size."""

    def save(self, path: Path | str) -> Path:
        """Write the solved image as a PNG."""
        puzzle_picture.write_image(torch.from_numpy(self.image), Path(path))
        return Path(path)

    def save_picture(self, path: Path | str) -> Path:
        """Write a PNG in which cells carry the number of their turn and are tinted by their certainty."""
        with atomic_file(Path(path)) as temporary:
            temporary.write_bytes(puzzle_picture.order_png(*self._cells()))
        return Path(path)

    def summary(self) -> dict:
        """Counts, and the result's arrays as lists, as `becalm solve --json` prints them."""
        sure = [None if math.isnan(x) else round(x, 4) for x in self.certainty.flatten().tolist()]
        counts = {"cells": self.order.size, "solved": int((self.order > 0).sum()), "steps": self.steps}
        read = {}
        if self.digits is not None:
            read = {"valid": self.valid, "conflicts": self.conflicts, "digits": self.digits.tolist()}
        return counts | read | {"certainty": sure, "order": self.order.flatten().tolist()}

    def _cells(self) -> tuple[Tensor, Tensor, Tensor]:
        order, certainty = torch.from_numpy(self.order).flatten(), torch.from_numpy(self.certainty).flatten()
        return torch.from_numpy(self.image), order, certainty

    def _facts(self) -> dict[str, object]:
        valid = {None: "not checked", True: "valid", False: f"{len(self.conflicts)} cells in conflict"}[self.valid]
        solved = f"{int((self.order > 0).sum())} of {self.order.size} cells"
        return {"solved": solved, "result": valid, "steps": self.steps, "model": self.model}

    def __repr__(self) -> str:
        lines = ["SolveResult(" + ", ".join(f"{name}: {value}" for name, value in self._facts().items()) + ")"]
        lines += [" ".join(map(str, row)) for row in ([] if self.digits is None else self.digits)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return summary_html("Solved puzzle", self._facts(), puzzle_picture.order_png(*self._cells()))


def solve(image: Any, mask: Any, model: SRM | Path | str | None = None, **options: Any) -> SolveResult:
    """Solve the puzzle in a square grey image: fill in the cells that are white in the mask.

    `image` is a path or an array [height, width], grey values in [0, 1] or bytes; `mask` likewise, of the same size, or an array
    with an entry a cell. `model` is a packaged name, a file or an SRM; left out, the packaged model for the grid. Further
    keyword arguments are the fields of `Options`. Raises InputError for what does not fit.
    """
    return final_result(steps(image, mask, model, **options))


def steps(image: Any, mask: Any, model: SRM | Path | str | None = None, **options: Any) -> Iterator[Progress]:
    """`solve` as a generator: a report with a `State` after each step of the walk, one a round of refinement, then the result."""
    chosen, device = Options(**options), device_of(options.get("device", "cpu"))
    pixels, name = read_grey(image, "image")
    cover, mask_name = read_grey(mask, "mask")
    cover = expand_mask(cover, pixels)
    solver, model_name = load_solver(model, pixels, cover, (name, mask_name))
    puzzle = puzzles.parse_puzzle(pixels, cover, solver, name, mask_name)
    read, notes = load_reader(chosen.reader, puzzle)
    if read:
        puzzles.given_digits(puzzle, read, name)
    solution, count = None, 0
    for report in solve_puzzle(solver.to(device), puzzle, chosen):
        solution = report.result or solution
        count += report.state is not None
        yield report._replace(result=None)
    yield Progress(1.0, None, as_result(solution, puzzle, (pixels, cover), read, (model_name, count, notes)))


def solve_puzzle(model: SRM, puzzle: Puzzle, options: Options) -> Iterator[Progress]:
    """Reports of solving a puzzle by a walk, then by rounds of refinement; each result is the Solution so far."""
    generator, device = torch.Generator().manual_seed(options.seed), next(model.parameters()).device
    cells, unknown = puzzle.cells.to(device), puzzle.unknown.to(device)
    side, number = math.isqrt(cells.shape[1]), int(unknown.sum())
    dependency = sudoku.peers(side).double().to(device)
    sampler = options.pace.sampler(options.walk, 1, side**2, options.seed, dependency)
    walked = options.total_steps(number, side**2)
    rounds = options.total_steps(math.ceil(number / 4), side**2)
    total, solution = walked + options.refine * rounds, None
    tracked = puzzles.track_solution(model.solve(cells, unknown, sampler, generator), puzzle, model.data_variance)
    for k, (step, solution) in enumerate(tracked, 1):
        yield Progress(min(k / total, 1.0), State(step, solution), solution)
    if solution is None:
        return
    refined = refine(model, solution.cells, unknown, options.refine, sampler=sampler, generator=generator)
    for k, cells in enumerate(refined, 1):
        solution = solution._replace(cells=cells)
        yield Progress(min((walked + k * rounds) / total, 1.0), None, solution)


def as_result(
    solution: Solution | None, puzzle: Puzzle, images: tuple[Tensor, Tensor], read: ReadDigits | None, facts: tuple
) -> SolveResult:
    """The solved image and what is read in it; `facts` are the model's name, the steps and the notes."""
    if solution is None:
        raise InputError("mask: nothing is to be solved; paint some cells white")
    side = math.isqrt(len(solution.order))
    image = puzzles.render_solution(solution, puzzle, *images).float().numpy()
    order, certainty = (part.reshape(side, side).numpy() for part in (solution.order, solution.certainty))
    if read is None:
        return SolveResult(image, order, certainty, None, None, [], *facts)
    grid = read(solution.cells.cpu())[0]
    wrong = sorted({*puzzles.repeated_digits(grid), *puzzles.invalid_digits(grid)})
    return SolveResult(image, order, certainty, grid.reshape(side, side).numpy(), not wrong, wrong, *facts)


def read_grey(source: Any, name: str) -> tuple[Tensor, str]:
    """Grey values in [0, 1], float32 [height, width], from a path or an array, and the name for messages."""
    if isinstance(source, str | Path):
        return puzzle_picture.read_image(Path(source)), str(source)
    array = np.asarray(source)
    if array.ndim != 2:
        raise InputError(f"{name}: has shape {list(array.shape)}; a grey image [height, width] is needed")
    values = torch.from_numpy(array.astype(np.float32))
    return (values / 255 if array.dtype == np.uint8 else values), name


def expand_mask(mask: Tensor, image: Tensor) -> Tensor:
    """The mask in pixels of the image, where it has an entry a cell; else as it is."""
    side, height = mask.shape[0], image.shape[0]
    if mask.shape == (side, side) and side in SOLVERS and side < height and height % side == 0:
        return mask.repeat_interleave(height // side, 0).repeat_interleave(height // side, 1)
    return mask


def load_solver(model: SRM | Path | str | None, image: Tensor, mask: Tensor, names: tuple[str, str]) -> tuple[SRM, str]:
    """The model asked for, or the packaged one for the grid that the mask fits, and its name."""
    if isinstance(model, SRM):
        return model, "model"
    if model is None and image.shape == mask.shape:
        model = find_solver(mask, names[1])
    chosen = model or SOLVERS[4]  # where the sizes differ, which is the puzzle's fault with any model
    solver = load(chosen, SRM)
    puzzles.sudoku_side(solver, str(chosen))
    return solver, str(chosen)


def find_solver(mask: Tensor, name: str) -> str:
    """The packaged model of the grid whose cells the mask leaves whole, the smaller one if it fits both (all is white).

    Raises InputError where it fits none.
    """
    faults = []
    for side, solver in SOLVERS.items():
        fault = puzzles.mask_fault(mask, side)
        if fault is None:
            return solver
        faults.append(f"{side} × {side} cells: {fault}")
    raise InputError(f"{name}: fits no grid ({'; '.join(faults)}); make every cell all white or all black")


def load_reader(reader: str | None, puzzle: Puzzle) -> tuple[ReadDigits | None, tuple[str, ...]]:
    """The function that reads digits, None where there is none, and a note where the packaged one reads cells of another size."""
    if reader == "none":
        return None, ()
    name = reader or READER
    classifier, pixels = load(name, DigitClassifier), math.isqrt(puzzle.cells.shape[-1])
    if classifier.side == pixels:
        return classifier.read, ()
    fault = f"reads cells of {classifier.side} pixels, and those of this model have {pixels}"
    if reader:
        raise InputError(f"{reader}: {fault}; give a reader of that size, or --reader none")
    return None, (f"{name}: {fault}, so no digit is checked",)
