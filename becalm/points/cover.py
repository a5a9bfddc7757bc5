"""Overlapping patches that cover a cloud, with weights that blend what is computed on each into one smooth whole."""

from typing import NamedTuple

import numpy as np

from becalm.points.neighbours import buckets, knn


class PatchCover(NamedTuple):
    """A cover of a cloud of n points by p patches of m neighbouring points each."""

    members: np.ndarray
    """Indices `[p, m]` into the cloud, nearest the patch's centre first."""
    centres: np.ndarray
    """Positions `[p, 3]` of the points about which the patches lie."""
    radii: np.ndarray
    """Distance `[p]` from the centre to the farthest member."""
    weights: np.ndarray
    """Weight of each patch's value at each of its points, `[p, m]`: falls smoothly to 0 from the centre; sums to 1 for each
    point."""


def patch_cover(xyz: np.ndarray, size: int, overlap: float) -> PatchCover:
    """Patches of the `size` points nearest to spread-out members of a cloud [n, 3] of distinct points.

    About `overlap`·n/size centres, as dense as the points are; more are added where a point lies in no patch or only
    at the rim of one. A point's weights are the bumps (1 − d²/r²)² of its patches over their sum.
    """
    size, width = min(size, len(xyz)), max(1, int(size / overlap))
    seeds, left = np.empty(0, np.int64), np.arange(len(xyz))
    distances, members = np.empty((0, size)), np.empty((0, size), np.int64)
    while len(left):
        seeds = left[_group_medoids(xyz[left], width)]
        nearest = knn(xyz, size, xyz[seeds])
        distances, members = np.concatenate([distances, nearest[0]]), np.concatenate([members, nearest[1]])
        bumps = (1 - (distances / np.maximum(distances[:, -1:], 1e-300)) ** 2) ** 2
        bumps[:, 0] = 1
        total = np.bincount(members.ravel(), bumps.ravel(), len(xyz))
        left, width = np.flatnonzero(total < 0.02), max(1, width // 2)
    return PatchCover(members, xyz[members[:, 0]], distances[:, -1], bumps / total[members])  # type: ignore


def _group_medoids(points: np.ndarray, width: int) -> np.ndarray:
    """One index for each compact group of at most `width` points: that of the member nearest to the group's mean."""
    indices, members = buckets(points, width)
    away = members - members.mean(axis=1, keepdims=True)
    middle = np.einsum("bmc,bmc->bm", away, away).argmin(axis=1)
    return indices[np.arange(len(indices)), middle]
