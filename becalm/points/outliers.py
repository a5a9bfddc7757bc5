"""Outliers: points that lie far from everything else, told from the spacing around them."""

import numpy as np

from becalm.points.neighbours import knn

NEAR, AROUND = 8, 32


def isolated(xyz: np.ndarray, ratio: float = 2.5) -> np.ndarray:
    """bool [n]: the points whose 8 nearest neighbours are `ratio` times as far as is usual for the neighbours themselves.

    The usual is the median over the 32 nearest points, so that a scan may be dense here and sparse there. What is compared
    is the mean distance to the 8 nearest, a smoother relative of the local outlier factor (Breunig et al., 2000).
    """
    k = min(AROUND, len(xyz) - 1)
    distances, indices = knn(xyz, k + 1)
    own = distances[:, 1 : NEAR + 1].mean(1)
    usual = np.median(own[indices[:, 1:]], axis=1)
    floor = 1e-3 * np.median(own) + np.finfo(float).tiny
    return own > ratio * np.maximum(usual, floor)


def contradicting(xyz: np.ndarray, moved: np.ndarray, noise: np.ndarray, ratio: float = 5.0) -> np.ndarray:
    """bool [n]: the points at `xyz` [n, 3] whose displacement `moved` [n, 3] is no noise of the size that is usual around them.

    The usual is the median of the noise levels [n] found at the 32 nearest points; under Gaussian noise one coordinate, the one
    across the surface, of 1.7 million exceeds five times its level.
    """
    around = np.median(noise[knn(xyz, min(AROUND, len(xyz)))[1]], axis=1)
    return np.linalg.norm(moved, axis=1) > ratio * np.maximum(around, np.finfo(float).tiny)
