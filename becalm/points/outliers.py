"""Outliers: points far from all others, points displaced by more than the noise, and mixed pixels between two surfaces."""

import numpy as np

from becalm.points.neighbours import knn
from becalm.points.rays import ray_directions

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


RAY_NEIGHBOURS = 24
"""Neighbours among the rays that a point's range is compared with: two rings of a raster."""

STEEPEST = 3.0
"""Change of range over change of place, up to which a neighbour counts as of the same surface: 72° of incidence."""


def mixed_pixels(xyz: np.ndarray, places: np.ndarray) -> np.ndarray:
    """bool [n]: the points of a cloud [n, 3] that hang in the air across a depth edge, seen by sensors at `places` [n, 3].

    A point is mixed where at most half of the 24 points nearest to it by the directions of their rays lie about as far from the
    sensor, others clearly in front and behind, and the 25 are no plane; points of a volume, most of whose neighbours are as
    lonely, are none. After Tang, Huber & Akinci, "A comparative analysis of depth-discontinuity and mixed-pixel detection
    algorithms" (3DIM 2007).
    """
    found = np.zeros(len(xyz), dtype=bool)
    sensors, sensor_of = np.unique(places, axis=0, return_inverse=True)
    for i in range(len(sensors)):
        rows = np.flatnonzero(sensor_of.reshape(-1) == i)
        if len(rows) > RAY_NEIGHBOURS:
            found[rows] = mixed_pixels_of_scan(xyz[rows], sensors[i])
    return found


def mixed_pixels_of_scan(xyz: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The mixed pixels [n] of one scan [n, 3] from `place` [3]."""
    rays, ranges = ray_directions(xyz, place), np.linalg.norm(xyz - place, axis=1)
    angles, around = knn(rays, RAY_NEIGHBOURS + 1)
    step = ranges[around[:, 1:]] - ranges[:, None]
    rough = np.quantile(np.abs(step[:, :8]), 0.75, axis=1)
    noise = np.quantile(np.median(rough[around], axis=1)[around], 0.1, axis=1)  # what is usual off the edges
    near = np.maximum(STEEPEST * angles[:, 1:] * ranges[:, None], 3 * noise[:, None])
    lonely = (np.abs(step) <= near).sum(axis=1) <= RAY_NEIGHBOURS // 2
    between = (step > near).any(axis=1) & (step < -near).any(axis=1)
    suspects = np.flatnonzero(lonely & between)
    suspects = suspects[lonely[around[suspects, 1:]].mean(axis=1) < 0.5]
    bent = plane_residual(rays, ranges, suspects, around[suspects])
    found = np.zeros(len(xyz), dtype=bool)
    found[suspects] = bent > np.maximum(angles[suspects, 4] * ranges[suspects], noise[suspects])
    return found


def plane_residual(rays: np.ndarray, ranges: np.ndarray, rows: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Root mean square distance along the rays [m] of the points `around` [m, k] each of `rows` [m] from a plane.

    On the plane n·x = c the inverse range is linear in the unit ray u: 1/r = (n/c)·u. It is regressed in the frame of each ray.
    """
    u = rays[rows]
    first = np.cross(u, np.eye(3)[np.abs(u).argmin(axis=1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frame = np.stack([u, first, np.cross(u, first)], axis=1)
    design = np.einsum("mkc,mac->mka", rays[around], frame)
    design[:, :, 1:] /= np.abs(design[:, :, 1:]).max(axis=(1, 2), keepdims=True) + 1e-300
    inverse = ranges[rows, None] / ranges[around]
    normal_equations = design.transpose(0, 2, 1) @ design + 1e-9 * np.eye(3)
    slopes = np.linalg.solve(normal_equations, design.transpose(0, 2, 1) @ inverse[:, :, None])
    residual = inverse[:, :, None] - design @ slopes
    return ranges[rows] * np.sqrt(np.mean(residual[:, :, 0] ** 2, axis=1))
