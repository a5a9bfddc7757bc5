"""A point cloud as it lies in a file: coordinates in float64, attributes of any kind, and what its writer needs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import InputError


class ScanError(InputError):
    """A scan that cannot be read or written: one line that names the file, the field and the fix."""


@dataclass(frozen=True)
class Source:
    """Where a cloud came from: enough to write the same kind of file back, the untouched parts byte for byte."""

    format: str
    """The format's name: ply, pcd, text, array, las, e57."""
    path: Path
    """The file that was read; never overwritten."""
    header: Any
    """The format's own header."""
    rows: np.ndarray
    """[n] the file's own records (or whatever the format keeps of each point), selected along with the points."""


@dataclass(frozen=True)
class Cloud:
    """Points in file order, NaN rows included; a whole scan or a chunk of one.

    The arrays are read-only views: a changed cloud is a new Cloud (`moved`, `with_attributes`, `select`).
    Raises ScanError where the shapes do not fit each other.
    """

    xyz: np.ndarray
    """[n, 3] float64, absolute coordinates as in the file."""
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    """name -> array whose first axis is n, of any dtype, in file order."""
    origin: np.ndarray = None  # type: ignore[assignment]
    """[3] float64, what `local` subtracts; left out: the middle of the finite points' bounding box."""
    source: Source | None = None
    """What the writer needs to write the same kind of file back."""

    def __post_init__(self):
        xyz = _frozen(np.asarray(self.xyz, dtype=np.float64))
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ScanError(f"cloud: xyz has shape {xyz.shape}, not [n, 3]")
        attributes = {name: _frozen(np.asarray(values)) for name, values in self.attributes.items()}
        for name, values in attributes.items():
            if values.shape[:1] != (len(xyz),):
                raise ScanError(
                    f"cloud: attribute {name!r} has shape {values.shape}, not one row for each of {len(xyz)}"
                )
        origin = middle(xyz) if self.origin is None else np.asarray(self.origin, dtype=np.float64)
        for name, value in (("xyz", xyz), ("attributes", attributes), ("origin", _frozen(origin))):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def finite(self) -> np.ndarray:
        """bool [n]: the points with three finite coordinates."""
        return np.all(np.isfinite(self.xyz), axis=1)

    def local(self) -> np.ndarray:
        """[n, 3] float64 relative to the origin: small enough for float32."""
        return self.xyz - self.origin

    def moved(self, xyz: np.ndarray) -> "Cloud":
        """The same points elsewhere; xyz [n, 3] absolute."""
        if np.shape(xyz) != self.xyz.shape:
            raise ScanError(f"cloud: moved to shape {np.shape(xyz)}, has {self.xyz.shape}")
        return replace(self, xyz=xyz)

    def with_attributes(self, attributes: dict[str, np.ndarray]) -> "Cloud":
        """The same points with these attributes added, or replaced where the name exists."""
        return replace(self, attributes={**self.attributes, **attributes})

    def select(self, mask: np.ndarray) -> "Cloud":
        """The points where mask (bool [n]) is true, with the same origin."""
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (len(self),):
            raise ScanError(f"cloud: select needs a bool mask of shape ({len(self)},), got {mask.dtype} {mask.shape}")
        source = self.source and replace(self.source, rows=self.source.rows[mask])
        attributes = {name: values[mask] for name, values in self.attributes.items()}
        return Cloud(self.xyz[mask], attributes, self.origin, source)


def middle(xyz: np.ndarray) -> np.ndarray:
    """[3] middle of the bounding box of the finite rows of xyz [n, 3]; zero where there is none."""
    xyz = xyz[np.isfinite(xyz).all(axis=1)]
    return xyz.min(axis=0) / 2 + xyz.max(axis=0) / 2 if len(xyz) else np.zeros(3)


def _frozen(array: np.ndarray) -> np.ndarray:
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array
