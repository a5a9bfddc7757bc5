"""A point cloud: coordinates in float64, attributes of any kind, and what is needed to write its file again."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import InputError


class ScanError(InputError):
    """A scan that cannot be read or written: one line that names the file, the field and the fix."""


NO_RETURNS = 8
"""Points at exactly 0 0 0 from which on these are no points but missing returns."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a cloud came from: enough to write the same kind of file again, its unchanged parts byte for byte."""

    format: str
    """The format's name: ply, pcd, text, array, las, e57."""
    path: Path | None
    """The file that was read, which is never overwritten; None for a cloud from memory."""
    header: Any
    """The format's own header."""
    rows: np.ndarray
    """[n] the file's own records (or what else the format stores for each point), selected along with the points."""
    raw: bytes = b""
    """LAS: the file up to its points, for what laspy does not keep."""
    degrees: bool = False
    """Whether the file says that x and y are a longitude and a latitude."""
    scale: float | None = None
    """LAS: the scale to which coordinates are rounded when they are written; None is that of the file."""
    step: float | None = None
    """Text: the step to which coordinates that moved are rounded when they are written; None writes all digits."""
    keep_types: bool = False
    """Whether coordinates are written in the floating-point type of the file however much that rounds them."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in the order of their file, NaN rows included; a whole scan or a part of one.

    All arrays are read-only, and nobody else can write to them: an array that is writable is copied, a read-only one is not.
    A changed cloud is a new Cloud (`with_positions`, `with_attributes`, `select`, `cloud[mask]`). `np.asarray(cloud)` is `xyz`.
    Two clouds are equal only if they are the same object. Raises ScanError where the shapes do not fit each other.
    """

    xyz: np.ndarray
    """[n, 3] float64, absolute coordinates as in the file."""
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    """name -> array whose first axis is n, of any dtype, in file order."""
    origin: np.ndarray = None  # type: ignore[assignment]
    """[3] float64, what `local` subtracts; by default the centre of the bounding box of the measured points."""
    source: Source | None = None
    """What the writer needs to write the same kind of file again."""

    def __post_init__(self):
        xyz = read_only(self.xyz, np.float64)
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ScanError(f"cloud: xyz has shape {xyz.shape}, not [n, 3]")
        attributes = {name: read_only(values) for name, values in self.attributes.items()}
        for name, values in attributes.items():
            if values.shape[:1] != (len(xyz),):
                raise ScanError(
                    f"cloud: attribute {name!r} has shape {values.shape}, not one row for each of {len(xyz)}"
                )
        object.__setattr__(self, "xyz", xyz)
        object.__setattr__(self, "attributes", attributes)
        origin = box_centre(xyz[self.measured]) if self.origin is None else self.origin
        object.__setattr__(self, "origin", read_only(origin, np.float64))

    def __len__(self) -> int:
        return len(self.xyz)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.xyz, dtype, copy=copy)

    def __getitem__(self, rows: slice | np.ndarray | list) -> "Cloud":
        """The points of a slice, a boolean mask [n] or an array of indices, with the same origin.

        Where the order changes, a file written from them has no more of the file that was read.
        """
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.ndim != 1 or rows.dtype.kind not in "biu":
                raise ScanError(
                    f"cloud: cannot take rows {rows.dtype} {list(rows.shape)}; give a slice, mask or indices"
                )
            if rows.dtype == bool:
                return self.select(rows)
        picked = np.arange(len(self))[rows]
        source = self.source if np.all(np.diff(picked) > 0) else None
        return self._rows(rows, source)

    def __repr__(self) -> str:
        xyz = self.xyz[self.measured]
        extent = " × ".join(f"{side:.4g}" for side in np.ptp(xyz, axis=0)) if len(xyz) else "nothing"
        names = ", ".join(self.attributes)
        return f"Cloud({len(self):,} points, extent {extent}{', ' + names if names else ''})"

    @cached_property
    def measured(self) -> np.ndarray:
        """bool [n]: the points that were measured: with three finite coordinates, which are not the 0 0 0 of a missing return.

        Drivers of lidars write 0 0 0 where no light came back; it counts as that where at least `NO_RETURNS` points have it.
        """
        finite = np.all(np.isfinite(self.xyz), axis=1)
        zero = ~self.xyz.any(axis=1)
        return freeze_array(finite & ~zero if np.count_nonzero(zero) >= NO_RETURNS else finite)

    def local(self) -> np.ndarray:
        """[n, 3] float64 relative to the origin: small enough for float32."""
        return self.xyz - self.origin

    def with_positions(self, xyz: np.ndarray) -> "Cloud":
        """The same points at new positions xyz [n, 3], absolute."""
        if np.shape(xyz) != self.xyz.shape:
            raise ScanError(f"cloud: positions of shape {np.shape(xyz)} for points of shape {self.xyz.shape}")
        return replace(self, xyz=xyz)

    def with_attributes(self, attributes: dict[str, np.ndarray]) -> "Cloud":
        """The same points with these attributes added, or replaced where the name exists."""
        return replace(self, attributes={**self.attributes, **attributes})

    def select(self, mask: np.ndarray) -> "Cloud":
        """The points where mask (bool [n]) is true, with the same origin."""
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (len(self),):
            raise ScanError(f"cloud: select needs a bool mask of shape ({len(self)},), got {mask.dtype} {mask.shape}")
        return self._rows(mask, self.source)

    @staticmethod
    def from_open3d(cloud: Any) -> "Cloud":
        """The cloud of an open3d.geometry.PointCloud or open3d.t.geometry.PointCloud."""
        from becalm.points.interop import from_open3d

        return from_open3d(cloud)

    @staticmethod
    def from_laspy(las: Any) -> "Cloud":
        """The cloud of a laspy.LasData, with its header."""
        from becalm.points.interop import from_laspy

        return from_laspy(las)

    @staticmethod
    def from_trimesh(cloud: Any) -> "Cloud":
        """The cloud of a trimesh.PointCloud, or of the vertices of a trimesh.Trimesh."""
        from becalm.points.interop import from_trimesh

        return from_trimesh(cloud)

    @staticmethod
    def from_pyvista(dataset: Any) -> "Cloud":
        """The cloud of the points of a PyVista dataset, with its point data."""
        from becalm.points.interop import from_pyvista

        return from_pyvista(dataset)

    def to_open3d(self) -> Any:
        """An open3d.t.geometry.PointCloud with all attributes that are numbers."""
        from becalm.points.interop import to_open3d

        return to_open3d(self)

    def to_laspy(self) -> Any:
        """A laspy.LasData, with the header of the LAS or LAZ file that the cloud came from, if any."""
        from becalm.points.interop import to_laspy

        return to_laspy(self)

    def to_trimesh(self) -> Any:
        """A trimesh.PointCloud with colours where the cloud has any."""
        from becalm.points.interop import to_trimesh

        return to_trimesh(self)

    def to_pyvista(self) -> Any:
        """A pyvista.PolyData with all attributes that are numbers as point data."""
        from becalm.points.interop import to_pyvista

        return to_pyvista(self)

    def _rows(self, rows: slice | np.ndarray, source: Source | None) -> "Cloud":
        """The points of a slice, mask or index array, with these rows of the source."""
        source = source and replace(source, rows=freeze_array(source.rows[rows]))
        attributes = {name: freeze_array(values[rows]) for name, values in self.attributes.items()}
        return Cloud(freeze_array(self.xyz[rows]), attributes, self.origin, source)


