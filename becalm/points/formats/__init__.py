"""Scans from files and into files; the suffix says which format."""

import struct
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from becalm.points.cloud import Cloud, ScanError
from becalm.points.formats import array, e57, files, las, pcd, ply, text

FORMATS = {
    **{".ply": ply, ".pcd": pcd, ".las": las, ".laz": las, ".e57": e57, ".npy": array, ".npz": array},
    **dict.fromkeys((".xyz", ".txt", ".csv", ".pts", ".asc"), text),
}
"""Suffix -> the module with its `read(path, warn)` and `write(cloud, temporary, target, warn)`."""


def read(path: str | PathLike[str], warn: Callable[[str], object] = warnings.warn) -> Cloud:
    """The cloud in a file; what had to be left out goes to `warn`, a line each.

    Raises ScanError, one line with file, field and fix, for any file that is not a whole scan.
    """
    path = Path(path)
    try:
        module = _module(path)
        files.inspect(path)
        cloud = module.read(path, warn)
    except ScanError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, EOFError, struct.error, MemoryError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ScanError(f"{path}: cannot be read as {path.suffix[1:].upper()} ({reason})") from error
    if not cloud.finite.any():
        count = f"none of its {len(cloud):,} points has" if len(cloud) else "it holds no point with"
        raise ScanError(f"{path}: {count} finite coordinates")
    return cloud


def write(cloud: Cloud, path: str | PathLike[str], warn: Callable[[str], object] = warnings.warn) -> None:
    """Writes the cloud whole or not at all; what the format cannot hold goes to `warn`.

    A cloud that was read from the same format keeps its header and, byte for byte, all that did not change.
    Raises ScanError: unknown suffix, no such folder, the input itself, full disk. Then nothing has changed.
    """
    path = Path(path)
    module = _module(path)
    with files.replacing(path, cloud.source.path if cloud.source else None) as temporary:
        module.write(cloud, temporary, path, warn)


def _module(path: Path):
    if path.is_dir():
        raise ScanError(f"{path}: is a directory, name one scan")
    if path.suffix.lower() not in FORMATS:
        raise ScanError(f"{path}: unknown suffix {path.suffix!r}, known are {' '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]
