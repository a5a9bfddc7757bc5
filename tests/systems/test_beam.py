"""Solving by decisions, against exact posteriors: probabilities from an estimate, the order of a beam, wider searches."""

import torch

from becalm.core.process import Output
from becalm.images.sudoku import all_small_grids, is_valid, places
from becalm.systems.beam import (
    Beam,
    DigitTemplates,
    beam_widths,
    decide_next_cells,
    fit_templates,
    rewrite_cells,
    search_digits,
)
from becalm.systems.givens import Handwriting
from becalm.systems.puzzles import Puzzle
from becalm.systems.srm import SRM

GRIDS = all_small_grids()
WRITTEN = torch.tensor([[1.0, 0.0, 0.2, 1.0], [0.0, 1.0, -0.4, 2.0], [-1.0, 0.5, 0.3, -1.0], [0.3, -1.0, 0.1, 0.0]])
"""The cell that shows each digit."""


class ExactModel(SRM):
    """A model of 4×4 grids whose estimate is the exact mean of each cell over the grids that agree with the known ones.

    `weights` [grid] make some grids likelier. It counts the grids that it is asked about.
    """

    def __init__(self, weights: torch.Tensor):
        network = torch.nn.Linear(1, 1)
        super().__init__(
            network, 4, SRM.build(channels=4, places=places(4).tolist()).schedule, places(4).tolist(), features=3
        )
        self.features.copy_(torch.linalg.svd(WRITTEN - WRITTEN.mean(0))[2][:3].T)  # type: ignore[union-attr]
        self.weights, self.asked = weights, 0

    def forward(self, z, t, given=None):
        self.asked += len(z)
        digits = torch.cdist(z.float(), WRITTEN[None]).argmin(-1) + 1
        known = t[..., 0] == 0
        agree = ((GRIDS[None] == digits[:, None]) | ~known[:, None]).all(-1) * self.weights
        chance = torch.einsum("bg,gid->bid", agree, torch.nn.functional.one_hot(GRIDS - 1, 4).float())
        chance = (chance + 1e-9) / (chance + 1e-9).sum(-1, keepdim=True)
        return Output(chance @ WRITTEN, torch.zeros(*z.shape[:2], 1), torch.zeros_like(z))


def hand() -> Handwriting:
    """Each digit three times, once as it is on average, and a doubtful cell."""
    shift = torch.tensor([0.05, -0.05, 0.0, 0.0])
    cells = torch.cat([WRITTEN + shift, WRITTEN, WRITTEN - shift, torch.ones(1, 4)])
    return Handwriting(cells, torch.tensor([*3 * [1, 2, 3, 4], 0]))


def templates_of(model: SRM) -> DigitTemplates:
    templates = fit_templates(model, hand())
    assert templates is not None
    assert torch.equal(templates.cells, WRITTEN), "the most typical ones"
    return templates


def solve(model: ExactModel, given: torch.Tensor, width: int = 16):
    templates = templates_of(model)
    cells = rewrite_cells(Puzzle(torch.zeros(1, 16, 4), given[None] == 0), given, templates).cells
    return list(search_digits(model, cells, given, templates, width, torch.Generator().manual_seed(0)))


def read(cells: torch.Tensor) -> torch.Tensor:
    return torch.cdist(cells, WRITTEN[None]).argmin(-1) + 1


def test_templates_tell_the_probabilities_from_the_mean_of_what_a_cell_may_show():
    model = ExactModel(torch.ones(len(GRIDS)))
    chance = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25]])
    found = templates_of(model).probabilities(model, (chance @ WRITTEN)[None])[0]
    assert torch.allclose(found, chance, atol=1e-5)


def test_there_are_no_templates_where_a_digit_is_missing_or_the_model_tells_none():
    model, written = ExactModel(torch.ones(len(GRIDS))), hand()
    assert fit_templates(model, written._replace(digits=torch.where(written.digits == 3, 0, written.digits))) is None
    assert fit_templates(SRM.build(channels=4, places=places(4).tolist(), features=2), written) is None
    blind = SRM.build(channels=4, places=places(4).tolist(), features=3)
    blind.features.zero_()  # type: ignore[union-attr]
    assert fit_templates(blind, written) is None, "features that tell no digits"
    assert fit_templates(SRM.build(channels=4, places=places(4).tolist()), written) is None


