"""A cloud at four resolutions: each level holds about a quarter of the points of the one before, as means of eight neighbours.

What neighbours do not share is averaged away from level to level, what they share stays: so a point that is fitted at every level
shows white noise, correlated noise and shape apart, at the cost of 48 neighbours a level. All is decided by a point's own
neighbours: points far away, the order of the points and a rotation change nothing.
"""

from typing import NamedTuple

import numpy as np

from becalm.points.neighbours import NeighbourTree, knn

RIVALS = 3
"""A point represents its neighbourhood on the next level if it comes before this many nearest neighbours: about one in four."""

AVERAGED = 8
"""Points whose mean is a point of the next level, itself included."""


class Level(NamedTuple):
    """The points of one resolution."""

    points: np.ndarray
    """[m, 3] float64 means."""
    seeds: np.ndarray
    """[m] the point of the cloud that each mean lies about."""
    tree: NeighbourTree
    """Answers for their nearest neighbours."""


def pyramid(xyz: np.ndarray, levels: int, k: int) -> list[Level]:
    """The cloud [n, 3] of distinct positions and `levels` − 1 coarser ones, each tree good for `k` neighbours.

    A level with fewer than 16 points is left out: the one before then stands for it too.
    """
    built = [Level(xyz, np.arange(len(xyz)), NeighbourTree(xyz, min(k, len(xyz))))]
    while len(built) < levels:
        points, seeds, tree = built[-1]
        distances, indices = tree.query(points, min(AVERAGED + 1, len(points)))
        chosen = local_minima(priority(points, distances), indices[:, 1 : RIVALS + 1])
        if len(chosen) < 16:
            built.append(built[-1])
            continue
        means = points[indices[chosen, :AVERAGED]].mean(axis=1)
        built.append(Level(means, seeds[chosen], NeighbourTree(means, min(k, len(means)))))
    return built


def interleave(xyz: np.ndarray, parts: int) -> np.ndarray:
    """A number from 0 to `parts` − 1 for each point [n], as good as random: clouds of one number are evenly thinned.

    It follows from the distances to a point's neighbours; where these are those of the next point too, as on a grid, from the
    coordinates.
    """
    distances, indices = knn(xyz, min(AVERAGED + 1, len(xyz)))
    ratio = distance_ratio(distances)
    tied = np.abs(ratio[indices[:, 1]] - ratio) < 1e-6
    return np.where(tied, parts * coordinate_hash(xyz), parts * (1000 * ratio % 1)).astype(np.int64) % parts


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
