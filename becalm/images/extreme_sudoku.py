"""Sudokus with 17 given cells and one solution, the fewest there can be, in random symmetric images."""

import torch

from becalm.images.digits import Digits
from becalm.images.sudoku import Puzzles, permute_grids, sample_cells
from becalm.images.sudoku_search import find_solutions

SEVENTEEN = [
    "000000010400000000020000000000050407008000300001090000300400200050100000000806000",
    "000000010400000000020000000000050604008000300001090000300400200050100000000807000",
    "000000012000035000000600070700000300000400800100000000000120000080000040050000600",
    "000000012003600000000007000410020000000500300700000600280000040000300500000000000",
    "000000012008030000000000040120500000000004700060000000507000300000620000000100000",
    "000000012040050000000009000070600400000100000000000050000087500601000300200000000",
    "000000012050400000000000030700600400001000000000080000920000800000510700000003000",
    "000000012400090000000000050070200000600000400000108000018000000000030700502000000",
    "000000012500008000000700000600120000700000450000030000030000800000500700020000000",
    "000000012700060000000000050080200000600000400000109000019000000000030800502000000",
    "000000012800040000000000060090200000700000400000501000015000000000030900602000000",
    "000000012980000000000600000100700080402000000000300600070000300050040000000010000",
]
"""Known puzzles of 17 given cells, row-major, 0 for empty; that each has one solution is tested."""


def sample_extreme_puzzles(count: int, digits: Digits, seed: int) -> Puzzles:
    """Random symmetric images of the puzzles of SEVENTEEN, each digit an image from the pool; a function of its arguments alone.

    They are relabelled, their rows and columns permuted within and as threes, and transposed; all have one solution.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(SEVENTEEN), (count,), generator=generator).tolist()
    puzzles = {k: [int(digit) for digit in SEVENTEEN[k]] for k in set(chosen)}
    solved = {k: find_solutions(puzzle)[0][0] for k, puzzle in puzzles.items()}
    solutions, given = torch.tensor([solved[k] for k in chosen]), torch.tensor([puzzles[k] for k in chosen])
    # two generators of one seed: a puzzle goes through the symmetry that its solution goes through
    grids, puzzle = (permute_grids(part, torch.Generator().manual_seed(seed + 1)) for part in (solutions, given))
    return Puzzles(grids, sample_cells(grids, digits, generator), puzzle > 0)
