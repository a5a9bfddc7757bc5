"""The Jarque-Bera diagnostic: Gaussian noise passes, other laws and nearest-point targets do not."""

import numpy as np
import pytest

from becalm.points.neighbours import knn
from becalm.points.normality import jarque_bera, noise_normality, separated_subset, standardized_residuals


def plane(rng, n: int = 6000) -> np.ndarray:
    return np.c_[rng.uniform(-1, 1, (n, 2)), np.zeros(n)]


def sphere(rng, n: int = 6000) -> np.ndarray:
    xyz = rng.normal(size=(n, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


@pytest.mark.parametrize("surface", [plane, sphere])
def test_gaussian_noise_passes_in_most_seeds(surface):
    passed = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        clean = surface(rng)
        passed.append(noise_normality(clean + 0.01 * rng.normal(size=clean.shape), seed, 2000).p > 0.01)
    assert sum(passed) >= 18


@pytest.mark.parametrize(("law", "bounds"), [("uniform", (1.6, 2.2)), ("laplace", (4.0, 7.0))])
def test_other_laws_of_the_same_deviation_fail(law, bounds):
    rng = np.random.default_rng(1)
    clean = plane(rng, 20_000)
    uniform, laplace = rng.uniform(-1, 1, clean.shape) * np.sqrt(3), rng.laplace(size=clean.shape) / np.sqrt(2)
    unit = uniform if law == "uniform" else laplace
    found = noise_normality(clean + 0.005 * unit)
    assert found.p < 1e-3
    assert bounds[0] < found.kurtosis < bounds[1]


def test_residuals_are_standard_whatever_the_noise_level_and_where_it_changes():
    rng = np.random.default_rng(2)
    clean = plane(rng, 20_000)
    level = 0.003 * np.exp(0.7 * clean[:, :1])
    found = standardized_residuals(clean + level * rng.normal(size=clean.shape))
    assert len(found) > 150
    assert found.std() == pytest.approx(1, abs=0.12)
    assert jarque_bera(found)[1] > 0.01
    np.testing.assert_allclose(
        standardized_residuals(1000 * clean + 5, 0, 500), 0, atol=1e-6, err_msg="a plane without noise has no residuals"
    )


def test_gross_errors_among_the_neighbours_spoil_no_fit():
    rng = np.random.default_rng(3)
    noisy = plane(rng) + 0.005 * rng.normal(size=(6000, 3))
    noisy[::40, 2] += 0.06
    found = standardized_residuals(noisy)
    usual = found[np.abs(found) < 4]
    assert len(usual) > 0.9 * len(found)
    assert usual.std() == pytest.approx(1, abs=0.15)
    assert noise_normality(noisy).p < 1e-6, "the gross errors themselves are seen"


def test_index_pairs_pass_where_nearest_points_fail():
    rng = np.random.default_rng(4)
    clean = sphere(rng, 20_000)
    noisy = clean + 0.02 * rng.normal(size=clean.shape)
    nearest = clean[knn(clean, 1, noisy)[1][:, 0]]
    assert jarque_bera((noisy - clean) / 0.02)[1] > 0.01
    assert jarque_bera((noisy - nearest) / 0.02)[1] < 1e-6


def test_the_statistic_is_the_textbook_s():
    values = np.random.default_rng(5).gamma(2.0, size=500)
    centred = (values - values.mean()) / values.std()
    skewness, kurtosis = (centred**3).mean(), (centred**4).mean()
    statistic, p = jarque_bera(values)[:2]
    assert statistic == pytest.approx(500 / 6 * (skewness**2 + (kurtosis - 3) ** 2 / 4))
    assert p == pytest.approx(np.exp(-statistic / 2))
    assert np.isnan(jarque_bera(np.ones(9))[0])


def test_those_kept_are_apart_and_no_more_would_fit():
    points = np.random.default_rng(6).uniform(size=(800, 2))
    chosen = separated_subset(np.c_[points, np.zeros(800)], 0.1)
    gaps = np.linalg.norm(points[:, None] - points[chosen], axis=-1)
    assert np.sort(gaps[chosen], axis=1)[:, 1].min() > 0.1
    assert gaps.min(axis=1).max() <= 0.1


def test_of_too_few_points_or_none_that_differ_nothing_is_said():
    assert np.isnan(noise_normality(np.random.default_rng(7).normal(size=(48, 3))).p)
    assert np.isnan(noise_normality(plane(np.random.default_rng(7), 200)).p)
    with pytest.raises(ValueError, match="at least 49"):
        standardized_residuals(np.zeros((48, 3)))
