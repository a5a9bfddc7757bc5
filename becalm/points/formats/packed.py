"""Clouds as structured arrays: the form that PLY and PCD share."""

from collections.abc import Callable

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source

AXES = ("x", "y", "z")
PADDING = "_ "
"""Fields whose name starts so (no format allows a space) are kept in the file's records and shown to nobody."""
FLOAT32_ROUNDING = 1e-5
"""The largest rounding, in extents of the cloud, at which moved coordinates stay in a float type as it was read."""


def cloud_from(rows: np.ndarray, source: Source) -> Cloud:
    """The cloud of structured rows [n] with fields x, y, z and any others; the others become views in native order."""
    for axis in AXES:
        if axis not in (rows.dtype.names or ()) or rows.dtype[axis].shape:
            raise ScanError(f"{source.path}: has no coordinate {axis!r} (2-D points? a cloud needs x, y and z)")
    xyz = np.stack([rows[axis] for axis in AXES], axis=1).astype(np.float64)
    others = [name for name in rows.dtype.names or () if name not in AXES and not name.startswith(PADDING)]
    attributes = {name: rows[name].astype(rows[name].dtype.newbyteorder("="), copy=False) for name in others}
    return Cloud(xyz, attributes, source=source)


def rows_from(cloud: Cloud, old: np.ndarray | None, warn: Callable[[str], object], name: str) -> np.ndarray:
    """Structured rows [n] of a cloud: old's layout and bytes where nothing changed, new attributes appended.

    old: [n] the records that were read, or None. name: the output, for the warning.
    """
    rows = np.zeros(len(cloud), dtype=_layout(cloud, old, warn, name))
    for field in rows.dtype.names or ():
        if field in AXES:
            continue
        rows[field] = old[field] if field.startswith(PADDING) and old is not None else cloud.attributes[field]
    for axis, values in zip(AXES, cloud.xyz.T, strict=True):
        _put(rows, axis, values, old)
    return rows


def _put(rows: np.ndarray, axis: str, values: np.ndarray, old: np.ndarray | None) -> None:
    with np.errstate(over="ignore"):  # a coordinate beyond float32 becomes inf only where `_layout` kept an inf
        rows[axis] = values
    if old is not None and rows.dtype[axis] == old.dtype[axis]:
        still = (values == old[axis]) | (np.isnan(values) & np.isnan(old[axis]))
        rows[axis][still] = old[axis][still]  # the bits of -0.0 and of NaN too


def _layout(cloud: Cloud, old: np.ndarray | None, warn: Callable[[str], object], name: str) -> np.dtype:
    kept = {} if old is None else {field: old.dtype[field] for field in old.dtype.names or ()}
    fields: dict[str, np.dtype] = _coordinates(cloud, kept, warn, name)
    if kept:
        kept_axes, fields = fields, {}
        for field, dtype in kept.items():
            if field in AXES or field.startswith(PADDING):
                fields[field] = kept_axes.get(field, dtype)
            elif field in cloud.attributes:
                fields[field] = _same_or_new(dtype, cloud.attributes[field])
    for field, values in cloud.attributes.items():
        fields.setdefault(field, np.dtype((values.dtype, values.shape[1:])))
    return np.dtype(list(fields.items()))


def _same_or_new(dtype: np.dtype, values: np.ndarray) -> np.dtype:
    same = dtype.base.newbyteorder("=") == values.dtype.newbyteorder("=") and dtype.shape == values.shape[1:]
    return dtype if same else np.dtype((values.dtype, values.shape[1:]))


def _coordinates(
    cloud: Cloud, kept: dict[str, np.dtype], warn: Callable[[str], object], name: str
) -> dict[str, np.dtype]:
    """The types for x, y and z: as read while they hold the coordinates, else double, said once."""
    kinds = {axis: kept.get(axis, np.dtype(np.float32)) for axis in AXES}
    columns = dict(zip(AXES, cloud.xyz.T, strict=True))
    if not kept and any(rounding(columns[axis], kinds[axis]) for axis in AXES):
        return dict.fromkeys(AXES, np.dtype(np.float64))
    seen = cloud.xyz[cloud.finite]
    if all(enough(columns[axis], seen, kinds[axis]) for axis in AXES):
        return kinds
    worst = max(rounding(columns[axis], kinds[axis]) for axis in AXES)
    warn(f"{name}: x, y, z are written as double, their type would round them by up to {worst:.2g}")
    return {axis: np.dtype(np.float64).newbyteorder(">" if kinds[axis].byteorder == ">" else "=") for axis in AXES}


def enough(values: np.ndarray, seen: np.ndarray, kind: np.dtype) -> bool:
    """Whether kind holds the values exactly, or rounds by less than the finite points seen [n, 3] can notice."""
    loss = rounding(values, kind)
    if loss == 0 or kind.kind != "f" or not np.isfinite(loss):
        return loss == 0
    largest = np.max(np.abs(values[np.isfinite(values)]))
    extent = float(np.max(seen.max(axis=0) / 2 - seen.min(axis=0) / 2)) * 2
    return float(np.spacing(largest.astype(kind))) / 2 <= FLOAT32_ROUNDING * extent


def rounding(xyz: np.ndarray, kind: np.dtype) -> float:
    """The largest change of a finite coordinate of xyz, of any shape, when stored as kind; inf where it cannot be."""
    if kind.kind != "f" and not np.isfinite(xyz).all():
        return np.inf
    values = xyz[np.isfinite(xyz)]
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(kind).astype(np.float64)
        return float(np.max(np.abs(stored - values), initial=0.0))
