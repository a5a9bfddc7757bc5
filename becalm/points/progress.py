"""One report of a running denoiser: how far it is and, when a sweep has completed, where the points are now."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Stage(NamedTuple):
    """What a denoiser yields while it works; the last one holds the final positions."""

    done: float
    """Fraction of the whole work that is done, from 0 to 1."""
    xyz: np.ndarray | None = None
    """Positions `[n, 3]`, float64, in the order and units of the input, when a sweep has completed; else None."""
    noise: np.ndarray | None = None
    """Standard deviation `[n]` of the noise that each point had, per coordinate, where the denoiser tells it."""
    error: np.ndarray | None = None
    """Standard deviation `[n]` of what may still be wrong with its position, per coordinate, where the denoiser tells it."""


def final(stages: Iterable[Stage]) -> Stage:
    """The last stage that has positions; raises ValueError where none has."""
    found = None
    for stage in stages:
        found = stage if stage.xyz is not None else found
    if found is None:
        raise ValueError("no stage has positions: the denoiser was stopped before it had swept the cloud once")
    return found


def last(stages: Iterable[Stage]) -> np.ndarray:
    """Where the last stage leaves the points [n, 3]; raises ValueError where no stage has positions."""
    xyz = final(stages).xyz
    assert xyz is not None
    return xyz