def test_an_exact_model_solves_with_one_call_a_cell():
    for given in (torch.zeros(16, dtype=torch.long), torch.where(torch.arange(16) % 5 == 0, GRIDS[200], 0)):
        model = ExactModel(torch.ones(len(GRIDS)))
        reports = solve(model, given)
        number = int((given == 0).sum())
        last = reports[-1].solution
        grid = read(last.cells)
        assert is_valid(grid).all() and (grid[0][given > 0] == given[given > 0]).all()
        assert model.asked == number and len(reports) == number + 1
        assert sorted(last.order[0].tolist()) == [0] * (16 - number) + list(range(1, number + 1))
        assert (last.certainty.isnan() == (given[None] > 0)).all()
        assert reports[-1].step is None
        for decided, (step, solution, _) in enumerate(reports[:-1], 1):
            assert step is not None and int((step.t > 0).sum()) == number - decided
            settled = step.t[..., 0] == 0
            assert torch.equal(step.z[settled], solution.cells[settled]) and (solution.cells[~settled] == -1).all()
            assert (step.z[~settled] != -1).all(), "open cells are noise"


def test_a_wider_search_follows_where_the_likeliest_decision_was_wrong():
    model = ExactModel(torch.ones(len(GRIDS)))
    likely, calls = model.forward, []

    def misled(z, t, given=None):
        """Digit 2 is likelier than it should be in the first cell, where it has no solution."""
        out, first = likely(z, t, given), t[:, 0, 0] == 1
        chance = templates_of(model).probabilities(model, out.value).float()
        calls.append(len(z))
        chance[first, 0] = torch.tensor([0.3, 0.68, 0.01, 0.01])
        chance[first, 1:] = 0.5 * chance[first, 1:] + 0.125
        return out._replace(value=chance @ WRITTEN)

    model.forward = misled
    grid = GRIDS[GRIDS[:, 0] == 1][3]
    given = torch.where((torch.arange(16) >= 8), grid, 0)
    given[4:8] = grid[4:8]
    given[4] = 0
    reports = solve(model, given, width=4)
    assert max(calls) > 1, "the first search found no valid grid"
    assert max(calls) <= 4
    assert torch.equal(read(reports[-1].solution.cells)[0], grid)
    assert not is_valid(read(solve(model, given, width=1)[-1].solution.cells)).any()


def test_the_likeliest_valid_grid_is_taken_though_another_is_likelier():
    model = ExactModel(torch.ones(len(GRIDS)))
    likely, grid = model.forward, GRIDS[200]

    def misled(z, t, given=None):
        """A wrong digit is likelier in the last cell."""
        chance = torch.full((1, 16, 4), 0.05)
        chance[0, 15, grid[15] - 1], chance[0, 15, grid[15] % 4] = 0.2, 0.7
        return likely(z, t, given)._replace(value=chance @ WRITTEN)

    model.forward = misled
    reports = solve(model, torch.where(torch.arange(16) < 15, grid, 0), width=1)
    assert not is_valid(read(reports[0].solution.cells)).any(), "the likeliest"
    assert torch.equal(read(reports[-1].solution.cells)[0], grid)


def test_the_beam_keeps_the_likeliest_grids_once():
    digits = torch.tensor([[1, 0, 0], [0, 2, 0]])
    certainty = torch.where(digits > 0, 0.9, torch.nan)
    beam = Beam(digits, torch.tensor([0.1, 0.2]), (digits > 0).long(), certainty, torch.tensor([0, 0]))
    chance = torch.full((2, 3, 3), 0.1)
    chance[0, 1] = torch.tensor([0.03, 0.9, 0.07])  # the most certain open cell of the first grid: 1 is too unlikely
    chance[1, 0] = torch.tensor([0.94, 0.03, 0.03])  # of the second: both come to [1, 2, 0]
    found = decide_next_cells(beam, chance)
    assert found.digits.tolist() == [[1, 2, 0], [1, 3, 0]]
    expected = torch.tensor([0.1, 0.1]) - torch.tensor([0.9, 0.07]).log()
    assert torch.allclose(found.nll, expected) and found.nll[0] < 0.2 - torch.tensor(0.94).log()
    assert found.order.tolist() == [[1, 2, 0], [1, 2, 0]]
    assert torch.allclose(found.certainty[:, 1], torch.tensor([0.9, 0.07])) and found.parent.tolist() == [0, 0]


def test_searches_grow_to_the_width_asked_for():
    assert beam_widths(1) == [1] and beam_widths(16) == [1, 4, 16] and beam_widths(6) == [1, 4, 6]
