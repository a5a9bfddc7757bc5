"""Clouds as structured arrays [n] with fields x, y, z: the form that PLY, PCD, text and NumPy records share."""

from collections.abc import Callable, Sequence

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source, freeze_array

AXES = ("x", "y", "z")
PADDING_PREFIX = "_ "
"""Fields with this prefix (no format allows a space in a name) stay in the file's records and are no attributes."""
FLOAT32_ROUNDING = 1e-5
"""The largest rounding error, in extents of the cloud, at which moved coordinates are written in the float type of the file."""


def written_axes(names: Sequence[str]) -> dict[str, str]:
    """x, y and z -> the field's name as the file writes it, for coordinates that are in capitals: {"x": "X"}."""
    return {axis: axis.upper() for axis in AXES if axis not in names and list(names).count(axis.upper()) == 1}


def rename_fields(dtype: np.dtype, names: dict[str, str]) -> np.dtype:
    """The record type with the fields of `names` under other names, everything else in its place."""
    own, fields = dtype.names or (), {str(name): field for name, field in (dtype.fields or {}).items()}
    return np.dtype(
        {
            "names": [names.get(name, name) for name in own],
            "formats": [fields[name][0] for name in own],
            "offsets": [fields[name][1] for name in own],
            "itemsize": dtype.itemsize,
        }
    )


def cloud_from_rows(rows: np.ndarray, source: Source) -> Cloud:
    """The cloud of structured rows [n] with fields x, y, z; other fields become attributes, as views in native byte order.

    The rows become read-only: nobody else may hold them.
    """
    freeze_array(rows)
    for axis in AXES:
        if axis not in (rows.dtype.names or ()) or rows.dtype[axis].shape:
            raise ScanError(f"{source.path}: has no coordinate {axis!r} (2-D points? a cloud needs x, y and z)")
    xyz = np.stack([rows[axis] for axis in AXES], axis=1).astype(np.float64)
    others = [name for name in rows.dtype.names or () if name not in AXES and not name.startswith(PADDING_PREFIX)]
    attributes = {name: rows[name].astype(rows[name].dtype.newbyteorder("="), copy=False) for name in others}
    return Cloud(freeze_array(xyz), attributes, source=source)


def rows_from_cloud(cloud: Cloud, old: np.ndarray | None, warn: Callable[[str], object], name: str) -> np.ndarray:
    """Structured rows [n] of a cloud: old's layout and bytes where nothing changed, new attributes appended.

    old: [n] the records that were read, or None. name: the output, for the warning.
    """
    rows = np.zeros(len(cloud), dtype=_row_dtype(cloud, old, warn, name))
    for field in rows.dtype.names or ():
        if field in AXES:
            continue
        rows[field] = old[field] if field.startswith(PADDING_PREFIX) and old is not None else cloud.attributes[field]
    for axis, values in zip(AXES, cloud.xyz.T, strict=True):
        set_axis(rows, axis, values, old)
    return rows


def set_axis(rows: np.ndarray, axis: str, values: np.ndarray, old: np.ndarray | None) -> None:
    """Set a coordinate of structured rows [n] to values [n]; those equal to the old record's keep its bits."""
    with np.errstate(over="ignore"):  # a coordinate beyond float32 becomes inf only where `_row_dtype` kept an inf
        rows[axis] = values
    if old is not None and rows.dtype[axis] == old.dtype[axis]:
        unchanged = (values == old[axis]) | (np.isnan(values) & np.isnan(old[axis]))
        rows[axis][unchanged] = old[axis][unchanged]  # the bits of -0.0 and of NaN too


def _row_dtype(cloud: Cloud, old: np.ndarray | None, warn: Callable[[str], object], name: str) -> np.dtype:
    fields_read = {} if old is None else {field: old.dtype[field] for field in old.dtype.names or ()}
    fields: dict[str, np.dtype] = axis_dtypes(cloud, fields_read, warn, name)
    if fields_read:
        kept_axes, fields = fields, {}
        for field, dtype in fields_read.items():
            if field in AXES or field.startswith(PADDING_PREFIX):
                fields[field] = kept_axes.get(field, dtype)
            elif field in cloud.attributes:
                fields[field] = _field_dtype(dtype, cloud.attributes[field])
    for field, values in cloud.attributes.items():
        fields.setdefault(field, np.dtype((values.dtype, values.shape[1:])))
    return np.dtype(list(fields.items()))


def _field_dtype(dtype: np.dtype, values: np.ndarray) -> np.dtype:
    same = dtype.base.newbyteorder("=") == values.dtype.newbyteorder("=") and dtype.shape == values.shape[1:]
    return dtype if same else np.dtype((values.dtype, values.shape[1:]))


def axis_dtypes(
    cloud: Cloud, fields_read: dict[str, np.dtype], warn: Callable[[str], object], name: str
) -> dict[str, np.dtype]:
    """The types for x, y and z: those of the file where they are accurate enough, else double, with a warning."""
    kinds = {axis: fields_read.get(axis, np.dtype(np.float32)) for axis in AXES}
    columns = dict(zip(AXES, cloud.xyz.T, strict=True))
    if not fields_read and any(max_rounding(columns[axis], kinds[axis]) for axis in AXES):
        return dict.fromkeys(AXES, np.dtype(np.float64))
    measured = cloud.xyz[cloud.measured]
    if cloud.source is not None and cloud.source.keep_types and all(kind.kind == "f" for kind in kinds.values()):
        return kinds
    if all(is_accurate_enough(columns[axis], measured, kinds[axis]) for axis in AXES):
        return kinds
    worst = max(max_rounding(columns[axis], kinds[axis]) for axis in AXES)
    keeps = f" (--keep-types keeps {kinds['x'].name}, all that PCL loads)" if kinds["x"].kind == "f" else ""
    warn(f"{name}: x, y, z are written as double, their type would round them by up to {worst:.2g}{keeps}")
    return {axis: np.dtype(np.float64).newbyteorder(">" if kinds[axis].byteorder == ">" else "=") for axis in AXES}


def is_accurate_enough(values: np.ndarray, measured: np.ndarray, kind: np.dtype) -> bool:
    """Whether `kind` holds the values exactly, or rounds by less than FLOAT32_ROUNDING extents of the measured points [n, 3]."""
    loss = max_rounding(values, kind)
    if loss == 0 or kind.kind != "f" or not np.isfinite(loss):
        return loss == 0
    largest = np.max(np.abs(values[np.isfinite(values)]))
    extent = float(np.max(measured.max(axis=0) / 2 - measured.min(axis=0) / 2)) * 2
    return float(np.spacing(largest.astype(kind))) / 2 <= FLOAT32_ROUNDING * extent


def max_rounding(xyz: np.ndarray, kind: np.dtype) -> float:
    """The largest rounding error of the finite values of an array when stored as `kind`; inf where it cannot hold them."""
    if kind.kind != "f" and not np.isfinite(xyz).all():
        return np.inf
    values = xyz[np.isfinite(xyz)]
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(kind).astype(np.float64)
        return float(np.max(np.abs(stored - values), initial=0.0))
