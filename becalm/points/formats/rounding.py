"""How a file rounds the coordinates of a cloud: what it will hold, before it is written."""

from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, Source
from becalm.points.formats import las, packed

_FORMATS = {".ply": "ply", ".pcd": "pcd", ".npy": "array", ".npz": "array", ".bin": "kitti"}
"""Suffix -> format whose files keep the floating-point type that they had."""


def written_coordinates(cloud: Cloud, path: Path) -> np.ndarray:
    """[n, 3] the coordinates that a file at this path will hold: rounded to the scale of LAS, or to the file's own type.

    E57 is taken to hold all digits, and text too: it rounds to a hundredth of the noise.
    """
    suffix, source = path.suffix.lower(), cloud.source
    if suffix in (".las", ".laz"):
        return las.rounded_coordinates(cloud)
    if suffix in (".stl", ".glb"):
        return cloud.xyz.astype(np.float32).astype(np.float64)
    if source is None or _FORMATS.get(suffix) != source.format:
        return cloud.xyz
    kinds = packed.axis_dtypes(cloud, _axis_dtypes(source), lambda line: None, "")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([cloud.xyz[:, i].astype(kinds[axis]) for i, axis in enumerate(packed.AXES)], axis=1).astype(
            np.float64
        )


def _axis_dtypes(source: Source) -> dict[str, np.dtype]:
    """The types of x, y and z in the records of a file."""
    kind = source.rows.dtype
    kind = kind["values"] if "values" in (kind.names or ()) else kind
    return {axis: kind[axis] if kind.names else kind for axis in packed.AXES}
