"""Denoising of a cloud with a model: preparation of the points, outliers, the result's attributes and its summary.

The model gets finite, distinct positions about a local origin and returns displacements. Points without coordinates, copies of
one position, order, count and attributes are handled here, so that no model has to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.estimate import noise_level, noise_levels
from becalm.points.neighbours import median_spacing
from becalm.points.outliers import excess_displacement, isolated_points
from becalm.points.progress import DenoiseProgress, final_progress

MIN_POINTS = 16
"""The least number of distinct points from which a surface can be distinguished from noise."""

OutlierPolicy = Literal["keep", "flag", "remove"]


@runtime_checkable
class CloudDenoiser(Protocol):
    """A model that denoises point clouds."""

    def iter_denoise(self, xyz: np.ndarray, sigma: float | None = None, seed: int = 0) -> Iterator[DenoiseProgress]:
        """Denoise distinct finite positions [n, 3] with noise σ (None: unknown); the last report holds the result."""
        ...


@dataclass(frozen=True)
class Report:
    """Summary of a denoised scan; lengths in its own units."""

    points: int
    """Points in the scan."""
    missing: int
    """Points without finite coordinates, which are returned unchanged."""
    outliers: int
    """Outliers found: isolated, or displaced by more than the noise around them (0 where they are kept, and none are sought)."""
    noise_before: float
    """Estimated standard deviation of the noise across the surface."""
    noise_after: float
    """The same of the result."""
    noise_low: float
    """5th percentile, over the points, of the noise estimated at each."""
    noise_high: float
    """95th percentile of the same: far above `noise_low` where the noise is uneven."""
    jarque_bera: float | None
    """Statistic of the Jarque–Bera test on residuals over the noise at each point: about 2 where they are normal, None where
    there is no noise or there are too few points."""
    normal_p: float | None
    """Its p-value: small where the noise is not Gaussian, or outliers are among it."""
    displacement_median: float
    """Median length of the displacements of the points that were denoised."""
    displacement_95: float
    """Their 95th percentile."""


def find_isolated(cloud: Cloud, choice: OutlierPolicy) -> np.ndarray:
    """bool [n]: the isolated points among the finite ones; none where outliers are kept."""
    found = np.zeros(len(cloud), dtype=bool)
    if choice != "keep" and cloud.finite.sum() > MIN_POINTS:
        found[cloud.finite] = isolated_points(cloud.local()[cloud.finite])
    return found


def iter_denoise_cloud(
    cloud: Cloud, model: CloudDenoiser, outlier: np.ndarray, sigma: float | None = None, seed: int = 0
) -> Iterator[DenoiseProgress]:
    """Denoise all points but the outliers; a report with positions has those of the whole cloud, [n, 3] absolute.

    `sigma` is the noise level in the scan's units, None where it is not known. Raises ScanError where there are fewer than 16
    distinct positions, or σ is not positive, or larger than the cloud.
    """
    taken = cloud.finite & ~outlier
    local = cloud.local()[taken]
    places, copies = np.unique(local, axis=0, return_inverse=True)
    check_points(places, sigma)
    for progress in model.iter_denoise(places, sigma, seed):
        if progress.xyz is None:
            yield progress
        else:
            xyz, back = cloud.xyz.copy(), copies.reshape(-1)
            xyz[taken] += (progress.xyz - places)[back]
            noise = noise_levels(places, seed) if progress.noise is None else progress.noise
            error = None if progress.error is None else scatter_rows(progress.error[back], taken)
            yield DenoiseProgress(progress.done, xyz, scatter_rows(noise[back], taken), error)


def scatter_rows(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Values [m] of the points in the mask `taken` as values [n] of all points, NaN elsewhere."""
    whole = np.full(len(taken), np.nan)
    whole[taken] = values
    return whole


def check_points(places: np.ndarray, sigma: float | None) -> None:
    """Raise ScanError where the points are too few, or σ is not between 0 and half of the cloud's size."""
    if len(places) < MIN_POINTS:
        raise ScanError(
            f"{len(places)} distinct finite points; at least {MIN_POINTS} are needed to tell a surface from noise"
        )
    size = float(np.linalg.norm(np.ptp(places, axis=0)))
    if sigma is not None and not 0 < sigma < size / 2:
        raise ScanError(
            f"noise {sigma:g}: a standard deviation in the scan's units, above 0 and well below its size {size:g}"
        )


