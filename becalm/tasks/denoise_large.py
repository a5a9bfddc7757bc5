"""Denoising of scans that are larger than a tile: of clouds in memory, and from file to file with little in memory.

From file to file the tiles lie in a folder beside the output until it is whole. A run that was killed is continued by the same
command, and the output is the same, byte for byte.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from becalm import __version__
from becalm.core.files import InputError, atomic_file, try_lock
from becalm.points.cloud import Cloud
from becalm.points.denoise import (
    CloudDenoiser,
    Report,
    apply_outlier_policy,
    point_attributes,
)
from becalm.points.formats.scan_files import atomic_scan_file
from becalm.points.formats.stream import LasStream, PlyStream, open_stream
from becalm.points.progress import DenoiseProgress
from becalm.points.tile_denoise import Settings, rows_progress, scan_report, scan_spacing
from becalm.points.tiles import Tiles
from becalm.tasks.progress import Progress
from becalm.tasks.tiling import Tiling, iter_denoise_tiles, plan_tiles

WRITING = 0.03
"""The share of the work that is the writing of the output."""


class LargeResult(NamedTuple):
    """What is known of a scan that was denoised from file to file."""

    report: Report
    """Its summary."""
    before: np.ndarray
    """Positions [k, 3] of about a million of its points, spread evenly."""
    after: np.ndarray
    """Where these are now."""


def iter_denoise_large(
    cloud: Cloud, denoiser: CloudDenoiser, settings: Settings, tiling: Tiling
) -> Iterator[DenoiseProgress]:
    """Denoise a cloud in memory tile by tile; the last report has the positions and all else, as of a cloud in one piece."""
    with tempfile.TemporaryDirectory(prefix="becalm-", suffix=".tiles") as folder:
        for share, tiles in iter_denoise_tiles((cloud,), len(cloud), Path(folder), denoiser, settings, tiling):
            if tiles is None:
                yield DenoiseProgress(share)
        assert tiles is not None
        yield rows_progress(tiles, cloud, 0)


def open_large(scan: Path, output: Path, tiling: Tiling) -> LasStream | PlyStream | None:
    """The scan as a stream of parts, where it is larger than a tile and both files are of one format that has streams.

    Raises ScanError as `read` does.
    """
    kinds = [".las" if path.suffix.lower() == ".laz" else path.suffix.lower() for path in (scan, output)]
    stream = open_stream(scan) if kinds[0] == kinds[1] else None
    return stream if stream is not None and stream.count > plan_tiles(tiling).tile else None


def iter_denoise_stream(
    stream: LasStream | PlyStream,
    output: Path,
    denoiser: CloudDenoiser,
    settings: Settings,
    tiling: Tiling,
    details: bool = False,
    warn: Callable[[str], Any] = warnings.warn,
) -> Iterator[Progress]:
    """Denoise a scan from file to file; the last report has a `LargeResult`. With `details` the output has the attributes of
    `point_attributes`.

    Raises InputError, OSError as the system does; the tiles that are finished then stay for the next run.
    """
    with kept_folder(output, run_key(stream.path, denoiser, settings, tiling)) as folder:
        tiles = None
        for share, tiles in iter_denoise_tiles(stream, stream.count, folder, denoiser, settings, tiling):
            yield Progress((1 - WRITING) * share)
        assert tiles is not None
        report = scan_report(tiles)
        count = stream.count - (report.outliers if settings.outliers == "remove" else 0)
        with atomic_scan_file(output, stream.path) as temporary:
            stream.write(finished_parts(stream, tiles, settings, details), count, temporary, output, warn)
        before, after = tiles.sample_results()
        result = LargeResult(report, before[~after["outlier"]], after["xyz"][~after["outlier"]])
    yield Progress(1.0, None, result)


def finished_parts(stream: LasStream | PlyStream, tiles: Tiles, settings: Settings, details: bool) -> Iterator[Cloud]:
    """The parts of a scan with their points at the new positions."""
    start, spacing = 0, scan_spacing(tiles)
    for part in stream:
        progress = rows_progress(tiles, part, start)
        start += len(part)
        shown = part.with_attributes(point_attributes(part, progress, spacing)) if details else part
        yield apply_outlier_policy(shown, progress, settings.outliers)


def run_key(scan: Path, denoiser: CloudDenoiser, settings: Settings, tiling: Tiling) -> str:
    """A line that differs between runs whose results may differ: the scan and its age, the model, the options."""
    status = scan.stat()
    facts = [str(scan.resolve()), status.st_size, status.st_mtime_ns, model_digest(denoiser), __version__]
    return json.dumps([*facts, settings, tiling.tile, tiling.buffer])


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


@contextmanager
def kept_folder(output: Path, key: str) -> Iterator[Path]:
    """Context of a folder beside the output that a killed run of the same key has left, or of a new one.

    It is removed when the block ends, and stays where the block ends by an interruption or an error that another run need not
    meet again. Raises InputError where another process is at work in it.
    """
    name = hashlib.sha256(output.name.encode()).hexdigest()[:12]
    folder = Path(os.path.realpath(output)).parent / f".becalm-{name}.tiles"
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not try_lock(handle):
            raise InputError(f"{output}: another run is writing it; wait for that one, or choose another output")
        with removed_unless_resumable(folder, key):
            yield folder
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


def interruption(output: Path) -> str:
    """What is said where a run from file to file is stopped before its end."""
    return f"interrupted; {output} is not written yet; finished tiles are kept: the same command continues"
