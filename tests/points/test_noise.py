import numpy as np
import pytest

from becalm.points import noise

CLEAN = np.random.default_rng(7).uniform(-1, 1, (40_000, 3)) * [3, 2, 1]
SIGMA = 0.03


def drawn(kind, sigma=SIGMA, seed=0):
    return noise.LAWS[kind](CLEAN, sigma, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", noise.LAWS)
def test_variance_is_as_promised(kind):
    clean, draws = (CLEAN[::20], 60) if kind == "correlated" else (CLEAN, 1)
    fields = [noise.LAWS[kind](clean, SIGMA, np.random.default_rng(s)) for s in range(draws)]
    variance = np.mean(np.square(fields).sum(-1)) / 3
    assert variance == pytest.approx(noise.VARIANCE_FACTOR[kind] * SIGMA**2, rel=0.05)
    assert np.abs(np.mean(fields, axis=(0, 1))).max() < (0.2 if kind == "correlated" else 0.03) * SIGMA


@pytest.mark.parametrize("kind", noise.LAWS)
def test_scales_with_sigma_and_repeats_with_the_seed(kind):
    level = np.linspace(0, 2, len(CLEAN))
    assert np.array_equal(drawn(kind), drawn(kind))
    assert np.allclose(drawn(kind, level), level[:, None] * drawn(kind, 1.0))
    assert not drawn(kind, 0.0).any()


@pytest.mark.parametrize(("kind", "kurtosis"), [("gaussian", 3.0), ("laplace", 6.0), ("uniform_ball", 15 / 7)])
def test_kurtosis_of_a_coordinate(kind, kurtosis):
    z = drawn(kind)[:, 0]
    assert np.mean(z**4) / np.mean(z**2) ** 2 == pytest.approx(kurtosis, rel=0.06)


def test_uniform_ball_fills_the_ball_evenly():
    radius = np.linalg.norm(drawn("uniform_ball"), axis=1) / SIGMA
    assert radius.max() <= 1
    assert np.quantile(radius, [0.1, 0.5, 0.9]) == pytest.approx(np.cbrt([0.1, 0.5, 0.9]), abs=0.01)


def test_discrete_steps_and_their_shares():
    values, counts = np.unique(np.round(drawn("discrete") / SIGMA), axis=0, return_counts=True)
    still = np.all(values == 0, axis=1)
    assert len(values) == 7
    assert counts[still] / len(CLEAN) == pytest.approx(0.4, abs=0.01)
    assert counts[~still] / len(CLEAN) == pytest.approx(np.full(6, 0.1), abs=0.01)


def test_anisotropic_covariance():
    assert np.cov(drawn("anisotropic").T) / SIGMA**2 == pytest.approx(noise.ANISOTROPIC_COVARIANCE, abs=0.03)


def test_one_direction_and_along_rays():
    assert not drawn("unidirectional")[:, 1:].any()
    eye = np.array([10.0, -4.0, 3.0])
    moved = noise.along_rays(CLEAN, SIGMA, np.random.default_rng(0), eye)
    ray = (CLEAN - eye) / np.linalg.norm(CLEAN - eye, axis=1)[:, None]
    along = np.einsum("nc,nc->n", moved, ray)
    assert np.allclose(moved, along[:, None] * ray)
    assert along.std() == pytest.approx(SIGMA, rel=0.03)


def test_correlation_falls_off_as_a_gaussian():
    length, gap = 0.2, np.array([0.0, 0.1, 0.2, 0.4, 1.0])
    line = np.c_[gap, np.zeros((5, 2))]
    rng = np.random.default_rng(0)
    fields = np.concatenate([noise.correlated(line, 1.0, rng, length).T for _ in range(3000)])
    assert np.mean(fields * fields[:, :1], axis=0) == pytest.approx(np.exp(-(gap**2) / (2 * length**2)), abs=0.04)


def test_range_dependence_is_quadratic():
    eye = np.array([0.0, 0.0, -2.0])
    level = noise.range_dependent(np.array([[0, 0, 0], [0, 0, 2.0]]), 0.01, eye, 2.0)
    assert level == pytest.approx([0.01, 0.04])


def test_outliers_fill_the_wider_box():
    found = noise.uniform_outliers(CLEAN, 20_000, np.random.default_rng(0))
    low, high = CLEAN.min(0), CLEAN.max(0)
    side = high - low
    assert found.min(0) == pytest.approx(low - 0.1 * side, abs=0.01)
    assert found.max(0) == pytest.approx(high + 0.1 * side, abs=0.01)
    assert found.std(0) == pytest.approx(1.2 * side / np.sqrt(12), rel=0.03)


def test_viewpoint_is_outside():
    eyes = [noise.random_viewpoint(CLEAN, np.random.default_rng(s)) for s in range(50)]
    assert np.min(np.linalg.norm(eyes, axis=1)) > 1.9 * np.linalg.norm(CLEAN, axis=1).max()
