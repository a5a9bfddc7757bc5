"""Denoising of scans that are larger than a tile from file to file, with little in memory.

The tiles lie in a folder beside the output until it is whole. A run that was killed is continued by the same
command, and the output is the same, byte for byte.
"""

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm import __version__
from becalm.core.files import InputError, atomic_file, try_lock
from becalm.points.cloud import Cloud, ScanError, with_rounding_step, with_written_types
from becalm.points.constraints import CLASSES, Constraints
from becalm.points.decimals import rounding_step
from becalm.points.denoise import CloudDenoiser, Report, apply_outlier_policy, point_attributes
from becalm.points.formats.scan_files import atomic_scan_file
from becalm.points.formats.stream import Stream, check_grid_viewpoint, open_stream
from becalm.points.progress import DenoiseProgress
from becalm.points.rays import sensor_places
from becalm.points.suitability import check_suitable
from becalm.points.tile_denoise import (
    Settings,
    cloud_limits,
    limit_names,
    rows_progress,
    sample_progress,
    scan_report,
    scan_spacing,
)
from becalm.points.tiles import Tiles
from becalm.points.units import Unit, length_unit
from becalm.tasks.denoise import Model, Options, Warn, error_prefix, load_denoiser
from becalm.tasks.progress import Progress
from becalm.tasks.tiling import DEFAULT_TILING, LimitedParts, Tiling, iter_denoise_tiles, plan_tiles

WRITING = 0.03
"""The share of the work that is the writing of the output."""


@dataclass(frozen=True, eq=False)
class LargeResult:
    """What is known of a scan that was denoised from file to file."""

    report: Report
    """Its summary."""
    original: Cloud
    """About a million of its points, spread evenly."""
    progress: DenoiseProgress
    """What was found at these points."""
    options: Any
    """The options of the denoiser."""
    constraints: Constraints
    """What limited the displacements of these points."""
    unit: Unit
    """The unit of length of the coordinates, as far as the file says it."""


def open_large(scan: Path, output: Path, tiling: Tiling) -> Stream | None:
    """The scan as a stream of parts, where it is larger than a tile and both files are of one format that has streams.

    Raises ScanError as `read` does.
    """
    kinds = [".las" if path.suffix.lower() == ".laz" else path.suffix.lower() for path in (scan, output)]
    return open_stream(scan, plan_tiles(tiling).tile) if kinds[0] == kinds[1] else None


def iter_denoise_stream(
    stream: Stream,
    output: Path,
    model: Model,
    details: bool = False,
    warn: Warn = warnings.warn,
    keep_types: bool = False,
    scale: float | None = None,
    **options: Any,
) -> Iterator[Progress]:
    """Denoise a scan from file to file, with the options of `becalm.denoise`; the last report has a `LargeResult`.

    `details`, `keep_types` and `scale` are those of `DenoiseResult.save`. Raises InputError, OSError as the system does; the
    tiles that are finished then stay for the next run.
    """
    chosen = Options(**options)
    denoiser = load_denoiser(model, chosen)
    settings = Settings(chosen.outliers, chosen.sigma, chosen.seed, chosen.max_displacement)
    parts = LimitedParts(stream, stream.count, lambda part: part_limits(part, chosen))
    first = next(iter(parts))
    with error_prefix(first):
        check_viewpoint(stream, chosen, warn)
    with error_prefix(first), kept_folder(output, run_key(stream.path, denoiser, chosen)) as folder:
        if not chosen.force:
            check_suitable(first)
        tiles = None
        for share, tiles in iter_denoise_tiles(parts, folder, denoiser, settings, chosen.tiling, limit_names(first)):
            yield Progress((1 - WRITING) * share)
        assert tiles is not None
        report = scan_report(tiles)
        step = rounding_step(report.noise_before, report.displacement_95)
        count = stream.count - (report.outliers if settings.outliers == "remove" else 0)
        with atomic_scan_file(output, stream.path) as temporary:
            written = (
                with_rounding_step(with_written_types(part, keep_types, scale), step)
                for part in finished_parts(stream, tiles, settings, details)
            )
            stream.write(written, count, temporary, output, warn)
        original, progress = sample_progress(tiles)
        result = LargeResult(report, original, progress, chosen, cloud_limits(original, settings), length_unit(first))
    yield Progress(1.0, None, result)


