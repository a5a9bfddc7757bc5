"""Puzzles as images: an image and a mask become variables, and a solution becomes an image, with each cell's certainty and order.

Cells are square and row-major. In the mask white is to be solved and black is given; given cells come back pixel for pixel.
"""

from collections.abc import Callable, Iterable, Iterator
from math import isqrt
from typing import NamedTuple

import torch

from becalm.core.files import InputError
from becalm.core.sample import Step
from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.grid import cut, enlarge, join, shrink
from becalm.images.sudoku import conflicts
from becalm.systems.srm import SRM

MAX_BLANK = -0.6
"""Greatest value of an empty cell, from −1, paper, to 1, ink."""

MIN_CONTRAST = 0.1
"""Least difference of the greys of paper and ink."""

ReadDigits = Callable[[Float[Tensor, "batch cell channel"]], Int[Tensor, "batch cell"]]
"""A digit classifier's function: which digit is in each cell."""


class Puzzle(NamedTuple):
    """A puzzle as a model takes it."""

    cells: Float[Tensor, "1 cell channel"]
    """The image of each cell at the model's size, in [−1, 1], −1 the paper."""
    unknown: Bool[Tensor, "1 cell"]
    """The cells to be solved."""


class Solution(NamedTuple):
    """One or several runs of solving a puzzle, done or under way."""

    cells: Float[Tensor, "run cell channel"]
    """The image of each cell at the model's size."""
    certainty: Float[Tensor, "run cell"]
    """Of each cell, when it was started: 1 − expected squared error over the data's mean square, 0 to 1; NaN where given."""
    order: Int[Tensor, "run cell"]
    """When denoising of each cell started, from 1; cells started together share a number, given ones have 0."""

    def only(self, run: int) -> "Solution":
        """One of the runs."""
        return Solution(*(part[run : run + 1] for part in self))

    def with_runs(self, others: "Solution") -> "Solution":
        """These runs and others of the same puzzle."""
        return Solution(*(torch.cat(parts) for parts in zip(self, others, strict=True)))


def sudoku_side(model: SRM, name: str = "model") -> int:
    """Cells in a row of the model's puzzles. Raises InputError for a model of anything but Sudokus."""
    variables, channels = 0 if model.places is None else len(model.places), model.channels
    side = isqrt(variables)
    if side not in (4, 9) or side**2 != variables or isqrt(channels) ** 2 != channels:
        raise InputError(
            f"{name}: was trained on {variables} variables of {channels} numbers, not on a Sudoku; use sudoku4 or sudoku9"
        )
    return side


