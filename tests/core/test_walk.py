"""Walks: budgets kept, nothing jumps, nothing rises, given variables stay, and the authors' certainty order."""

import numpy as np
import pytest
import torch

from becalm.core.process import Prediction
from becalm.core.walk import Budget, by_certainty, by_graph, in_order, n_blocks_due, together


def certainty(log_var: torch.Tensor) -> Prediction:
    return Prediction(log_var, log_var, log_var)


def visited(walk, start: torch.Tensor, prediction: Prediction, most: int = 10_000) -> torch.Tensor:
    """All levels [steps + 1, batch, variables]."""
    t, levels = start, [start]
    while bool((t > 0).any()):
        t = walk(len(levels) - 1, t, start, prediction)
        levels.append(t)
        assert len(levels) < most, "the walk does not end"
    return torch.stack(levels)[..., 0]


def ones(batch: int, variables: int) -> torch.Tensor:
    return torch.ones(batch, variables, 1, dtype=torch.float64)


@pytest.mark.parametrize(("group", "overlap"), [(1, 0.0), (1, 0.7), (3, 0.0), (3, 0.5), (7, 0.9)])
def test_levels_fall_to_zero_without_jumps_in_the_budget(group, overlap):
    steps = 60
    start = ones(2, 7)
    levels = visited(in_order(group=group, overlap=overlap, steps=steps), start, certainty(start))
    assert (levels.diff(dim=0) <= 0).all()
    assert (levels[-1] == 0).all()
    length = float(Budget(group, overlap, steps).lengths(start)[0])
    assert levels.diff(dim=0).abs().max() <= 1 / length + 1e-12
    assert len(levels) - 1 <= steps + 1


@pytest.mark.parametrize("order", [[3, 0, 4, 1, 2], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("each", [1, 4])
def test_without_overlap_it_is_masked_autoregression(order, each):
    """MAR: while one variable is sampled, all before it are settled, all after it are wholly unknown."""
    levels = visited(in_order(torch.tensor(order).float(), steps_per_variable=each), ones(1, 5), certainty(ones(1, 5)))
    assert len(levels) == 5 * each + 1
    turn = torch.tensor(order)
    for k, level in enumerate(levels[:, 0]):
        now = k // each
        assert (level[turn < now] == 0).all()
        assert (level[turn > now] == 1).all()
        assert torch.allclose(level[turn == now], torch.tensor(1 - k % each / each, dtype=torch.float64))


def test_without_overlap_one_block_moves_at_a_time_in_order():
    levels = visited(in_order(steps_per_variable=4), ones(1, 5), certainty(ones(1, 5)))[:, 0]
    moving = (levels.diff(dim=0) < 0).int()
    assert (moving.sum(1) == 1).all()
    assert moving.argmax(1).tolist() == [i for i in range(5) for _ in range(4)]


def test_given_variables_stay_and_are_not_counted():
    start = ones(1, 6)
    start[0, [1, 4]] = 0
    levels = visited(in_order(steps_per_variable=3), start, certainty(start))[:, 0]
    assert (levels[:, [1, 4]] == 0).all()
    assert len(levels) - 1 == 4 * 3


def test_variables_may_start_anywhere():
    start = ones(1, 3)
    start[0, 1] = 0.4
    levels = visited(in_order(steps_per_variable=4), start, certainty(start))[:, 0]
    torch.testing.assert_close(levels[4:9, 1], torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0], dtype=torch.float64))


def test_the_most_certain_come_first():
    log_var = torch.tensor([[[3.0], [1.0], [2.0], [0.0]]], dtype=torch.float64)
    levels = visited(by_certainty(steps_per_variable=2), ones(1, 4), certainty(log_var))[:, 0]
    assert (levels > 0).sum(0).argsort().tolist() == [3, 1, 2, 0]


def test_certainty_is_the_mean_over_the_channels():
    log_var = torch.tensor([[[3.0, 0.0], [1.0, 1.0], [0.0, 2.5]]], dtype=torch.float64)
    levels = visited(by_certainty(steps_per_variable=2), ones(1, 3), certainty(log_var))[:, 0]
    assert (levels > 0).sum(0).argsort().tolist() == [1, 2, 0]


