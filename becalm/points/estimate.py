"""How noisy a cloud is, told from its own points: the residuals of local quadrics at a scale that fits the noise."""

import numpy as np
import torch

from becalm.points.neighbours import knn
from becalm.points.polyfit import SCALES, jets

KEPT = (0.60, 0.83, 0.93, 0.97, 0.985)
"""Share of a point's own noise that its offset from the quadric shows, scale by scale: the fit follows the point a little."""

THIN = 0.15
"""A scale fits the noise when σ is at most this share of the neighbourhood's radius; below it the ball of neighbours is
cut out of the noise itself and shows too little."""


def noise_level(xyz: np.ndarray, seed: int = 0, sample: int = 4000) -> float:
    """The standard deviation σ of the noise across the surface of a cloud [n, 3] of at least 16 points, in its own units.

    Robust: the median absolute offset from local quadrics over 0.6745, at the smallest scale that is wide against it.
    """
    scales = [k for k in SCALES if k <= len(xyz)]
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(xyz), min(sample, len(xyz)), replace=False))
    neighbours, points, queries, scale = neighbourhoods(xyz, rows, scales[-1])
    fits = jets(points, neighbours, scale, queries, tuple(scales))
    offsets = fits.vectors.unflatten(1, (len(scales), -1))[:, :, 1].norm(dim=-1) * scale[:, None]
    away = (points[neighbours] - points[queries][:, None]).norm(dim=-1)
    for i, k in enumerate(scales):
        level = float(offsets[:, i].median()) / 0.6745 / KEPT[i]
        if level <= THIN * float(away[:, k - 1].median()):
            break
    return level


def neighbourhoods(xyz: np.ndarray, rows: np.ndarray, k: int):
    """The k nearest of the points numbered `rows`, with everything `jets` asks for, on a small cloud of its own.

    Returns indices [m, k] into the points [p, 3] (float32, centred) that are anybody's neighbour, those points, the places
    of the queries among them [m] and the local unit of length at each query [m].
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

    As `noise_level`, but each of at most `sample` points has the median over those of them that are nearest to it, and its own
    scale, no smaller than what most of the cloud needs; every point takes the mean of the four nearest. Their median is
    no less than `noise_level`, which has more points to tell thick noise from a narrow neighbourhood.
    """
    scales = [k for k in SCALES if k <= len(xyz)]
    rows = np.sort(np.random.default_rng(seed).choice(len(xyz), min(sample, len(xyz)), replace=False))
    neighbours, points, queries, scale = neighbourhoods(xyz, rows, scales[-1])
    fits = jets(points, neighbours, scale, queries, tuple(scales))
    offsets = fits.vectors.unflatten(1, (len(scales), -1))[:, :, 1].norm(dim=-1) * scale[:, None]
    near = knn(xyz[rows], min(around, len(rows)))[1]
    levels = np.median(offsets.numpy()[near], axis=1) / 0.6745 / np.array(KEPT[: len(scales)])
    ends = neighbours[:, [k - 1 for k in scales]]
    wide = levels <= THIN * (points[ends] - points[queries][:, None]).norm(dim=-1).numpy()
    wide &= np.maximum.accumulate(wide.mean(0) >= 0.5)
    wide[:, -1] = True
    level = np.take_along_axis(levels, wide.argmax(1)[:, None], axis=1)[:, 0]
    level *= max(noise_level(xyz, seed) / max(float(np.median(level)), np.finfo(float).tiny), 1.0)
    return level[knn(xyz[rows], min(4, len(rows)), xyz)[1]].mean(1)
