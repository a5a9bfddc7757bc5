"""What sensors get wrong along a ray: error of the range [n], one function for each cause. Lengths in the scene's units.

Sources: growth with range of triangulating sensors: Khoshelham & Elberink, "Accuracy and resolution of Kinect depth data",
Sensors 2012; of lasers with incidence: Soudarissanane et al., "Scanning geometry: influencing factor on the quality of
terrestrial laser scanning points", ISPRS J. 2011; mixed pixels: Tang, Huber & Akinci, "A comparative analysis of
depth-discontinuity and mixed-pixel detection algorithms", 3DIM 2007.
"""

import numpy as np
from scipy import ndimage

Rng = np.random.Generator


def growth(range_: np.ndarray, cosine: np.ndarray, power: float, incidence: float) -> np.ndarray:
    """Factor [n] of the error: (range / median range)^power (cos θ)^−incidence, between a fifth and five."""
    factor = (range_ / np.median(range_)) ** power * np.maximum(cosine, 0.1) ** -incidence
    return factor.clip(0.2, 5)


def raster_field(column: np.ndarray, row: np.ndarray, length: tuple[float, float], rng: Rng) -> np.ndarray:
    """A Gaussian field [n] of variance 1 over raster cells, with correlation exp(−d²/4ℓ²) at d cells, ℓ = `length` along
    columns and rows: white noise blurred by a Gaussian, as matching windows, beam footprints and interpolation do."""
    column, row = column - column.min(), row - row.min()
    height, width = int(row.max()) + 1, int(column.max()) + 1
    pad = [min(int(4 * s) + 1, 64) for s in (length[1], length[0])]
    noise = rng.standard_normal((height + 2 * pad[0], width + 2 * pad[1]))
    field = ndimage.gaussian_filter(noise, (length[1], length[0]), mode="wrap")
    field = field / max(float(field.std()), 1e-12)
    return field[row + pad[0], column + pad[1]]


def stripes(row: np.ndarray, rng: Rng, walk: bool = False) -> np.ndarray:
    """One error of variance 1 a scan line [n]: independent from line to line, or a slow drift (`walk`)."""
    lines, place = np.unique(row, return_inverse=True)
    error = rng.standard_normal(len(lines))
    if walk and len(lines) > 1:
        error = ndimage.gaussian_filter1d(error, 0.05 * len(lines) + 1)
        error = (error - error.mean()) / max(float(error.std()), 1e-12)
    return error[place]


def quantise_range(range_: np.ndarray, step: float, disparity: bool) -> np.ndarray:
    """The range [n] in steps: of `step`, or of disparity 1/range with a step of `step` at the median range."""
    if not disparity:
        return np.round(range_ / step) * step
    unit = step / np.median(range_) ** 2
    return 1 / np.maximum(np.round(1 / range_ / unit), 1) / unit


def quantum(range_: np.ndarray, step: float, disparity: bool) -> np.ndarray:
    """The width [n] of the step that `quantised` makes at each range."""
    return step * (range_ / np.median(range_)) ** 2 if disparity else np.full(len(range_), step)


def edges(column: np.ndarray, row: np.ndarray, range_: np.ndarray, jump: float) -> tuple[np.ndarray, np.ndarray]:
    """Rays beside a depth edge: bool [n], and the range [n] across it (of the right or lower neighbour, else one's own)."""
    column, row = column - column.min(), row - row.min()
    image = np.full((int(row.max()) + 2, int(column.max()) + 2), np.nan)
    image[row, column] = range_
    right, below = image[row, column + 1], image[row + 1, column]
    other = np.where(np.abs(right - range_) > jump, right, np.where(np.abs(below - range_) > jump, below, np.nan))
    found = np.isfinite(other)
    return found, np.where(found, other, range_)


def misregistration(rng: Rng, size: float, extent: float) -> tuple[np.ndarray, np.ndarray]:
    """A small rigid motion of a view, rotation [3, 3] and shift [3]: half of `size` from each at distance `extent`."""
    axis = rng.standard_normal(3)
    axis *= rng.normal() * 0.5 * size / extent / np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis)
    turn = np.eye(3) + cross + cross @ cross / 2
    return np.linalg.qr(turn)[0] * np.sign(np.diag(np.linalg.qr(turn)[1])), rng.standard_normal(3) * size / np.sqrt(3)
