"""A evaluate_walks: paired, counted, and with a judge that is judged."""

import pytest
import torch

from becalm.core.files import InputError
from becalm.evaluation.sudoku import WALKS, evaluate_walks, sample_levels, solve_as_user, wilson_interval
from becalm.images import sudoku
from becalm.images.digits import Digits, read_mnist
from becalm.images.extreme_sudoku import SEVENTEEN
from becalm.images.sudoku import Puzzles
from becalm.images.sudoku_search import find_solutions
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems.givens import sample_handwriting
from becalm.systems.puzzles import Puzzle
from becalm.systems.search import Effort
from becalm.systems.solver import Pace
from becalm.systems.srm import SRM
from becalm.weights.store import load


def puzzles(given: int) -> Puzzles:
    generator = torch.Generator().manual_seed(0)
    grids = sudoku.sample_grids(4, 6, "test", generator)
    return Puzzles(
        grids, torch.nn.functional.one_hot(grids - 1, 4).float(), sudoku.sample_masks(4, 6, given, given, generator)
    )


class Reader(DigitClassifier):
    """Reads the digit whose number is largest."""

    def __init__(self):
        super().__init__(2, 4)

    def read(self, cells):
        return cells.argmax(-1) + 1

    def probabilities(self, cells):
        one_hot = torch.nn.functional.one_hot(cells.argmax(-1), 9).float()
        return 0.999 * one_hot + 0.001 / 9


class BlindReader(Reader):
    """Reads 1 everywhere."""

    def read(self, cells):
        return torch.ones(cells.shape[:2]).long()


def model() -> SRM:
    torch.manual_seed(0)
    return SRM.build(channels=4, places=sudoku.places(4).tolist(), shape=[32, 4, 1, 1, 2])


def test_rows_of_all_walks_on_the_same_puzzles():
    walks, levels = WALKS[:-1], {"eight": puzzles(8), "all": puzzles(16)}
    rows = list(evaluate_walks(model(), levels, Reader(), walks, Pace(3), Effort(refine=1), batch=4))
    assert [(row.puzzles, row.walk) for row in rows] == [(k, w) for k in ("eight", "all") for w in walks]
    calls = {(row.puzzles, row.walk): row.calls for row in rows}
    assert calls["eight", "certainty"] == calls["eight", "random"] == 8 * 3
    assert calls["eight", "together"] == 16 * 3
    assert calls["eight", "refine"] == 8 * 3 + 4 + 2 * 3, "a round: four looks, then a quarter of eight cells"
    assert calls["all", "certainty"] == 0
    for row in rows:
        assert row.real_valid == 1
        assert row.low <= row.valid <= row.high
        assert row.number == 6
        assert row.gflop == pytest.approx(rows[0].gflop * row.calls / rows[0].calls)
        if row.puzzles == "all":
            assert (row.valid, row.distance) == (1, 0)


def test_a_blind_classifier_shows():
    row = next(evaluate_walks(model(), {"eight": puzzles(8)}, BlindReader(), ("certainty",)))
    assert (row.valid, row.real_valid) == (0, 0) and 0.1 < row.right < 0.4


def test_tries_solve_as_a_user_does_and_are_counted():
    (row,) = evaluate_walks(model(), {"eight": puzzles(8)}, Reader(), ("tries",), Pace(2), Effort(tries=3, refine=1))
    rounds = 4 + 2 * 2 + 4
    assert (row.number, row.right) == (6, 1)
    alone = 4  # the consistency of the first run
    assert 8 * 2 * 3 < row.calls <= 3 * (8 * 2 + rounds) + alone
    full = next(evaluate_walks(model(), {"all": puzzles(16)}, Reader(), ("tries",)))
    assert (full.valid, full.calls) == (1, 0)


