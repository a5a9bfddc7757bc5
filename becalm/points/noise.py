"""Noise models of scans: random displacements [n, 3] of clean points [n, 3], one function for each law, and outliers.

σ is a length in the cloud's units, one number or one for each point [n]. Laws and their parameters are those of the papers
that follow Luo & Hu (ICCV 2021): σ is the law's parameter; `VARIANCE_FACTOR` has the variance per coordinate in σ².
"""

from collections.abc import Callable

import numpy as np

Sigma = float | np.ndarray
"""One σ for all points, or one for each."""

ANISOTROPIC_COVARIANCE = np.array([[1, -0.5, -0.25], [-0.5, 1, -0.25], [-0.25, -0.25, 1]])
"""Covariance of the law `anisotropic`, in σ²."""


def gaussian(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator) -> np.ndarray:
    """N(0, σ² I)."""
    return _column(sigma) * rng.standard_normal(clean.shape)


def laplace(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator) -> np.ndarray:
    """Each coordinate of density exp(−|d|/σ) / 2σ: standard deviation √2 σ."""
    return _column(sigma) * rng.laplace(size=clean.shape)


def uniform_ball(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator) -> np.ndarray:
    """Uniform in the ball of radius σ: standard deviation σ/√5 per coordinate."""
    return _column(sigma) * unit_directions(len(clean), rng) * np.cbrt(rng.random(len(clean)))[:, None]


def discrete(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator) -> np.ndarray:
    """One of ±σ along x, y or z with probability 0.1 each, nothing with 0.4."""
    steps = np.concatenate([np.eye(3), -np.eye(3), np.zeros((4, 3))])
    return _column(sigma) * steps[rng.integers(10, size=len(clean))]


def anisotropic(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator) -> np.ndarray:
    """N(0, σ² C) with C of diagonal 1 and off-diagonals −½, −¼, −¼."""
    return _column(sigma) * (rng.standard_normal(clean.shape) @ np.linalg.cholesky(ANISOTROPIC_COVARIANCE).T)


def unidirectional(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator) -> np.ndarray:
    """N(0, σ²) along x, nothing along y and z."""
    return _column(sigma) * rng.standard_normal((len(clean), 1)) * np.array([1.0, 0.0, 0.0])


def along_rays(clean: np.ndarray, sigma: Sigma, rng: np.random.Generator, eye: np.ndarray | None = None) -> np.ndarray:
    """N(0, σ²) along the ray from the viewpoint `eye` [3]; without one, from a random position outside the cloud."""
    eye = random_viewpoint(clean, rng) if eye is None else eye
    ray = clean - eye
    length = np.linalg.norm(ray, axis=1, keepdims=True)
    return _column(sigma) * rng.standard_normal((len(clean), 1)) * ray / np.maximum(length, 1e-300)


def correlated(
    clean: np.ndarray, sigma: Sigma, rng: np.random.Generator, length: float | None = None, waves: int = 64
) -> np.ndarray:
    """A smooth random field with variance σ² at each point and covariance σ² exp(−r²/2ℓ²) over distance r.

    Random Fourier features (Rahimi & Recht 2007): d_c(x) = σ √(2/m) Σ_j cos(k_j·x + φ_j), k_j ~ N(0, I/ℓ²); the number
    m of waves is finite, so the field is Gaussian and decays in the limit. ℓ is `length`; without it, a twentieth of
    the cloud's largest side.
    """
    length = float(np.ptp(clean, axis=0).max()) / 20 if length is None else length
    wave = rng.standard_normal((3, waves, 3)) / max(length, 1e-300)
    phase = rng.uniform(0, 2 * np.pi, (waves, 3))
    field = np.cos(np.einsum("nd,dwc->nwc", clean, wave, optimize=True) + phase).sum(axis=1)
    return _column(sigma) * np.sqrt(2 / waves) * field


NoiseLaw = Callable[[np.ndarray, Sigma, np.random.Generator], np.ndarray]

LAWS: dict[str, NoiseLaw] = {
    "gaussian": gaussian,
    "laplace": laplace,
    "uniform_ball": uniform_ball,
    "discrete": discrete,
    "anisotropic": anisotropic,
    "unidirectional": unidirectional,
    "along_rays": along_rays,
    "correlated": correlated,
}

VARIANCE_FACTOR: dict[str, float] = {
    "gaussian": 1.0,
    "laplace": 2.0,
    "uniform_ball": 0.2,
    "discrete": 0.2,
    "anisotropic": 1.0,
    "unidirectional": 1 / 3,
    "along_rays": 1 / 3,
    "correlated": 1.0,
}
"""Mean variance per coordinate, E|d|²/3, in σ², by law."""


def range_dependent(clean: np.ndarray, sigma: float, eye: np.ndarray, reference: float) -> np.ndarray:
    """σ [n] of points seen from `eye` [3]: σ (r/r₀)² at range r, σ at r₀ = `reference`: the range error
    of a sensor that triangulates (Khoshelham & Elberink, "Accuracy and resolution of Kinect depth data", 2012)."""
    return sigma * (np.linalg.norm(clean - eye, axis=1) / reference) ** 2


def uniform_outliers(points: np.ndarray, count: int, rng: np.random.Generator, margin: float = 0.1) -> np.ndarray:
    """`count` points [count, 3], uniform in the points' box, wider to each side by `margin` of its sides."""
    low, high = points.min(axis=0), points.max(axis=0)
    extra = margin * (high - low)
    return rng.uniform(low - extra, high + extra, (count, 3))


def unit_directions(count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, 3] unit vectors, uniform on the sphere."""
    vectors = rng.standard_normal((count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_viewpoint(clean: np.ndarray, rng: np.random.Generator, near: float = 2.0, far: float = 5.0) -> np.ndarray:
    """A position [3] outside the cloud, `near` to `far` radii from its centre in a uniformly random direction."""
    centre = (clean.min(axis=0) + clean.max(axis=0)) / 2
    radius = float(np.linalg.norm(clean - centre, axis=1).max())
    return centre + rng.uniform(near, far) * radius * unit_directions(1, rng)[0]


def _column(sigma: Sigma) -> np.ndarray:
    return np.asarray(sigma, dtype=np.float64).reshape(-1, 1)
