"""Puzzles as pictures: what is given comes back pixel for pixel, what is wrong is named."""

import pytest
import torch

from becalm.core.files import InputError
from becalm.images.sudoku import places
from becalm.systems.puzzles import Solution, begun, drawn, inverted, puzzle_of
from becalm.systems.srm import SRM, solve

SIDE, PIXELS, CELL = 4, 6, 12


def model() -> SRM:
    torch.manual_seed(0)
    return SRM(PIXELS**2, places(SIDE).tolist(), [32, 4, 1, 1, 2])


def picture(dark: bool = True):
    """A random image on dark or light paper, and a mask in which the first five cells are given."""
    ink = 0.3 * torch.rand(SIDE * CELL, SIDE * CELL, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(SIDE, SIDE)
    mask.flatten()[:5] = 0
    return (ink if dark else 1 - ink), mask.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)


@pytest.mark.parametrize("dark", [True, False])
def test_given_cells_keep_their_pixels_and_paper_its_colour(dark):
    image, mask = picture(dark)
    puzzle = puzzle_of(image, mask, model())
    assert puzzle.unknown.sum() == 11
    assert puzzle.cells.mean() < -0.5, "paper is −1 whichever colour it had"
    *_, answer = begun(
        solve(model(), puzzle.cells, puzzle.unknown, None, torch.Generator().manual_seed(0)), puzzle, 0.5
    )
    found = drawn(answer, puzzle, image, mask)
    assert torch.equal(found[mask <= 0.5], image[mask <= 0.5])
    assert not torch.isclose(found[mask > 0.5], image[mask > 0.5]).all()
    blank = drawn(Solution(torch.full_like(puzzle.cells, -1.0), *answer[1:]), puzzle, image, mask)
    assert torch.allclose(blank[mask > 0.5], torch.tensor(0.0 if dark else 1.0))


def test_every_unknown_cell_is_begun_once_one_at_a_time():
    image, mask = picture()
    puzzle = puzzle_of(image, mask, model())
    states = list(
        begun(solve(model(), puzzle.cells, puzzle.unknown, None, torch.Generator().manual_seed(0)), puzzle, 0.5)
    )
    order, certainty = states[-1].order, states[-1].certainty
    assert order[~puzzle.unknown[0]].eq(0).all()
    assert order[puzzle.unknown[0]].sort().values.tolist() == list(range(1, 12))
    assert torch.equal(certainty.isnan(), ~puzzle.unknown[0])
    assert (states[0].order > 0).sum() == 1


def test_paper_is_told_from_what_is_given():
    image, mask = picture()
    assert not inverted(image, mask)
    assert inverted(1 - image, mask)
    assert not inverted(1 - image, torch.ones_like(mask)), "nothing is given"


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        (torch.zeros(50, 50), torch.zeros(50, 50), "4 × 4 cells"),
        (torch.zeros(48, 96), torch.zeros(48, 96), "96 × 48"),
        (torch.zeros(20, 20), torch.zeros(20, 20), "of 6 pixels or more"),
    ],
)
def test_what_does_not_fit_is_named(image, mask, words):
    with pytest.raises(InputError, match=words):
        puzzle_of(image, mask, model(), "puzzle.png")


def test_a_half_masked_cell_is_named_by_row_and_column():
    image, mask = picture()
    mask[12:24, 30:36] = 0
    with pytest.raises(InputError, match=r"puzzle.png: mask: the cell in row 2, column 3 is 50% white"):
        puzzle_of(image, mask, model(), "puzzle.png")
