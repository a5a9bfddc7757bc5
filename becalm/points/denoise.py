"""Denoising of a cloud with a model: preparation of the points, outliers, the result's attributes and its summary.

The model gets finite, distinct positions about a local origin and returns displacements. Points without coordinates, copies of
one position, order, count and attributes are handled here, so that no model has to.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np

from becalm.points.cloud import Cloud, ScanError, freeze_array
from becalm.points.constraints import Constraints, limited_moves
from becalm.points.denoiser import CloudDenoiser, absurdly_far, iter_denoise_scaled
from becalm.points.estimate import noise_level, noise_levels
from becalm.points.neighbours import median_spacing
from becalm.points.outliers import excess_displacement, isolated_points, mixed_pixels
from becalm.points.progress import DenoiseProgress
from becalm.points.quantisation import coordinate_steps

MIN_POINTS = 16
"""The least number of distinct points from which a surface can be distinguished from noise."""

OFF_SURFACE = 0.5
"""Points whose probability to be of a surface is below this are counted as of none."""

FREE = Constraints()
"""No constraints."""

OutlierPolicy = Literal["keep", "flag", "remove"]


@dataclass(frozen=True)
class Report:
    """Summary of a denoised scan; lengths in its own units."""

    points: int
    """Points in the scan."""
    missing: int
    """Points without finite coordinates, which are returned unchanged."""
    unmoved: int
    """Points with coordinates that are exactly where they were."""
    outliers: int
    """Outliers found: isolated, mixed pixels, or displaced by more than the noise around them; 0 where they are kept: then none
    are sought."""
    noise_before: float
    """Estimated standard deviation of the noise across the surface: the median over the points."""
    noise_after: float
    """The error of the new positions that the model expects, likewise; where it expects none, the roughness that is left."""
    noise_low: float
    """5th percentile, over the points, of the noise estimated at each."""
    noise_high: float
    """95th percentile of the same: far above `noise_low` where the noise is uneven."""
    jarque_bera: float | None
    """Statistic of the Jarque–Bera test on residuals over the noise at each point: about 2 where they are normal, None where
    there is no noise or there are too few points."""
    normal_p: float | None
    """Its p-value: small where the noise is not Gaussian, or outliers are among it."""
    noise_shared: float | None
    """Of the median noise at the points, the part (σ) that neighbouring points have in common; None where the model does not
    estimate it."""
    off_surface: int | None
    """Points that are of no surface (leaves, wires, strays), which are not moved; None where the model does not estimate it."""
    displacement_median: float
    """Median length of the displacements of the points that were denoised."""
    displacement_95: float
    """Their 95th percentile."""
    displacement_max: float
    """The longest."""
    steps: dict[str, float]
    """Distance of the steps that coordinates are rounded to, by x, y, z or range, where it matters against noise or spacing."""
    roughness: float | None = None
    """How far the scan's points lie off the surface through their neighbours: standard deviation of what neighbours do not share,
    by local fits alone, before denoising; what `becalm info` shows. None where there are fewer than 16 points."""

    def __str__(self) -> str:
        return "\n".join(f"{name:<20} {format_figure(value)}" for name, value in asdict(self).items())


def format_figure(value: object) -> str:
    """A figure of a report as people read it: four digits, commas in counts, – for None."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {format_figure(part)}" for name, part in value.items()) or "–"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def scan_roughness(cloud: Cloud) -> float | None:
    """Standard deviation across the surface of what neighbours of a cloud do not share; None where fewer than 16 distinct points
    have coordinates."""
    places = np.unique(cloud.local()[usable_points(cloud, FREE)], axis=0)
    return noise_level(places) if len(places) >= MIN_POINTS else None


def find_isolated(cloud: Cloud, outliers: OutlierPolicy, constraints: Constraints = FREE) -> np.ndarray:
    """bool [n]: the isolated points among those seen, and where the sensor is known the mixed pixels; none where outliers are
    kept."""
    isolated, seen = np.zeros(len(cloud), dtype=bool), usable_points(cloud, constraints)
    if outliers != "keep" and seen.sum() > MIN_POINTS:
        local = cloud.local()[seen]
        isolated[seen] = isolated_points(local)
        if constraints.sensors is not None:
            isolated[seen] |= mixed_pixels(local, constraints.sensors[seen] - cloud.origin)
    return isolated


def usable_points(cloud: Cloud, constraints: Constraints) -> np.ndarray:
    """bool [n]: the points that the denoiser sees: with coordinates, within the constraints, not absurdly far from all others."""
    seen = cloud.measured if constraints.seen is None else cloud.measured & constraints.seen
    return seen & ~absurdly_far(cloud)


