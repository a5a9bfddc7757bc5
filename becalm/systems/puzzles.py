"""Puzzles as pictures: an image and a mask in, the solved image out, with how sure each cell was and when it was settled.

Cells are square and row-major. In the mask white is to be solved and black is given; given cells come back pixel for pixel.
"""

from collections.abc import Callable, Iterator
from math import isqrt
from typing import NamedTuple

import torch

from becalm.core.files import InputError
from becalm.core.sample import Step
from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.grid import cut, enlarge, join, shrink
from becalm.images.sudoku import conflicts
from becalm.systems.srm import SRM, Way, refine

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


def given_digits(puzzle: Puzzle, read: Read, name: str) -> Int[Tensor, " cell"]:
    """The digits that are given, 0 elsewhere. Raises InputError where two of them exclude each other, and says which."""
    grid = torch.where(puzzle.unknown, 0, read(puzzle.cells))[0]
    wrong = contradictions(grid)
    if wrong:
        side = isqrt(len(grid))
        shown = ", ".join(f"row {r} column {c} ({int(grid[(r - 1) * side + c - 1])})" for r, c in wrong[:4])
        raise InputError(
            f"{name}: given cells contradict each other: {shown}; mend the puzzle, or give --reader none if they were misread"
        )
    return grid


def puzzle_of(
    image: Float[Tensor, "height width"], mask: Float[Tensor, "rows columns"], model: SRM, name: str = "image"
) -> Puzzle:
    """The puzzle in an image and its mask, grey values in [0, 1]; dark digits on light paper are turned round.

    Raises InputError where the two differ in size, cells are no whole pixels, smaller than the model's or half masked.
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
    mixed = ((shares > 0.1) & (shares < 0.9)).nonzero()
    if len(mixed):
        row, column = divmod(int(mixed[0]), side)
        raise InputError(
            f"{name}: mask: the cell in row {row + 1}, column {column + 1} is {float(shares[mixed[0, 0]]):.0%} white; "
            "make every cell all white (to be solved) or all black (given)"
        )
    ink = 1 - image if inverted(image, mask) else image
    return Puzzle(shrink(cut(2 * ink[None] - 1, width // side), pixels), (shares > 0.5)[None])


def size(image: Tensor) -> str:
    """Width × height."""
    return f"{image.shape[1]} × {image.shape[0]}"


def inverted(image: Tensor, mask: Tensor) -> bool:
    """Whether what is given is drawn dark on light."""
    given = image[mask <= 0.5]
    return bool(len(given)) and float(given.median()) > 0.5


def begun(steps: Iterator[Step], puzzle: Puzzle, power: float) -> Iterator[Solution]:
    """The solution as it stands after each step of a walk, the last one being complete."""
    order = torch.zeros(len(puzzle.unknown[0]), dtype=torch.long)
    certainty = torch.full((len(order),), torch.nan)
    for step in steps:
        moving = (step.t[0, :, 0] < 1) & puzzle.unknown[0] & (order == 0)
        order[moving] = int(order.max()) + 1
        told = step.prediction.log_var
        if told is not None:
            certainty[moving] = (1 - told[0, moving, 0].exp() / power).clamp(0, 1).float()
        yield Solution(step.z, certainty.clone(), order.clone())


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
    """The solved image in [0, 1] at the size of the puzzle's; given cells keep their pixels, and its paper its colour."""
    side, pixels = isqrt(puzzle.cells.shape[1]), image.shape[0] // isqrt(puzzle.cells.shape[1])
    ink = (join(enlarge(solution.cells, pixels), (side * pixels, side * pixels), pixels)[0] + 1) / 2
    ink = (1 - ink if inverted(image, mask) else ink).clamp(0, 1)
    unknown = join(puzzle.unknown[..., None].expand(-1, -1, pixels**2).float(), (side * pixels, side * pixels), pixels)[
        0
    ]
    return torch.where(unknown > 0.5, ink, image)
