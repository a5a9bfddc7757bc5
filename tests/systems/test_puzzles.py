"""Puzzles as pictures: what is given comes back pixel for pixel, what is wrong is named."""

import pytest
import torch

from becalm.core.files import InputError
from becalm.images.sudoku import places
from becalm.systems.puzzles import Solution, paper_and_ink, parse_puzzle, render_solution, track_solution
from becalm.systems.srm import SRM

SIDE, PIXELS, CELL = 4, 6, 12


def model() -> SRM:
    torch.manual_seed(0)
    return SRM.build(channels=PIXELS**2, places=places(SIDE).tolist(), shape=[32, 4, 1, 1, 2])


def picture(paper: float = 0.0, ink: float = 1.0):
    """A stroke in every cell, on paper, and a mask in which the first five cells are given."""
    stroke = torch.zeros(CELL, CELL)
    stroke[3:9, 4:6] = 1
    mask = torch.ones(SIDE, SIDE)
    mask.flatten()[:5] = 0
    return paper + (ink - paper) * stroke.repeat(SIDE, SIDE), mask.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)


@pytest.mark.parametrize(("paper", "ink"), [(0.0, 1.0), (1.0, 0.0), (0.8, 0.3)])
def test_given_cells_keep_their_pixels_and_paper_and_ink_their_greys(paper, ink):
    image, mask = picture(paper, ink)
    puzzle = parse_puzzle(image, mask, model())
    assert puzzle.unknown.sum() == 11
    assert torch.allclose(puzzle.cells.amin(), torch.tensor(-1.0)), "paper is −1 whichever grey it had"
    assert torch.allclose(puzzle.cells.amax(), torch.tensor(1.0), atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    *_, (_, answer) = track_solution(
        model().solve(puzzle.cells, puzzle.unknown, None, generator), puzzle.unknown, model()
    )
    found = render_solution(answer, puzzle, image, mask)
    assert torch.equal(found[mask <= 0.5], image[mask <= 0.5])
    assert not torch.isclose(found[mask > 0.5], image[mask > 0.5]).all()
    for value, grey in ((-1.0, paper), (1.0, ink)):
        flat = render_solution(Solution(torch.full_like(puzzle.cells, value), *answer[1:]), puzzle, image, mask)
        assert torch.allclose(flat[mask > 0.5], torch.tensor(grey))


def test_every_unknown_cell_is_started_once_one_at_a_time():
    image, mask = picture()
    puzzle = parse_puzzle(image, mask, model())
    generator = torch.Generator().manual_seed(0)
    steps = track_solution(model().solve(puzzle.cells, puzzle.unknown, None, generator), puzzle.unknown, model())
    states = [answer for _, answer in steps]
    order, certainty = states[-1].order[0], states[-1].certainty[0]
    assert order[~puzzle.unknown[0]].eq(0).all()
    assert order[puzzle.unknown[0]].sort().values.tolist() == list(range(1, 12))
    assert torch.equal(certainty.isnan(), ~puzzle.unknown[0])
    assert (states[0].order > 0).sum() == 1


def test_paper_is_told_from_ink():
    image, mask = picture(0.9, 0.2)
    assert paper_and_ink(image, mask) == pytest.approx((0.9, 0.2))
    assert paper_and_ink(image, torch.ones_like(mask)) == pytest.approx((0.9, 0.0)), (
        "nothing is given: black on light paper"
    )
    assert paper_and_ink(0 * image, mask) == (0, 1), "nothing but paper is given: white on black"


def test_runs_are_tracked_side_by_side():
    puzzle = parse_puzzle(*picture(), model())
    generator, unknown = torch.Generator().manual_seed(0), puzzle.unknown.repeat(3, 1)
    steps = model().solve(puzzle.cells.repeat(3, 1, 1), unknown, None, generator)
    *_, (_, runs) = track_solution(steps, unknown, model())
    assert runs.order.shape == (3, 16) and (runs.order.amax(1) == 11).all()
    one = runs.only(1)
    assert torch.equal(one.order, runs.order[1:2]) and torch.equal(one.cells, runs.cells[1:2])


def test_given_cells_that_are_empty_are_named():
    image, mask = picture()
    image[:CELL, CELL : 2 * CELL] = 0
    with pytest.raises(InputError, match="puzzle.png: row 1 column 2 is given and empty; paint it white in mask.png"):
        parse_puzzle(image, mask, model(), "puzzle.png", "mask.png")
