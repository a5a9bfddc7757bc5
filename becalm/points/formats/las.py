"""LAS and LAZ (ASPRS, versions 1.0 to 1.4) through laspy, which sees only headers that fit their file."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source, freeze_array
from becalm.points.formats import attributes, las_header

COARSE = 0.3
"""Share of the displacements that rounding may change before it is said."""
_KINDS = {np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")}


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of a LAS or LAZ file, coordinates through scale and offset. Raises ScanError."""
    with open_reader(path) as reader:
        return cloud_from_las(reader.read(), path, reader.header.point_count, las_header.read_head(path))


@contextmanager
def open_reader(path: Path) -> Iterator[Any]:
    """Context of laspy's reader of a file whose header fits its size. Raises ScanError."""
    laspy = _laspy(path)
    las_header.check_header(path)
    one = laspy.LazBackend.Lazrs  # its parallel sibling believes the chunk table and allocates by it
    with reading_errors(path), open(path, "rb") as file, laspy.open(file, closefd=False, laz_backend=one) as reader:
        yield reader


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Context in which whatever laspy or lazrs raises about a file becomes a ScanError."""
    try:
        yield
    except ScanError:
        raise
    except BaseException as error:  # lazrs panics are no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ScanError(f"{path}: is no whole LAS file ({' '.join(str(error).split())[:160]})") from None


@contextmanager
def writing_errors(target: Path) -> Iterator[None]:
    """Context in which whatever laspy raises about a file to be written becomes a ScanError, but for errors of the system."""
    try:
        yield
    except (OSError, ScanError, MemoryError):
        raise
    except Exception as error:
        raise ScanError(f"{target}: cannot be written as LAS ({' '.join(str(error).split())[:160]})") from None


def point_count(path: Path) -> int:
    """The number of points that a LAS or LAZ file promises, held against its size. Raises ScanError."""
    with open_reader(path) as reader:
        return reader.header.point_count


def _laspy(path: Path) -> Any:
    try:
        import laspy
    except ModuleNotFoundError as error:
        raise ScanError(f"{path}: LAS and LAZ need `pip install becalm[scan]` ({error})") from None
    return laspy


def cloud_from_las(las: Any, path: Path | None, count: int, raw: bytes = b"") -> Cloud:
    """The cloud of a laspy.LasData whose arrays nobody else holds: they become read-only. `path` is None for one from memory.

    `raw` is the file up to its points. Raises ScanError where there are not `count` points.
    """
    rows = freeze_array(las.points.array)
    if len(rows) != count:
        raise ScanError(f"{path}: header promises {count:,} points, the file holds {len(rows):,} (truncated?)")
    names = [name for name in las.point_format.dimension_names if name not in ("X", "Y", "Z")]
    values = {name: np.asarray(las[name]) for name in names}
    source = Source("las", path, las.header, rows, raw, degrees=las_header.is_geographic(las.header))
    return Cloud(freeze_array(_coordinates(rows, las.header)), values, source=source)


def _coordinates(rows: np.ndarray, header: Any) -> np.ndarray:
    xyz = np.stack([rows[axis] for axis in "XYZ"], axis=1).astype(np.float64)
    return xyz * np.asarray(header.scales) + np.asarray(header.offsets)


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as LAS or LAZ: a LAS source's header, VLRs, scale and offset kept; else version 1.4.

    Coordinates that moved are rounded to the scale. Raises ScanError where they do not fit it or are not finite.
    """
    laspy = _laspy(target)
    missing = int((~np.isfinite(cloud.xyz).all(axis=1)).sum())
    if missing:
        raise ScanError(f"{target}: LAS cannot hold {missing:,} points without coordinates; write PLY or PCD")
    with writing_errors(target):
        _write(laspy, cloud, temporary, target, warn)


