"""Denoising of point clouds: `becalm.denoise(points)` takes an array, a Cloud, another library's object or a file's path."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from becalm.core.device import device_of
from becalm.core.files import InputError
from becalm.points import denoise as clouds
from becalm.points.cloud import Cloud, ScanError, freeze_array, with_rounding_step, with_written_types
from becalm.points.constraints import Constraints, class_masks
from becalm.points.decimals import round_positions, rounding_step
from becalm.points.denoise import OutlierPolicy, Report
from becalm.points.denoiser import CloudDenoiser, with_near_origin
from becalm.points.formats import TEXT, write
from becalm.points.formats.rounding import written_coordinates
from becalm.points.interop import as_cloud
from becalm.points.progress import DenoiseProgress
from becalm.points.rays import check_viewpoint, sensor_places
from becalm.points.suitability import check_suitable
from becalm.points.tile_denoise import Settings
from becalm.points.units import Unit, length_unit
from becalm.systems.jets import Jets
from becalm.systems.sbd import SBD, Rule, Sampled, uncertainty
from becalm.systems.spd import SPD
from becalm.tasks.html import summary_html
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.tiling import DEFAULT_TILING, Tiling, iter_denoise_large, plan_tiles
from becalm.weights.store import load, model_words

Model = str | PathLike[str] | CloudDenoiser
"""A packaged model's name, a file of weights, or a loaded model."""

Warn = Callable[[str], object]


@dataclass(frozen=True)
class Options:
    """How a cloud is denoised; `denoise` takes these as keyword arguments."""

    outliers: OutlierPolicy = "keep"
    """Points that are isolated, or displaced by more than the noise around them: keep them (and denoise them like any other),
    flag them by an attribute `outlier` (and leave them in place), or remove them."""
    sigma: float | None = None
    """Standard deviation of the noise in the cloud's units; None estimates it."""
    seed: int = 0
    """Seed of all random numbers: the same seed gives the same result."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    force: bool = False
    """Denoise Gaussian splats, and coordinates that look like degrees, too."""
    rule: Rule | None = None
    """SBD only: the update of a step, the ancestral `mean` (the default), the deterministic `flow`, or `ancestral` sampling."""
    steps: int | None = None
    """SBD only: steps of the reverse diffusion; 4 by default."""
    uncertainty: int = 0
    """SBD only: ancestral runs, at least 2, whose spread gives each point an `uncertainty`; 0 for none."""
    viewpoint: Sequence[float] | np.ndarray | Literal["none"] | None = None
    """Where the sensor stood, x y z in the scan's coordinates, or a row for each point: points move along its rays only. None
    takes what the file says (E57, organised PCD, an attribute `viewpoint`), "none" lets points move freely."""
    max_displacement: float | None = None
    """No point moves farther, in the scan's units."""
    only_class: Sequence[int] | None = None
    """Denoise the points of these classes (LAS: `classification`) as if there were no others, which stay where they are."""
    keep_class: Sequence[int] | None = None
    """Leave the points of these classes where they are; unlike those outside `only_class` they support the points beside them."""
    tiling: Tiling = DEFAULT_TILING
    """How a cloud of more than half a million points is divided into tiles, and how many processes work on them."""

    def __post_init__(self):
        if self.steps is not None and self.steps < 1:
            raise InputError(f"--steps {self.steps}: must be at least 1")
        if self.uncertainty < 0 or self.uncertainty == 1:
            raise InputError(f"--uncertainty {self.uncertainty}: is a number of runs, at least 2; 0 for none")


