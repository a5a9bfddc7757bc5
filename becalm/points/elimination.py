"""Even subsets of a cloud by weighted sample elimination, many points at a time."""

import numpy as np

POWER = 8
CLAMP, CLAMP_POWER = 0.65, 1.5
TIE = 1e-9
"""Added to break ties: by the clamp two close points without other neighbours often have exactly the same weight."""


def eliminate_samples(points: np.ndarray, n: int, area: float | None = None) -> np.ndarray:
    """Indices [n], rising, of an even (Poisson-disk like) subset of the points [m, 3] of a surface of the given area.

    Weighted sample elimination (Yuksel, "Sample Elimination for Generating Poisson Disk Sample Sets", 2015): with
    r = sqrt(A / (2√3 n)), every point weighs w_i = Σ_j (1 − d_ij / 2r)⁸ over its neighbours nearer than 2r, with
    d_ij at least 2r·0.65·(1 − (n/m)^1.5), and the heaviest goes first. The paper takes one at a time off a heap.
    Here all that are heaviest among their own neighbours go at once: they stay so until they go, whatever happens
    elsewhere, so the order matters only for which are left at the end; hence the bar of the heaviest half of those
    still to go.
    Without `area` it is taken from the points' own density. Raises ValueError when m < n.
    """
    m = len(points)
    if not 0 < n <= m:
        raise ValueError(f"n: {n} of {m} points asked for; it must be from 1 to {m}")
    if n == m:
        return np.arange(m)
    radius = np.sqrt((_area(points) if area is None else area) / (2 * np.sqrt(3) * n))
    first, second, weight = _pairs(points, radius, CLAMP * (1 - (n / m) ** CLAMP_POWER))
    total = _sums(first, second, weight, m) + TIE * (np.arange(m) * 0.6180339887498949 % 1)
    alive = np.ones(m, dtype=bool)
    left = m
    while left > n:
        here = np.flatnonzero(alive)
        rival = np.full(m, -1.0)
        np.maximum.at(rival, first, total[second])
        np.maximum.at(rival, second, total[first])
        last = (left - n) // 2
        bar = -np.partition(-total[here], last)[last]
        gone = here[(total[here] >= rival[here]) & (total[here] >= bar)]
        if len(gone) > left - n:
            gone = gone[np.argpartition(-total[gone], left - n - 1)[: left - n]]
        alive[gone] = False
        left -= len(gone)
        kept = alive[first] & alive[second]
        cut = ~kept
        total -= _sums(first[cut], second[cut], weight[cut], m)
        first, second, weight = first[kept], second[kept], weight[kept]
    return np.flatnonzero(alive)


def _pairs(points: np.ndarray, radius: float, clamp: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of points nearer than 2 radii, once: its two indices and its weight."""
    from scipy.spatial import KDTree

    pairs = KDTree(points, balanced_tree=False, compact_nodes=False).query_pairs(2 * radius, output_type="ndarray")
    first, second = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    away = points[first] - points[second]
    distance = np.sqrt(np.einsum("pc,pc->p", away, away)) / (2 * radius)
    weight = 1 - np.clip(distance, clamp, 1)
    for _ in range(POWER.bit_length() - 1):
        weight *= weight
    return first, second, weight


def _sums(first: np.ndarray, second: np.ndarray, weight: np.ndarray, m: int) -> np.ndarray:
    return np.bincount(first, weight, m) + np.bincount(second, weight, m)


def _area(points: np.ndarray, k: int = 9) -> float:
    """Area under randomly placed points: m / density; the k-th nearest of Poisson points lies at π r² = k / density."""
    from scipy.spatial import KDTree

    some = points[:: max(1, len(points) // 2000)]
    k = min(k, len(points) - 1)
    distance = KDTree(points, balanced_tree=False, compact_nodes=False).query(some, k + 1)[0][:, -1]
    return float(len(points) * np.pi * np.mean(distance**2) / k)
