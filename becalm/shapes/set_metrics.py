"""How like a reference set a generated set of shapes is: 1-NNA, COV, MMD by Chamfer and by exact EMD, JSD, thickness.

    CD(X, Y)  = mean_x min_y |x − y|² + mean_y min_x |x − y|²
    EMD(X, Y) = 1/n min_φ Σ_x |x − φ(x)|,  φ one to one; exact here, approximate in most published tables

A score means little alone: `evaluate` always gives beside it the same score of training shapes (the oracle), which is
what a perfect generator of training-like shapes would get. Definitions: Yang et al. 2019 (PointFlow), § 5.1; Lopez-Paz &
Oquab 2017 (1-NNA); Achlioptas et al. 2018 (COV, MMD, JSD).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from becalm.core.files import InputError
from becalm.points.neighbours import knn
from becalm.shapes.sets import ShapeSet, normalize_boxes, thin_points

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Sets of shapes [a, n, 3] and [b, n, 3] -> distances of all pairs [a, b]."""

UNITS = {
    "box": "box: each shape's box to [-1, 1]",
    "raw": "global: units of the data",
    "global": "global: training std",
}
"""How results name the protocol and the unit of their distances."""


def chamfer_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """CD of all pairs, [a, b]: a k-d tree for each shape, queried once with all points of the other set."""
    return _one_way_matrix(a, b) + (_one_way_matrix(b, a) if b is not a else _one_way_matrix(a, a)).T