def _write(laspy: Any, cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    las = las_from_cloud(laspy, cloud, target, warn)
    packed = target.suffix.lower() == ".laz"
    if packed and las.point_format.id in (9, 10) and np.ptp(np.asarray(las.scanner_channel)):
        warn(f"{target}: wave packets of several scanner channels change in LAZ (lazrs mixes them up); write .las")
    with open(temporary, "wb+") as file, las_writer(laspy, file, las.header, packed) as writer:
        writer.write_points(las.points)
        if las.header.version.minor >= 4 and las.evlrs is not None:
            writer.write_evlrs(las.evlrs)
    if cloud.source is not None and cloud.source.raw:
        las_header.restore_details(temporary, cloud.source.raw)


def las_from_cloud(laspy: Any, cloud: Cloud, target: Path, warn: Callable[[str], object]) -> Any:
    """The cloud as a laspy.LasData; `target` is named in errors and warnings."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "las" else None
    header = las_header.writable_header(source.header, warn, target) if source else _header(laspy, cloud)
    rows = source.rows.copy() if source else np.zeros(len(cloud), header.point_format.dtype())
    kept = source is not None and source.scale is None
    if source is not None:
        _warn_of_coarse_scale(cloud, source, target, warn)
    if source is not None and not kept:
        header.scales = np.full(3, source.scale)
    _set_coordinates(rows, header, cloud, kept, target)
    record = laspy.ScaleAwarePointRecord(rows, header.point_format, header.scales, header.offsets)
    las = laspy.LasData(header, record)
    _set_attributes(laspy, las, cloud, target, warn)
    las.update_header()
    return las


def las_writer(laspy: Any, file: BinaryIO, header: Any, packed: bool) -> Any:
    """laspy's writer, which lets the bytes of strings pass that are not ASCII."""
    return laspy.LasWriter(file, header, do_compress=packed, closefd=False, encoding_errors="ignore")


def _header(laspy: Any, cloud: Cloud) -> Any:
    """A header for points from elsewhere: the finest power of ten as scale that leaves room to move."""
    colours = {"red", "green", "blue"} <= {name.lower() for name in cloud.attributes}
    header = laspy.LasHeader(version="1.4", point_format=7 if colours else 6)
    header.offsets = np.round(cloud.origin)
    reach = np.abs(cloud.xyz - header.offsets).max(axis=0, initial=1e-6)
    header.scales = np.array([10.0 ** math.ceil(math.log10(value / 2**30)) for value in reach])
    return header


def rounded_coordinates(cloud: Cloud) -> np.ndarray:
    """[n, 3] the coordinates that a LAS file of the cloud will hold; those that did not move are exact."""
    import laspy

    source = cloud.source if cloud.source is not None and cloud.source.format == "las" else None
    header = source.header if source else _header(laspy, cloud)
    scales = np.full(3, source.scale) if source and source.scale else np.asarray(header.scales)
    rounded = np.rint((cloud.xyz - header.offsets) / scales) * scales + header.offsets
    kept = cloud.xyz == _coordinates(source.rows, header) if source and not source.scale else False
    return np.where(kept, cloud.xyz, rounded)


def _warn_of_coarse_scale(cloud: Cloud, source: Source, target: Path, warn: Callable[[str], object]) -> None:
    """Say so where rounding to the scale changes the coordinates that moved by a good part of their displacement."""
    move = cloud.xyz - _coordinates(source.rows, source.header)
    which = move != 0
    lost = (rounded_coordinates(cloud) - cloud.xyz)[which]
    moved, lost = (float(np.sqrt(np.mean(v**2))) if v.size else 0.0 for v in (move[which], lost))
    if lost > COARSE * moved:
        scale = f"{source.scale or max(source.header.scales):g}"
        finer = 10.0 ** math.floor(math.log10(moved / 5))
        warn(
            f"{target}: the scale {scale} of the file is too coarse: it changes displacements of {moved:.2g} by {lost:.2g} "
            f"(root mean squares); --scale {finer:g} keeps them"
        )


def _set_coordinates(rows: np.ndarray, header: Any, cloud: Cloud, kept: bool, target: Path) -> None:
    moved = cloud.xyz != _coordinates(rows, header) if kept else np.ones(cloud.xyz.shape, bool)
    for index, axis in enumerate("XYZ"):
        which = moved[:, index]
        scale, offset = header.scales[index], header.offsets[index]
        steps = np.rint((cloud.xyz[which, index] - offset) / scale)
        if not np.all(np.abs(steps) < 2**31):
            raise ScanError(f"{target}: {axis.lower()} does not fit 32 bits at scale {scale:g} and offset {offset:g}")
        rows[axis][which] = steps.astype(np.int32)


def _set_attributes(laspy: Any, las: Any, cloud: Cloud, target: Path, warn: Callable[[str], object]) -> None:
    old = set(las.point_format.dimension_names)
    removed = [name for name in las.point_format.extra_dimension_names if name not in cloud.attributes]
    if removed:
        las.remove_extra_dims(removed)
    rest = {name: values for name, values in cloud.attributes.items() if not _try_assign(las, old, name, values)}
    rest = attributes.convert_attributes(
        replace(cloud, attributes=rest), _KINDS, warn, str(target), arrays=True
    ).attributes
    for name, values in rest.items():
        if _try_assign(las, old, name, values):
            continue
        name = f"{name}_value" if name in old or name in "XYZ" else name
        if len(name.encode()) > 32 or (values.ndim > 1 and values.shape[1] > 3):
            warn(f"{target}: LAS cannot hold {name}; left out")
            continue
        kind = values.dtype if values.ndim == 1 else f"{values.shape[1]}{values.dtype.str[1:]}"
        las.add_extra_dim(laspy.ExtraBytesParams(name, kind))
        las[name] = values


def _try_assign(las: Any, fields: set[str], name: str, values: np.ndarray) -> bool:
    """Whether the file's own field of that name, in any case, could take the values; it has then taken them."""
    name = name if name in fields else name.lower()
    if name not in fields:
        return False
    now = np.asarray(las[name])
    if now.shape == values.shape and np.array_equal(now, values, equal_nan=now.dtype.kind == "f"):
        return True
    if now.shape != values.shape or not (now.dtype.kind == "f" or attributes.is_lossless(values, now.dtype)):
        return False
    try:
        las[name] = values.astype(now.dtype)
    except OverflowError:
        return False
    return True