def denoise(
    cloud: Cloud, model: CloudDenoiser, *, outliers: OutlierPolicy = "keep", sigma: float | None = None, seed: int = 0
) -> Cloud:
    """The denoised cloud: same order, same attributes, same origin.

    Outliers are isolated points, and points displaced by more than the noise around them: they are kept (and denoised like any
    other), flagged (by an attribute `outlier`, and left in place) or removed. `sigma` is the noise level in the scan's units
    where it is known. Raises ScanError for a cloud that cannot be denoised.
    """
    outlier = find_isolated(cloud, outliers)
    progress, outlier = mark_outliers(
        cloud, final_progress(iter_denoise_cloud(cloud, model, outlier, sigma, seed)), outlier, outliers
    )
    return apply_outlier_policy(cloud, progress, outlier, outliers)


def mark_outliers(
    cloud: Cloud, progress: DenoiseProgress, outlier: np.ndarray, choice: OutlierPolicy
) -> tuple[DenoiseProgress, np.ndarray]:
    """The result with outliers put back where they were, and the outliers bool [n]: isolated points, and those displaced by more
    than the noise around them; where outliers are kept, none are sought."""
    taken = cloud.finite & ~outlier
    if choice == "keep" or progress.xyz is None or progress.noise is None:
        return progress, outlier
    moved = progress.xyz[taken] - cloud.xyz[taken]
    outlier = outlier.copy()
    outlier[taken] = excess_displacement(cloud.local()[taken], moved, progress.noise[taken])
    outlier |= cloud.finite & ~taken
    return progress._replace(xyz=np.where(outlier[:, None], cloud.xyz, progress.xyz)), outlier


def apply_outlier_policy(
    cloud: Cloud, progress: DenoiseProgress, outlier: np.ndarray, outliers: OutlierPolicy
) -> Cloud:
    """The cloud at its new positions: with an attribute `outlier` (uint8) where they are flagged, without them where removed."""
    assert progress.xyz is not None
    settled = cloud.moved(progress.xyz)
    if outliers == "flag":
        settled = settled.with_attributes({"outlier": outlier.astype(np.uint8)})
    return settled.select(~outlier) if outliers == "remove" else settled


def point_attributes(cloud: Cloud, progress: DenoiseProgress) -> dict[str, np.ndarray]:
    """Attributes of every point, float32 [n]: `displacement` (length) and `noise` (σ) in the scan's units, and where the model
    estimates its error e, `confidence` h²/(h² + e²) with h the scan's median spacing: 1 where e = 0, ½ where e = h."""
    assert progress.xyz is not None and progress.noise is not None
    found = {"displacement": np.linalg.norm(progress.xyz - cloud.xyz, axis=1), "noise": progress.noise}
    if progress.error is not None:
        unit = median_spacing(cloud.local()[cloud.finite]) ** 2 + np.finfo(float).tiny
        found["confidence"] = unit / (unit + progress.error**2)
    return {name: values.astype(np.float32) for name, values in found.items()}


def summarize(cloud: Cloud, progress: DenoiseProgress, outlier: np.ndarray) -> Report:
    """The summary of a result: its figures against those of the cloud it was made from."""
    from becalm.points.normality import noise_normality

    assert progress.xyz is not None and progress.noise is not None
    taken = cloud.finite & ~outlier
    before, after = cloud.local()[taken], progress.xyz[taken] - cloud.origin
    lengths = np.linalg.norm(after - before, axis=1)
    once = np.unique(before, axis=0, return_index=True)[1]  # copies have no noise between them, and would hide it
    before, after = before[once], after[once]
    low, high = np.nanquantile(progress.noise[taken], (0.05, 0.95))
    test = noise_normality(before)
    return Report(
        points=len(cloud),
        missing=int((~cloud.finite).sum()),
        outliers=int(outlier.sum()),
        noise_before=noise_level(before),
        noise_after=noise_level(after),
        noise_low=float(low),
        noise_high=float(high),
        jarque_bera=float(test.statistic) if np.isfinite(test.p) else None,
        normal_p=float(test.p) if np.isfinite(test.p) else None,
        displacement_median=float(np.median(lengths)),
        displacement_95=float(np.quantile(lengths, 0.95)),
    )
