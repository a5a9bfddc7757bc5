"""Whether the noise of a cloud is Gaussian: the Jarque-Bera test on studentized residuals of local quadrics.

JB = n/6 (S² + (K − 3)²/4) with sample skewness S and kurtosis K; for Gaussian residuals it tends to χ² with two degrees of
freedom (Jarque & Bera, "A test for normality of observations and regression residuals", 1987).
"""

from typing import NamedTuple

import numpy as np

from becalm.points.estimate import MAX_NOISE_TO_RADIUS
from becalm.points.neighbours import knn

NEIGHBOUR_COUNTS = (48, 96, 192)
"""Neighbours in a fit, the point itself left out; with fewer the local noise level would be too uncertain."""

N_COEFFICIENTS = 6
"""Coefficients of a quadric."""


class Normality(NamedTuple):
    """Result of the test; all NaN where there are too few points, or all residuals are equal."""

    statistic: float
    """JB."""
    p: float
    """p-value, by the χ² limit; rough below some hundred residuals."""
    skewness: float
    """0 for a Gaussian."""
    kurtosis: float
    """3 for a Gaussian, 1.8 for a uniform law, 6 for Laplace's."""


UNDEFINED = Normality(np.nan, np.nan, np.nan, np.nan)
"""The result where the test cannot be made."""


def jarque_bera(residuals: np.ndarray) -> Normality:
    """The Jarque-Bera test of residuals [n], or [n, 3] with the coordinates pooled; NaN where they are all equal.

    Residuals have to be independent and of one variance. Raises ValueError where there are none.
    """
    from scipy import stats

    values = np.ravel(residuals)
    if len(values) == 0:
        raise ValueError("residuals: none given; at least 1 is needed")
    if np.ptp(values) == 0:
        return UNDEFINED
    statistic, p = np.asarray(stats.jarque_bera(values), dtype=np.float64)
    skewness, kurtosis = stats.skew(values), stats.kurtosis(values, fisher=False)
    return Normality(float(statistic), float(p), float(skewness), float(kurtosis))


def noise_normality(xyz: np.ndarray, seed: int = 0, sample: int = 4000) -> Normality:
    """The Jarque-Bera test on `standardized_residuals` of a cloud [n, 3] of finite, distinct points; NaN below 49 of them.

    Limits: noise along the surface has no residual; at edges, and where the surface bends within a neighbourhood, the misfit
    has heavy tails; so has noise whose level changes within a neighbourhood, a mixture. A low p therefore rejects the model of
    the noise *or of the surface*. A high p means little for small clouds: about one point in fifty gives an independent
    residual, and a test on a hundred residuals has little power.
    """
    return jarque_bera(standardized_residuals(xyz, seed, sample)) if len(xyz) > NEIGHBOUR_COUNTS[0] else UNDEFINED


def standardized_residuals(xyz: np.ndarray, seed: int = 0, sample: int = 4000) -> np.ndarray:
    """Independent residuals [m] across the surface, each over its own noise level: standard normal for Gaussian noise.

    Each is an externally studentised residual: the height of a point over the quadric of its k neighbours, over
    s √(1 + l·l), where s² is the variance those neighbours leave and l the weights that predict the height from theirs. For
    Gaussian noise that is Student's t with k − 6 degrees of freedom, which is mapped to a standard normal. k is the least of
    48, 96, 192 that is wide against the noise. Residuals of points that share neighbours are *dependent*, so of `sample`
    random points a subset is used in which no two are within the median radius of a fit. Raises ValueError below 49 points.
    """
    if len(xyz) <= NEIGHBOUR_COUNTS[0]:
        raise ValueError(f"xyz: {len(xyz)} points; at least {NEIGHBOUR_COUNTS[0] + 1} are needed")
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(xyz), min(sample, len(xyz)), replace=False)
    for k in (k for k in NEIGHBOUR_COUNTS if k < len(xyz)):
        distances, indices = knn(xyz, k + 1, xyz[rows])
        radius = distances[:, -1]
        ratio, level = studentized_residuals(xyz[indices] - xyz[rows, None], radius)
        if np.median(level) <= MAX_NOISE_TO_RADIUS * np.median(radius):
            break
    return t_to_normal(ratio[separated_subset(xyz[rows], float(np.median(radius)))], k - N_COEFFICIENTS)