@dataclass(frozen=True, eq=False, repr=False)
class DenoiseResult:
    """A denoised cloud; its arrays have a row for each point that went in, in the same order."""

    original: Cloud
    """The cloud that went in."""
    progress: DenoiseProgress
    """The model's last report: positions, noise, error and outliers."""
    options: Options
    """How it was denoised."""
    constraints: Constraints = clouds.FREE
    """What limited the displacements."""
    uncertainty: np.ndarray | None = None
    """Standard deviation [n] per coordinate over ancestral runs of SBD; None unless `uncertainty` asked for them."""

    @property
    def points(self) -> np.ndarray:
        """New positions [n, 3]; outliers that are not kept, and points without coordinates, are where they were."""
        assert self.progress.xyz is not None
        return self.progress.xyz

    @property
    def outlier(self) -> np.ndarray:
        """Bool [n]: the outliers; none where `outliers` is "keep"."""
        assert self.progress.outlier is not None
        return self.progress.outlier

    @property
    def displacement(self) -> np.ndarray:
        """Length [n] of each point's displacement, in the cloud's units."""
        return self.attributes["displacement"]

    @property
    def noise(self) -> np.ndarray:
        """Estimated standard deviation [n] of the noise at each point, in the cloud's units."""
        return self.attributes["noise"]

    @property
    def confidence(self) -> np.ndarray | None:
        """h²/(h² + e²) [n] with the estimated error e and the median spacing h; None where the model estimates no error."""
        return self.attributes.get("confidence")

    @cached_property
    def attributes(self) -> dict[str, np.ndarray]:
        """The columns above by name, float32 [n]: displacement, noise, and confidence and uncertainty where there are any."""
        more = {} if self.uncertainty is None else {"uncertainty": self.uncertainty.astype(np.float32)}
        return clouds.point_attributes(self.original, self.progress) | more

    @cached_property
    def report(self) -> Report:
        """A summary in figures: points, outliers, noise before and after, displacements."""
        return clouds.summarize(self.original, self.progress, self.constraints.sensors)

    @cached_property
    def unit(self) -> Unit:
        """The unit of length of the cloud's coordinates, as far as its file says it."""
        return length_unit(self.original)

    @property
    def cloud(self) -> Cloud:
        """The denoised cloud with the attributes of the original: outliers flagged or removed as `outliers` says."""
        return clouds.apply_outlier_policy(self.original, self.progress, self.options.outliers)

    @property
    def detailed_cloud(self) -> Cloud:
        """The same with the attributes of the result added."""
        detailed = self.original.with_attributes(self.attributes)
        return clouds.apply_outlier_policy(detailed, self.progress, self.options.outliers)

    def save(
        self,
        path: str | PathLike[str],
        details: bool = False,
        warn: Warn = warnings.warn,
        keep_types: bool = False,
        scale: float | None = None,
    ) -> None:
        """Write the cloud in the format of the suffix; a cloud from a file of that format keeps its header and unchanged parts.

        Text has the decimals that the noise justifies, and no fewer than the file had. With `details` the result's attributes
        are added; with `keep_types` coordinates are of the file's own type, however much that rounds them; `scale` is that of
        LAS. `warn` is called with a line for what the format cannot hold. Raises ScanError where the path cannot be written;
        then nothing has changed.
        """
        step = rounding_step(float(np.nanmedian(self.noise)), float(np.nanquantile(self.displacement, 0.95)))
        text = Path(path).suffix.lower() in TEXT
        xyz = freeze_array(round_positions(self.original.xyz, self.points, step)) if text else self.points
        result = replace(self, progress=self.progress._replace(xyz=xyz))
        cloud = with_rounding_step(result.detailed_cloud if details else result.cloud, step)
        write(cloud, path, warn, keep_types, scale)

    def as_written(
        self, path: str | PathLike[str], keep_types: bool = False, scale: float | None = None
    ) -> "DenoiseResult":
        """The result as a file at this path has it: positions rounded as its format rounds, and errors larger by that."""
        moved = with_written_types(self.original.with_positions(self.points), keep_types, scale)
        still = (self.points == self.original.xyz).all(axis=1, keepdims=True)
        xyz = np.where(still, self.original.xyz, written_coordinates(moved, Path(path)))
        error = self.progress.error
        if error is not None:
            error = np.hypot(error, np.linalg.norm(xyz - self.points, axis=1) / np.sqrt(3))
        return replace(self, progress=self.progress._replace(xyz=freeze_array(xyz), error=error))

    def __repr__(self) -> str:
        before, after = self.report.noise_before, self.report.noise_after
        outliers = f", {self.report.outliers:,} outliers" if self.options.outliers != "keep" else ""
        return f"DenoiseResult({len(self.original):,} points, noise {before:.4g} before, {after:.4g} after{outliers})"

    def _repr_html_(self) -> str:
        rows = {name.replace("_", " "): clouds.format_figure(value) for name, value in asdict(self.report).items()}
        return summary_html("Denoised cloud", rows, self.picture())

    def draw(self, path: str | PathLike[str]) -> None:
        """Write a picture of before and after to a PNG file. Raises OSError where it cannot be written."""
        from becalm.points.plot import draw

        mask = self.original.measured & ~self.outlier
        places = self.original.local()[mask], self.points[mask] - self.original.origin
        draw(*places, Path(path), self.unit.symbol or "scan units")

    def picture(self) -> bytes | None:
        """A PNG of the cloud before and after, coloured by displacement; None without Matplotlib."""
        from becalm.points.plot import png

        mask = self.original.measured & ~self.outlier
        try:
            return png(self.original.local()[mask], self.points[mask] - self.original.origin)
        except ModuleNotFoundError:
            return None


