"""Decimals of coordinates in text: as many as the file had, and as many as the noise justifies."""

import math

import numpy as np

NOISE_SHARE = 0.01
"""Coordinates that moved are written in steps of at most this share of the noise, or of the displacements if these are less."""

ALL = 12
"""Decimals from which on numbers are taken to have all digits of their type."""

SAMPLE = 2000
"""Points whose decimals are counted."""

COORDINATES = ("x 0", "y 0", "z 0")
"""The fields of coordinates in the records of a text."""


def count_decimals(values: np.ndarray, most: int = ALL) -> int:
    """The least number of decimals that writes all values [n] exactly, but for rounding; `most` where more are needed."""
    for decimals in range(most):
        if np.all(np.abs(values - np.round(values, decimals)) <= 4 * np.spacing(np.abs(values))):
            return decimals
    return most


def decimals_to_write(before: np.ndarray, step: float | None) -> int | None:
    """The decimals with which coordinates [n] of a file are written where they moved, at the `step` that the noise justifies.

    Never fewer than they had. None: with all digits, where no step is given or the coordinates had them all.
    """
    finite = before[np.isfinite(before)]
    if step is None or not len(finite):
        return None
    decimals = max(count_decimals(finite[:: max(1, len(finite) // SAMPLE)]), math.ceil(-math.log10(step) - 1e-9))
    return decimals if decimals < ALL and np.abs(finite).max() * 10.0**decimals < 2**53 else None


def rounding_step(noise: float, displacement: float) -> float | None:
    """The step to which coordinates are rounded whose noise and displacements (95th percentile) these are; None for none."""
    least = min(noise, displacement)
    return 10.0 ** math.floor(math.log10(NOISE_SHARE * least)) if 0 < least < math.inf else None


def round_changes(before: np.ndarray, after: np.ndarray, decimals: int | None) -> np.ndarray:
    """The numbers `after` [n], rounded to so many decimals where they differ from those `before`; None rounds nothing."""
    return after if decimals is None else np.where(before == after, after, np.round(after, decimals))


def round_positions(before: np.ndarray, after: np.ndarray, step: float | None) -> np.ndarray:
    """The positions `after` [n, 3] of points with the decimals of `decimals_to_write`; what did not move is exact."""
    axes = ((old, new, decimals_to_write(old, step)) for old, new in zip(before.T, after.T, strict=True))
    return np.stack([round_changes(*axis) for axis in axes], axis=1)


def round_moved(old: np.ndarray, new: np.ndarray, step: float | None) -> tuple[np.ndarray, dict[str, int]]:
    """Records `new` [n] of a text with the coordinates rounded that differ from `old` [n], and the decimals by field."""
    before = {name: decimals_to_write(old[name], step) for name in COORDINATES if name in (old.dtype.names or ())}
    decimals = {name: number for name, number in before.items() if number is not None}
    rounded = new.copy() if decimals else new
    for name, number in decimals.items():
        rounded[name] = round_changes(old[name], new[name], number)
    return rounded, decimals
