"""Is the noise of a cloud Gaussian? The Jarque-Bera test on residuals of local quadrics, each over its own noise level.

JB = n/6 (S² + (K − 3)²/4) with sample skewness S and kurtosis K; for Gaussian residuals it tends to χ² with two degrees of
freedom (Jarque & Bera, "A test for normality of observations and regression residuals", 1987).
"""

from typing import NamedTuple

import numpy as np

from becalm.points.estimate import THIN
from becalm.points.neighbours import knn

WIDTHS = (48, 96, 192)
"""Neighbours in a fit, the point itself left out; fewer would tell its own noise level badly."""

TERMS = 6
"""Coefficients of a quadric."""


class Normality(NamedTuple):
    """What the test says of a cloud; all NaN where there are too few points, or no residual differs from the others."""

    statistic: float
    """JB."""
    p: float
    """Chance of so large a statistic under Gaussian noise; an approximation, rough below some hundred residuals."""
    skewness: float
    """0 for a Gaussian."""
    kurtosis: float
    """3 for a Gaussian, 1.8 for a uniform law, 6 for Laplace's."""


UNKNOWN = Normality(np.nan, np.nan, np.nan, np.nan)
"""Nothing can be said."""


def jarque_bera(residuals: np.ndarray) -> tuple[float, float]:
    """(statistic, p) of residuals [n], or [n, 3] with the coordinates pooled; NaN where they are all equal.

    Residuals have to be independent and of one variance. Raises ValueError where there are none.
    """
    return described(residuals)[:2]


def described(residuals: np.ndarray) -> Normality:
    """The statistic and the moments it is made of, of residuals [n] or [n, 3]."""
    from scipy import stats

    values = np.ravel(residuals)
    if len(values) == 0:
        raise ValueError("residuals: none given; at least 1 is needed")
    if np.ptp(values) == 0:
        return UNKNOWN
    statistic, p = np.asarray(stats.jarque_bera(values), dtype=np.float64)
    skewness, kurtosis = stats.skew(values), stats.kurtosis(values, fisher=False)
    return Normality(float(statistic), float(p), float(skewness), float(kurtosis))


def normality(xyz: np.ndarray, seed: int = 0, sample: int = 4000) -> Normality:
    """The test on `normal_residuals` of a cloud [n, 3] of finite, distinct points; NaN below 49 of them.

    What it cannot tell: noise along the surface is not seen; at edges and where the surface bends within a neighbourhood
    the misfit looks like heavy tails; noise whose level changes within a neighbourhood is a mixture and looks heavy-tailed
    too. So a low p says that noise *or surface* is not as assumed. A high p says little on small clouds: residuals
    thinned to independence are about one in fifty points, and a test on a hundred of them misses much.
    """
    return described(normal_residuals(xyz, seed, sample)) if len(xyz) > WIDTHS[0] else UNKNOWN


def normal_residuals(xyz: np.ndarray, seed: int = 0, sample: int = 4000) -> np.ndarray:
    """Signed offsets [m] across the surface, over the noise level there: standard normal for Gaussian noise.

    Each is an externally studentised residual: the height of a point over the quadric of its k neighbours, over
    s √(1 + l·l), where s² is the variance those neighbours leave and l the weights that predict the height from theirs. For
    Gaussian noise that is Student's t with k − 6 degrees of freedom, which is mapped to a standard normal. k is the least of
    48, 96, 192 that is wide against the noise. A scan's points are *dependent* through the fits that they share, so of
    `sample` points drawn only some are kept, no two within the usual radius of a fit. Raises ValueError below 49 points.
    """
    if len(xyz) <= WIDTHS[0]:
        raise ValueError(f"xyz: {len(xyz)} points; at least {WIDTHS[0] + 1} are needed")
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(xyz), min(sample, len(xyz)), replace=False)
    for k in (k for k in WIDTHS if k < len(xyz)):
        distances, indices = knn(xyz, k + 1, xyz[rows])
        radius = distances[:, -1]
        ratio, level = studentised(xyz[indices] - xyz[rows, None], radius)
        if np.median(level) <= THIN * np.median(radius):
            break
    return standard(ratio[apart(xyz[rows], float(np.median(radius)))], k - TERMS)


def studentised(offsets: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ratio, s), both [m], of the first of the points at `offsets` [m, 1 + k, 3] against the quadric of the others.

    Robust: after a first fit the others are weighed twice by Tukey's biweight at six median absolute residuals over 0.6745, which
    takes out gross errors and hardly touches Gaussian noise. The ratio is 0 where s is below 10⁻⁹ of the radius.
    """
    others = offsets[:, 1:] / np.maximum(radius, 1e-300)[:, None, None]
    centre = others.mean(axis=1, keepdims=True)
    spread = others - centre
    frame = np.linalg.eigh(spread.swapaxes(1, 2) @ spread)[1]
    local = spread @ frame
    own = (-centre @ frame)[:, 0]
    height, design, here = local[..., 0], monomials(local[..., 1:]), monomials(own[:, 1:])
    weight = np.ones_like(height)
    for _ in range(3):
        normal = (design * weight[..., None]).swapaxes(1, 2)
        inverse = np.linalg.pinv(normal @ design, hermitian=True)
        predictor = (here[:, None] @ inverse @ normal)[:, 0]
        residual = height - (design @ (inverse @ (normal @ height[..., None])))[..., 0]
        free = np.maximum(weight.sum(axis=1) - TERMS, 1)
        level = np.sqrt((weight * residual**2).sum(axis=1) / free)
        cut = 6 * np.median(np.abs(residual), axis=1, keepdims=True) / 0.6745
        weight = np.where(np.abs(residual) < cut, (1 - (residual / np.maximum(cut, 1e-300)) ** 2) ** 2, 0)
    error = own[:, 0] - (predictor * height).sum(axis=1)
    deviation = level * np.sqrt(1 + (predictor**2).sum(axis=1))
    ratio = np.where(level > 1e-9, error / np.maximum(deviation, 1e-300), 0)
    return ratio, level * radius


def monomials(uv: np.ndarray) -> np.ndarray:
    """1, u, v, u², uv, v² of [..., 2], as [..., 6]."""
    u, v = uv[..., 0], uv[..., 1]
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Indices of a maximal set of `points` [m, 3], in random order already, no two within `distance`.

    In each round a point stays that comes before all its rivals, and they leave (Luby 1986): the rounds grow with log m.
    """
    from scipy.spatial import KDTree

    pairs = KDTree(points).query_pairs(distance, output_type="ndarray")
    open_, kept = np.ones(len(points), dtype=bool), np.zeros(len(points), dtype=bool)
    while open_.any():
        pairs = pairs[open_[pairs].all(axis=1)]
        late = np.zeros(len(points), dtype=bool)
        late[pairs[:, 1]] = True  # query_pairs gives i < j
        stays = open_ & ~late
        kept |= stays
        open_ &= late
        open_[pairs[stays[pairs[:, 0]], 1]] = False
    return np.flatnonzero(kept)


def standard(ratio: np.ndarray, freedom: int) -> np.ndarray:
    """Student's t ratios mapped to standard normal ones of the same probability, sign kept."""
    from scipy import stats

    tail = np.maximum(stats.t.sf(np.abs(ratio), freedom), 1e-300)
    return np.sign(ratio) * stats.norm.isf(tail)
