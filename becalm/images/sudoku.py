"""Sudokus of handwritten digits, 4×4 and 9×9: grids with a split by grid, masks, pictures, and what makes a grid right.

A grid is a row of side² digits from 1 to side, row-major; 0 stands for an unknown cell.
"""

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from math import isqrt
from typing import Literal

import torch

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.digits import Digits

GIVEN = {"easy": (54, 80), "medium": (27, 53), "hard": (0, 26)}
"""Fewest and most given cells of a 9×9 puzzle of each difficulty (Wewer et al., ICML 2025, arXiv 2502.21075)."""
SMALL_TEST = 56
"""How many of the 288 grids of side 4 are held out."""
TEST_IN = 10
"""One in so many of the classes of 9×9 grids is held out."""

Part = Literal["train", "test"]


@dataclass(frozen=True)
class Puzzles:
    """Solved grids as images of digits, and which of their cells are given."""

    grids: Int[Tensor, "batch cell"]
    """The digits of the solution the givens were taken from; where few are given there are others."""
    cells: Float[Tensor, "batch cell channel"]
    """The images of the solution, h·h numbers a cell in [−1, 1], −1 the paper."""
    given: Bool[Tensor, "batch cell"]
    """True where the cell is given."""


def sample_puzzles(side: int, count: int, given: tuple[int, int], digits: Digits, part: Part, seed: int) -> Puzzles:
    """Random puzzles, a function of these arguments alone, so that every sampler gets the same ones.

    `given` is the fewest and the most given cells. Every 9×9 grid is filled afresh, so no two are symmetric images of
    each other by construction. Raises ValueError as `sample_grids`, `sample_masks` and `Digits.sample_images` do.
    """
    generator = torch.Generator().manual_seed(seed)
    grids = sample_grids(side, count, part, generator, images=1)
    return Puzzles(grids, sample_cells(grids, digits, generator), sample_masks(side, count, *given, generator))


def sample_cells(
    grids: Int[Tensor, "batch cell"], digits: Digits, generator: torch.Generator
) -> Float[Tensor, "batch cell channel"]:
    """An image of its digit for every cell of grids, each drawn independently from the pool; values in [−1, 1]."""
    return digits.sample_images(grids, generator).flatten(2) * 2 - 1


def sample_masks(
    side: int, count: int, fewest: int, most: int, generator: torch.Generator
) -> Bool[Tensor, "batch cell"]:
    """Random sets of given cells: their number uniform from `fewest` to `most`, both possible, then cells uniformly.

    Raises ValueError where the range is empty or leaves the grid.
    """
    if not 0 <= fewest <= most <= side * side:
        raise ValueError(f"given: {fewest} to {most} cells is no range within 0 to {side * side}")
    number = torch.randint(fewest, most + 1, (count, 1), generator=generator)
    rank = torch.rand(count, side * side, generator=generator, dtype=torch.float64).argsort(1).argsort(1)
    return rank < number


