"""Many runs: the most consistent is kept, the search ends early, rounds mend, backtracking undoes what it should."""

import torch

from becalm.core.sampler import Sampler
from becalm.core.walk import by_certainty
from becalm.images.sudoku import all_small_grids, places
from becalm.systems.consistency import Consistency, measure_consistency, peer_log_likelihood
from becalm.systems.puzzles import Solution
from becalm.systems.search import Effort, search, undone_cells
from becalm.systems.srm import SRM

SAMPLER = Sampler(update="ancestral", order=by_certainty(steps_per_variable=1))


def model() -> SRM:
    torch.manual_seed(0)
    return SRM.build(channels=4, places=places(4).tolist(), shape=[16, 4, 1, 1, 2])


def by_first_number(cells, unknown) -> Consistency:
    """Runs are as good as their last cell's first number; none is valid."""
    fit = torch.where(unknown, cells[..., 0], 0.0)
    return Consistency(fit, cells[:, -1, 0], torch.zeros(len(cells), dtype=torch.bool))


def run(effort: Effort, measure=by_first_number):
    unknown = torch.zeros(1, 16, dtype=torch.bool)
    unknown[0, 12:] = True
    return list(
        search(model(), torch.zeros(1, 16, 4), unknown, SAMPLER, effort, measure, torch.Generator().manual_seed(0))
    )


def test_one_run_is_that_of_the_walk():
    reports = run(Effort())
    assert len(reports) == 4 and all(report.step is not None for report in reports)
    assert reports[-1].solution.order[0, 12:].sort().values.tolist() == [1, 2, 3, 4]


def test_the_best_of_many_runs_is_kept():
    seen = []

    def measure(cells, unknown):
        seen.append(cells[:, -1, 0])
        return by_first_number(cells, unknown)

    last = run(Effort(tries=6, at_once=4), measure)[-1]
    assert [len(part) for part in seen] == [1, 4, 2], "one alone, then with the rest of its batch"
    assert last.solution.cells.shape == (1, 16, 4) and last.solution.cells[0, -1, 0] == torch.cat(seen).max()


def test_the_search_ends_with_a_valid_run_though_another_scores_higher():
    def measure(cells, unknown):
        found = by_first_number(cells, unknown)
        valid = torch.zeros(len(cells), dtype=torch.bool)
        valid[found.score.argmin()] = len(cells) > 1
        return found._replace(valid=valid)

    reports = run(Effort(tries=12, refine=3, at_once=4), measure)
    assert sum(report.step is not None for report in reports) == 8, "no third batch"
    batch = reports[-2].solution.cells[:, -1, 0]
    assert len(batch) == 4 and reports[-1].solution.cells[0, -1, 0] == batch.min()


def test_no_more_is_tried_after_a_first_run_that_is_valid():
    reports = run(
        Effort(tries=12, refine=3),
        lambda cells, unknown: by_first_number(cells, unknown)._replace(valid=torch.ones(len(cells), dtype=torch.bool)),
    )
    assert len(reports) == 4 + 1 + 1 and all(len(report.solution.cells) == 1 for report in reports)


def test_rounds_are_counted_and_backtracking_never_makes_a_run_worse():
    scores = []

    def measure(cells, unknown):
        found = by_first_number(cells, unknown)
        scores.append(found.score)
        return found

    reports = run(Effort(tries=2, refine=1, backtrack=6), measure)
    assert len(scores) == 1 + 8 and reports[-1].calls == 2 * 4 + 1 + 8 == Effort(
        tries=2, refine=1, backtrack=6
    ).reports(4)
    kept = [report.solution.cells[:, -1, 0] for report in reports if report.step is None][1:-1]
    assert all((later >= before).all() for before, later in zip(kept, kept[1:], strict=False))


def test_backtracking_undoes_the_least_certain_decision_before_the_worst_fit_and_all_after_it():
    unknown = torch.tensor([[False, True, True, True, True]])
    runs = Solution(
        torch.zeros(1, 5, 1), torch.tensor([[torch.nan, 0.9, 0.2, 0.8, 0.1]]), torch.tensor([[0, 1, 2, 3, 4]])
    )
    fit = torch.tensor([[0.0, -1, -1, -9, -1]])
    assert undone_cells(runs, fit, unknown).tolist() == [[False, False, True, True, True]]
    passed = runs._replace(certainty=torch.tensor([[torch.nan, 0.9, torch.inf, 0.8, 0.1]]))
    assert undone_cells(passed, fit, unknown).tolist() == [[False, False, False, True, True]]


def test_a_right_grid_fits_better_than_one_with_two_cells_exchanged():
    right = all_small_grids()[7]
    wrong = right.clone()
    wrong[[0, 5]] = right[[1, 4]]
    wrong[[1, 4]] = right[[0, 5]]
    wrong[[2, 3]] = right[[3, 2]]
    grids = torch.stack([right, wrong])

    def read(cells):
        return 0.9 * torch.nn.functional.one_hot(grids - 1, 9).float() + 0.1 / 9

    unknown = torch.ones(2, 16, dtype=torch.bool)
    found = measure_consistency(model(), torch.zeros(2, 16, 4), unknown, read, None, torch.Generator().manual_seed(0))
    assert found.valid.tolist() == [True, False] and found.score[0] > found.score[1]
    strange = [lambda cells, add=add: torch.nn.functional.one_hot(grids + add, 9).float() for add in (-1, 4)]
    assert [bool(measure_consistency(model(), torch.zeros(2, 16, 4), unknown, s).valid[0]) for s in strange] == [
        True,
        False,
    ]
    without = measure_consistency(model(), torch.zeros(2, 16, 4), unknown, None, None, torch.Generator().manual_seed(0))
    assert not without.valid.any()


def test_the_likelihood_given_the_others_is_that_of_exclusion():
    chance = torch.full((1, 16, 4), 0.25)
    chance[0, 0] = torch.tensor([1.0, 0, 0, 0])
    given = peer_log_likelihood(chance).exp()[0]
    assert given[1, 0] < 1e-5 and torch.allclose(given[1, 1:], torch.full((3,), 1 / 3), atol=1e-3)
    assert torch.allclose(given[15], torch.full((4,), 0.25), atol=1e-5), "not a peer of the first"