def test_a_single_block_takes_its_steps_and_one_step_each_is_enough():
    start = ones(1, 3)
    assert len(visited(in_order(group=3, steps_per_variable=5), start, certainty(start))) - 1 == 5
    assert len(visited(in_order(group=4, steps=5), start, certainty(start))) - 1 == 5
    levels = visited(in_order(steps=3), start, certainty(start))[:, 0]
    assert levels.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_certainty_may_change_on_the_way():
    first = torch.tensor([[[0.0], [1.0], [2.0]]], dtype=torch.float64)
    second = torch.tensor([[[0.0], [2.0], [1.0]]], dtype=torch.float64)
    walk, start = by_certainty(steps_per_variable=1), ones(1, 3)
    t = walk(0, start, start, certainty(first))
    t = walk(1, t, start, certainty(second))
    assert t[0, :, 0].tolist() == [0, 1, 0]


def test_the_graph_prefers_neighbours_of_what_is_known():
    chain = torch.diag(torch.ones(4), 1) + torch.diag(torch.ones(4), -1)
    start = ones(1, 5)
    start[0, 4] = 0
    levels = visited(by_graph(chain.double(), steps_per_variable=2), start, certainty(start))[:, 0]
    assert (levels > 0).sum(0).tolist() == [8, 6, 4, 2, 0]


@pytest.mark.parametrize(("dependency", "first"), [(0.59, 1), (0.61, 2)])
def test_the_graph_adds_half_of_the_neighbours_certainty(dependency, first):
    """Variable 0 is given (K = 1), 1 and 2 wait at K = 0.5 and 0.2: 2 has 0.2 + D₀₂/2 and goes first where D₀₂ > 0.6."""
    start = torch.tensor([[[0.0], [0.5], [0.8], [0.0]]], dtype=torch.float64)
    start[0, 3] = 1.0  # K = 0: takes up the rest of row 0, and its own row is empty
    rows = torch.zeros(4, 4, dtype=torch.float64)
    rows[0, 2], rows[0, 3] = dependency, 1 - dependency
    after = by_graph(7 * rows, steps_per_variable=2)(0, start, start, certainty(start))
    assert (after < start)[0, :, 0].nonzero().flatten().tolist() == [first]


def test_a_walk_in_which_a_variable_must_jump_is_refused():
    walk = in_order(steps=4)
    with pytest.raises(ValueError, match="give 5 or more"):
        walk(0, ones(1, 5), ones(1, 5), certainty(ones(1, 5)))
    with pytest.raises(ValueError, match="either"):
        in_order(steps=4, steps_per_variable=2)
    with pytest.raises(ValueError, match="overlap"):
        in_order(overlap=1.0, steps=4)
    with pytest.raises(ValueError, match=r"return becalm.Output\(value, log_var\)"):
        by_certainty(steps=9)(0, ones(1, 5), ones(1, 5), Prediction(ones(1, 5), ones(1, 5)))


def test_blocks_that_fall_due_together_are_all_counted():
    for stride in (0.3, 0.75, 1.0, 2.5):
        starts = np.floor(np.arange(200) * stride + 1e-9)
        for k in range(40):
            assert n_blocks_due(k, torch.tensor([stride])).item() == (starts <= k).sum()


def test_together_is_a_straight_line():
    assert together(1)(0, ones(1, 2), ones(1, 2), certainty(ones(1, 2))).tolist() == [[[0.0], [0.0]]]
    with pytest.raises(ValueError, match="at least 1"):
        together(0)
    start = torch.tensor([[[1.0], [0.5], [0.0]]], dtype=torch.float64)
    levels = visited(together(4), start, certainty(start))[:, 0]
    expected = torch.linspace(1, 0, 5, dtype=torch.float64)[:, None] * start[0, :, 0]
    torch.testing.assert_close(levels, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("case", [c for c in range(48) if c not in (34, 35)])
def test_the_authors_certainty_order(shared, case):
    data = np.load(shared("vectors/srm_certainty_order.npz"))
    group, overlap, steps = data[f"case{case:02d}_params"]
    expected = torch.as_tensor(data[f"case{case:02d}_t"]).double()
    log_var = 2 * torch.as_tensor(data[f"case{case:02d}_sigma"]).double().log()[..., None]
    start = expected[0][..., None]
    walk = by_certainty(int(group), float(overlap), steps=int(steps))
    t = start
    for k in range(int(steps)):
        t = walk(k, t, start, certainty(log_var))
        torch.testing.assert_close(t[..., 0], expected[k + 1], rtol=0, atol=2e-6)
