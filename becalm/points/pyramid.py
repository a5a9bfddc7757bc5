"""A cloud at four resolutions: each level holds about a quarter of the points of the one before, as means of eight neighbours.

What neighbours do not share is averaged away from level to level, what they share stays: so a point that is fitted at every level
shows white noise, correlated noise and shape apart, at little more cost than that of the finest level. All is decided by a
point's own neighbours: points far away, the order of the points and a rotation change nothing.
"""

from typing import NamedTuple

import numpy as np

from becalm.points.neighbours import NeighbourTree

RIVALS = 3
"""A point represents its neighbourhood on the next level if it comes before this many nearest neighbours: about one in four."""

FAR = 8.0
"""Neighbours farther away than this many times the eighth are none: they lie beyond a gap, on another object."""

AVERAGED = 8
"""Points whose mean is a point of the next level, itself included."""


class Level(NamedTuple):
    """The points of one resolution."""

    points: np.ndarray
    """[m, 3] float64 means."""
    seeds: np.ndarray
    """[m] the point of the cloud that each mean lies about."""
    neighbours: np.ndarray
    """[m, k] the nearest points of the level to each, itself first; where there are fewer, the farthest is repeated."""
    tree: NeighbourTree
    """Answers for their nearest neighbours."""


def pyramid(xyz: np.ndarray, neighbours: tuple[int, ...]) -> list[Level]:
    """The cloud [n, 3] of distinct positions and coarser ones, each level with so many `neighbours` a point.

    A level with fewer than 16 points is left out: the one before then stands for it too.
    """
    points, seeds, built = xyz, np.arange(len(xyz)), list[Level]()
    for k in neighbours:
        if built:
            near = built[-1].neighbours
            distances = np.linalg.norm(points[near[:, : AVERAGED + 1]] - points[:, None], axis=2)
            chosen = local_minima(priority(points, distances), near[:, 1 : RIVALS + 1])
            if len(chosen) >= 16:
                points, seeds = points[near[chosen, :AVERAGED]].mean(axis=1), seeds[chosen]
        tree = NeighbourTree(points, min(k, len(points)))
        built.append(Level(points, seeds, nearest_neighbours(tree, points, k), tree))
    return built


def nearest_neighbours(tree: NeighbourTree, queries: np.ndarray, k: int) -> np.ndarray:
    """The k nearest points [m, k] of each query [m, 3]; where others lie beyond a gap, or there are fewer, the farthest is
    repeated."""
    distances, indices = tree.query(queries, min(k, len(tree.points)))
    missing = k - indices.shape[1]
    if indices.shape[1] > AVERAGED:
        near = (distances <= FAR * distances[:, AVERAGED : AVERAGED + 1]).sum(1)
        farthest = np.minimum(np.arange(indices.shape[1])[None], near[:, None] - 1)
        indices = np.take_along_axis(indices, farthest, 1)
    return np.concatenate([indices, np.repeat(indices[:, -1:], missing, 1)], 1) if missing else indices


def priority(points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """A number [n] in [0, 1) for each point, as good as random, from ratios of the distances [n, k] to its neighbours alone.

    On perfect grids all ratios are the same: there the coordinates decide, by a term far smaller than any other difference.
    """
    return (1000 * distance_ratio(distances)) % 1 + 1e-9 * coordinate_hash(points)


def distance_ratio(distances: np.ndarray) -> np.ndarray:
    """The logarithm [n] of the ratio of the distances to the farthest and to the middle neighbour, of rising distances [n, k]."""
    middle = distances[:, (distances.shape[1] - 1) // 2]
    return np.log(np.maximum(distances[:, -1], 1e-300)) - np.log(np.maximum(middle, 1e-300))


def coordinate_hash(points: np.ndarray) -> np.ndarray:
    """A number [n] in [0, 1) from the bits of the coordinates [n, 3] (a round of SplitMix64)."""
    bits = np.ascontiguousarray(points).view(np.uint64)
    mixed = (bits * np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)).sum(axis=1)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53


def local_minima(values: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Indices of the points whose value is below those of all their neighbours [n, m]."""
    return np.flatnonzero((values[neighbours] > values[:, None]).all(axis=1))
