"""What a running denoiser of clouds reports: the share of the work done and, after a pass over the cloud, the positions."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class DenoiseProgress(NamedTuple):
    """One report of a running denoiser; the last one with positions holds the result."""

    done: float
    """Share of the whole work that is done, from 0 to 1."""
    xyz: np.ndarray | None = None
    """Positions `[n, 3]`, float64, in the order and units of the input, after a complete pass over the cloud; else None."""
    noise: np.ndarray | None = None
    """Estimated standard deviation `[n]` of the noise at each point, per coordinate; None where the denoiser estimates none."""
    error: np.ndarray | None = None
    """Estimated standard deviation `[n]` of the error of the new position, per coordinate; None where there is no estimate."""
    outlier: np.ndarray | None = None
    """Bool `[n]`: the outliers, which are left in place; None where they have not been sought yet."""
    shared: np.ndarray | None = None
    """Share `[n]` of the noise's variance which neighbouring points have in common; None where there is no estimate."""
    length: np.ndarray | None = None
    """Distance `[n]` over which they do; None where there is no estimate."""
    surface: np.ndarray | None = None
    """Probability `[n]` that the point is of a surface, not of leaves, wires or strays; None where there is no estimate."""


def final_progress(reports: Iterable[DenoiseProgress]) -> DenoiseProgress:
    """The last report that has positions; raises ValueError where none has."""
    final = None
    for report in reports:
        final = report if report.xyz is not None else final
    if final is None:
        raise ValueError("no report has positions: the denoiser was stopped before its first pass over the cloud ended")
    return final


def final_points(reports: Iterable[DenoiseProgress]) -> np.ndarray:
    """The positions [n, 3] in the last report that has any; raises ValueError where none has."""
    xyz = final_progress(reports).xyz
    assert xyz is not None
    return xyz
