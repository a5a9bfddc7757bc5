import time

import numpy as np
import pytest

from becalm.points.neighbours import farthest_point_sample, knn, median_spacing


def brute(points, k, queries):
    distances = np.linalg.norm(queries[:, None] - points, axis=2)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, 1), indices


@pytest.mark.parametrize("k", [1, 2, 17, 60])
def test_knn_is_brute_force(k):
    points, queries = np.random.default_rng(k).normal(size=(2, 60, 3))
    for asked in (queries, None):
        distances, indices = knn(points, k, asked)
        want = brute(points, k, points if asked is None else asked)
        np.testing.assert_allclose(distances, want[0], atol=1e-12)
        np.testing.assert_array_equal(indices, want[1])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_own_index_is_first_whatever_the_copies(k):
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(20, 3)), 4, axis=0)[rng.permutation(80)]
    distances, indices = knn(points, k)
    np.testing.assert_array_equal(indices[:, 0], np.arange(80))
    assert all(len(set(row)) == k for row in indices.tolist())
    np.testing.assert_allclose(distances, brute(points, k, points)[0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(points[indices] - points[:, None], axis=2), distances, atol=1e-12)


def test_many_equal_points_are_quick():
    points = np.zeros((200_000, 3))
    points[:100_000] = np.random.default_rng(0).normal(size=(100_000, 3))
    start = time.process_time()
    distances, indices = knn(points, 8)
    assert time.process_time() - start < 25
    np.testing.assert_array_equal(indices[:, 0], np.arange(200_000))
    assert not distances[100_000:].any()


def test_equal_first_coordinates_are_not_copies():
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    distances, _ = knn(grid, 4)
    np.testing.assert_allclose(distances[:, 1:], 1)
    assert median_spacing(np.concatenate([grid, grid, grid])) == 1


def test_knn_refuses():
    with pytest.raises(ValueError, match="5 neighbours of 4 points"):
        knn(np.zeros((4, 3)), 5)
    with pytest.raises(ValueError, match="finite"):
        knn(np.full((4, 3), np.nan), 2)


@pytest.mark.parametrize(("n", "count"), [(1, 1), (50, 50), (700, 100), (3001, 400)])
def test_farthest_points_are_those_of_the_plain_method(n, count):
    points = np.random.default_rng(n).normal(size=(n, 3)) * [1, 2, 0.3]
    left, want = np.full(n, np.inf), [0]
    while len(want) < count:
        left = np.minimum(left, ((points - points[want[-1]]) ** 2).sum(1))
        want.append(int(left.argmax()))
    np.testing.assert_array_equal(farthest_point_sample(points, count), want)


def test_farthest_points_of_copies_end():
    points = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 100, axis=0)
    chosen = farthest_point_sample(points, 300, start=7)
    assert chosen[0] == 7
    assert len(np.unique(points[chosen[:5]], axis=0)) == 5
