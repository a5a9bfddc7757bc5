"""The given cells of a puzzle: read together by the digit classifier's probabilities and the rules, and rewritten for the model.

What is doubtful is named. A model that has learned from clear digits solves few puzzles in other hands; so it is shown every
given digit as it writes it itself.
"""

from math import ceil, isqrt
from typing import NamedTuple

import torch

from becalm.core.files import InputError
from becalm.core.typing import Float, Int, Tensor
from becalm.images.sudoku_search import MIN_PROBABILITY, read_together
from becalm.systems.consistency import ReadProbabilities
from becalm.systems.puzzles import Puzzle, cell_name, repeated_digits
from becalm.systems.solver import Pace
from becalm.systems.srm import SRM, last_state

SURE = 0.9
"""Probability from which a digit is not doubtful."""

HANDWRITTEN = 300
"""Cells that a model writes, at least, to show its handwriting."""


class Givens(NamedTuple):
    """What is read in the given cells."""

    digits: Int[Tensor, " cell"]
    """The digit of every given cell, 0 elsewhere."""
    misread: list[int]
    """Given cells that the classifier alone reads otherwise."""
    notes: tuple[str, ...]
    """A sentence for every doubtful cell."""


def read_givens(
    puzzle: Puzzle, chance: Float[Tensor, "cell 9"], name: str, known: dict[tuple[int, int], int] | None = None
) -> Givens:
    """The likeliest digits of the given cells that contradict nothing and have a solution (`images.sudoku_search`).

    `chance` are the probabilities of the digits 1 to 9 in each cell; `known` are digits by row and column, from 1, that override
    them. Raises InputError where a cell shows no digit of the grid, and where no reading is consistent.
    """
    side = isqrt(puzzle.cells.shape[1])
    given = (~puzzle.unknown[0]).nonzero()[:, 0].tolist()
    seen = chance.argmax(1) + 1
    chance = override_digits(chance.double().cpu(), given, known or {}, side)
    strange = [cell for cell in given if float(chance[cell, :side].max()) < MIN_PROBABILITY]
    if strange:
        raise InputError(refusal(name, "show what is no digit of this grid", strange, chance.argmax(1) + 1, side))
    grid = read_together(chance[:, :side].numpy(), given)
    alone = torch.zeros(side**2, dtype=torch.long)
    alone[given] = chance[given, :side].argmax(1) + 1
    if grid is None:
        cells = [(row - 1) * side + column - 1 for row, column in repeated_digits(alone)]
        problem = "contradict each other" if cells else "have no solution together"
        raise InputError(refusal(name, problem, cells or given, alone, side))
    digits = torch.tensor(grid)
    return Givens(digits, [c for c in given if digits[c] != seen[c]], tuple(notes(digits, alone, chance, given)))


class Handwriting(NamedTuple):
    """Cells as a model writes them."""

    cells: Float[Tensor, "cell channel"]
    """Their images."""
    digits: Int[Tensor, " cell"]
    """What they show, 0 where that is doubtful."""


def sample_handwriting(
    model: SRM, read: ReadProbabilities, generator: torch.Generator | None = None, steps: int = 24
) -> Handwriting:
    """Digits that the model writes with nothing given, all cells of a few grids at once; these need not be valid ones."""
    variables = 0 if model.places is None else len(model.places)
    device, grids = next(model.parameters()).device, ceil(HANDWRITTEN / max(variables, 1))
    blank, unknown = torch.zeros(grids, variables, model.channels), torch.ones(grids, variables, dtype=torch.bool)
    sampler = Pace(joint_steps=steps).sampler("together", grids, variables, 0)
    cells = last_state(model.solve(blank.to(device), unknown.to(device), sampler, generator), blank).cpu()
    chance, digit = read(cells).flatten(0, 1).max(1)
    return Handwriting(cells.flatten(0, 1), torch.where(chance >= SURE, digit + 1, 0))


def rewrite_givens(
    puzzle: Puzzle, givens: Givens, hand: Handwriting, generator: torch.Generator | None = None
) -> Puzzle:
    """The puzzle with every given digit as the model writes it, each by a random one of its cells of that digit.

    A digit that it did not write stays as it is, or, where it is misread, is shown by another given cell of its kind.
    """
    cells = puzzle.cells.clone()
    given = (givens.digits > 0).nonzero()[:, 0].tolist()
    for cell in given:
        written = (hand.digits == givens.digits[cell]).nonzero()[:, 0]
        same = [c for c in given if givens.digits[c] == givens.digits[cell] and c not in givens.misread]
        if len(written):
            cells[0, cell] = hand.cells[written[torch.randint(len(written), (1,), generator=generator)]][0].to(cells)
        elif cell in givens.misread and same:
            cells[0, cell] = puzzle.cells[0, same[0]]
    return puzzle._replace(cells=cells)


def override_digits(chance: Tensor, given: list[int], known: dict[tuple[int, int], int], side: int) -> Tensor:
    """The probabilities with those of known cells replaced by certainty. Raises InputError for a cell that is not given."""
    chance = chance.clone()
    for (row, column), digit in known.items():
        if not (1 <= row <= side and 1 <= column <= side and 1 <= digit <= side):
            raise InputError(f"--digits {row},{column}={digit}: row, column and digit must be from 1 to {side}")
        cell = (row - 1) * side + column - 1
        if cell not in given:
            raise InputError(
                f"--digits {row},{column}={digit}: this cell is to be solved; only given ones can be named"
            )
        chance[cell] = torch.arange(chance.shape[1]) == digit - 1
    return chance


def notes(digits: Tensor, alone: Tensor, chance: Tensor, given: list[int]):
    """A sentence for every given cell whose digit is not the likeliest one, or not likely enough to be sure of."""
    side = isqrt(len(digits))
    for cell in given:
        digit, sure = int(digits[cell]), float(chance[cell, int(digits[cell]) - 1])
        other, place = int(alone[cell]), f"{cell // side + 1},{cell % side + 1}"
        if digit != other:
            yield (
                f"{cell_name(cell, side)}: read as {digit} (probability {sure:.2f}), since {other} "
                f"({float(chance[cell, other - 1]):.2f}) contradicts other cells; --digits {place}=DIGIT overrides it"
            )
        elif sure < SURE:
            yield f"{cell_name(cell, side)}: read as {digit}, probability {sure:.2f}; --digits {place}=DIGIT overrides it"


def refusal(name: str, problem: str, cells: list[int], digits: Tensor, side: int) -> str:
    """The message that no reading of the given cells is consistent."""
    where = ", ".join(f"{cell_name(cell, side)} ({int(digits[cell])})" for cell in cells)
    return (
        f"{name}: given cells {problem}: {where}; mend the puzzle, give what a cell shows with --digits ROW,COLUMN=DIGIT, "
        "or give --reader none"
    )
