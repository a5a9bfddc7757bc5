"""PTX, the exchange format of Leica Cyclone: several scans, each a grid of points with the scanner's pose.

A scan is two lines with its columns and rows, the scanner's place, its three axes, a 4 × 4 matrix M whose last row is the
translation, and a line x y z intensity [red green blue] for each point in the scanner's own frame; 0 0 0 is a missing return.
Clouds have global coordinates, [x y z 1] M.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source, freeze_array
from becalm.points.formats import lines, scan_files
from becalm.points.formats.attributes import is_lossless
from becalm.points.formats.packed import AXES
from becalm.points.rays import grid_fits

HEADER_LINES = 10
_FIELDS = ("intensity", "red", "green", "blue")
_KINDS: dict[str, str] = {**dict.fromkeys((*AXES, "intensity"), "f8"), **dict.fromkeys(("red", "green", "blue"), "u1")}
_ROW = np.dtype([("scan", np.int32), ("line", np.int64), ("global", np.float64, (3,))])
"""Of each point: its scan, the number of its line among the points of that scan, and the coordinates that `read` returned."""


@dataclass(frozen=True)
class PtxScan:
    """One scan of a file."""

    spans: np.ndarray
    """int64 [n, 2]: start and end of the lines of its points."""
    values: np.ndarray
    """Structured [n]: its points as they stand in the file."""
    rotation: np.ndarray
    """[3, 3], for rows: global = local @ rotation + translation."""
    translation: np.ndarray
    """[3]"""
    place: np.ndarray | None
    """[3] where the scanner stood, in global coordinates; None where it has no pose, and no grid of rays from its origin."""
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
    scans, index = [], 0
    while index < len(spans):
        scans.append(_read_scan(body, spans[index:], len(scans), path))
        index += HEADER_LINES + len(scans[-1].values)
    return cloud_from_scans(Layout(tuple(scans), body), path)


def cloud_from_scans(layout: Layout, path: Path) -> Cloud:
    """The points of scans, one scan after the other, in global coordinates."""
    rows, scans = [], layout.scans
    for number, scan in enumerate(scans):
        local = local_coordinates(scan.values)
        part = np.zeros(len(local), _ROW)
        part["scan"], part["line"] = number, np.arange(len(local))
        part["global"] = local @ scan.rotation + scan.translation
        rows.append(part)
    joined = np.concatenate(rows)
    names = [name for name in _FIELDS if any(name in (scan.values.dtype.names or ()) for scan in scans)]
    values = {name: freeze_array(np.concatenate([_column(scan.values, name) for scan in scans])) for name in names}
    return Cloud(freeze_array(joined)["global"], values, source=Source("ptx", path, layout, joined))


def local_coordinates(values: np.ndarray) -> np.ndarray:
    """[n, 3] in the scanner's frame, NaN where nothing came back."""
    local = np.stack([values[axis] for axis in AXES], axis=1)
    local[~local.any(axis=1)] = np.nan
    return local


def read_pose(head: list[list[bytes]], number: int, path: Path) -> PtxScan:
    """A scan without its points, of the words of its header's lines. Raises ScanError."""
    try:
        if [len(words) for words in head] != [1, 1, 3, 3, 3, 3, 4, 4, 4, 4]:
            raise ValueError
        shape = int(head[0][0]), int(head[1][0])
        place = np.array(head[2], np.float64)
        matrix = np.array(head[6:], np.float64)
        if min(shape) < 0 or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise ValueError
    except (ValueError, OverflowError):
        fault = f"scan {number + 1} does not begin with columns, rows, place, axes and a 4 × 4 matrix"
        raise scan_files.wrong_kind(path, fault) from None
    shift = matrix[3, :3]
    none = np.zeros((0, 2), np.int64), np.zeros(0, _record(4))
    return PtxScan(*none, matrix[:3, :3], shift, shift if shift.any() else place, shape)