def denoise(points: Any, model: Model = "jets", **options: Any) -> DenoiseResult:
    """The denoised points of an array [n, 3], a Cloud, an object of Open3D, trimesh, PyVista or laspy, or a file's path.

    `options` are the fields of `Options`: outliers, sigma, seed, device; rule, steps and uncertainty for SBD. The result has the
    points in the same order. Raises InputError, one line with the file, the field and the fix.
    """
    return final_result(steps(points, model, **options))


def steps(points: Any, model: Model = "jets", *, warn: Warn = warnings.warn, **options: Any) -> Iterator[Progress]:
    """As `denoise`, with reports on the way: `state` has the positions [n, 3] after each pass over the cloud, the last `result`.

    `warn` is called with one line for each part of a file that is not read.
    """
    chosen = Options(**options)
    denoiser = load_denoiser(model, chosen)
    cloud = with_near_origin(as_cloud(points, warn))
    with error_prefix(cloud):
        if not chosen.force:
            check_suitable(cloud)
        limits = constraints_of(cloud, chosen, warn)
        settings = Settings(chosen.outliers, chosen.sigma, chosen.seed, chosen.max_displacement)
        if len(cloud) > plan_tiles(chosen.tiling).tile:
            reports = iter_denoise_large(cloud, denoiser, settings, chosen.tiling, limits)
        else:
            reports = clouds.iter_denoise_cloud(cloud, denoiser, *settings[:3], limits)
        for progress in reports:
            if progress.outlier is None:
                yield Progress(progress.done, progress.xyz)
        spread = run_uncertainty(cloud, progress, denoiser, chosen) if chosen.uncertainty else None
    yield Progress(1.0, progress.xyz, DenoiseResult(cloud, progress, chosen, limits, spread))


def constraints_of(cloud: Cloud, options: Options, warn: Warn) -> Constraints:
    """The constraints that the options and the cloud's file set. Raises ScanError for a viewpoint or class that cannot be."""
    seen, movable = class_masks(cloud, options.only_class, options.keep_class)
    if isinstance(options.viewpoint, str):
        if options.viewpoint != "none":
            raise ScanError(f"--viewpoint {options.viewpoint}: give x, y and z, or none")
        sensors = None
    elif options.viewpoint is not None:
        sensors = check_viewpoint(cloud, np.asarray(options.viewpoint, np.float64))
    else:
        sensors = sensor_places(cloud, warn)
    return Constraints(seen, movable, sensors, options.max_displacement)


def load_denoiser(model: Model, options: Options) -> CloudDenoiser:
    """The model on its device, with the rule and steps of the options. Raises InputError where it does not have them."""
    import torch

    name = str(model) if isinstance(model, str | PathLike) else "this model"
    place = Path(model) if isinstance(model, PathLike) else model
    denoiser = load(place, Jets, SBD, SPD) if isinstance(place, str | Path) else place
    if not isinstance(denoiser, CloudDenoiser):
        kind = model_words(type(denoiser))
        raise InputError(f"model: {kind} does not denoise clouds; it has no method iter_denoise")
    if isinstance(denoiser, torch.nn.Module):
        denoiser = denoiser.to(device_of(options.device))
    if options.rule is None and options.steps is None and not options.uncertainty:
        return denoiser
    if not isinstance(denoiser, SBD):
        raise InputError(
            f"--rule, --steps and --uncertainty are for SBD; {name} is {model_words(type(denoiser))}: leave them out, or "
            "name a file of SBD's weights by --model"
        )
    return Sampled(denoiser, options.rule or "mean", options.steps or 4)


def run_uncertainty(cloud: Cloud, progress: DenoiseProgress, sampled: Any, options: Options) -> np.ndarray:
    """Standard deviation [n] over ancestral runs of SBD, NaN for outliers and points without coordinates."""
    assert progress.outlier is not None and progress.noise is not None
    places = clouds.distinct_places(cloud, np.isfinite(progress.noise) & ~progress.outlier)
    return places.to_points(
        uncertainty(sampled.model, places.xyz, options.uncertainty, options.seed, options.sigma, sampled.steps)
    )


@contextmanager
def error_prefix(cloud: Cloud) -> Iterator[None]:
    """Put the name of the cloud's file, if it is from one, before a ScanError about its points."""
    try:
        yield
    except ScanError as error:
        path: Path | None = cloud.source.path if cloud.source else None
        raise (ScanError(f"{path}: {error}") if path else error) from error
