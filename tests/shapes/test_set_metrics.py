from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from becalm.core.files import InputError
from becalm.shapes import set_metrics, sets


def blobs(rng: np.random.Generator, count: int, n: int, shift: float = 0.0) -> np.ndarray:
    """Ellipsoids [count, n, 3] of random axes, moved along x."""
    d = rng.standard_normal((count, n, 3))
    d /= np.linalg.norm(d, axis=2, keepdims=True)
    return (d * rng.uniform(0.2, 0.9, (count, 1, 3)) + [shift, 0, 0]).astype(np.float32)


def as_set(points: np.ndarray, protocol: str = "raw") -> sets.ShapeSet:
    return sets.ShapeSet(points, np.zeros(len(points), np.int64), ("blob",), protocol)  # type: ignore


def test_chamfer_is_the_obvious_one():
    rng = np.random.default_rng(0)
    a, b = blobs(rng, 3, 40), blobs(rng, 4, 50)
    slow = np.zeros((3, 4))
    for i in range(3):
        for j in range(4):
            square = cdist(a[i], b[j], "sqeuclidean")
            slow[i, j] = square.min(1).mean() + square.min(0).mean()
    assert set_metrics.chamfer_matrix(a, b) == pytest.approx(slow, rel=1e-5)
    own = set_metrics.chamfer_matrix(a, a)
    assert own == pytest.approx(own.T) and np.abs(np.diag(own)).max() < 1e-12


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_emd_is_the_least_over_all_permutations(n):
    rng = np.random.default_rng(n)
    x, y = rng.random((n, 3)), rng.random((n, 3))
    least = min(np.linalg.norm(x - y[list(p)], axis=1).mean() for p in permutations(range(n)))
    assert set_metrics.emd(x, y) == pytest.approx(least)


def test_emd_of_a_translation_is_its_length():
    rng = np.random.default_rng(0)
    a = blobs(rng, 3, 60)
    assert np.diag(set_metrics.emd_matrix(a, a + np.float32(0.25))) == pytest.approx(
        np.full(3, 0.25 * np.sqrt(3)), rel=1e-5
    )
    own = set_metrics.emd_matrix(a, a)
    assert own == pytest.approx(own.T) and own == pytest.approx(set_metrics.emd_matrix(a, a.copy()), abs=1e-6)
    with pytest.raises(InputError, match="thin them to one size"):
        set_metrics.emd_matrix(a, a[:, :10])


def test_known_sets_have_known_scores():
    rng = np.random.default_rng(0)
    a, b = blobs(rng, 40, 40), blobs(rng, 40, 40)
    alike = set_metrics.pairwise_distances(set_metrics.chamfer_matrix, a, b)
    assert set_metrics.one_nna(alike) == pytest.approx(0.5, abs=0.2)
    moved = set_metrics.pairwise_distances(set_metrics.chamfer_matrix, a + np.float32(5), b)
    assert set_metrics.one_nna(moved) == 1
    copied = set_metrics.pairwise_distances(set_metrics.chamfer_matrix, a, a.copy())
    assert set_metrics.one_nna(copied) == 0 and set_metrics.mmd(copied) < 1e-12 and set_metrics.coverage(copied) == 1
    few = set_metrics.pairwise_distances(set_metrics.chamfer_matrix, np.repeat(a[:2], 20, axis=0), b)
    assert set_metrics.coverage(few) <= 2 / 40 and set_metrics.one_nna(few) > 0.8
    assert set_metrics.mmd(few) > set_metrics.mmd(alike)


def test_mmd_looks_from_the_references_and_coverage_from_the_samples():
    cross = np.array([[1.0, 5.0, 9.0], [2.0, 6.0, 7.0]])
    d = set_metrics.Distances(cross, np.zeros((2, 2)), np.zeros((3, 3)))
    assert set_metrics.mmd(d) == pytest.approx((1 + 5 + 7) / 3)
    assert set_metrics.coverage(d) == pytest.approx(1 / 3)


def test_jsd_is_between_0_and_1_bit():
    rng = np.random.default_rng(0)
    a = blobs(rng, 20, 500)
    assert set_metrics.jsd(a, a) == 0
    left, right = a * 0.3 - np.array([0.5, 0, 0]), a * 0.3 + np.array([0.5, 0, 0])
    assert set_metrics.jsd(left, right) == pytest.approx(1)
    half = set_metrics.jsd(np.concatenate([left, right]), right)
    assert half == pytest.approx(0.311278, abs=1e-3)  # H(¼, ¾) − ½
    assert set_metrics.jsd(10 * left, 10 * right, half=10.0) == pytest.approx(1)