def _one_way_matrix(trees: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """mean over the points of `queries[j]` of the squared distance to the nearest of `trees[i]`, [i, j]."""
    from scipy.spatial import KDTree
    from torch import get_num_threads

    flat, workers = queries.reshape(-1, 3), get_num_threads()
    rows = [KDTree(shape).query(flat, workers=workers)[0].reshape(queries.shape[:2]) for shape in trees]
    return np.stack([(row**2).mean(axis=1) for row in rows])


def emd_matrix(a: np.ndarray, b: np.ndarray, threads: int = 2) -> np.ndarray:
    """Exact EMD of all pairs, [a, b], by SciPy's linear assignment: some 10 ms a pair at 512 points, 1 s at 2048.

    The solver lets go of Python's lock, so `threads` pairs are solved at a time. Raises InputError where sizes differ.
    """
    if a.shape[1:] != b.shape[1:]:
        raise InputError(f"EMD: shapes of {a.shape[1]} and {b.shape[1]} points cannot be paired; thin them to one size")
    same = b is a
    rows, columns = np.triu_indices(len(a), 1) if same else np.indices((len(a), len(b))).reshape(2, -1)
    with ThreadPoolExecutor(threads) as pool:
        values = np.fromiter(pool.map(lambda i, j: emd(a[i], b[j]), rows, columns), np.float64, len(rows))
    out = np.zeros((len(a), len(b)))
    out[rows, columns] = values
    return out + out.T if same else out


def emd(x: np.ndarray, y: np.ndarray) -> float:
    """EMD of two clouds [n, 3]."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


class Distances(NamedTuple):
    """All distances among a generated set g and a reference set r."""

    cross: np.ndarray
    """[g, r]."""
    generated: np.ndarray
    """[g, g]."""
    reference: np.ndarray
    """[r, r]."""


def pairwise_distances(metric: Metric, generated: np.ndarray, reference: np.ndarray) -> Distances:
    """The three blocks under `chamfers` or `emds`."""
    cross = metric(generated, reference)
    return Distances(cross, metric(generated, generated), metric(reference, reference))


def mmd(d: Distances) -> float:
    """Minimum matching distance: the mean over references of the distance to the nearest generated shape."""
    return float(d.cross.min(axis=0).mean())


def coverage(d: Distances) -> float:
    """The share of references that are the nearest reference of at least one generated shape."""
    return len(np.unique(d.cross.argmin(axis=1))) / d.cross.shape[1]


def one_nna(d: Distances) -> float:
    """Leave-one-out accuracy of the nearest neighbour's set as a guess of one's own, over both sets.

    ½ is ideal; towards 1 the sets differ; below ½ the generated shapes lie closer to single references than references
    to each other, as memorised ones do. Report |1-NNA − ½| with the oracle's.
    """
    g = len(d.generated)
    every = np.block([[d.generated, d.cross], [d.cross.T, d.reference]])
    np.fill_diagonal(every, np.inf)
    return float(((every.argmin(axis=1) < g) == (np.arange(len(every)) < g)).mean())


def jsd(generated: np.ndarray, reference: np.ndarray, half: float = 1.0, cells: int = 28) -> float:
    """Jensen–Shannon divergence in bits of where the points of two sets [s, n, 3] lie, on a grid of cells³.

    The grid spans [−half, half]³; cells whose centre is outside the inscribed ball are left out.
    """
    centre = (np.arange(cells) + 0.5) / cells * 2 - 1
    inside = (centre[:, None, None] ** 2 + centre[:, None] ** 2 + centre**2).ravel() <= 1

    def shares(points: np.ndarray) -> np.ndarray:
        cell = np.floor((points.reshape(-1, 3) / half + 1) * cells / 2).astype(np.int64)
        cell = np.where(cell == cells, cells - 1, cell)
        cell = cell[((cell >= 0) & (cell < cells)).all(axis=1)]
        count = np.bincount(np.ravel_multi_index(tuple(cell.T), (cells,) * 3), minlength=cells**3)[inside]
        return count / max(count.sum(), 1)

    p, q = shares(generated), shares(reference)
    return float(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)


def _entropy(p: np.ndarray) -> float:
    """−Σ p log₂ p."""
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def local_thickness(points: np.ndarray, k: int = 12) -> np.ndarray:
    """Local thickness of each shape [s, n, 3], [s]: the median over its points of the least PCA std of k neighbours.

    Sees fuzz that 1-NNA by Chamfer does not. It depends on n: compare sets of equally many points only.
    """
    return np.array([_local_thickness(shape.astype(np.float64), k) for shape in points])


def _local_thickness(points: np.ndarray, k: int) -> float:
    near = points[knn(points, k)[1]]
    away = near - near.mean(axis=1, keepdims=True)
    least = np.linalg.eigvalsh(np.einsum("nkc,nkd->ncd", away, away) / k)[:, 0]
    return float(np.median(np.sqrt(np.maximum(least, 0))))


class Estimate(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson_interval(share: float, count: int) -> Estimate:
    """A share of `count` with its 95 % binomial interval (Wilson 1927), as if the cases were independent."""
    z2 = 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(share * (1 - share) * z2 / count + (z2 / (2 * count)) ** 2) / (1 + z2 / count)
    return Estimate(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def bootstrap_mean(values: np.ndarray, rng: np.random.Generator, rounds: int = 1000) -> Estimate:
    """The mean of values [n] with the 95 % interval of means of n of them drawn with replacement."""
    means = values[rng.integers(len(values), size=(rounds, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    chamfer_points: int = 2048
    """Points of a shape for CD, JSD and thickness; fewer where the shapes have fewer."""
    emd_points: int = 512
    """Points of a shape for EMD."""
    threads: int = 2
    """Assignments solved at a time."""
    seed: int = 0
    """Of the thinning and the bootstrap."""


Row = dict[str, str | int | float | Estimate]


def compare(name: str, generated: ShapeSet, reference: ShapeSet, settings: Settings | None = None) -> Row:
    """All scores of one set against another as large as it; `thickness ratio` is generated over reference.

    Raises InputError: different protocols, sizes or classes. Under `box` both sets are boxed again after thinning.
    """
    settings = settings or Settings()
    if (generated.protocol, len(generated)) != (reference.protocol, len(reference)):
        raise InputError(
            f"{name}: {len(generated)} shapes under {generated.protocol!r} against {len(reference)} under "
            f"{reference.protocol!r}; give as many of the same protocol"
        )
    rng = np.random.default_rng(settings.seed)
    most = min(settings.chamfer_points, generated.points.shape[1], reference.points.shape[1])
    a, b = (_thin_and_normalize(s, most, rng) for s in (generated, reference))
    few = min(settings.emd_points, most)
    thin_a, thin_b = (local_thickness(x, min(12, most)) for x in (a, b))
    half = 1.0 if reference.protocol == "box" else float(np.abs(b).max())
    row: Row = {
        "name": name,
        "protocol": UNITS[reference.protocol],
        "shapes": len(a),
        "points": most,
        "emd points": few,
    }
    row |= _metric_scores("CD", pairwise_distances(chamfer_matrix, a, b), rng)
    sparse = thin_points(a, few, rng), thin_points(b, few, rng)
    row |= _metric_scores("EMD", pairwise_distances(lambda x, y: emd_matrix(x, y, settings.threads), *sparse), rng)
    row |= {
        "JSD": jsd(a, b, half),
        "thickness": bootstrap_mean(thin_a, rng),
        "reference thickness": bootstrap_mean(thin_b, rng),
    }
    return row | {"thickness ratio": float(thin_a.mean() / thin_b.mean())}


def _thin_and_normalize(shapes: ShapeSet, n: int, rng: np.random.Generator) -> np.ndarray:
    thin = replace(shapes, points=thin_points(shapes.points, n, rng))
    return normalize_boxes(thin).points if shapes.protocol == "box" else thin.points


def _metric_scores(metric: str, d: Distances, rng: np.random.Generator) -> Row:
    count = sum(d.cross.shape)
    return {
        f"1-NNA-{metric}": wilson_interval(one_nna(d), count),
        f"COV-{metric}": wilson_interval(coverage(d), d.cross.shape[1]),
        f"MMD-{metric}": bootstrap_mean(d.cross.min(axis=0), rng),
    }


def evaluate(
    generated: ShapeSet, reference: ShapeSet, train: ShapeSet, settings: Settings | None = None
) -> tuple[Row, Row]:
    """The row of a generated set and the oracle's: as many training shapes, chosen by the seed, against the same reference.

    Raises InputError where the protocols differ or the training set is smaller than the reference.
    """
    settings = settings or Settings()
    return compare("generated", generated, reference, settings), oracle(reference, train, settings)


def oracle(reference: ShapeSet, train: ShapeSet, settings: Settings) -> Row:
    """Training shapes against the reference. Raises InputError where there are too few."""
    if len(train) < len(reference):
        raise InputError(f"oracle: {len(train)} training shapes for {len(reference)} references; give at least as many")
    some = np.random.default_rng(settings.seed + 1).permutation(len(train))[: len(reference)]
    return compare(
        "oracle", replace(train, points=train.points[some], labels=train.labels[some], names=()), reference, settings
    )
