"""Given cells read together: the likeliest consistent reading, notes on what is doubtful, refusal only where there is none."""

import pytest
import torch

from becalm.core.files import InputError
from becalm.systems.givens import Handwriting, read_givens, rewrite_givens, sample_handwriting
from becalm.systems.puzzles import Puzzle
from becalm.systems.srm import SRM


def puzzle(given: int = 4) -> Puzzle:
    unknown = torch.ones(1, 16, dtype=torch.bool)
    unknown[0, :given] = False
    return Puzzle(torch.arange(16.0)[None, :, None].repeat(1, 1, 4), unknown)


def chances(*cells: dict[int, float]) -> torch.Tensor:
    """Probabilities [cell, 9] from those of some digits; the rest is shared by the others."""
    result = torch.full((16, 9), 1 / 9)
    for cell, known in enumerate(cells):
        result[cell] = (1 - sum(known.values())) / (9 - len(known))
        for digit, value in known.items():
            result[cell, digit - 1] = value
    return result


def test_clear_cells_are_read_as_they_are_without_a_word():
    found = read_givens(puzzle(), chances({1: 0.999}, {2: 0.999}, {3: 0.999}, {4: 0.999}), "p.png")
    assert found.digits.tolist() == [1, 2, 3, 4] + 12 * [0] and found.notes == () and found.misread == []


def test_a_misread_cell_is_corrected_by_the_others_and_named():
    found = read_givens(puzzle(), chances({1: 0.999}, {1: 0.8, 2: 0.15}, {3: 0.999}, {4: 0.999}), "p.png")
    assert found.digits[:4].tolist() == [1, 2, 3, 4] and found.misread == [1]
    assert len(found.notes) == 1 and found.notes[0].startswith(
        "row 1 column 2: read as 2 (probability 0.15), since 1 (0.80)"
    )


def test_the_likeliest_of_the_consistent_readings_is_taken():
    found = read_givens(puzzle(2), chances({1: 0.6, 2: 0.3, 3: 0.1}, {1: 0.5, 2: 0.3, 4: 0.2}), "p.png")
    assert found.digits[:2].tolist() == [1, 2], "0.6 · 0.3 is more than 0.3 · 0.5"


def test_a_doubtful_cell_is_named_though_it_contradicts_nothing():
    found = read_givens(puzzle(1), chances({1: 0.7, 2: 0.3}), "p.png")
    assert found.digits[0] == 1 and "row 1 column 1: read as 1, probability 0.70; --digits 1,1=DIGIT" in found.notes[0]


def test_a_reading_without_a_solution_is_passed_over():
    """Row 1 is 1 2 3 ·: 4 must end it, but column 4 has a 4 in row 3, or rather, since that leaves nothing, a 1 there."""
    unknown = torch.ones(1, 16, dtype=torch.bool)
    unknown[0, [0, 1, 2, 11]] = False
    cells = chances({1: 0.999}, {2: 0.999}, {3: 0.999})
    cells[11] = chances({4: 0.9, 1: 0.09})[0]
    found = read_givens(Puzzle(torch.zeros(1, 16, 4), unknown), cells, "p.png")
    assert found.digits[[0, 1, 2, 11]].tolist() == [1, 2, 3, 1] and found.misread == [11]


def test_what_no_reading_makes_consistent_is_refused_with_its_cells():
    with pytest.raises(
        InputError, match=r"p.png: given cells contradict each other: row 1 column 1 \(1\), row 1 column 2 \(1\)"
    ):
        read_givens(puzzle(2), chances({1: 0.9999}, {1: 0.9999}), "p.png")
    with pytest.raises(InputError, match=r"show what is no digit of this grid: row 1 column 1 \(7\)"):
        read_givens(puzzle(1), chances({7: 0.9999}), "p.png")


def test_a_digit_that_is_said_overrides_what_is_read():
    cells = chances({1: 0.9999}, {1: 0.9999})
    found = read_givens(puzzle(2), cells, "p.png", {(1, 2): 3})
    assert found.digits[:2].tolist() == [1, 3] and found.notes == () and found.misread == [1]
    for known, words in (
        ({(1, 3): 2}, "is to be solved"),
        ({(5, 1): 2}, "from 1 to 4"),
        ({(0, 1): 2}, "from 1 to 4"),
        ({(1, 1): 9}, "from 1 to 4"),
    ):
        with pytest.raises(InputError, match=words):
            read_givens(puzzle(2), cells, "p.png", known)


def test_given_cells_are_shown_as_the_model_writes_them():
    unknown = torch.ones(1, 16, dtype=torch.bool)
    unknown[0, [0, 1, 6, 9]] = False
    asked = Puzzle(torch.arange(16.0)[None, :, None].repeat(1, 1, 4), unknown)
    cells = chances({1: 0.999}, {1: 0.8, 2: 0.15})
    cells[6], cells[9] = chances({2: 0.999}, {3: 0.999})[:2]
    found = read_givens(asked, cells, "p.png")
    assert found.digits[[0, 1, 6, 9]].tolist() == [1, 2, 2, 3]
    hand = Handwriting(torch.tensor([100.0, 101, 102, 103])[:, None].repeat(1, 4), torch.tensor([1, 0, 3, 1]))
    shown = rewrite_givens(asked, found, hand).cells[0, :, 0]
    assert shown[0] in (100, 103) and shown[9] == 102, "those of its own digit, none of a doubtful one"
    assert shown[6] == 6 and shown[1] == 6, (
        "a digit it did not write stays; a misread one is shown by another of its kind"
    )
    others = [cell for cell in range(16) if cell not in (0, 1, 9)]
    assert torch.equal(shown[others], asked.cells[0, others, 0])


def test_a_model_writes_digits_and_doubtful_ones_are_none():
    places = [[a, b] for a in range(4) for b in range(4)]
    model = SRM.build(channels=4, places=places, shape=[16, 1, 1, 1, 1])
    seen = chances({1: 0.95}, {2: 0.5}, {3: 0.99})
    hand = sample_handwriting(model, lambda cells: seen.expand(len(cells), -1, -1), None, steps=2)
    assert hand.cells.shape == (304, 4) and hand.digits.tolist() == 19 * ([1, 0, 3] + 13 * [0]), "19 grids of 16 cells"
