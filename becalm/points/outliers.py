"""Outliers: points far from all others, by the spacing around them, and points whose displacement exceeds the noise."""

import numpy as np

from becalm.points.neighbours import knn

SPACING_NEIGHBOURS, REFERENCE_NEIGHBOURS = 8, 32
"""Neighbours whose mean distance is a point's spacing, and neighbours whose median is what it is compared with."""


def isolated_points(xyz: np.ndarray, ratio: float = 2.5) -> np.ndarray:
    """bool [n]: points whose mean distance to their 8 nearest neighbours is over `ratio` times the median of it around them.

    The median is over the 32 nearest points, so that a scan may be dense in one place and sparse in another. It is a smoother
    relative of the local outlier factor (Breunig et al., 2000).
    """
    k = min(REFERENCE_NEIGHBOURS, len(xyz) - 1)
    distances, indices = knn(xyz, k + 1)
    own = distances[:, 1 : SPACING_NEIGHBOURS + 1].mean(1)
    usual = np.median(own[indices[:, 1:]], axis=1)
    floor = 1e-3 * np.median(own) + np.finfo(float).tiny
    return own > ratio * np.maximum(usual, floor)


def excess_displacement(xyz: np.ndarray, moved: np.ndarray, noise: np.ndarray, ratio: float = 5.0) -> np.ndarray:
    """bool [n]: points at `xyz` [n, 3] whose displacement `moved` [n, 3] is longer than `ratio` times the noise around them.

    The noise around a point is the median of the levels `noise` [n] of its 32 nearest points. Of Gaussian noise across the
    surface one point in 1.7 million exceeds five times its level.
    """
    around = np.median(noise[knn(xyz, min(REFERENCE_NEIGHBOURS, len(xyz)))[1]], axis=1)
    return np.linalg.norm(moved, axis=1) > ratio * np.maximum(around, np.finfo(float).tiny)
