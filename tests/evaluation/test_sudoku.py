"""A evaluate_walks: paired, counted, and with a judge that is judged."""

import pytest
import torch

from becalm.evaluation.sudoku import WALKS, evaluate_walks, wilson_interval
from becalm.images import digit_classifier, sudoku
from becalm.images.digits import read_mnist
from becalm.images.sudoku import Puzzles
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems.solver import Pace
from becalm.systems.srm import SRM
from becalm.weights.store import load


def puzzles(given: int) -> Puzzles:
    generator = torch.Generator().manual_seed(0)
    grids = sudoku.sample_grids(4, 6, "test", generator)
    return Puzzles(
        grids, torch.nn.functional.one_hot(grids - 1, 4).float(), sudoku.sample_masks(4, 6, given, given, generator)
    )


def read(cells):
    return cells.argmax(-1) + 1


def model() -> SRM:
    torch.manual_seed(0)
    return SRM.build(channels=4, places=sudoku.places(4).tolist(), shape=[32, 4, 1, 1, 2])


def test_rows_of_all_walks_on_the_same_puzzles():
    rows = list(
        evaluate_walks(model(), {"eight": puzzles(8), "all": puzzles(16)}, read, pace=Pace(3), rounds=1, batch=4)
    )
    assert [(row.puzzles, row.walk) for row in rows] == [(k, w) for k in ("eight", "all") for w in WALKS]
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
    row = next(
        evaluate_walks(model(), {"eight": puzzles(8)}, lambda cells: torch.ones(cells.shape[:2]).long(), ("certainty",))
    )
    assert (row.valid, row.real_valid) == (0, 0)


@pytest.mark.parametrize(("hits", "count"), [(0, 50), (50, 50), (25, 50), (490, 500)])
def test_the_interval_is_wilson_s(hits, count):
    """Its ends are where the normal test of the share just does not reject: (share − p)² = z² p (1 − p)/n."""
    share, low, high = wilson_interval(hits, count)
    for p in (low, high):
        if 0 < p < 1:
            assert (share - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / count, rel=1e-9)
    assert low <= share <= high


def test_the_packaged_solver_solves(shared):
    """Its card says 99.5 % from eight given cells: of 20 puzzles, more than 2 wrong would have a chance of 1 in 10 000."""
    reader = load("reader14", DigitClassifier)
    digits = digit_classifier.clearest_digits(reader, read_mnist(shared("data/mnist.npz"))[1].only(range(1, 5)), 400)
    group = sudoku.sample_puzzles(4, 20, (8, 8), digits, "test", 0)
    (row,) = evaluate_walks(load("sudoku4", SRM).eval(), {"eight": group}, reader.read, ("certainty",))
    assert row.real_valid == 1 and row.valid >= 0.9