def part_limits(part: Cloud, options: Options) -> Constraints:
    """The constraints of the points of a part of a scan. Raises ScanError where the scan has no classes."""
    classes = part.attributes.get(CLASSES)
    if classes is None and (options.only_class or options.keep_class):
        raise ScanError(f"--only-class, --keep-class: the scan has no attribute `{CLASSES}` (leave the option out)")
    place = given_viewpoint(options)
    sensors = None if place is None else np.broadcast_to(place, part.xyz.shape)
    if options.viewpoint is None:
        sensors = sensor_places(part, lambda line: None)
    return Constraints(
        seen=np.isin(classes, options.only_class) if classes is not None and options.only_class else None,
        movable=~np.isin(classes, options.keep_class) if classes is not None and options.keep_class else None,
        sensors=sensors,
        max_displacement=options.max_displacement,
    )


def given_viewpoint(options: Options) -> np.ndarray | None:
    """The place [3] of the sensor that the options give, None where they give none."""
    given = options.viewpoint
    return None if given is None or isinstance(given, str) else np.asarray(given, np.float64)


def check_viewpoint(stream: Stream, options: Options, warn: Warn) -> None:
    """Say where an organised grid contradicts the file's viewpoint; raise ScanError where it contradicts the given one."""
    if not isinstance(options.viewpoint, str):
        check_grid_viewpoint(stream, given_viewpoint(options), warn)


def finished_parts(stream: Stream, tiles: Tiles, settings: Settings, details: bool) -> Iterator[Cloud]:
    """The parts of a scan with their points at the new positions."""
    start, spacing = 0, scan_spacing(tiles)
    for part in stream:
        progress = rows_progress(tiles, part, start)
        start += len(part)
        detailed = part.with_attributes(point_attributes(part, progress, spacing)) if details else part
        yield apply_outlier_policy(detailed, progress, settings.outliers)


def run_key(scan: Path, denoiser: CloudDenoiser, options: Options) -> str:
    """A line that differs between runs whose results may differ: the scan and its age, the model, the options."""
    status = scan.stat()
    facts = [str(scan.resolve()), status.st_size, status.st_mtime_ns, model_digest(denoiser), __version__]
    size = (
        options.tiling.tile,
        options.tiling.buffer,
    )  # who works on the tiles, and with how much memory, changes nothing
    return json.dumps([*facts, repr(replace(options, tiling=DEFAULT_TILING)), *size])


def model_digest(denoiser: Any) -> str:
    """SHA-256 over the class and the parameters of a model, and over its plain attributes."""
    from torch import nn

    digest = hashlib.sha256(type(denoiser).__qualname__.encode())
    for name, value in sorted(vars(denoiser).items()):
        if isinstance(value, str | int | float | None):
            digest.update(f"{name}={value!r}".encode())
        if isinstance(value, nn.Module) and not isinstance(denoiser, nn.Module):
            digest.update(model_digest(value).encode())
    if isinstance(denoiser, nn.Module):
        for name, tensor in sorted(denoiser.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, of a quota that is used up, and of a file that may not become larger."""


def tiles_folder(output: Path) -> Path:
    """The folder beside an output where its tiles lie until it is whole."""
    name = hashlib.sha256(output.name.encode()).hexdigest()[:12]
    return Path(os.path.realpath(output)).parent / f".becalm-{name}.tiles"


@contextmanager
def kept_folder(output: Path, key: str) -> Iterator[Path]:
    """Context of a folder beside the output that a killed run of the same key has left, or of a new one.

    It is removed when the block ends, and stays where the block ends by an interruption or an error that another run need not
    meet again. Raises InputError where another process is at work in it, or the disk is full.
    """
    folder = tiles_folder(output)
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not try_lock(handle):
            raise InputError(f"{output}: another run is writing it; wait for that one, or choose another output")
        with removed_unless_resumable(folder, key):
            yield folder
    except OSError as error:
        if error.errno not in FULL or Path(error.filename or folder / "tile").parent != folder:
            raise
        reason = f"its tiles cannot be stored beside it ({error.strerror}); make room, about 75 bytes a point"
        raise InputError(f"{output}: {reason}, and give the same command again") from error
    finally:
        os.close(handle)


@contextmanager
def removed_unless_resumable(folder: Path, key: str) -> Iterator[None]:
    """Context in which a folder has what a run of this key left there, or nothing; it is removed at the end, unless the block
    was interrupted and has stored tiles."""
    kept, plan, whole = folder / "run.json", folder / "plan.json", True
    if not plan.exists() or not kept.exists() or kept.read_text() != key:
        for path in folder.iterdir():
            path.unlink()
        with atomic_file(kept) as temporary:
            temporary.write_text(key)
    try:
        yield
    except BaseException as error:
        whole = isinstance(error, InputError) or not plan.exists()
        raise
    finally:
        if whole:
            shutil.rmtree(folder)


def interruption(output: Path) -> str | None:
    """What is said where a run from file to file was stopped before its end; None where it left no tiles."""
    if not (tiles_folder(output) / "plan.json").exists():
        return None
    return f"interrupted; {output} is not written yet; finished tiles are kept: the same command continues"
