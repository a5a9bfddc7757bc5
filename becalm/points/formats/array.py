"""NumPy's NPY and NPZ files: [n, 3] arrays, further columns and named arrays as attributes; never any pickle."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from becalm.core import limits
from becalm.core.files import InputError
from becalm.core.numpy_files import NpyArray, inflate_entry, read_npy
from becalm.points.cloud import Cloud, ScanError, Source, freeze_array
from becalm.points.formats import attributes, packed, scan_files

_COORDINATES = ("xyz", "points", "pos", "vertices", "coords", "arr_0")
"""Names under which an NPZ may hold the coordinates, best first."""


@dataclass(frozen=True)
class Layout:
    """How a file stores its arrays."""

    entries: tuple[zipfile.ZipInfo, ...] = ()
    """NPZ: the entries in order."""
    coordinates: str = ""
    """NPZ: which of them is [n, 3]."""
    others: dict[str, np.ndarray] = field(default_factory=dict)
    """NPZ: the arrays without one row for each point."""
    header: bytes = b""
    """NPY: the header as it was."""
    shape: tuple[int, ...] = ()
    dtype: np.dtype | None = None
    fortran: bool = False


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of an NPY or NPZ file. Raises ScanError."""
    data = scan_files.read_bytes(path)
    if path.suffix.lower() == ".npz":
        return _read_npz(data, path, warn)
    array, fortran, start = _parse_npy(data, str(path))
    return _cloud_from_array(
        array, {}, path, Layout(header=data[:start], shape=array.shape, dtype=array.dtype, fortran=fortran)
    )


def _parse_npy(data: bytes, name: str) -> NpyArray:
    """The array in NPY bytes, and how it lies there. Raises ScanError, which calls it `name`."""
    try:
        return read_npy(data, name)
    except InputError as error:
        raise ScanError(str(error)) from None


def _cloud_from_array(array: np.ndarray, named: dict[str, np.ndarray], path: Path, layout: Layout) -> Cloud:
    """The cloud of an [n, 3 or more] array, or of records [n] with fields x, y, z."""
    if array.dtype.names:
        if array.ndim != 1:
            raise ScanError(f"{path}: records of shape {array.shape}, one a point is needed")
        axes = {written: axis for axis, written in packed.written_axes(array.dtype.names).items()}
        array = array.view(packed.rename_fields(array.dtype, axes)) if axes else array
        cloud = packed.cloud_from_rows(array, Source("array", path, layout, array))
        return cloud.with_attributes(named)
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "iuf":
        raise ScanError(f"{path}: an array {array.dtype} {array.shape}, numbers [n, 3] are needed (2-D points?)")
    if array.shape[1] > 1024:
        raise ScanError(f"{path}: {array.shape[1]:,} columns a point (is the array transposed?)")
    extra = {f"column_{index + 1}": _native_byte_order(array[:, index]) for index in range(3, array.shape[1])}
    xyz = freeze_array(array[:, :3].astype(np.float64))
    return Cloud(xyz, {**extra, **named}, source=Source("array", path, layout, array))


