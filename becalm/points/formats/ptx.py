"""PTX, the exchange format of Leica Cyclone: several scans, each a grid of points with the scanner's pose.

A scan is two lines with its columns and rows, the scanner's place, its three axes, a 4 × 4 matrix M whose last row is the
translation, and a line x y z intensity [red green blue] for each point in the scanner's own frame; 0 0 0 is a missing return.
Clouds have global coordinates, [x y z 1] M.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source, frozen
from becalm.points.formats import lines, scan_files
from becalm.points.formats.attributes import is_lossless
from becalm.points.formats.packed import AXES

_HEADER_LINES = 10
_FIELDS = ("intensity", "red", "green", "blue")
_KINDS: dict[str, str] = {**dict.fromkeys((*AXES, "intensity"), "f8"), **dict.fromkeys(("red", "green", "blue"), "u1")}
_ROW = np.dtype([("scan", np.int32), ("line", np.int64), ("global", np.float64, (3,))])
"""Of each point: its scan, the number of its line among the points of that scan, and the coordinates that `read` returned."""


@dataclass(frozen=True)
class PtxScan:
    """One scan of a file."""

    head: tuple[int, int]
    """Start and end of its header in the file."""
    spans: np.ndarray
    """int64 [n, 2]: start and end of the lines of its points."""
    values: np.ndarray
    """Structured [n]: its points as they stand in the file."""
    rotation: np.ndarray
    """[3, 3], for rows: global = local @ rotation + translation."""
    translation: np.ndarray
    """[3]"""
    place: np.ndarray
    """[3] where the scanner stood, in global coordinates."""
    shape: tuple[int, int]
    """Columns and rows of its grid, whose points come column by column."""


@dataclass(frozen=True)
class Layout:
    """The scans of a file, and its text."""

    scans: tuple[PtxScan, ...]
    body: bytes


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of all scans, one scan after the other, in global coordinates. Raises ScanError."""
    body = scan_files.read_bytes(path)
    spans = lines.find_lines(body, 0)
    scans, rows, index = [], [], 0
    while index < len(spans):
        scan = _read_scan(body, spans[index:], len(scans), path)
        local = np.stack([scan.values[axis] for axis in AXES], axis=1)
        part = np.zeros(len(local), _ROW)
        part["scan"], part["line"] = len(scans), np.arange(len(local))
        part["global"] = local @ scan.rotation + scan.translation
        part["global"][~local.any(axis=1)] = np.nan
        scans.append(scan)
        rows.append(part)
        index += _HEADER_LINES + len(local)
    joined = np.concatenate(rows)
    names = [name for name in _FIELDS if any(name in (scan.values.dtype.names or ()) for scan in scans)]
    values = {name: frozen(np.concatenate([_column(scan.values, name) for scan in scans])) for name in names}
    return Cloud(frozen(joined)["global"], values, source=Source("ptx", path, Layout(tuple(scans), body), joined))


def _read_scan(body: bytes, spans: np.ndarray, number: int, path: Path) -> PtxScan:
    head = [body[a:b].split() for a, b in spans[:_HEADER_LINES].tolist()]
    try:
        if [len(words) for words in head] != [1, 1, 3, 3, 3, 3, 4, 4, 4, 4]:
            raise ValueError
        shape = int(head[0][0]), int(head[1][0])
        count = shape[0] * shape[1]
        place = np.array(head[2], np.float64)
        matrix = np.array(head[6:], np.float64)
        if min(shape) < 0 or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise ValueError
    except (ValueError, OverflowError):
        fault = f"scan {number + 1} does not begin with columns, rows, place, axes and a 4 × 4 matrix"
        raise scan_files.wrong_kind(path, fault) from None
    left = len(spans) - _HEADER_LINES
    if count > left:
        raise ScanError(f"{path}: scan {number + 1} promises {count:,} points, the file holds {left:,} (truncated?)")
    own = spans[_HEADER_LINES : _HEADER_LINES + count]
    columns = len(body[int(own[0, 0]) : int(own[0, 1])].split()) if count else 4
    if columns not in (3, 4, 7):
        raise ScanError(f"{path}: points of scan {number + 1} have {columns} values, PTX has 3, 4 or 7")
    names = [*AXES, *_FIELDS[: columns - 3]]
    values = lines.parse_rows(body, own, np.dtype([(name, _KINDS[name]) for name in names]), None, path)
    shift = matrix[3, :3]
    end = int(own[0, 0]) if count else int(spans[_HEADER_LINES - 1, 1])
    place = shift if shift.any() else place
    return PtxScan((int(spans[0, 0]), end), own, values, matrix[:3, :3], shift, place, shape)


