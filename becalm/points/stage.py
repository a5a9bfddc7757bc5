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


def last(stages: Iterable[Stage]) -> np.ndarray:
    """Where the last stage leaves the points; raises ValueError where no stage has positions."""
    xyz = None
    for stage in stages:
        xyz = stage.xyz if stage.xyz is not None else xyz
    if xyz is None:
        raise ValueError("no stage has positions: the denoiser was stopped before it had swept the cloud once")
    return xyz