class Places(NamedTuple):
    """The distinct positions of a cloud, and which points are there."""

    xyz: np.ndarray
    """[m, 3] about the cloud's origin."""
    rows: np.ndarray
    """[k] the row in `xyz` of each point of the mask."""
    mask: np.ndarray
    """Bool [n]: the points of the cloud that have a row, k of them."""

    def to_points(self, values: np.ndarray) -> np.ndarray:
        """Values [m] of the positions as values [n] of the cloud's points, NaN outside the mask."""
        result = np.full(len(self.mask), np.nan)
        result[self.mask] = values[self.rows]
        return result


def distinct_places(cloud: Cloud, mask: np.ndarray) -> Places:
    """The distinct positions of the points in a mask [n]."""
    xyz, index = np.unique(cloud.local()[mask], axis=0, return_inverse=True)
    return Places(xyz, index.reshape(-1), mask)


def iter_denoise_cloud(
    cloud: Cloud,
    model: CloudDenoiser,
    outliers: OutlierPolicy = "keep",
    sigma: float | None = None,
    seed: int = 0,
    constraints: Constraints = FREE,
) -> Iterator[DenoiseProgress]:
    """Denoise a cloud; a report with positions has those of the whole cloud, [n, 3] absolute, and the last has the outliers.

    Isolated points and mixed pixels are left out from the start unless outliers are kept. `sigma` is the noise level in the
    scan's units, None where it is not known. Raises ScanError where there are fewer than 16 distinct positions, or σ is not
    positive, or larger than the cloud.
    """
    isolated = find_isolated(cloud, outliers, constraints)
    places = distinct_places(cloud, usable_points(cloud, constraints) & ~isolated)
    check_points(places.xyz, sigma, cloud)
    latest = None
    for progress in iter_denoise_scaled(model, places.xyz, sigma, seed):
        if latest is not None:
            yield latest
        latest = None if progress.xyz is None else whole_cloud(cloud, places, progress, seed, constraints)
        if latest is None:
            yield progress
    if latest is None:
        raise ValueError("model: its last report has no positions")
    yield mark_outliers(cloud, latest, isolated, outliers)


def whole_cloud(
    cloud: Cloud, places: Places, progress: DenoiseProgress, seed: int, constraints: Constraints = FREE
) -> DenoiseProgress:
    """A report about distinct positions as one about the whole cloud, within the constraints; noise is estimated where the model
    does not."""
    assert progress.xyz is not None
    xyz = cloud.xyz.copy()
    moves = (progress.xyz - places.xyz)[places.rows]
    xyz[places.mask] += limited_moves(moves, places.xyz[places.rows], constraints, places.mask, cloud.origin)
    noise = noise_levels(places.xyz, seed) if progress.noise is None else progress.noise
    estimates = {
        name: None if values is None else places.to_points(values)
        for name in ("error", "shared", "length", "surface")
        for values in (getattr(progress, name),)
    }
    return DenoiseProgress(progress.done, freeze_array(xyz), places.to_points(noise), **estimates)


def check_points(places: np.ndarray, sigma: float | None, cloud: Cloud) -> None:
    """Raise ScanError where the distinct places of a cloud are too few, or σ is not between 0 and half of its size."""
    if len(places) < MIN_POINTS:
        needed = f"at least {MIN_POINTS} are needed to tell a surface from noise"
        raise ScanError(f"{len(places)} distinct finite points; {needed}{rounding_hint(cloud, len(places))}")
    with np.errstate(over="ignore"):
        size = float(np.linalg.norm(np.ptp(places, axis=0)))
    if not 1e-60 < size < 1e60:
        raise ScanError(f"coordinates span {size:.3g} units; give them in metres or the like")
    check_noise_level(size, sigma)


def rounding_hint(cloud: Cloud, distinct: int) -> str:
    """What has made many points few distinct ones: the scale of a LAS file."""
    if cloud.source is None or cloud.source.format != "las" or len(cloud) < 2 * distinct:
        return ""
    scale = f"{max(cloud.source.header.scales):g}"
    return f"; the scale {scale} of the file rounds its {len(cloud):,} points to these: write it anew with a finer one"


def check_noise_level(size: float, sigma: float | None) -> None:
    """Raise ScanError where σ is not between 0 and half of the cloud's size."""
    if sigma is not None and not 0 < sigma < size / 2:
        raise ScanError(
            f"noise {sigma:g}: a standard deviation in the scan's units, above 0 and well below its size {size:g}"
        )


def mark_outliers(
    cloud: Cloud, progress: DenoiseProgress, isolated: np.ndarray, outliers: OutlierPolicy
) -> DenoiseProgress:
    """The report with its outliers: isolated points, and those displaced by more than the noise around them, both put back where
    they were; none where outliers are kept."""
    assert progress.xyz is not None and progress.noise is not None
    if outliers == "keep":
        return progress._replace(outlier=isolated)
    taken = np.isfinite(progress.noise) & ~isolated
    moved = progress.xyz[taken] - cloud.xyz[taken]
    outlier = isolated.copy()
    outlier[taken] = excess_displacement(cloud.local()[taken], moved, progress.noise[taken])
    return progress._replace(xyz=freeze_array(np.where(outlier[:, None], cloud.xyz, progress.xyz)), outlier=outlier)


