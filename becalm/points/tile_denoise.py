"""Denoising of one tile with its surroundings, and the results of all tiles as those of the whole scan."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from becalm.points.cloud import Cloud, ScanError, freeze_array
from becalm.points.constraints import Constraints
from becalm.points.denoise import (
    MIN_POINTS,
    CloudDenoiser,
    OutlierPolicy,
    Report,
    iter_denoise_cloud,
    summarize,
)
from becalm.points.neighbours import median_spacing
from becalm.points.progress import DenoiseProgress, final_progress
from becalm.points.tiles import ESTIMATES, RESULT, Tiles, surface_spacing

BUFFER, SHARED_BUFFER = 32, 64
"""Spacings around a tile on which its results depend, and those where neighbouring points share the noise."""

SHARED, SHARED_POINTS, SHARED_NOISE = 0.5, 0.1, 0.1
"""The wider buffer is taken where more than `SHARED_POINTS` of the points have more than `SHARED` of their noise in common with
neighbours, and more noise than `SHARED_NOISE` spacings. Of white noise `jets` says so at three points in a hundred."""


class Part(NamedTuple):
    """What is needed to denoise a tile, apart from the model."""

    own: np.ndarray
    """Its own points: records [n] of `xyz` and what else is stored."""
    around: np.ndarray
    """Those [m] of its surroundings."""
    distances: np.ndarray
    """Their distances [m] to the tile's box."""
    widths: tuple[float, ...]
    """Widths of the surroundings, each tried where the one before was too narrow."""
    spacing: float
    """The spacing of the points."""


class Settings(NamedTuple):
    """The options of a denoiser that hold for every tile."""

    outliers: OutlierPolicy = "keep"
    sigma: float | None = None
    seed: int = 0
    max_displacement: float | None = None


LIMITS = ("seen", "movable", "sensors")
"""Constraints that have a row for each point."""


def with_limits(cloud: Cloud, constraints: Constraints) -> Cloud:
    """A cloud that carries the constraints of its points as attributes, by the names of `limit_names`."""
    found = {f"limit {name}": getattr(constraints, name) for name in LIMITS}
    return cloud.with_attributes({name: values for name, values in found.items() if values is not None})


def limit_names(cloud: Cloud) -> list[str]:
    """The attributes of a cloud of `with_limits` that are constraints."""
    return [f"limit {name}" for name in LIMITS if f"limit {name}" in cloud.attributes]


def cloud_limits(cloud: Cloud, settings: Settings) -> Constraints:
    """The constraints of a cloud of `with_limits`."""
    found = {name: cloud.attributes.get(f"limit {name}") for name in LIMITS}
    return Constraints(**found, max_displacement=settings.max_displacement)


def tile_part(tiles: Tiles, tile: int, buffer: float | None) -> Part:
    """A tile with its surroundings: `buffer` wide in the scan's units, or as wide as models look where it is None."""
    own = tiles.own_points(tile)
    spacing = surface_spacing(own["xyz"])
    widths = (BUFFER * spacing, SHARED_BUFFER * spacing) if buffer is None else (buffer,)
    return Part(own, *tiles.surroundings(tile, widths[-1]), widths, spacing)


def denoise_tile(denoiser: CloudDenoiser, part: Part, settings: Settings) -> tuple[np.ndarray, dict]:
    """The result [n] of a tile's own points, and its figures: `estimates` (those the model makes), `spacing`, `report`.

    A tile with too few distinct points to tell a surface from noise is returned as it is.
    """
    n = len(part.own)
    result = np.zeros(n, RESULT)
    result["xyz"] = part.own["xyz"]
    for name in ESTIMATES:
        result[name] = np.nan
    for width in part.widths:
        cloud = record_cloud(np.concatenate([part.own, part.around[part.distances <= width]]))
        seen = cloud.attributes.get("limit seen", slice(None))
        if len(np.unique(cloud.xyz[seen], axis=0)) < MIN_POINTS:
            return result, {"estimates": [], "spacing": part.spacing, "report": None}
        options = settings.outliers, _tile_sigma(settings, cloud), settings.seed
        progress = final_progress(iter_denoise_cloud(cloud, denoiser, *options, cloud_limits(cloud, settings)))
        own = DenoiseProgress(progress.done, *(None if value is None else value[:n] for value in progress[1:]))
        if not shares_noise(own, part.spacing):
            break
    assert own.xyz is not None and own.outlier is not None and own.noise is not None
    result["xyz"], result["outlier"] = own.xyz, own.outlier
    estimates = [name for name in ESTIMATES if getattr(own, name) is not None]
    for name in estimates:
        result[name] = getattr(own, name)
    taken = np.isfinite(own.noise) & ~own.outlier
    few = len(np.unique(part.own["xyz"][taken], axis=0)) < MIN_POINTS
    whole = record_cloud(part.own)
    report = None if few else asdict(summarize(whole, own, cloud_limits(whole, settings).sensors))
    return result, {"estimates": estimates, "spacing": median_spacing(part.own["xyz"]), "report": report}


