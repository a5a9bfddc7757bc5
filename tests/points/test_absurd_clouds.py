"""Clouds of absurd numbers, through the packaged model: moved sensibly, not at all, or refused in a line."""

import numpy as np
import pytest

import becalm
from becalm.core.files import InputError


@pytest.fixture
def sheet() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.c_[rng.uniform(-1, 1, (600, 2)), 0.02 * rng.standard_normal(600)]


def test_a_point_at_1e30_stays_and_the_others_do_not_notice(sheet):
    far = sheet.copy()
    far[7] = 1e30
    result = becalm.denoise(far)
    assert np.array_equal(result.points[7], far[7]) and result.report.unmoved >= 1
    rest = np.arange(600) != 7
    assert np.abs(result.points[rest] - becalm.denoise(sheet[rest]).points).max() < 0.005


@pytest.mark.parametrize("unit", [1e30, 1e-30])
def test_units_do_not_matter(sheet, unit):
    assert np.abs(becalm.denoise(sheet * unit).points / unit - becalm.denoise(sheet).points).max() < 0.005


def test_clusters_far_apart_are_denoised_each():
    rng = np.random.default_rng(0)
    dense = np.c_[rng.uniform(-1, 1, (2000, 2)), 0.02 * rng.standard_normal(2000)]
    result = becalm.denoise(np.concatenate([dense, dense + 1e9]))
    assert result.displacement.max() < 0.2
    assert result.points[:2000, 2].std() < 0.8 * dense[:, 2].std()


@pytest.mark.parametrize("far", [1e11, 1e14])
def test_clusters_beyond_what_numbers_resolve_are_refused_before_the_model(sheet, far):
    with pytest.raises(InputError, match="between neighbours: too far apart"):
        becalm.denoise(np.concatenate([sheet, sheet + far]))


def test_a_fault_of_the_model_is_not_hidden(sheet):
    class Broken:
        def iter_denoise(self, xyz, sigma=None, seed=0):
            raise ValueError("a bug")
            yield

    with pytest.raises(ValueError, match="a bug") as raised:
        becalm.denoise(sheet, Broken())
    assert not isinstance(raised.value, InputError)


def test_random_points_do_not_move():
    result = becalm.denoise(np.random.default_rng(0).random((16, 3)))
    assert not result.displacement.any()


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_sizes_beyond_numbers_are_refused(sheet, factor):
    with pytest.raises(InputError, match="coordinates span"):
        becalm.denoise(sheet * factor)
