import numpy as np
import pytest

from becalm.points.elimination import _pairs, _sums, eliminate_samples
from becalm.points.metrics import unevenness


def square(m, seed=0):
    return np.c_[np.random.default_rng(seed).random((m, 2)), np.zeros(m)]


def one_at_a_time(points, n, area):
    """The paper's order: the heaviest goes, its neighbours get lighter, and so on."""
    radius = np.sqrt(area / (2 * np.sqrt(3) * n))
    first, second, weight = _pairs(points, radius, 0.65 * (1 - (n / len(points)) ** 1.5))
    table = np.zeros((len(points), len(points)))
    table[first, second] = table[second, first] = weight
    alive = np.ones(len(points), bool)
    for _ in range(len(points) - n):
        heavy = np.where(alive, table[:, alive].sum(1), -1).argmax()
        alive[heavy] = False
    return np.flatnonzero(alive)


@pytest.mark.parametrize("n", [40, 500, 1999, 2000])
def test_exactly_n_distinct_ones(n):
    kept = eliminate_samples(square(2000), n, 1.0)
    assert len(np.unique(kept)) == n
    assert np.all(np.diff(kept) > 0)


def test_as_even_as_one_at_a_time():
    points = square(800)
    many, one = eliminate_samples(points, 200, 1.0), one_at_a_time(points, 200, 1.0)
    assert len(np.intersect1d(many, one)) > 130
    assert unevenness(points[many]) < 1.1 * unevenness(points[one]) < 0.2


def test_no_two_left_close():
    from scipy.spatial import cKDTree

    points = square(20_000)
    kept = points[eliminate_samples(points, 5000, 1.0)]
    largest = 2 * np.sqrt(1 / (2 * np.sqrt(3) * 5000))
    assert cKDTree(kept).query(kept, 2)[0][:, 1].min() > 0.6 * largest


def test_area_is_found_where_it_is_not_given():
    points = square(8000, seed=3)
    assert unevenness(points[eliminate_samples(points, 2000)]) < 0.12
    scaled = eliminate_samples(1000 * points, 2000)
    assert np.array_equal(scaled, eliminate_samples(points, 2000))


def test_copies_and_too_few():
    kept = eliminate_samples(np.repeat(square(50), 4, axis=0), 50, 1.0)
    assert len(np.unique(kept // 4)) >= 30
    with pytest.raises(ValueError, match="51 of 50"):
        eliminate_samples(square(50), 51)


def test_weights_are_sums_over_both_ends():
    assert np.allclose(_sums(np.array([0, 0]), np.array([1, 2]), np.array([1.0, 2.0]), 4), [3, 1, 2, 0])
