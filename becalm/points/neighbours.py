"""Nearest neighbours by k-d tree, farthest-point sampling and spatial orderings; exact, in float64, for any number of points."""

import numpy as np


def knn(points: np.ndarray, k: int, queries: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of `points` [n, 3] to each query, by rising distance: (distances, indices), both [m, k].

    Without `queries` the points themselves are the queries, and the own index of each comes first, however many copies of
    its position there are. Raises ValueError when there are fewer than k points or a coordinate is not finite.
    """
    distances, indices = NeighbourTree(points, k).query(points if queries is None else queries, k)
    return distances, _self_first(indices) if queries is None else indices


class NeighbourTree:
    """A k-d tree of points [n, 3] for queries of up to k neighbours; copies of a position after its k-th are left out."""

    def __init__(self, points: np.ndarray, k: int):
        from scipy.spatial import KDTree

        if not 1 <= k <= len(points):
            raise ValueError(f"k: {k} neighbours of {len(points)} points asked for; it must be from 1 to {len(points)}")
        self.points = points
        self.rows = _limit_copies(points, k)
        self.tree = KDTree(points if self.rows is None else points[self.rows])

    def query(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest to each query by rising distance: (distances, indices), both [m, k]."""
        from torch import get_num_threads

        distances, indices = self.tree.query(queries, k, workers=get_num_threads())
        indices = indices if self.rows is None else self.rows[indices]
        return np.reshape(distances, (-1, k)), np.reshape(indices, (-1, k))


def _limit_copies(points: np.ndarray, k: int) -> np.ndarray | None:
    """Indices of the points less every copy of a position after its k-th, or None when no position has more than k.

    No query for k neighbours needs more than k copies of one position, and a k-d tree cannot split them: 10⁶ equal points
    would be one leaf that every query searches.
    """
    first = np.sort(points[:, 0])
    if not np.any(first[k:] == first[:-k]):
        return None
    order = np.lexsort(points.T)
    new = np.r_[True, np.any(points[order[1:]] != points[order[:-1]], axis=1)]
    starts = np.flatnonzero(new)
    copy = np.arange(len(points)) - starts[np.cumsum(new) - 1]
    return None if copy.max() < k else np.sort(order[copy < k])


def _self_first(indices: np.ndarray) -> np.ndarray:
    """Neighbours with i moved to the front of row i; before, only copies of point i, at distance 0, can stand there."""
    own = np.arange(len(indices))
    rows = np.flatnonzero(indices[:, 0] != own)
    if len(rows):
        wrong, own = indices[rows], own[rows, None]
        absent = ~np.any(wrong == own, axis=1)
        wrong[absent, -1] = own[absent, 0]
        order = np.argsort(wrong != own, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(wrong, order, axis=1)
    return indices


def median_spacing(points: np.ndarray) -> float:
    """The median distance from a point to its nearest other position; 0 when there is only one position."""
    distinct = np.unique(points, axis=0)
    return float(np.median(knn(distinct, 2)[0][:, 1])) if len(distinct) > 1 else 0.0


def farthest_point_sample(points: np.ndarray, count: int, start: int = 0) -> np.ndarray:
    """Indices [count] of a farthest-point sample: `start`, then always the point farthest from all chosen so far.

    Exact. Points lie in compact buckets that remember the farthest of their members, and a new choice updates only the
    buckets whose box it comes closer to than that: about 40 µs a choice at 150 000 points. The loop is the method.
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"count: {count} of {len(points)} points asked for; it must be from 1 to {len(points)}")
    order, members = buckets(points)
    low, high = members.min(axis=1), members.max(axis=1)
    left = np.full(members.shape[:2], np.inf)
    farthest = np.full(len(members), np.inf)
    chosen = np.empty(count, dtype=np.int64)
    chosen[0] = start
    for i in range(count - 1):
        here = points[chosen[i]]
        outside = np.maximum(low - here, here - high).clip(min=0)
        near = np.flatnonzero(np.einsum("bc,bc->b", outside, outside) < farthest)
        away = members[near] - here
        left[near] = np.minimum(left[near], np.einsum("bmc,bmc->bm", away, away))
        farthest[near] = left[near].max(axis=1)
        bucket = int(farthest.argmax())
        chosen[i + 1] = order[bucket, left[bucket].argmax()]
    return chosen


def buckets(points: np.ndarray, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Compact groups of at most `size` points, by recursive halving of the longest axis: indices [b, m], coordinates [b, m, 3].

    Every group is padded to the same m with copies of its own members.
    """
    n, halvings = len(points), max(0, int(np.ceil(np.log2(len(points) / size))))
    group, order = np.zeros(n, dtype=np.int64), np.arange(n)
    for level in range(halvings):
        here, starts = points[order], np.searchsorted(group, np.arange(2**level))
        longest = (np.maximum.reduceat(here, starts) - np.minimum.reduceat(here, starts)).argmax(axis=1)
        order = order[np.lexsort((here[np.arange(n), longest[group]], group))]
        group = np.arange(n) * 2 ** (level + 1) // n
    edges = np.searchsorted(group, np.arange(2**halvings + 1))
    width = int(np.diff(edges).max())
    slots = np.minimum(edges[:-1, None] + np.arange(width), edges[1:, None] - 1)
    return order[slots], points[order[slots]]


def morton_codes(points: np.ndarray, bits: int = 16) -> np.ndarray:
    """Morton codes [n]: interleaved bits of the coordinates on a grid of 2^bits cells a side; near codes are near in space."""
    low = points.min(axis=0)
    side = max(float((points.max(axis=0) - low).max()), 1e-300)
    cell = ((points - low) / side * (2**bits - 1)).astype(np.int64)
    places = np.arange(bits)
    shift = 3 * places + np.arange(3)[:, None]
    return sum((((cell[:, axis, None] >> places) & 1) << shift[axis]).sum(axis=1) for axis in range(3))  # type: ignore