def test_points_outside_the_ball_do_not_count():
    inside = np.full((1, 10, 3), 0.2)
    corner = np.concatenate([inside, np.full((1, 10, 3), 0.99), np.full((1, 5, 3), 4.0)], axis=1)
    assert set_metrics.jsd(corner, inside) == 0


def test_thickness_sees_fuzz_that_1_nna_by_chamfer_hardly_sees():
    rng = np.random.default_rng(0)
    a, b = (sets.generate_families(24, 512, s, ("chair",), part).points for s, part in ((1, "train"), (2, "test")))
    fuzz = np.float32(0.03) * rng.standard_normal(a.shape).astype(np.float32)
    clean, fuzzy = (
        set_metrics.one_nna(set_metrics.pairwise_distances(set_metrics.chamfer_matrix, x, b)) for x in (a, a + fuzz)
    )
    assert fuzzy - clean < 0.2
    levels = [set_metrics.local_thickness(a + k * fuzz).mean() for k in (0, 0.33, 0.67, 1)]
    assert levels == sorted(levels) and levels[-1] > 1.15 * levels[0]


def test_thickness_of_a_noisy_plane():
    rng = np.random.default_rng(0)
    plane = np.concatenate([rng.uniform(-1, 1, (1, 4000, 2)), 0.002 * rng.standard_normal((1, 4000, 1))], axis=2)
    assert set_metrics.local_thickness(plane, 40)[0] == pytest.approx(0.002, rel=0.1)
    assert set_metrics.local_thickness(plane * [1, 1, 0])[0] == pytest.approx(0, abs=1e-9)


def test_intervals():
    assert set_metrics.wilson_interval(0.5, 100) == pytest.approx((0.5, 0.4038, 0.5962), abs=1e-3)
    assert set_metrics.wilson_interval(0.0, 20).low == 0 and set_metrics.wilson_interval(1.0, 20).high == pytest.approx(
        1
    )
    values = np.random.default_rng(0).standard_normal(400)
    mean, low, high = set_metrics.bootstrap_mean(values, np.random.default_rng(1))
    assert mean == pytest.approx(values.mean()) and high - low == pytest.approx(2 * 1.96 / 20, rel=0.2)


def test_evaluate_gives_the_oracle_beside_the_score():
    rng = np.random.default_rng(0)
    train, test = as_set(blobs(rng, 50, 64)), as_set(blobs(rng, 24, 64))
    bad = as_set(blobs(rng, 24, 64, shift=1.0))
    scored, oracle = set_metrics.evaluate(bad, test, train, set_metrics.Settings(emd_points=32))
    assert scored["1-NNA-CD"].value > 0.9 > oracle["1-NNA-CD"].value  # type: ignore
    assert scored["1-NNA-EMD"].value > 0.9 > oracle["1-NNA-EMD"].value  # type: ignore
    assert scored["JSD"] > oracle["JSD"] and oracle["protocol"] == "global: units of the data"  # type: ignore
    assert oracle["thickness ratio"] == pytest.approx(1, abs=0.2) and oracle["emd points"] == 32
    assert set_metrics.evaluate(bad, test, train, set_metrics.Settings(emd_points=32)) == (scored, oracle)


def test_the_box_protocol_does_not_see_a_shift():
    rng = np.random.default_rng(0)
    a, b = blobs(rng, 20, 64), blobs(rng, 20, 64)
    one, other = (
        set_metrics.compare("x", as_set(x, "box"), as_set(b, "box"), set_metrics.Settings(emd_points=16))
        for x in (a, 0.5 * a + np.float32(0.3))
    )
    assert one["1-NNA-CD"] == other["1-NNA-CD"] and str(one["protocol"]).startswith("box")


def test_sets_that_cannot_be_compared_are_refused():
    rng = np.random.default_rng(0)
    a = as_set(blobs(rng, 6, 64))
    with pytest.raises(InputError, match="as many of the same protocol"):
        set_metrics.compare("x", a, as_set(blobs(rng, 6, 64), "box"))
    with pytest.raises(InputError, match="as many"):
        set_metrics.compare("x", a, as_set(blobs(rng, 5, 64)))
    with pytest.raises(InputError, match="at least as many"):
        set_metrics.evaluate(a, a, as_set(blobs(rng, 5, 64)), set_metrics.Settings(emd_points=16))
