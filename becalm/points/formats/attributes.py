"""What a format can hold: attributes brought to the types that its files know, with one warning for what is lost."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from becalm.points.cloud import Cloud

_WIDER = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


def fitted(
    cloud: Cloud,
    kinds: set[np.dtype],
    warn: Callable[[str], object],
    name: str,
    arrays: bool = False,
    own: np.ndarray | None = None,
) -> Cloud:
    """The cloud with attributes of the given kinds only (native order), in names without spaces.

    Types outside kinds go to the narrowest kind that holds all values exactly; arrays: rows may be vectors, else they
    become one attribute a column. What fits nowhere (text, say) is left out, with one warning naming all of it.
    own: the records that were read from this kind of file; its fields pass unchecked.
    """
    kept: dict[str, np.ndarray] = {}
    lost = []
    for field, values in cloud.attributes.items():
        if own is not None and _alike(own, field, values):
            kept[field] = values
            continue
        for column_name, column in _columns(field, values, arrays):
            narrowed = _narrowed(column, kinds)
            clean = "_".join(column_name.split()) or "attribute"
            if narrowed is None or clean in kept or not clean.isascii() or not clean.isprintable():
                lost.append(column_name)
            else:
                kept[clean] = narrowed
    if lost:
        warn(f"{name}: this format cannot hold {', '.join(lost)}; left out")
    return replace(cloud, attributes=kept)


def _alike(own: np.ndarray, field: str, values: np.ndarray) -> bool:
    if field not in (own.dtype.names or ()):
        return False
    return own[field].dtype.newbyteorder("=") == values.dtype and own[field].shape[1:] == values.shape[1:]


def _columns(name: str, values: np.ndarray, arrays: bool) -> list[tuple[str, np.ndarray]]:
    if values.ndim == 1:
        return [(name, values)]
    flat = values.reshape(len(values), -1) if values.size else values.reshape(len(values), 0)
    if arrays and flat.shape[1]:
        return [(name, flat)]
    return [(f"{name}_{index}", flat[:, index]) for index in range(flat.shape[1])]


def _narrowed(values: np.ndarray, kinds: set[np.dtype]) -> np.ndarray | None:
    if values.dtype.newbyteorder("=") in kinds:
        return values
    if values.dtype.kind not in "biuf":
        return None
    for kind in _WIDER:
        if np.dtype(kind) in kinds and holds(values, np.dtype(kind)):
            return values.astype(kind)
    return None


def holds(values: np.ndarray, kind: np.dtype) -> bool:
    """Whether every value, NaN included, comes back from kind unchanged."""
    if values.dtype.kind == "f" and kind.kind in "iu":
        return False
    with np.errstate(all="ignore"):
        back = values.astype(kind).astype(values.dtype)
    if kind.kind in "iu" and values.size:
        limits = np.iinfo(kind)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            return False
    return bool(np.all((back == values) | (np.isnan(values) & np.isnan(back) if values.dtype.kind == "f" else False)))