def studentized_residuals(offsets: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Externally studentized residual and s, both [m], of the first of the points at `offsets` [m, 1 + k, 3]: against the
    quadric of the others.

    Robust: after a first fit the others are reweighted twice by Tukey's biweight with cut-off 6 · (median absolute residual /
    0.6745), which removes gross errors and hardly affects Gaussian noise. The residual is 0 where s is below 10⁻⁹ of the radius.
    """
    others = offsets[:, 1:] / np.maximum(radius, 1e-300)[:, None, None]
    centre = others.mean(axis=1, keepdims=True)
    centred = others - centre
    frame = np.linalg.eigh(centred.swapaxes(1, 2) @ centred)[1]
    local = centred @ frame
    own = (-centre @ frame)[:, 0]
    height, design, here = local[..., 0], monomials(local[..., 1:]), monomials(own[:, 1:])
    weight = np.ones_like(height)
    for _ in range(3):
        normal = (design * weight[..., None]).swapaxes(1, 2)
        inverse = np.linalg.pinv(normal @ design, hermitian=True)
        predictor = (here[:, None] @ inverse @ normal)[:, 0]
        residual = height - (design @ (inverse @ (normal @ height[..., None])))[..., 0]
        freedom = np.maximum(weight.sum(axis=1) - N_COEFFICIENTS, 1)
        level = np.sqrt((weight * residual**2).sum(axis=1) / freedom)
        cut = 6 * np.median(np.abs(residual), axis=1, keepdims=True) / 0.6745
        share = np.minimum(np.abs(residual) / np.maximum(cut, 1e-300), 1)
        weight = np.where(np.abs(residual) < cut, (1 - share**2) ** 2, 0)
    error = own[:, 0] - (predictor * height).sum(axis=1)
    deviation = level * np.sqrt(1 + (predictor**2).sum(axis=1))
    ratio = np.where(level > 1e-9, error / np.maximum(deviation, 1e-300), 0)
    return ratio, level * radius


def monomials(uv: np.ndarray) -> np.ndarray:
    """1, u, v, u², uv, v² of [..., 2], as [..., 6]."""
    u, v = uv[..., 0], uv[..., 1]
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def separated_subset(points: np.ndarray, distance: float) -> np.ndarray:
    """Indices of a maximal independent set of `points` [m, 3], in random order already: no two are within `distance`.

    In each round the points that come before all their remaining neighbours are taken, and those neighbours are dropped
    (Luby 1986); the number of rounds grows with log m.
    """
    from scipy.spatial import KDTree

    pairs = KDTree(points).query_pairs(distance, output_type="ndarray")
    undecided, chosen = np.ones(len(points), dtype=bool), np.zeros(len(points), dtype=bool)
    while undecided.any():
        pairs = pairs[undecided[pairs].all(axis=1)]
        later = np.zeros(len(points), dtype=bool)
        later[pairs[:, 1]] = True  # query_pairs gives i < j
        taken = undecided & ~later
        chosen |= taken
        undecided &= later
        undecided[pairs[taken[pairs[:, 0]], 1]] = False
    return np.flatnonzero(chosen)


def t_to_normal(ratio: np.ndarray, freedom: int) -> np.ndarray:
    """Standard normal values with the same tail probability and sign as these values of Student's t."""
    from scipy import stats

    tail = np.maximum(stats.t.sf(np.abs(ratio), freedom), 1e-300)
    return np.sign(ratio) * stats.norm.isf(tail)
