"""The pyramid: each level a quarter of the one before, by what is near alone."""

import numpy as np
import pytest

from becalm.points.neighbours import knn
from becalm.points.pyramid import local_minima, priority, pyramid

LEVELS = (24, 48, 48)


@pytest.fixture
def sheet() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.c_[rng.uniform(0, 40, (3000, 2)), 0.3 * rng.standard_normal(3000)]


def test_levels_thin_out_fourfold_and_average_noise_away(sheet):
    levels = pyramid(sheet, LEVELS)
    counts = [len(level.points) for level in levels]
    assert counts[0] == 3000
    assert all(0.18 < b / a < 0.32 for a, b in zip(counts, counts[1:], strict=False))
    heights = [level.points[:, 2].std() for level in levels]
    assert heights[1] == pytest.approx(0.3 / np.sqrt(8), rel=0.2)
    assert heights[2] < 0.6 * heights[1]


def test_what_all_points_share_is_kept(sheet):
    tilted = sheet * [1, 1, 0] + np.c_[np.zeros((3000, 2)), sheet[:, 0] / 4]
    for level in pyramid(tilted, LEVELS)[1:]:
        assert np.abs(level.points[:, 2] - level.points[:, 0] / 4).max() < 1e-9


def test_each_level_knows_its_neighbours(sheet):
    for level, k in zip(pyramid(sheet, LEVELS), LEVELS, strict=True):
        assert (level.neighbours == knn(level.points, k)[1]).mean() > 0.999


def test_order_rotation_and_far_points_do_not_matter(sheet):
    order = np.random.default_rng(1).permutation(3000)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    more = np.concatenate([sheet, sheet[:500] + [0, 0, 1e4]])
    same = (pyramid(sheet[order], LEVELS), pyramid(5 * sheet @ turn, LEVELS), pyramid(more, LEVELS))
    for expected, shuffled, turned, longer in zip(pyramid(sheet, LEVELS), *same, strict=True):
        seeds = set(expected.seeds)
        others = (set(order[shuffled.seeds]), set(turned.seeds), {s for s in longer.seeds if s < 3000})
        assert all(len(seeds ^ other) <= 0.03 * len(seeds) for other in others), "ties alone may be broken otherwise"


def test_a_perfect_grid_is_thinned_too():
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0), [0.0]), -1).reshape(-1, 3)
    assert 0.1 < len(pyramid(grid, LEVELS[:2])[1].points) / 1600 < 0.4


def test_small_clouds_repeat_their_last_level():
    few = np.random.default_rng(3).normal(size=(20, 3))
    levels = pyramid(few, LEVELS)
    assert len(levels) == 3
    assert levels[2].neighbours.shape == (20, 48), "the farthest is repeated"
    assert levels[2].points is levels[0].points


def test_priorities_are_spread_evenly_and_minima_are_below_their_neighbours(sheet):
    distances = np.sort(np.random.default_rng(4).uniform(1, 2, (3000, 9)))
    values = priority(sheet, distances)
    assert np.histogram(values, 10, (0, 1))[0].min() > 200
    neighbours = np.random.default_rng(5).integers(3000, size=(3000, 3))
    chosen = local_minima(values, neighbours)
    assert (values[neighbours[chosen]] > values[chosen, None]).all()
