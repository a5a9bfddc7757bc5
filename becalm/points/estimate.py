"""The noise level of a cloud, estimated from the residuals of local quadrics at the smallest scale that is wide against it."""

import numpy as np
import torch

from becalm.points.neighbours import knn
from becalm.points.polyfit import SCALES, fit_jets

RESIDUAL_SHARE = (0.60, 0.83, 0.93, 0.97, 0.985)
"""Ratio of the offset from the quadric to the point's own noise, scale by scale; below 1, as each fit includes its point."""

MAX_NOISE_TO_RADIUS = 0.15
"""A scale is wide against the noise when σ is at most this share of the neighbourhood's radius. In a smaller neighbourhood the
ball of nearest points truncates the noise, and its residuals are too small."""


def noise_level(xyz: np.ndarray, seed: int = 0, sample: int = 4000) -> float:
    """The standard deviation σ of the noise across the surface of a cloud [n, 3] of at least 16 points, in its own units.

    Robust: the median absolute offset from local quadrics over 0.6745 (the MAD of a Gaussian), at the smallest scale that is wide
    against the noise. At most `sample` points, chosen by `seed`, are fitted.
    """
    scales = [k for k in SCALES if k <= len(xyz)]
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(xyz), min(sample, len(xyz)), replace=False))
    neighbours, points, queries, scale = neighbourhoods(xyz, rows, scales[-1])
    fits = fit_jets(points, neighbours, scale, queries, tuple(scales))
    offsets = fits.vectors.unflatten(1, (len(scales), -1))[:, :, 1].norm(dim=-1) * scale[:, None]
    away = (points[neighbours] - points[queries][:, None]).norm(dim=-1)
    for i, k in enumerate(scales):
        level = float(offsets[:, i].median()) / 0.6745 / RESIDUAL_SHARE[i]
        if level <= MAX_NOISE_TO_RADIUS * float(away[:, k - 1].median()):
            break
    return level


def neighbourhoods(xyz: np.ndarray, rows: np.ndarray, k: int):
    """The arguments of `fit_jets` for the points numbered `rows` [m]: a cloud of them and their k nearest neighbours alone.

    Returns the indices [m, k] of the neighbours, the points [p, 3] (float32, centred) that they index, the index [m] of each
    query among these and the local unit of length [m] at each query.
    """
    found = knn(xyz, k, xyz[rows])[1]
    found[:, 0] = rows
    used, places = np.unique(found, return_inverse=True)
    points = torch.as_tensor(xyz[used] - xyz[used].mean(0), dtype=torch.float32)
    neighbours = torch.as_tensor(places.reshape(found.shape))
    queries = neighbours[:, 0]
    near = (points[neighbours[:, 1:17]] - points[queries][:, None]).norm(dim=-1).mean(1)
    return neighbours, points, queries, near.clamp_min(1e-30 + 1e-3 * float(near.mean()))


def noise_levels(xyz: np.ndarray, seed: int = 0, sample: int = 20_000, around: int = 48) -> np.ndarray:
    """The standard deviation [n] of the noise across the surface at every point of a cloud [n, 3] of at least 16 points.

    As `noise_level`, but for each of at most `sample` points the median is over the `around` nearest of them, and the scale is
    chosen for each point, no smaller than half of the cloud needs; every point of the cloud takes the mean of the four nearest
    sampled ones. The levels are scaled up so that their median is at least `noise_level`, which is more reliable in thick noise.
    """
    scales = [k for k in SCALES if k <= len(xyz)]
    rows = np.sort(np.random.default_rng(seed).choice(len(xyz), min(sample, len(xyz)), replace=False))
    neighbours, points, queries, scale = neighbourhoods(xyz, rows, scales[-1])
    fits = fit_jets(points, neighbours, scale, queries, tuple(scales))
    offsets = fits.vectors.unflatten(1, (len(scales), -1))[:, :, 1].norm(dim=-1) * scale[:, None]
    near = knn(xyz[rows], min(around, len(rows)))[1]
    levels = np.median(offsets.numpy()[near], axis=1) / 0.6745 / np.array(RESIDUAL_SHARE[: len(scales)])
    ends = neighbours[:, [k - 1 for k in scales]]
    wide = levels <= MAX_NOISE_TO_RADIUS * (points[ends] - points[queries][:, None]).norm(dim=-1).numpy()
    wide &= np.maximum.accumulate(wide.mean(0) >= 0.5)
    wide[:, -1] = True
    level = np.take_along_axis(levels, wide.argmax(1)[:, None], axis=1)[:, 0]
    level *= max(noise_level(xyz, seed) / max(float(np.median(level)), np.finfo(float).tiny), 1.0)
    return level[knn(xyz[rows], min(4, len(rows)), xyz)[1]].mean(1)
