"""Reading and writing of scans, in the format of the file's suffix."""

import struct
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import ModuleType

import numpy as np

from becalm.core.files import InputError
from becalm.points.cloud import Cloud, ScanError, Source, with_written_types
from becalm.points.formats import array, e57, kitti, las, mesh_scenes, mesh_text, pcd, ply, ptx, scan_files, text
from becalm.points.formats.text_columns import Columns

TEXT = (".xyz", ".txt", ".csv", ".pts", ".asc")
"""Suffixes of tables of numbers."""

FORMATS = {
    **{".ply": ply, ".pcd": pcd, ".las": las, ".laz": las, ".e57": e57, ".npy": array, ".npz": array},
    **{".ptx": ptx, ".bin": kitti, ".obj": mesh_text, ".off": mesh_text, ".stl": mesh_scenes, ".glb": mesh_scenes},
    **dict.fromkeys(TEXT, text),
}
"""Suffix -> the module with its `read(path, warn)` and `write(cloud, temporary, target, warn)`."""


def read(
    path: str | PathLike[str], warn: Callable[[str], object] = warnings.warn, columns: Columns | None = None
) -> Cloud:
    """The cloud in a file; `warn` is called with one line for each part of the file that is not read, or that is in doubt.

    `columns` says which columns of a text file are x, y and z, by number from 1 or by name: {"x": 2, "y": 3, "z": "H"}.
    Raises ScanError, one line with file, field and fix, for any file that is not a complete scan.
    """
    path = Path(path)
    try:
        module = _module(path)
        scan_files.file_size(path)
        if columns and module is not text:
            raise ScanError(f"{path}: --columns is for text (.xyz .txt .csv .pts .asc), leave it out")
        cloud = text.read(path, warn, columns) if columns else module.read(path, warn)
    except ScanError:
        raise
    except InputError as error:
        raise ScanError(str(error)) from None
    except (ValueError, ArithmeticError, LookupError, TypeError, EOFError, struct.error, MemoryError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ScanError(f"{path}: cannot be read as {path.suffix[1:].upper()} ({reason})") from error
    if not cloud.measured.any():
        count = f"none of its {len(cloud):,} points has" if len(cloud) else "it holds no point with"
        raise ScanError(f"{path}: {count} finite coordinates")
    return cloud


def write(
    cloud: Cloud,
    path: str | PathLike[str],
    warn: Callable[[str], object] = warnings.warn,
    keep_types: bool = False,
    scale: float | None = None,
) -> None:
    """Write the cloud completely or not at all; `warn` is called with one line for what the format cannot hold.

    A cloud that was read from the same format keeps its header and, byte for byte, all that did not change; with `keep_types`
    also the floating-point type of its coordinates, however much that rounds them, and with `scale` another scale in LAS.
    Raises ScanError (unknown suffix, no such folder, the input itself, full disk); then no file has changed.
    """
    path = Path(path)
    module = _output_module(path)
    if scale is not None:
        check_scale(scale)
    if cloud.source and cloud.source.path and _loses_faces(cloud.source, module):
        warn(f"{path}: holds the points alone, the faces of {cloud.source.path} are left out")
    cloud = with_written_types(cloud, keep_types, scale)
    with scan_files.atomic_scan_file(path, cloud.source.path if cloud.source else None) as temporary:
        module.write(cloud, temporary, path, warn)


def _loses_faces(source: Source, module: ModuleType) -> bool:
    """Whether a file had faces that a format does not take over from it."""
    if source.format == "ply":
        return module is not ply and any(element.name == "face" for element in source.header.elements)
    return source.format.startswith("mesh") and module not in (mesh_text, mesh_scenes)


def check_writable(cloud: Cloud, path: str | PathLike[str]) -> None:
    """Raise ScanError if `write` would refuse the cloud at this path: a few of its points are written and thrown away.

    To be called before long work on the cloud, as it is.
    """
    path = Path(path)
    module = _output_module(path)
    some = np.zeros(len(cloud), bool)
    some[:16] = True
    some[np.flatnonzero(~np.isfinite(cloud.xyz).all(axis=1))[:1]] = True
    for ends in (np.argmin, np.argmax):
        some[ends(np.where(cloud.measured[:, None], cloud.xyz, cloud.origin), axis=0)] = True
    with scan_files.discarded_scan_file(path, cloud.source.path if cloud.source else None) as temporary:
        module.write(cloud.select(some), temporary, path, lambda line: None)


def check_format(path: str | PathLike[str], scale: float | None = None, keep_types: bool = False) -> None:
    """Raise ScanError where no format has the suffix of an output, it is COPC, or its format has no use for an option."""
    path = Path(path)
    _output_module(path)
    if keep_types and path.suffix.lower() not in (".ply", ".pcd", ".npy", ".npz"):
        raise ScanError(f"{path}: --keep-types is for .ply .pcd .npy .npz (leave it out)")
    if scale is None:
        return
    if path.suffix.lower() not in (".las", ".laz"):
        raise ScanError(f"{path}: --scale is for .las and .laz (leave it out)")
    check_scale(scale)


def check_suffix(path: str | PathLike[str]) -> None:
    """Raise ScanError where no format has the suffix of a scan, or it is a folder."""
    _module(Path(path))


def check_scale(scale: float) -> None:
    """Raise ScanError for a scale to which coordinates cannot be rounded."""
    if not 0 < scale < np.inf:
        raise ScanError(f"--scale {scale:g}: give a length above 0 in the scan's units")


def default_output(path: Path) -> Path:
    """Where the denoised scan of a path goes by default: beside it, SCAN.denoised.SUFFIX; COPC's becomes plain LAZ."""
    name = path.name.removesuffix(path.suffix)
    if name.lower().endswith(".copc") and path.suffix.lower() == ".laz":
        name = name[: -len(".copc")]
    return path.with_name(f"{name}.denoised{path.suffix}")


def _output_module(path: Path) -> ModuleType:
    """The module that writes a path. Raises ScanError for COPC, which is read alone."""
    if path.name.lower().endswith(".copc.laz"):
        plain = path.name[: -len(".copc.laz")]
        raise ScanError(
            f"{path}: COPC is not written; name it {plain}.laz for plain LAZ (pdal translate makes COPC of it)"
        )
    return _module(path)


def _module(path: Path):
    if path.is_dir():
        raise ScanError(f"{path}: is a directory, name one scan")
    if path.suffix.lower() not in FORMATS:
        raise ScanError(f"{path}: unknown suffix {path.suffix!r}, known are {' '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]
