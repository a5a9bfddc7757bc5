"""Exact search over Sudokus, by which puzzles are checked and their given cells are read: never by which they are solved."""

from heapq import heappop, heappush
from itertools import count
from math import isqrt

import numpy as np

from becalm.core.typing import Float
from becalm.images.sudoku import conflicts, places

MIN_PROBABILITY = 0.005
"""Least probability at which a digit is a possible reading of a cell."""

MAX_READINGS = 400
"""Readings that are looked at before the search for a consistent one is given up."""

READING_BUDGET = 3000
"""Nodes of the search for a solution to a reading; a reading for which they do not suffice counts as having one."""


def find_solutions(grid: list[int], most: int = 1, budget: int = 50_000) -> tuple[list[list[int]], bool]:
    """Up to `most` solutions of a grid of side 4 or 9, row-major, 0 for empty; and whether the search came to its end.

    Backtracking, the cell with fewest digits left first; `budget` nodes at most. With `most` 2 it tells whether a solution is
    unique.
    """
    side = isqrt(len(grid))
    where, full = places(side).tolist(), (1 << side) - 1
    rows, columns, boxes = [full] * side, [full] * side, [full] * side  # digits left in each, as bits
    grid, found, nodes = list(grid), [], count(1)
    for cell, (r, c, b) in enumerate(where):
        if grid[cell]:
            bit = 1 << (grid[cell] - 1)
            if not rows[r] & columns[c] & boxes[b] & bit:
                return [], True
            rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit

    def search(empty: list[int]) -> bool:
        # whether to go on; a loop over cells, since search is sequential by nature
        if not empty:
            found.append(list(grid))
            return len(found) < most
        if next(nodes) > budget:
            return False
        left = [(rows[r] & columns[c] & boxes[b]).bit_count() for r, c, b in (where[cell] for cell in empty)]
        best = empty[left.index(min(left))]
        r, c, b = where[best]
        rest, digits = [cell for cell in empty if cell != best], rows[r] & columns[c] & boxes[b]
        while digits:
            bit = digits & -digits
            digits, grid[best] = digits ^ bit, bit.bit_length()
            rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit
            going = search(rest)
            rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit
            if not going:
                return False
        return True

    complete = search([cell for cell, digit in enumerate(grid) if not digit])
    return found, complete or len(found) >= most


def read_together(probability: Float[np.ndarray, "cell digit"], given: list[int]) -> list[int] | None:
    """The likeliest digits of given cells that break no rule and have a solution, row-major, 0 elsewhere; None where none do.

    `probability` [cell, digit] is of the digits from 1; those below MIN_PROBABILITY are no readings. Exact: readings are looked
    at from the likeliest on, and one that fails is replaced by the likeliest of each part of the others (Murty 1968).
    """
    cost = -np.log(probability[given].clip(1e-12))
    allowed = probability[given] >= MIN_PROBABILITY
    turn, heap = count(), []

    def push(allowed: np.ndarray) -> None:
        if allowed.any(1).all():
            heappush(heap, (float(np.where(allowed, cost, np.inf).min(1).sum()), next(turn), allowed))

    push(allowed)
    for _ in range(MAX_READINGS):
        if not heap:
            return None
        allowed = heappop(heap)[2]
        digits = np.where(allowed, cost, np.inf).argmin(1)
        grid = [0] * len(probability)
        for cell, digit in zip(given, digits, strict=True):
            grid[cell] = int(digit) + 1
        suspects = clashing_pair(grid, given)
        if not suspects and solvable(grid):
            return grid
        for part in parts_without(allowed, digits, suspects or range(len(given))):
            push(part)
    return None


def clashing_pair(grid: list[int], given: list[int]) -> list[int]:
    """Indices into `given` of two cells that exclude each other; empty where there are none."""
    import torch

    wrong = conflicts(torch.tensor([grid]))[0]
    if not wrong.any():
        return []
    side, where = isqrt(len(grid)), places(isqrt(len(grid)))
    first = int(wrong.nonzero()[0])
    peers = [c for c in range(side**2) if c != first and grid[c] == grid[first] and (where[c] == where[first]).any()]
    return [given.index(first), given.index(peers[0])]


def solvable(grid: list[int]) -> bool:
    """Whether a grid has a solution, as far as READING_BUDGET nodes tell."""
    found, complete = find_solutions(grid, 1, READING_BUDGET)
    return bool(found) or not complete


def parts_without(allowed: np.ndarray, digits: np.ndarray, suspects: list[int] | range):
    """Disjoint sets of readings that cover all but those in which every suspect shows its digit: the i-th suspect shows another
    one, those before it theirs."""
    fixed = allowed.copy()
    for suspect in suspects:
        part = fixed.copy()
        part[suspect, digits[suspect]] = False
        yield part
        fixed[suspect] = False
        fixed[suspect, digits[suspect]] = True
