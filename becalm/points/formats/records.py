"""The records of the parts of a scan that is written part by part, as those of `packed` for whole scans."""

from collections.abc import Iterable

import numpy as np

from becalm.points.cloud import Cloud
from becalm.points.formats import packed


def written_dtype(part: Cloud, old: np.dtype, parts: Iterable[Cloud], exact: bool = False) -> np.dtype:
    """The file's record with the attributes that a part has more; coordinates become double where their type is too coarse for
    those of all parts, or where they are written `exact`. `parts` are gone through once."""
    fields = {name: old[name] for name in old.names or ()}
    for name, values in part.attributes.items():
        kind = np.dtype((values.dtype, values.shape[1:]))
        if name not in fields or fields[name].newbyteorder("=") != kind:
            fields[name] = kind
    assert part.source is not None
    keep = part.source.keep_types and all(old[axis].kind == "f" for axis in packed.AXES)
    if exact or not (keep or _hold_moved([fields[axis] for axis in packed.AXES], parts)):
        order = ">" if old["x"].byteorder == ">" else "="
        fields |= dict.fromkeys(packed.AXES, np.dtype(np.float64).newbyteorder(order))
    return np.dtype(list(fields.items()))


def kept_rows(part: Cloud, old: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Records [n] of a part, whose coordinates that did not change keep their bits."""
    rows = np.zeros(len(part), kind)
    for name in kind.names or ():
        if name not in packed.AXES:
            rows[name] = part.attributes[name] if name in part.attributes else old[name]
    for axis, values in zip(packed.AXES, part.xyz.T, strict=True):
        packed.set_axis(rows, axis, values, old)
    return rows


def _hold_moved(kinds: list[np.dtype], parts: Iterable[Cloud]) -> bool:
    """Whether types round the coordinates of all parts by little enough, as in `packed.is_accurate_enough`."""
    if any(kind.kind != "f" for kind in kinds):
        return False
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for part in parts:
        xyz = part.xyz[part.measured]
        if len(xyz):
            low, high = np.minimum(low, xyz.min(axis=0)), np.maximum(high, xyz.max(axis=0))
    largest = np.maximum(np.abs(low), np.abs(high)).max()
    roundings = [float(np.spacing(largest.astype(kind))) for kind in kinds]
    return max(roundings) / 2 <= packed.FLOAT32_ROUNDING * float((high - low).max())