def apply_outlier_policy(cloud: Cloud, progress: DenoiseProgress, outliers: OutlierPolicy) -> Cloud:
    """The cloud at its new positions: with an attribute `outlier` (uint8) where they are flagged, without them where removed."""
    assert progress.xyz is not None and progress.outlier is not None
    moved = cloud.with_positions(progress.xyz)
    if outliers == "flag":
        moved = moved.with_attributes({"outlier": progress.outlier.astype(np.uint8)})
    return moved.select(~progress.outlier) if outliers == "remove" else moved


def point_attributes(cloud: Cloud, progress: DenoiseProgress, spacing: float | None = None) -> dict[str, np.ndarray]:
    """Attributes of every point, float32 [n]: `displacement` (length) and `noise` (σ) in the scan's units, and where the model
    estimates its error e, `confidence` h²/(h² + e²) with h the scan's median spacing: 1 where e = 0, ½ where e = h. Where it
    estimates them, also `noise_shared`, the part of σ that neighbours have in common, and `surface`, the probability from 0 to 1
    that the point is of a surface. `spacing` is h where the cloud is a part of the scan."""
    assert progress.xyz is not None and progress.noise is not None
    values = {"displacement": np.linalg.norm(progress.xyz - cloud.xyz, axis=1), "noise": progress.noise}
    if progress.error is not None:
        spacing = median_spacing(cloud.local()[cloud.measured]) if spacing is None else spacing
        unit = spacing**2 + np.finfo(float).tiny
        values["confidence"] = unit / (unit + progress.error**2)
    if progress.shared is not None:
        values["noise_shared"] = progress.noise * np.sqrt(progress.shared)
    if progress.surface is not None:
        values["surface"] = progress.surface
    return {name: column.astype(np.float32) for name, column in values.items()}


def summarize(cloud: Cloud, progress: DenoiseProgress, sensors: np.ndarray | None = None) -> Report:
    """The summary of a result: its figures against those of the cloud it was made from, seen by `sensors` [n, 3] if known."""
    from becalm.points.normality import noise_normality

    assert progress.xyz is not None and progress.noise is not None and progress.outlier is not None
    taken = np.isfinite(progress.noise) & ~progress.outlier
    before, after = cloud.local()[taken], progress.xyz[taken] - cloud.origin
    lengths = np.linalg.norm(after - before, axis=1)
    once = np.unique(before, axis=0, return_index=True)[1]  # copies have no noise between them, and would hide it
    before, after, rows = before[once], after[once], np.flatnonzero(taken)[once]
    test = noise_normality(before)
    shared, surface, error = (
        None if x is None else x[rows] for x in (progress.shared, progress.surface, progress.error)
    )
    noise = progress.noise[rows]
    flat = np.ones(len(noise), bool) if surface is None or (surface < OFF_SURFACE).all() else surface >= OFF_SURFACE
    low, high = np.quantile(noise, (0.05, 0.95))
    if not lengths.any():
        noise, error = np.full(len(noise), noise_level(before)), None
    median, roughness = float(np.median(noise[flat])), scan_roughness(cloud)
    return Report(
        points=len(cloud),
        missing=int((~cloud.measured).sum()),
        unmoved=int((progress.xyz == cloud.xyz).all(axis=1).sum()),
        outliers=int(progress.outlier.sum()),
        noise_before=median,
        noise_after=noise_level(after) if error is None else float(np.median(error[flat])),
        noise_low=float(low),
        noise_high=float(high),
        jarque_bera=float(test.statistic) if np.isfinite(test.p) else None,
        normal_p=float(test.p) if np.isfinite(test.p) else None,
        noise_shared=None if shared is None else float(np.median((noise * np.sqrt(shared))[flat])),
        off_surface=None if surface is None else int((surface < OFF_SURFACE).sum()),
        displacement_median=float(np.median(lengths)),
        displacement_95=float(np.quantile(lengths, 0.95)),
        displacement_max=float(lengths.max()),
        steps=cloud_steps(cloud, taken, sensors, min(median, roughness or median)),
        roughness=roughness,
    )


def cloud_steps(cloud: Cloud, taken: np.ndarray, sensors: np.ndarray | None, noise: float) -> dict[str, float]:
    """The steps that coordinates of the points in a mask [n] stand on, by axis, where they matter against the noise or the
    spacing; along the rays where one sensor saw all."""
    place = None if sensors is None or (sensors[taken] != sensors[taken][0]).any() else sensors[taken][0]
    return {steps.where: steps.step for steps in coordinate_steps(cloud.xyz[taken], place, noise=noise)}
