"""Exact search: all solutions of small grids against their enumeration, uniqueness, budgets, readings against brute force."""

from itertools import product

import numpy as np
import pytest
import torch

from becalm.images import sudoku
from becalm.images.sudoku_search import MIN_PROBABILITY, find_solutions, read_together

SEVENTEEN = "000000012500008000000700000600120000700000450000030000030000800000500700020000000"


@pytest.mark.parametrize("given", [0, 3, 6])
def test_all_solutions_of_small_grids_are_found(given):
    grid = torch.zeros(16, dtype=torch.long)
    grid[:given] = sudoku.all_small_grids()[100][:given]
    pool = sudoku.all_small_grids()
    expected = pool[((pool == grid) | (grid == 0)).all(1)].tolist()
    found, complete = find_solutions(grid.tolist(), 500)
    assert complete and sorted(found) == sorted(expected)


def test_seventeen_given_cells_can_have_one_solution_and_sixteen_of_them_have_more():
    grid = [int(digit) for digit in SEVENTEEN]
    found, complete = find_solutions(grid, 2)
    assert complete and len(found) == 1 and bool(sudoku.is_valid(torch.tensor(found)).all())
    grid[7] = 0
    assert len(find_solutions(grid, 2)[0]) == 2


def test_contradictions_and_small_budgets_are_told_apart():
    assert find_solutions([1, 1] + 14 * [0]) == ([], True)
    assert find_solutions([0] * 81, 1, budget=5) == ([], False)


def test_readings_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    pool, given = sudoku.all_small_grids().numpy(), [0, 1, 4, 7, 9]
    for _ in range(6):
        probability = rng.dirichlet(np.ones(4) * 0.5, size=16)
        best, likeliest = None, 0.0
        solvable = {tuple(row) for row in pool[:, given]}
        for digits in product(range(1, 5), repeat=5):
            chance = [probability[cell, digit - 1] for cell, digit in zip(given, digits, strict=True)]
            if min(chance) >= MIN_PROBABILITY and digits in solvable and np.prod(chance) > likeliest:
                best, likeliest = digits, np.prod(chance)
        found = read_together(probability, given)
        assert (None if found is None else tuple(found[cell] for cell in given)) == best
