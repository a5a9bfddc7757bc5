"""What a model that denoises clouds is, and how one is given clouds of any size, with points absurdly far away."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.neighbours import knn
from becalm.points.progress import DenoiseProgress

ABSURD_DISTANCE = 1e12
"""Points this many times as far from the middle as the median point are left where they are: they are errors of a file."""

ORDINARY_SIZES = (1e-9, 1e9)
"""Clouds whose median distance from the middle is outside are scaled for the model, which computes in float32."""

MAX_EXTENT, NEIGHBOUR = 3e10, 8
"""A cloud may be this many times as large as the median distance to the 8th neighbour: beyond it sums and squares of coordinates
lose that distance to rounding. The 8th, as points given twice with other roundings are no sign of that."""

FEW_POINTS, MAX_NOISE_TO_SIZE = 100, 0.25
"""In clouds of fewer points, noise of more than this share of the median distance from the middle means: no surface there."""


@runtime_checkable
class CloudDenoiser(Protocol):
    """A model that denoises point clouds."""

    def iter_denoise(self, xyz: np.ndarray, sigma: float | None = None, seed: int = 0) -> Iterator[DenoiseProgress]:
        """Denoise distinct finite positions [n, 3] with noise σ (None: unknown); the last report holds the result."""
        ...


def absurdly_far(cloud: Cloud) -> np.ndarray:
    """bool [n]: points more than ABSURD_DISTANCE times as far from the cloud's origin as the median point."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(cloud.local()).max(axis=1)
    return distance > ABSURD_DISTANCE * np.median(distance[cloud.measured])


def with_near_origin(cloud: Cloud) -> Cloud:
    """The cloud; where a few absurdly far points shift its origin away from the others, with the origin at the points' median."""
    xyz = cloud.xyz[cloud.measured]
    if not len(xyz):
        return cloud
    middle = np.median(xyz, axis=0)
    with np.errstate(over="ignore"):
        reach = np.median(np.abs(xyz - middle).max(axis=1))
        return replace(cloud, origin=middle) if np.abs(cloud.origin - middle).max() > 1e6 * reach else cloud


def iter_denoise_scaled(
    model: CloudDenoiser, xyz: np.ndarray, sigma: float | None, seed: int
) -> Iterator[DenoiseProgress]:
    """The model's reports on positions [n, 3]; a cloud of an extraordinary size is given to it in units of a power of two.

    Nothing moves where the noise found is as large as the cloud. Raises ScanError where parts are too far apart for numbers.
    """
    size = float(np.median(np.abs(xyz - np.median(xyz, axis=0)).max(axis=1)))
    ordinary = ORDINARY_SIZES[0] < size < ORDINARY_SIZES[1] or size == 0
    check_extent(xyz)
    unit = 1.0 if ordinary else 2.0 ** np.round(np.log2(size))
    for report in model.iter_denoise(xyz / unit, None if sigma is None else sigma / unit, seed):
        yield report if report.xyz is None else checked_report(in_units(report, unit), xyz, size)


def check_extent(xyz: np.ndarray) -> None:
    """Raise ScanError where distinct positions [n, 3] span more than MAX_EXTENT times the distance between neighbours."""
    extent = float(np.ptp(xyz, axis=0).max())
    spacing = float(np.median(knn(xyz, min(NEIGHBOUR + 1, len(xyz)))[0][:, -1]))
    if extent > MAX_EXTENT * spacing:
        raise ScanError(
            f"coordinates span {extent:.3g}, with {spacing:.3g} between neighbours: too far apart for one scan; split it, or "
            "remove the points far away"
        )


def in_units(report: DenoiseProgress, unit: float) -> DenoiseProgress:
    """A report with all lengths times `unit`."""
    if unit == 1:
        return report
    names = ("xyz", "noise", "error", "length")
    return report._replace(**{n: getattr(report, n) * unit for n in names if getattr(report, n) is not None})


def checked_report(report: DenoiseProgress, xyz: np.ndarray, size: float) -> DenoiseProgress:
    """The report with points back at `xyz` [n, 3] whose new position is not finite, or all of few points
    whose noise is as large as the cloud's `size`."""
    assert report.xyz is not None
    fine = np.isfinite(report.xyz).all(axis=1, keepdims=True)
    if len(xyz) < FEW_POINTS and report.noise is not None and np.median(report.noise) > MAX_NOISE_TO_SIZE * size:
        fine = np.zeros_like(fine)
    return report if fine.all() else report._replace(xyz=np.where(fine, report.xyz, xyz))
