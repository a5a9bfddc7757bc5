"""Puzzles as pictures: an image and a mask in, the solved image out, with how sure each cell was and when it was settled.

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
from becalm.systems.refine import refine
from becalm.systems.srm import SRM, Way

BLANK = -0.6
"""The greatest value of an empty cell, from −1, paper, to 1, ink."""

FAINT = 0.1
"""Greys that lie no farther apart than this are not told apart as paper and ink."""

Read = Callable[[Float[Tensor, "batch cell channel"]], Int[Tensor, "batch cell"]]
"""A judge: which digit is in each cell."""


class Puzzle(NamedTuple):
    """A puzzle as a model takes it."""

    cells: Float[Tensor, "1 cell channel"]
    """What is drawn in each cell, at the model's size, in [−1, 1], −1 the paper."""
    unknown: Bool[Tensor, "1 cell"]
    """The cells to be solved."""


class Solution(NamedTuple):
    """A puzzle solved."""

    cells: Float[Tensor, "1 cell channel"]
    """What is drawn in each cell, at the model's size."""
    certainty: Float[Tensor, " cell"]
    """Of each cell, when it was begun: 1 − expected squared error over the data's mean square, 0 to 1; NaN where given."""
    order: Int[Tensor, " cell"]
    """When each cell was begun, from 1; cells begun together share a number, given ones have 0."""


def side_of(model: SRM, name: str = "model") -> int:
    """Cells in a row of the model's puzzles. Raises InputError for a model of anything but Sudokus."""
    side, channels = isqrt(len(model.places)), model.config["channels"]
    if side not in (4, 9) or side**2 != len(model.places) or isqrt(channels) ** 2 != channels:
        raise InputError(
            f"{name}: was trained on {len(model.places)} variables of {channels} numbers, not on a Sudoku; use sudoku4 or sudoku9"
        )
    return side