def with_written_types(cloud: Cloud, keep_types: bool, scale: float | None) -> Cloud:
    """The cloud, whose file is to be written with the floating-point types and the LAS scale that `formats.write` takes."""
    return replace(cloud, source=replace(cloud.source, keep_types=keep_types, scale=scale)) if cloud.source else cloud


def with_rounding_step(cloud: Cloud, step: float | None) -> Cloud:
    """The cloud, whose coordinates that moved are rounded to a step where its file is a text."""
    return replace(cloud, source=replace(cloud.source, step=step)) if cloud.source else cloud


def box_centre(xyz: np.ndarray) -> np.ndarray:
    """[3] centre of the bounding box of the finite rows of xyz [n, 3]; zero where there is none."""
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    return xyz.min(axis=0) / 2 + xyz.max(axis=0) / 2 if len(xyz) else np.zeros(3)


def read_only(values: Any, dtype: Any = None) -> np.ndarray:
    """The values as an array to which nobody can write: unchanged where that is so already, else a copy."""
    array = np.asarray(values, dtype)
    if array is not values and array.base is None and isinstance(values, np.ndarray | list | tuple):
        return freeze_array(array)  # a conversion, which nobody else holds
    return freeze_array(array.copy()) if _is_writable(array) else array


def freeze_array(array: np.ndarray) -> np.ndarray:
    """The same array, made read-only with every array whose memory it shares: for arrays that nobody else holds."""
    part = array
    while isinstance(part, np.ndarray):
        part.flags.writeable = False
        part = part.base
    return array


def _is_writable(array: np.ndarray) -> bool:
    """Whether the array, or one whose memory it shares, can be written to."""
    part = array
    while isinstance(part, np.ndarray):
        if part.flags.writeable:
            return True
        part = part.base
    return False
