"""Denoising a cloud: what the model never sees, what must survive, and what is refused."""

import numpy as np
import pytest

from becalm.points import Cloud, ScanError
from becalm.points.denoise import check_points, find_isolated, iter_denoise_cloud, point_attributes, summarize
from becalm.points.estimate import noise_levels
from becalm.points.outliers import excess_displacement, isolated_points
from becalm.points.progress import DenoiseProgress, final_progress
from becalm.tasks.denoise import denoise


class Shift:
    """A model that moves every point by the same vector, and keeps what it was shown."""

    def __init__(self):
        self.seen = None

    def iter_denoise(self, xyz, sigma=None, seed=0):
        self.seen = xyz
        yield DenoiseProgress(0.5)
        yield DenoiseProgress(1.0, xyz + [0.25, 0.0, -0.5])


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(200, 3)) + [4_500_000.0, 650_000.0, 100.0]
    xyz[7] = np.nan
    xyz[20] = xyz[30] = xyz[31]
    return Cloud(xyz, {"intensity": rng.integers(0, 9, 200).astype(np.uint16), "name": np.full(200, "a")})


def test_every_finite_point_moves_as_the_model_says_and_all_else_stays(cloud):
    model = Shift()
    result = denoise(cloud, model).cloud
    moved = result.xyz - cloud.xyz
    assert np.isnan(result.xyz[7]).all()
    np.testing.assert_allclose(moved[cloud.measured], np.tile([0.25, 0, -0.5], (199, 1)), atol=1e-8)
    assert result.attributes.keys() == cloud.attributes.keys()
    assert all(np.array_equal(result.attributes[k], cloud.attributes[k]) for k in cloud.attributes)
    assert len(model.seen) == 197, "copies of one position are seen once"
    assert np.abs(model.seen).max() < 10, "about a local origin"


def test_copies_of_a_position_stay_together(cloud):
    class Scatter:
        def iter_denoise(self, xyz, sigma=None, seed=0):
            yield DenoiseProgress(1.0, xyz + np.random.default_rng(1).normal(size=xyz.shape))

    result = denoise(cloud, Scatter()).cloud
    assert np.array_equal(result.xyz[20], result.xyz[30])
    assert np.array_equal(result.xyz[20], result.xyz[31])


def test_a_far_point_is_an_outlier_and_is_kept_flagged_or_removed(cloud):
    xyz = cloud.xyz.copy()
    xyz[3] += 50
    far = cloud.with_positions(xyz)
    found = find_isolated(far, "flag")
    assert found[3]
    assert found.sum() < 10
    assert not find_isolated(far, "keep").any()
    flagged = denoise(far, Shift(), outliers="flag").cloud
    assert flagged.attributes["outlier"].dtype == np.uint8
    assert np.array_equal(flagged.attributes["outlier"].astype(bool), found)
    assert np.array_equal(flagged.xyz[3], xyz[3]), "left where it was"
    removed = denoise(far, Shift(), outliers="remove").cloud
    assert len(removed) == 200 - found.sum()
    assert np.array_equal(removed.attributes["intensity"], cloud.attributes["intensity"][~found])


def test_density_that_changes_over_the_scan_makes_no_outliers():
    rng = np.random.default_rng(2)
    plane = rng.uniform(-1, 1, (20_000, 2))
    plane = plane[rng.random(20_000) < np.exp(-3 * (plane[:, 0] + 1))]
    assert isolated_points(np.c_[plane, np.zeros(len(plane))]).mean() < 0.002


def test_what_is_known_of_each_point_is_told(cloud):
    class Teller(Shift):
        def iter_denoise(self, xyz, sigma=None, seed=0):
            yield DenoiseProgress(1.0, xyz + [0.25, 0.0, -0.5], np.arange(197.0), np.linspace(0, 9, 197))

    progress = final_progress(iter_denoise_cloud(cloud, Teller()))
    assert not progress.outlier.any()
    found = point_attributes(cloud, progress)
    np.testing.assert_allclose(found["displacement"][cloud.measured], np.hypot(0.25, 0.5), rtol=1e-5)
    assert np.isnan(found["noise"][7])
    assert sorted(set(found["noise"][cloud.measured])) == list(range(197))
    assert found["confidence"][np.nanargmin(found["noise"])] == 1
    assert np.nanmin(found["confidence"]) < 0.01
    figures = summarize(cloud, progress)
    assert figures.missing == 1
    assert figures.displacement_median == pytest.approx(np.hypot(0.25, 0.5), rel=1e-5)


@pytest.mark.parametrize("count", [1, 15])
def test_too_few_points_are_refused(count):
    with pytest.raises(ScanError, match=f"{count} distinct finite points; at least 16"):
        denoise(Cloud(np.random.default_rng(0).normal(size=(count, 3))), Shift())


def test_a_cloud_of_one_position_is_refused():
    with pytest.raises(ScanError, match="1 distinct finite points"):
        denoise(Cloud(np.ones((500, 3))), Shift())


@pytest.mark.parametrize("sigma", [0.0, -1.0, 1e9, np.nan])
def test_an_absurd_noise_level_is_refused(cloud, sigma):
    with pytest.raises(ScanError, match="scan's units"):
        check_points(cloud.local()[cloud.measured], sigma, cloud)


def rough_plane(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A plane whose noise grows from 0.002 to 0.02 along x, and that noise level."""
    rng = np.random.default_rng(seed)
    xyz = np.c_[rng.uniform(0, 1, (n, 2)), np.zeros(n)]
    sigma = 0.002 * 10 ** xyz[:, 0]
    return xyz + sigma[:, None] * rng.standard_normal((n, 3)), sigma


def test_the_noise_level_of_every_point_is_found():
    noisy, sigma = rough_plane(8000)
    ratio = noise_levels(noisy) / sigma
    assert 0.8 < np.median(ratio) < 1.25
    assert np.quantile(np.abs(np.log(ratio)), 0.9) < np.log(1.5)
    assert noise_levels(noisy).shape == (8000,)


def test_the_model_tells_uneven_noise():
    import becalm

    noisy, sigma = rough_plane(8000, 1)
    ratio = final_progress(becalm.load("jets").iter_denoise(noisy)).noise / sigma
    assert 0.75 < np.median(ratio) < 1.33
    assert np.quantile(np.abs(np.log(ratio)), 0.9) < np.log(1.85)


def test_a_displacement_beyond_the_noise_around_it_is_an_outlier():
    rng = np.random.default_rng(3)
    xyz = rng.uniform(size=(500, 3))
    moved = 0.01 * rng.standard_normal((500, 3))
    moved[17] = [0.0, 0.2, 0.0]
    noise = np.full(500, 0.02)
    noise[17] = 5.0
    assert np.flatnonzero(excess_displacement(xyz, moved, noise)).tolist() == [17]