def repeated_digits(grid: Int[Tensor, " cell"]) -> list[tuple[int, int]]:
    """Row and column, from 1, of every cell whose digit stands a second time in its row, column or box; 0 is no digit."""
    side = isqrt(len(grid))
    return [(int(cell) // side + 1, int(cell) % side + 1) for cell in conflicts(grid[None])[0].nonzero()[:, 0]]


def invalid_digits(grid: Int[Tensor, " cell"]) -> list[tuple[int, int]]:
    """Row and column, from 1, of every cell whose digit is larger than the side of the grid."""
    side = isqrt(len(grid))
    return [(int(cell) // side + 1, int(cell) % side + 1) for cell in (grid > side).nonzero()[:, 0]]


def parse_puzzle(
    image: Float[Tensor, "height width"],
    mask: Float[Tensor, "rows columns"],
    model: SRM,
    name: str = "image",
    mask_name: str = "mask",
) -> Puzzle:
    """The puzzle in an image and its mask, grey values in [0, 1]: cells cut out, shrunk, and scaled from its paper to its ink.

    Raises InputError where the two differ in size, where cells are no whole pixels, smaller than the model's or half masked,
    where none is to be solved, and where a given one is empty.
    """
    side, pixels = sudoku_side(model, name), isqrt(model.channels)
    if image.shape != mask.shape:
        raise InputError(f"{name}: is {size_text(image)} pixels, its mask {size_text(mask)}; both must have one size")
    height, width = image.shape
    if height != width or width % side or width // side < pixels:
        raise InputError(
            f"{name}: is {size_text(image)} pixels; this model needs a square of {side} × {side} cells of {pixels} pixels or "
            f"more ({side * 28} × {side * 28}, for example)"
        )
    if fault := mask_fault(mask, side):
        raise InputError(
            f"{mask_name}: {fault}; make every cell all white (to be solved) "
            f"or all black (given), and name the --model for the grid: this one has {side} × {side} cells"
        )
    unknown = white_shares(mask, side) > 0.5
    if not unknown.any():
        raise InputError(f"{mask_name}: is all black, so every cell is given; paint white what is to be solved")
    paper, ink = paper_and_ink(image, mask)
    cells = shrink(cut(2 * ((image[None] - paper) / (ink - paper)).clamp(0, 1) - 1, width // side), pixels)
    blank = ~unknown & (cells[0].amax(1) < MAX_BLANK)
    if blank.any():
        cell = int(blank.nonzero()[0])
        raise InputError(f"{name}: {cell_name(cell, side)} is given and empty; paint it white in {mask_name}")
    return Puzzle(cells, unknown[None])


def white_shares(mask: Float[Tensor, "height width"], side: int) -> Float[Tensor, " cell"]:
    """The share of white pixels in each of side × side cells."""
    return cut((mask[None] > 0.5).float(), mask.shape[0] // side)[0].mean(1)


def mask_fault(mask: Float[Tensor, "height width"], side: int) -> str | None:
    """Why the mask does not consist of side × side cells that are white or black; None if it does."""
    height, width = mask.shape
    if height != width or width % side:
        return f"{size_text(mask)} pixels are no square of {side} × {side} cells"
    shares = white_shares(mask, side)
    mixed = ((shares > 0.1) & (shares < 0.9)).nonzero()
    return f"{cell_name(int(mixed[0]), side)} is {float(shares[mixed[0]]):.0%} white" if len(mixed) else None


def cell_name(cell: int, side: int) -> str:
    """Row and column of a cell, from 1."""
    return f"row {cell // side + 1} column {cell % side + 1}"


def size_text(image: Tensor) -> str:
    """Width × height."""
    return f"{image.shape[1]} × {image.shape[0]}"


def paper_and_ink(image: Float[Tensor, "height width"], mask: Float[Tensor, "height width"]) -> tuple[float, float]:
    """Grey of the paper, the median of what is given, and of the ink, which is farthest from it.

    Where nothing is given, or nothing but paper, the paper is the median of all, and ink is white on black or black on white.
    """
    given = image[mask <= 0.5]
    paper = float((given if len(given) else image).median())
    ink = float(given[(given - paper).abs().argmax()]) if len(given) else paper
    return paper, ink if abs(ink - paper) > MIN_CONTRAST else float(paper < 0.5)


def track_solution(
    steps: Iterable[Step], unknown: Bool[Tensor, "run cell"], model: SRM
) -> Iterator[tuple[Step, Solution]]:
    """Each step of a walk with the runs as they stand after it; those of the last one are complete."""
    unknown = unknown.cpu()
    order = torch.zeros(unknown.shape, dtype=torch.long)
    certainty = torch.full(unknown.shape, torch.nan)
    for step in steps:
        started = (step.t[..., 0].cpu() < 1) & unknown & (order == 0)
        order = torch.where(started, order.amax(1, keepdim=True) + 1, order)
        log_var = step.prediction.log_var
        if log_var is not None:
            sure = (1 - log_var[..., 0].cpu().exp() / model.data_variance).clamp(0, 1).float()
            certainty = torch.where(started, sure, certainty)
        yield step, Solution(step.z, certainty, order)


def render_solution(
    solution: Solution, puzzle: Puzzle, image: Float[Tensor, "height width"], mask: Float[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """The solved image of the first run, in [0, 1], at the size of the puzzle's.

    Given cells keep their pixels, others have its paper and ink.
    """
    side = isqrt(puzzle.cells.shape[1])
    pixels, (paper, ink) = image.shape[0] // side, paper_and_ink(image, mask)
    cells = paper + (ink - paper) * ((enlarge(solution.cells[:1].cpu(), pixels) + 1) / 2).clamp(0, 1)
    unknown = puzzle.unknown.cpu()[..., None].expand_as(cells).float()
    both = join(torch.cat([cells, unknown]), (side * pixels, side * pixels), pixels)
    return torch.where(both[1] > 0.5, both[0], image)