def _read_scan(body: bytes, spans: np.ndarray, number: int, path: Path) -> PtxScan:
    scan = read_pose([body[a:b].split() for a, b in spans[:HEADER_LINES].tolist()], number, path)
    count, left = scan.shape[0] * scan.shape[1], len(spans) - HEADER_LINES
    if count > left:
        raise ScanError(f"{path}: scan {number + 1} promises {count:,} points, the file holds {left:,} (truncated?)")
    own = spans[HEADER_LINES : HEADER_LINES + count]
    kind = point_record(body[int(own[0, 0]) : int(own[0, 1])], number, path) if count else _record(4)
    scan = replace(scan, spans=own, values=lines.parse_rows(body, own, kind, None, path))
    return with_checked_place(scan, [local_coordinates(scan.values).reshape(*scan.shape, 3)] if count else [])


def with_checked_place(scan: PtxScan, bands: Iterable[np.ndarray]) -> PtxScan:
    """The scan without a place where it has no pose, and its grid, given in bands of columns, none of rays from its origin."""
    assert scan.place is not None
    fits = scan.place.any() or (min(scan.shape) >= 3 and grid_fits(bands, np.zeros(3)))
    return scan if fits else replace(scan, place=None)


def point_record(line: bytes, number: int, path: Path) -> np.dtype:
    """The record of the points of a scan, by the first of their lines. Raises ScanError."""
    columns = len(line.split())
    if columns not in (3, 4, 7):
        raise ScanError(f"{path}: points of scan {number + 1} have {columns} values, PTX has 3, 4 or 7")
    return _record(columns)


def _record(columns: int) -> np.dtype:
    return np.dtype([(name, _KINDS[name]) for name in (*AXES, *_FIELDS[: columns - 3])])


def _column(values: np.ndarray, name: str) -> np.ndarray:
    kind = np.dtype(_KINDS[name])
    return values[name] if name in (values.dtype.names or ()) else np.zeros(len(values), kind)


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as PTX: a PTX source's scans with their headers, points that were removed as missing returns; else one scan."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "ptx" else None
    known = warn_omitted(cloud, target, warn)
    with open(temporary, "wb") as file:
        file.writelines(rewrite(cloud, source) if source else _new_file(cloud, known))
    if source:
        read_points = sum(len(scan.values) for scan in source.header.scans)
        warn_removed(read_points - len(cloud), target, warn)


def _is_plain(values: np.ndarray, name: str) -> bool:
    return values.ndim == 1 and values.dtype.kind in "biuf" and is_lossless(values, np.dtype(_KINDS[name]))


def warn_omitted(cloud: Cloud, target: Path, warn: Callable[[str], object]) -> set[str]:
    """The attributes of a cloud that PTX can hold; `warn` is called with a line for the others."""
    known = {name for name in _FIELDS if name in cloud.attributes and _is_plain(cloud.attributes[name], name)}
    omitted = [name for name in cloud.attributes if name not in known]
    if omitted:
        warn(f"{target}: PTX cannot hold {', '.join(omitted)}; left out")
    return known


def warn_removed(removed: int, target: Path, warn: Callable[[str], object]) -> None:
    """Say how many points of a scan's grid were removed, if any were."""
    if removed:
        warn(
            f"{target}: {removed:,} points that were removed are written as missing returns, 0 0 0, in the scan's grid"
        )


def rewrite(cloud: Cloud, source: Source) -> Iterator[bytes]:
    """The text that was read, with the changed numbers of a cloud of its points."""
    layout: Layout = source.header
    here = 0
    for number, scan in enumerate(layout.scans):
        which = source.rows["scan"] == number
        new = _local_values(cloud.select(which), scan, source.rows[which])
        if len(new):
            yield layout.body[here : int(scan.spans[0, 0])]
            yield from lines.rewrite_lines(
                lines.TableText(layout.body, layout.body, step=source.step), scan.spans, scan.values, new, True
            )
            here = int(scan.spans[-1, 1])
    yield layout.body[here:]


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
