"""Attributes converted to the types that a file format can hold, with one warning for those it cannot."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from becalm.points.cloud import Cloud

_TYPES_BY_WIDTH = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


def convert_attributes(
    cloud: Cloud,
    kinds: set[np.dtype],
    warn: Callable[[str], object],
    name: str,
    arrays: bool = False,
    original: np.ndarray | None = None,
) -> Cloud:
    """The cloud with attributes of the types `kinds` only (native byte order), under names without spaces.

    Other types are converted to the narrowest of `kinds` that holds all values exactly. With `arrays` an attribute may have a
    vector for each point, else each of its columns becomes an attribute. Attributes that no type holds (text, say) are left out,
    with one warning that names them. `original`: the records read from a file of this format, whose fields need no check.
    """
    converted: dict[str, np.ndarray] = {}
    omitted = []
    for field, values in cloud.attributes.items():
        if original is not None and _same_type(original, field, values):
            converted[field] = values
            continue
        for column_name, column in _split_columns(field, values, arrays):
            narrowed = _narrowest(column, kinds)
            clean = "_".join(column_name.split()) or "attribute"
            if narrowed is None or clean in converted or not clean.isascii() or not clean.isprintable():
                omitted.append(column_name)
            else:
                converted[clean] = narrowed
    if omitted:
        warn(f"{name}: this format cannot hold {', '.join(omitted)}; left out")
    return replace(cloud, attributes=converted)


def _same_type(original: np.ndarray, field: str, values: np.ndarray) -> bool:
    if field not in (original.dtype.names or ()):
        return False
    return original[field].dtype.newbyteorder("=") == values.dtype and original[field].shape[1:] == values.shape[1:]


def _split_columns(name: str, values: np.ndarray, arrays: bool) -> list[tuple[str, np.ndarray]]:
    if values.ndim == 1:
        return [(name, values)]
    flat = values.reshape(len(values), -1) if values.size else values.reshape(len(values), 0)
    if arrays and flat.shape[1]:
        return [(name, flat)]
    return [(f"{name}_{index}", flat[:, index]) for index in range(flat.shape[1])]


def _narrowest(values: np.ndarray, kinds: set[np.dtype]) -> np.ndarray | None:
    if values.dtype.newbyteorder("=") in kinds:
        return values
    if values.dtype.kind not in "biuf":
        return None
    for kind in _TYPES_BY_WIDTH:
        if np.dtype(kind) in kinds and is_lossless(values, np.dtype(kind)):
            return values.astype(kind)
    return None


def is_lossless(values: np.ndarray, kind: np.dtype) -> bool:
    """Whether conversion to `kind` and back leaves every value unchanged, NaN included."""
    if values.dtype.kind == "f" and kind.kind in "iu":
        return False
    with np.errstate(all="ignore"):
        back = values.astype(kind).astype(values.dtype)
    if kind.kind in "iu" and values.size:
        limits = np.iinfo(kind)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            return False
    return bool(np.all((back == values) | (np.isnan(values) & np.isnan(back) if values.dtype.kind == "f" else False)))