def test_the_model_is_shown_given_digits_as_it_writes_them():
    asked = Puzzle(puzzles(16).cells[:1], torch.zeros(1, 16, dtype=torch.bool))
    sampler, reading = Pace(2).sampler("certainty", 1, 16, 0), (Reader(), None)
    shown = solve_as_user(model(), asked, sampler, Effort(), reading, torch.Generator())
    assert torch.equal(shown.argmax(2), asked.cells.argmax(2)) and not torch.equal(shown, asked.cells)


def test_digits_are_decided_one_call_each_or_by_a_walk_where_the_model_tells_none():
    reader, packaged = load("reader14", DigitClassifier), load("sudoku4", SRM).eval()
    prototypes = sample_handwriting(packaged, reader.probabilities, torch.Generator().manual_seed(1))
    written = torch.stack([prototypes.cells[prototypes.digits == digit][0] for digit in (1, 2, 3, 4)])
    group = puzzles(8)
    group = Puzzles(group.grids, written[group.grids - 1], group.given)
    (row,) = evaluate_walks(packaged, {"eight": group}, reader, ("digits",), effort=Effort(beam=1))
    assert (row.valid, row.calls) == (1, 8)
    (other,) = evaluate_walks(model(), {"eight": puzzles(8)}, Reader(), ("digits",), Pace(2), Effort(tries=3))
    assert other.calls == 8 * 2 and other.number == 6, "one run of the walk"


def test_what_a_user_would_be_refused_is_not_solved():
    class Contradictory(Reader):
        def probabilities(self, cells):
            return torch.nn.functional.one_hot(torch.zeros(cells.shape[:2]).long(), 9).float()

    row = next(evaluate_walks(model(), {"eight": puzzles(8)}, Contradictory(), ("tries",)))
    assert (row.valid, row.calls) == (0, 0)


def test_levels_are_chosen_by_name_and_extreme_puzzles_have_one_solution():
    digits = Digits(torch.eye(9).reshape(9, 3, 3), torch.arange(9) + 1)
    found = sample_levels(9, ("extreme", "hard"), 3, digits, 0)
    assert list(found) == ["hard", "extreme"]
    extreme = found["extreme"]
    assert (extreme.given.sum(1) == 17).all() and sudoku.is_valid(extreme.grids).all()
    puzzle = torch.where(extreme.given, extreme.grids, 0)
    assert find_solutions(puzzle[0].tolist(), 2) == ([extreme.grids[0].tolist()], True)
    assert torch.equal(extreme.cells.argmax(-1) + 1, extreme.grids)
    with pytest.raises(InputError, match="--levels harder: choose from easy, medium, hard, extreme"):
        sample_levels(9, ("harder",), 3, digits, 0)


@pytest.mark.parametrize("puzzle", SEVENTEEN[::4])
def test_known_puzzles_have_17_given_cells_and_one_solution(puzzle):
    grid = [int(digit) for digit in puzzle]
    found, complete = find_solutions(grid, 2, 100_000)
    assert sum(digit > 0 for digit in grid) == 17 and complete and len(found) == 1


@pytest.mark.parametrize(("hits", "count"), [(0, 50), (50, 50), (25, 50), (490, 500)])
def test_the_interval_is_wilson_s(hits, count):
    """Its ends are where the normal test of the share just does not reject: (share − p)² = z² p (1 − p)/n."""
    share, low, high = wilson_interval(hits, count)
    for p in (low, high):
        if 0 < p < 1:
            assert (share - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / count, rel=1e-9)
    assert low <= share <= high


def test_the_packaged_solver_solves_any_handwriting(shared):
    """99 of 100 from eight given cells in any of MNIST's test digits, read and shown in its own hand: of 12 puzzles, more than 2
    wrong would have a chance of 1 in 5 000."""
    reader = load("reader14", DigitClassifier)
    digits = read_mnist(shared("data/mnist.npz"))[1].only(range(1, 5)).shrink_to(14)
    group = sudoku.sample_puzzles(4, 12, (8, 8), digits, "test", 0)
    (row,) = evaluate_walks(load("sudoku4", SRM).eval(), {"eight": group}, reader, ("digits",), None, Effort())
    assert row.right > 0.95 and row.valid >= 0.8
