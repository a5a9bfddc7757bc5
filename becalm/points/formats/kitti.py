"""Scans of driving data sets, without a header: float32 x, y, z, intensity (KITTI), and the number of the laser (nuScenes)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source, freeze_array
from becalm.points.formats import packed, scan_files

_FIELDS = ("x", "y", "z", "intensity", "ring")
_FARTHEST, _SMALLEST = 1e6, 1e-20
"""No laser reaches farther, in metres; numbers closer to zero, other than zero itself, are no measurements."""


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of a file of float32, four or five for each. Raises ScanError where that makes no sense."""
    data = scan_files.read_bytes(path)
    tables = [np.frombuffer(data, "<f4").reshape(-1, width) for width in (5, 4) if len(data) % (4 * width) == 0]
    table = next((table for table in tables if _is_believable(table)), None)
    if table is None:
        raise scan_files.wrong_kind(
            path, "is no scan of float32 x, y, z, intensity (KITTI) or x, y, z, intensity, ring (nuScenes)"
        )
    kind = np.dtype([(name, "<f4") for name in _FIELDS[: table.shape[1]]])
    rows = freeze_array(table.view(kind)[:, 0])
    return packed.cloud_from_rows(rows, Source("kitti", path, None, rows))


def _is_believable(table: np.ndarray) -> bool:
    """Whether rows of four or five numbers [n, k] are points; the fifth is a whole number from 0 to 255."""
    ring = table[:, 4:]
    if ring.size and not np.all((ring >= 0) & (ring < 256) & (ring == np.floor(ring))):
        return False
    size = np.abs(table[np.isfinite(table)])
    return bool(size.size and size.max() < _FARTHEST and np.all((size == 0) | (size > _SMALLEST)))


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as float32, four or five for each point as in the source, else four.

    Raises ScanError where float32 is too coarse for the coordinates.
    """
    source = cloud.source if cloud.source is not None and cloud.source.format == "kitti" else None
    fields = source.rows.dtype.names if source else _FIELDS[:4]
    measured = cloud.xyz[cloud.measured]
    if not all(packed.is_accurate_enough(values, measured, np.dtype(np.float32)) for values in cloud.xyz.T):
        raise ScanError(f"{target}: float32 is too coarse for coordinates this large; write PLY, LAS or XYZ")
    rows = np.zeros(len(cloud), [(name, "<f4") for name in fields or ()])
    for axis, values in zip(packed.AXES, cloud.xyz.T, strict=True):
        packed.set_axis(rows, axis, values, source.rows if source else None)
    omitted = [name for name, values in cloud.attributes.items() if not _set_column(rows, name, values)]
    if omitted:
        warn(f"{target}: this format cannot hold {', '.join(omitted)}; left out")
    temporary.write_bytes(rows.tobytes())


def _set_column(rows: np.ndarray, name: str, values: np.ndarray) -> bool:
    """Whether a column of that name could take the values; it has then taken them."""
    if name not in (rows.dtype.names or ()) or values.ndim != 1 or values.dtype.kind not in "biuf":
        return False
    rows[name] = values
    return True