def places(side: int) -> Int[Tensor, "cell 3"]:
    """Row, column and box of every cell, each from 0 to side − 1."""
    box = _box(side)
    cell = torch.arange(side * side)
    row, column = cell // side, cell % side
    return torch.stack([row, column, row // box * box + column // box], 1)


def houses(side: int) -> Bool[Tensor, "house cell"]:
    """Which cells make up every row, column and box, in this order: 3·side houses of side cells."""
    inside = places(side).T[:, None, :] == torch.arange(side)[None, :, None]
    return inside.reshape(3 * side, side * side)


def peers(side: int) -> Bool[Tensor, "cell cell"]:
    """Which cells share a row, a column or a box, themselves excluded: the graph of dependence."""
    where = places(side)
    shared = (where[:, None] == where[None]).any(-1)
    return shared & ~torch.eye(side * side, dtype=torch.bool)


def distance(grids: Int[Tensor, "batch cell"]) -> Int[Tensor, "batch"]:
    """Σ over rows, columns and boxes and over digits of |how often the digit is there − 1|: 0 where the grid is valid.

    Anything that is not a digit of the side counts as no digit at all.
    """
    side = _side(grids)
    one_hot = (grids[:, :, None] == torch.arange(1, side + 1, device=grids.device)).double()
    counts = torch.einsum("hc,bcd->bhd", houses(side).double().to(grids.device), one_hot)
    return (counts - 1).abs().sum((1, 2)).round().long()


def is_valid(grids: Int[Tensor, "batch cell"]) -> Bool[Tensor, "batch"]:
    """Whether every row, column and box holds every digit once."""
    return distance(grids) == 0


def conflicts(grids: Int[Tensor, "batch cell"]) -> Bool[Tensor, "batch cell"]:
    """Cells whose digit stands a second time in their row, column or box; 0 conflicts with nothing."""
    same = (grids[:, :, None] == grids[:, None, :]) & (grids[:, :, None] > 0)
    return (same & peers(_side(grids)).to(grids.device)).any(2)


@cache
def all_small_grids() -> Int[Tensor, "288 16"]:
    """All grids of side 4, in lexicographic order; made once, to be read only."""
    rows = list(permutations(range(1, 5)))
    # a top and a bottom half whose boxes hold, then those pairs of them whose columns do
    halves = [a + b for a, b in product(rows, rows) if not set(a[:2]) & set(b[:2]) and not set(a[2:]) & set(b[2:])]
    everything = torch.tensor([top + bottom for top, bottom in product(halves, halves)])
    return everything[is_valid(everything)]


def sample_grids(
    side: int, count: int, part: Part, generator: torch.Generator, images: int = 64
) -> Int[Tensor, "count cell"]:
    """Random valid grids of one part of the split, each at random; side 4 draws from the enumeration.

    For side 9, one grid in `images` is filled by search and the others are its symmetric images (relabelled, rows and
    columns permuted within and as threes, transposed): much faster, and with 1.2·10¹² images to choose from they hardly
    ever repeat. Raises ValueError for other sides.
    """
    _box(side)
    if side == 4:
        pool = all_small_grids()
        pool = pool[held_out(pool) == (part == "test")]
        return pool[torch.randint(len(pool), (count,), generator=generator)]
    needed, found = -(-count // images), torch.zeros(0, 81, dtype=torch.long)
    while len(found) < needed:
        grids = fill_grids(max(8, needed - len(found)), generator)
        found = torch.cat([found, grids[held_out(grids) == (part == "test")]])
    return permute_grids(found[:needed].repeat(images, 1)[:count], generator)


def held_out(grids: Int[Tensor, "batch cell"]) -> Bool[Tensor, "batch"]:
    """Whether valid grids belong to the test part: a pure function of the grid.

    Side 9: a hash of what no symmetry changes, so that all symmetric images of a grid fall on the same side and no
    test grid is a training grid in disguise. Seen as permutations P_d from rows to columns, each two digits give the
    permutation P_e⁻¹ P_d of the rows; the multiset of the 36 cycle types survives every permutation of rows, columns
    and digits, and transposition. Side 4 has but two classes up to symmetry, so there the split is by grid: a fixed
    scatter of 56 over the enumeration.
    """
    if _side(grids) == 4:
        weights = 5 ** torch.arange(15, -1, -1)
        index = torch.searchsorted((all_small_grids() * weights).sum(1), (grids.cpu() * weights).sum(1)).to(
            grids.device
        )
        return index * 61 % 288 < SMALL_TEST
    return fingerprint(grids) % TEST_IN == 0


def fingerprint(grids: Int[Tensor, "batch 81"]) -> Int[Tensor, "batch"]:
    """A number of valid 9×9 grids that is the same for all symmetric images of a grid; see `held_out`.

    The cycle type of a permutation σ of 9 rows without fixed points follows from how many rows σ², σ³ and σ⁴ fix.
    """
    square = grids.reshape(-1, 9, 9)
    columns, rows = square.argsort(2).transpose(1, 2), square.argsort(1)
    one, other = torch.triu_indices(9, 9, 1, device=grids.device)
    once = rows[:, other].gather(2, columns[:, one])
    power, key = once, torch.zeros_like(once[..., 0])
    for _ in range(3):
        power = once.gather(2, power)
        key = key * 10 + (power == torch.arange(9, device=grids.device)).sum(2)
    # any function of the key that keeps the eight types' sums apart will do; this one is a small polynomial hash
    return ((key * key * 7919 + key * 104729 + 12289) % 1000003).sum(1) % 999983


def permute_grids(grids: Int[Tensor, "batch 81"], generator: torch.Generator) -> Int[Tensor, "batch 81"]:
    """A random symmetric image of every 9×9 grid: uniform over the 2·6⁸·9! symmetries; unknown cells, 0, stay unknown."""
    batch = len(grids)
    rows, columns = _thirds(batch, generator), _thirds(batch, generator)
    source = rows[:, :, None] * 9 + columns[:, None, :]
    flip = torch.rand(batch, 1, 1, generator=generator) < 0.5
    source = torch.where(flip, source.transpose(1, 2), source)
    digits = torch.rand(batch, 9, generator=generator).argsort(1) + 1
    return torch.nn.functional.pad(digits, (1, 0)).gather(1, grids.gather(1, source.flatten(1)))


def fill_grids(count: int, generator: torch.Generator) -> Int[Tensor, "count 81"]:
    """Random valid 9×9 grids by backtracking: the cell with fewest digits left first, its digits in random order."""
    order = torch.rand(count, 81, 9, generator=generator).argsort(2).tolist()
    return torch.tensor([_fill(one) for one in order])


def _fill(order: list[list[int]]) -> list[int]:
    # search is sequential by nature; the plain loop over cells is why `sample_grids` fills few grids and permutes them
    where = places(9).tolist()
    grid, rows, columns, boxes = [0] * 81, [511] * 9, [511] * 9, [511] * 9

    def search(empty: list[int]) -> bool:
        if not empty:
            return True
        fewest = 10
        for cell in empty:
            r, c, b = where[cell]
            left = (rows[r] & columns[c] & boxes[b]).bit_count()
            if left < fewest:
                best, fewest = cell, left
                if left <= 1:
                    break
        r, c, b = where[best]
        free = rows[r] & columns[c] & boxes[b]
        rest = [cell for cell in empty if cell != best]
        for digit in order[best]:
            bit = 1 << digit
            if free & bit:
                rows[r], columns[c], boxes[b], grid[best] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit, digit + 1
                if search(rest):
                    return True
                rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit
        return False

    search(list(range(81)))
    return grid


def _thirds(batch: int, generator: torch.Generator) -> Tensor:
    # a permutation of nine lines [batch, 9] that keeps the threes together
    threes = torch.rand(batch, 3, generator=generator).argsort(1)
    lines = torch.rand(batch, 3, 3, generator=generator).argsort(2)
    return (threes[:, :, None] * 3 + lines).flatten(1)


def _side(grids: Tensor) -> int:
    side = isqrt(grids.shape[1])
    if side * side != grids.shape[1]:
        raise ValueError(f"grid: {grids.shape[1]} cells make no square")
    _box(side)
    return side


def _box(side: int) -> int:
    if side not in (4, 9):
        raise ValueError(f"side: {side}; there are Sudokus of side 4 and 9 here")
    return isqrt(side)