def _native_byte_order(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.names else values.astype(values.dtype.newbyteorder("="), copy=False)


def _read_npz(data: bytes, path: Path, warn: Callable[[str], object]) -> Cloud:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = tuple(archive.infolist())
            _check_entries(entries, len(data), path)
            arrays = {
                entry.filename.removesuffix(".npy"): _parse_npy(
                    bytes(inflate_entry(archive, entry)), f"{path}: {entry.filename}"
                )[0]
                for entry in entries
            }
    except InputError:
        raise
    except Exception as error:  # zipfile lets zlib, struct, encoding and its own errors through
        reason = " ".join(str(error).split())[:120]
        raise scan_files.wrong_kind(path, f"is no whole NPZ archive ({reason})") from None
    key = _coordinate_name(arrays, path)
    count = len(arrays[key])
    named = {
        name: _native_byte_order(array) for name, array in arrays.items() if array.shape[:1] == (count,) and name != key
    }
    others = {name: array for name, array in arrays.items() if name not in named and name != key}
    if others:
        warn(f"{path}: {', '.join(others)} not one row a point; kept for an NPZ output only")
    return _cloud_from_array(arrays[key], named, path, Layout(entries, key, others, dtype=arrays[key].dtype))


def _check_entries(entries: tuple[zipfile.ZipInfo, ...], size: int, path: Path) -> None:
    limits.check_unpacked(path, size, sum(entry.file_size for entry in entries))
    limits.check_attributes(path, len(entries))
    names = [entry.filename for entry in entries]
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise ScanError(f"{path}: {entry.filename!r} is encrypted or packed in a way NumPy never writes")
        if not entry.filename.endswith(".npy") or names.count(entry.filename) > 1:
            raise ScanError(f"{path}: {entry.filename!r} is no array of its own name")


def _coordinate_name(arrays: dict[str, np.ndarray], path: Path) -> str:
    for name in (*_COORDINATES, *(arrays if len(arrays) == 1 else ())):
        if name in arrays and arrays[name].ndim > 0:
            return name
    raise ScanError(
        f"{path}: no array named {', '.join(_COORDINATES[:-1])} among {', '.join(arrays)[:200]}; "
        "save the coordinates [n, 3] as xyz"
    )


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as NPZ (xyz and each attribute) or as NPY, whose one array has the columns that it was read with."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "array" else None
    if source is not None and source.path is not None and source.path.suffix.lower() != target.suffix.lower():
        source = None
    if target.suffix.lower() == ".npz":
        _write_npz(cloud, source, temporary, target, warn)
        return
    if source is not None and source.rows.dtype.names:
        array, omitted = _named_rows(cloud, source, warn, target), []
    else:
        array, omitted = _fill_columns(_coordinate_matrix(cloud, source, target, warn) if source else cloud.xyz, cloud)
    if omitted:
        warn(f"{target}: an NPY of this kind cannot hold {', '.join(omitted)}; left out (write NPZ to keep all)")
    layout: Layout | None = source.header if source else None
    fortran = layout is not None and layout.fortran and array.ndim == 2
    with open(temporary, "wb") as file:
        if layout and (array.shape, array.dtype) == (layout.shape, layout.dtype):
            file.write(layout.header)
            file.write(array.tobytes(order="F" if fortran else "C"))
        else:
            array = np.asarray(array, order="F" if fortran else "C")
            np.lib.format.write_array(file, array, allow_pickle=False)


def _named_rows(cloud: Cloud, source: Source, warn: Callable[[str], object], target: Path) -> np.ndarray:
    """The records of a cloud from records, with the coordinates named as in the file."""
    array = packed.rows_from_cloud(cloud, source.rows, warn, str(target))
    layout: Layout = source.header
    axes = packed.written_axes(layout.dtype.names) if layout.dtype is not None and layout.dtype.names else {}
    return array.view(packed.rename_fields(array.dtype, axes)) if axes else array


def _fill_columns(array: np.ndarray, cloud: Cloud) -> tuple[np.ndarray, list[str]]:
    """The array [n, k] with its columns after z set from the attributes, and the names of attributes that are no column of it."""
    column_of = {f"column_{index + 1}": index for index in range(3, array.shape[1])}
    array, omitted = array.copy(), []
    for name, values in cloud.attributes.items():
        if name in column_of and values.ndim == 1 and attributes.is_lossless(values, array.dtype):
            array[:, column_of[name]] = values
        else:
            omitted.append(name)
    return array, omitted


def _coordinate_matrix(cloud: Cloud, source: Source, target: Path, warn: Callable[[str], object]) -> np.ndarray:
    """The rows that were read, [n, k], with the present x, y, z, in a type that holds them."""
    fields = dict.fromkeys(packed.AXES, source.rows.dtype)
    old = np.zeros(len(cloud), list(fields.items()))
    for index, axis in enumerate(packed.AXES):
        old[axis] = source.rows[:, index]
    new = packed.rows_from_cloud(Cloud(cloud.xyz, source=source), old, warn, str(target))
    array = source.rows.astype(new.dtype["x"], copy=True)
    for index, axis in enumerate(packed.AXES):
        array[:, index] = new[axis]
    return array


def _write_npz(
    cloud: Cloud, source: Source | None, temporary: Path, target: Path, warn: Callable[[str], object]
) -> None:
    layout: Layout = source.header if source else Layout(coordinates="xyz")
    if source is not None and source.rows.dtype.names:
        fields = {name: values for name, values in cloud.attributes.items() if name in source.rows.dtype.names}
        array = _named_rows(replace(cloud, attributes=fields), source, warn, target)
        rest = [name for name in cloud.attributes if name not in fields]
    else:
        array, rest = _fill_columns(_coordinate_matrix(cloud, source, target, warn) if source else cloud.xyz, cloud)
    arrays = {layout.coordinates: array, **layout.others}
    omitted = [name for name in rest if name in arrays or cloud.attributes[name].dtype.hasobject or "/" in name]
    if omitted:
        warn(f"{target}: cannot hold {', '.join(omitted)}; left out")
    arrays |= {name: cloud.attributes[name] for name in rest if name not in omitted}
    entries = {entry.filename.removesuffix(".npy"): entry for entry in layout.entries}
    order = [*(name for name in entries if name in arrays), *(name for name in arrays if name not in entries)]
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in order:
            entry = zipfile.ZipInfo(f"{name}.npy", getattr(entries.get(name), "date_time", (1980, 1, 1, 0, 0, 0)))
            entry.compress_type = entries[name].compress_type if name in entries else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(arrays[name]), allow_pickle=False)