def record_cloud(records: np.ndarray) -> Cloud:
    """The cloud of records [n] of `xyz` and attributes."""
    names = [name for name in records.dtype.names or () if name != "xyz"]
    return Cloud(freeze_array(np.ascontiguousarray(records["xyz"])), {name: records[name] for name in names})


def _tile_sigma(settings: Settings, cloud: Cloud) -> float | None:
    """The noise level σ, no larger than a tile can be denoised with: it was checked for the whole scan."""
    size = float(np.linalg.norm(np.ptp(cloud.xyz, axis=0)))
    return None if settings.sigma is None else min(settings.sigma, size / 3)


def shares_noise(progress: DenoiseProgress, spacing: float) -> bool:
    """Whether neighbouring points have so much noise in common that the result depends on a wider surroundings."""
    if progress.shared is None or progress.noise is None:
        return False
    wide = (progress.shared > SHARED) & (progress.noise > SHARED_NOISE * spacing)
    return bool(wide.mean() > SHARED_POINTS)


def rows_progress(tiles: Tiles, chunk: Cloud, start: int) -> DenoiseProgress:
    """The result at the points of a part of the scan that begins at row `start`; all its tiles are done."""
    rows, found = tiles.results(start, start + len(chunk))
    xyz, outlier = chunk.xyz.copy(), np.zeros(len(chunk), bool)
    xyz[rows], outlier[rows] = found["xyz"], found["outlier"]
    estimates = {}
    for name in estimates_made(tiles):
        estimates[name] = np.full(len(chunk), np.nan)
        estimates[name][rows] = found[name]
    return DenoiseProgress(1.0, freeze_array(xyz), outlier=outlier, **estimates)


def estimates_made(tiles: Tiles) -> list[str]:
    """The estimates that the model has made on any tile; `noise` is always one."""
    made = {"noise"}.union(*(tiles.figures(tile)["estimates"] for tile in tiles.numbers))
    return [name for name in ESTIMATES if name in made]


def scan_spacing(tiles: Tiles) -> float:
    """The median over the points of the median spacing of their tile."""
    values = [tiles.figures(tile)["spacing"] for tile in tiles.numbers]
    return weighted_median(values, tiles.counts[tiles.numbers])


def scan_report(tiles: Tiles) -> Report:
    """The summary of the whole scan: quantiles over a sample of its points, numbers of points added up over the tiles, noise
    levels as medians of those of the tiles, tests of normality pooled: their statistics are added.

    Raises ScanError where no tile has enough distinct points.
    """
    from scipy import stats

    numbers = [tile for tile in tiles.numbers if tiles.figures(tile)["report"]]
    if not numbers:
        raise ScanError(f"fewer than {MIN_POINTS} distinct points in every tile; give a larger --tile")
    reports, weights = [tiles.figures(tile)["report"] for tile in numbers], tiles.counts[numbers]
    whole = summarize(*sample_progress(tiles))
    counts = [name for name, value in asdict(whole).items() if isinstance(value, int)]
    tests = [report["jarque_bera"] for report in reports if report["jarque_bera"] is not None]
    changed: dict[str, Any] = {name: sum(report[name] for report in reports) for name in counts}
    for name in ("noise_before", "noise_after", "roughness"):
        changed[name] = weighted_median([report[name] for report in reports], weights)
    changed["displacement_max"] = max(report["displacement_max"] for report in reports)
    changed |= {"points": tiles.total, "missing": tiles.total - int(tiles.counts.sum())}
    changed["jarque_bera"] = float(np.mean(tests)) if tests else None
    changed["normal_p"] = float(stats.chi2.sf(np.sum(tests), 2 * len(tests))) if tests else None
    return replace(whole, **changed)


def sample_progress(tiles: Tiles) -> tuple[Cloud, DenoiseProgress]:
    """About a million points, spread evenly over the scan, as a cloud that carries their constraints, and the result there."""
    before, after = tiles.sample_results()
    estimates = {name: after[name].astype(float) for name in estimates_made(tiles)}
    progress = DenoiseProgress(1.0, freeze_array(after["xyz"].copy()), outlier=after["outlier"], **estimates)
    return record_cloud(before), progress


def weighted_median(values: Sequence, weights: Sequence | np.ndarray) -> float:
    """The least of the values [n] below or at which lies half of the weight."""
    order = np.argsort(values)
    total = np.cumsum(np.asarray(weights, float)[order])
    return float(np.asarray(values, float)[order][np.searchsorted(total, total[-1] / 2)])