def _column(values: np.ndarray, name: str) -> np.ndarray:
    kind = np.dtype(_KINDS[name])
    return values[name] if name in (values.dtype.names or ()) else np.zeros(len(values), kind)


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as PTX: a PTX source's scans with their headers, points that were removed as missing returns; else one scan."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "ptx" else None
    known = {name for name in _FIELDS if name in cloud.attributes and _is_plain(cloud.attributes[name], name)}
    omitted = [name for name in cloud.attributes if name not in known]
    if omitted:
        warn(f"{target}: PTX cannot hold {', '.join(omitted)}; left out")
    with open(temporary, "wb") as file:
        for block in _rewrite(cloud, source, target, warn) if source else _new_file(cloud, known):
            file.write(block)


def _is_plain(values: np.ndarray, name: str) -> bool:
    return values.ndim == 1 and values.dtype.kind in "biuf" and is_lossless(values, np.dtype(_KINDS[name]))


def _rewrite(cloud: Cloud, source: Source, target: Path, warn: Callable[[str], object]) -> Iterator[bytes]:
    layout: Layout = source.header
    here = missing = 0
    for number, scan in enumerate(layout.scans):
        which = source.rows["scan"] == number
        new = _local_values(cloud.select(which), scan, source.rows[which])
        missing += len(scan.values) - int(which.sum())
        if len(new):
            yield layout.body[here : int(scan.spans[0, 0])]
            yield from lines.rewrite_lines(
                lines.TableText(layout.body, layout.body), scan.spans, scan.values, new, True
            )
            here = int(scan.spans[-1, 1])
    yield layout.body[here:]
    if missing:
        warn(
            f"{target}: {missing:,} points that were removed are written as missing returns, 0 0 0, in the scan's grid"
        )


def _local_values(cloud: Cloud, scan: PtxScan, rows: np.ndarray) -> np.ndarray:
    """The points of a scan as they are written: unchanged ones as they were, removed ones and those without coordinates 0 0 0."""
    new = scan.values.copy()
    gone = np.ones(len(new), bool)
    gone[rows["line"]] = False
    kept = (cloud.xyz == rows["global"]) | (np.isnan(cloud.xyz) & np.isnan(rows["global"]))
    moved = ~kept.all(axis=1)
    local = np.nan_to_num((cloud.xyz - scan.translation) @ np.linalg.inv(scan.rotation))
    for index, axis in enumerate(AXES):
        new[axis][rows["line"][moved]] = local[moved, index]
        new[axis][gone] = 0
    for name in set(_FIELDS) & set(new.dtype.names or ()) & set(cloud.attributes):
        if _is_plain(cloud.attributes[name], name):
            new[name][rows["line"]] = cloud.attributes[name]
    return new


def _new_file(cloud: Cloud, known: set[str]) -> Iterator[bytes]:
    """One scan of one row, without a pose."""
    names = [*AXES, "intensity", *(_FIELDS[1:] if set(_FIELDS[1:]) <= known else ())]
    rows = np.zeros(len(cloud), [(name, _KINDS[name]) for name in names])
    for axis, values in zip(AXES, cloud.xyz.T, strict=True):
        rows[axis] = np.where(cloud.measured, values, 0)
    for name in names[3:]:
        rows[name] = cloud.attributes[name] if name in known else 0.5
    unit = "1 0 0\n0 1 0\n0 0 1\n"
    yield f"{len(rows)}\n1\n0 0 0\n{unit}{unit.replace(chr(10), ' 0' + chr(10))}0 0 0 1\n".encode()
    yield from lines.format_rows(rows, " ")
