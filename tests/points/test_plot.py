"""The picture of a denoised scan: panels that are full, and close-ups that show the effect."""

import numpy as np
import pytest

from becalm.points.plot import PANEL_RATIO, close_ups, figure, filling_limits


def waves() -> tuple[np.ndarray, np.ndarray]:
    """A sheet with noise in one corner, and the same without."""
    rng = np.random.default_rng(0)
    clean = np.c_[rng.uniform(0, 9, (4000, 2)), np.zeros(4000)]
    noisy = clean + 0.05 * rng.standard_normal((4000, 3)) * ((clean[:, :2] > 7).all(1)[:, None])
    return noisy, clean


def test_limits_are_widened_about_their_centre():
    limits = np.array([[0.0, 2.0], [4.0, 3.0]])
    wide = filling_limits(limits, 0.5)
    assert wide.tolist() == [[0.0, 1.5], [4.0, 3.5]]
    high = filling_limits(limits[:, ::-1], 0.5)
    assert high.tolist() == [[-1.5, 0.0], [6.5, 4.0]]


def test_every_panel_is_filled():
    pytest.importorskip("matplotlib")
    axes = figure(*waves(), "m", 0).axes[:6]
    ratios = [float(np.ptp(a.get_ylim()) / np.ptp(a.get_xlim()) * a.get_aspect()) for a in axes]
    assert np.allclose(ratios, PANEL_RATIO)
    assert all(a.get_title() for a in axes)


def test_the_section_is_stretched_until_the_noise_is_seen():
    pytest.importorskip("matplotlib")
    panel = figure(*waves(), "m", 0).axes[5]
    heights = np.ptp(panel.collections[0].get_offsets()[:, 1])
    assert heights > 0.25 * np.ptp(panel.get_ylim()) and "heights ×" in panel.get_title()


def test_close_ups_are_near_and_the_first_is_where_points_moved():
    noisy, clean = waves()
    (name, members, _), _ = close_ups(clean, np.linalg.norm(noisy - clean, axis=1))
    assert name == "where points moved farthest"
    assert (clean[members, :2].mean(0) > 6).all()
    assert len(members) == 600