def contradictions(grid: Int[Tensor, " cell"]) -> list[tuple[int, int]]:
    """Row and column, from 1, of every cell whose digit stands a second time in its row, column or box; 0 is no digit."""
    side = isqrt(len(grid))
    return [(int(cell) // side + 1, int(cell) % side + 1) for cell in conflicts(grid[None])[0].nonzero()[:, 0]]


def outside(grid: Int[Tensor, " cell"]) -> list[tuple[int, int]]:
    """Row and column, from 1, of every cell whose digit is larger than the side of the grid."""
    side = isqrt(len(grid))
    return [(int(cell) // side + 1, int(cell) % side + 1) for cell in (grid > side).nonzero()[:, 0]]


def given_digits(puzzle: Puzzle, read: Read, name: str) -> Int[Tensor, " cell"]:
    """The digits that are given, 0 elsewhere. Raises InputError where one is too large or two exclude each other: which."""
    grid = torch.where(puzzle.unknown, 0, read(puzzle.cells))[0]
    for problem, cells in (
        ("show what is no digit of this grid", outside(grid)),
        ("contradict each other", contradictions(grid)),
    ):
        if cells:
            shown = ", ".join(f"row {r} column {c} ({int(grid[(r - 1) * isqrt(len(grid)) + c - 1])})" for r, c in cells)
            raise InputError(
                f"{name}: given cells {problem}: {shown}; mend the puzzle, or give --reader none if they were misread"
            )
    return grid


def puzzle_of(
    image: Float[Tensor, "height width"],
    mask: Float[Tensor, "rows columns"],
    model: SRM,
    name: str = "image",
    mask_name: str = "mask",
) -> Puzzle:
    """The puzzle in an image and its mask, grey values in [0, 1], with its own paper and ink.

    Raises InputError where the two differ in size, where cells are no whole pixels, smaller than the model's or half masked,
    where none is to be solved, and where a given one is empty.
    """
    side, pixels = side_of(model, name), isqrt(model.config["channels"])
    if image.shape != mask.shape:
        raise InputError(f"{name}: is {size(image)} pixels, its mask {size(mask)}; both must have one size")
    height, width = image.shape
    if height != width or width % side or width // side < pixels:
        raise InputError(
            f"{name}: is {size(image)} pixels; this model needs a square of {side} × {side} cells of {pixels} pixels or more "
            f"({side * 28} × {side * 28}, for example)"
        )
    shares = cut((mask[None] > 0.5).float(), width // side)[0].mean(1)
    mixed = (shares > 0.1) & (shares < 0.9)
    if mixed.any():
        cell = int(mixed.nonzero()[0])
        raise InputError(
            f"{mask_name}: {place(cell, side)} is {float(shares[cell]):.0%} white; make every cell all white (to be solved) "
            f"or all black (given), and name the --model for the grid: this one has {side} × {side} cells"
        )
    unknown = shares > 0.5
    if not unknown.any():
        raise InputError(f"{mask_name}: is all black, so every cell is given; paint white what is to be solved")
    paper, ink = tones(image, mask)
    cells = shrink(cut(2 * ((image[None] - paper) / (ink - paper)).clamp(0, 1) - 1, width // side), pixels)
    blank = ~unknown & (cells[0].amax(1) < BLANK)
    if blank.any():
        cell = int(blank.nonzero()[0])
        raise InputError(f"{name}: {place(cell, side)} is given and empty; paint it white in {mask_name}")
    return Puzzle(cells, unknown[None])


def place(cell: int, side: int) -> str:
    """Row and column of a cell, from 1."""
    return f"row {cell // side + 1} column {cell % side + 1}"


def size(image: Tensor) -> str:
    """Width × height."""
    return f"{image.shape[1]} × {image.shape[0]}"


def tones(image: Float[Tensor, "height width"], mask: Float[Tensor, "height width"]) -> tuple[float, float]:
    """Grey of the paper, the median of what is given, and of the ink, which is farthest from it.

    Where nothing is given, or nothing but paper, the paper is the median of all, and ink is white on black or black on white.
    """
    given = image[mask <= 0.5]
    paper = float((given if len(given) else image).median())
    ink = float(given[(given - paper).abs().argmax()]) if len(given) else paper
    return paper, ink if abs(ink - paper) > FAINT else float(paper < 0.5)


def begun(steps: Iterable[Step], puzzle: Puzzle, power: float) -> Iterator[tuple[Step, Solution]]:
    """Each step of a walk with the solution as it stands after it; that of the last one is complete."""
    order = torch.zeros(len(puzzle.unknown[0]), dtype=torch.long)
    certainty = torch.full((len(order),), torch.nan)
    for step in steps:
        moving = (step.t[0, :, 0] < 1) & puzzle.unknown[0] & (order == 0)
        order[moving] = int(order.max()) + 1
        doubt = step.prediction.log_var
        if doubt is not None:
            certainty[moving] = (1 - doubt[0, moving, 0].exp() / power).clamp(0, 1).float()
        yield step, Solution(step.z, certainty.clone(), order.clone())


def refined(
    model: SRM, puzzle: Puzzle, answer: Solution, rounds: int, way: Way | None, generator: torch.Generator | None
) -> Solution:
    """The solution after a number of rounds of `refine`; order and certainty stay those of the first time."""
    for cells in refine(model, answer.cells, puzzle.unknown, rounds, way=way, generator=generator):
        answer = answer._replace(cells=cells)
    return answer


def drawn(
    solution: Solution, puzzle: Puzzle, image: Float[Tensor, "height width"], mask: Float[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """The solved image in [0, 1] at the size of the puzzle's: given cells keep their pixels, others have its paper and ink."""
    side = isqrt(puzzle.cells.shape[1])
    pixels, (paper, ink) = image.shape[0] // side, tones(image, mask)
    cells = paper + (ink - paper) * ((enlarge(solution.cells, pixels) + 1) / 2).clamp(0, 1)
    unknown = puzzle.unknown[..., None].expand_as(cells).float()
    both = join(torch.cat([cells, unknown]), (side * pixels, side * pixels), pixels)
    return torch.where(both[1] > 0.5, both[0], image)
