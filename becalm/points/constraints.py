"""What a denoiser may do to a cloud: which points it sees and moves, how far, and along which rays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.rays import move_along_rays, ray_directions, surface_normals

CLASSES = "classification"
"""The attribute of LAS that has each point's class."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """Limits to the displacements of a cloud of n points; by default there are none."""

    seen: np.ndarray | None = None
    """Bool [n]: the points that the denoiser gets; the others stay where they are, and no point sees them."""
    movable: np.ndarray | None = None
    """Bool [n]: the points that may move; the others are neighbours like any, and are put back where they were."""
    sensors: np.ndarray | None = None
    """[n, 3] the place of the sensor that saw each point: points move along their rays only."""
    max_displacement: float | None = None
    """No point moves farther, in the cloud's units."""

    def __post_init__(self):
        if self.max_displacement is not None and not 0 < self.max_displacement < np.inf:
            raise ScanError(f"--max-displacement {self.max_displacement:g}: give a length above 0 in the scan's units")


def limited_moves(
    moves: np.ndarray, xyz: np.ndarray, constraints: Constraints, mask: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Displacements [k, 3] of the points at `xyz` [k, 3], relative to `origin` [3], within the constraints.

    `mask` [n] has the k points of the cloud that they belong to.
    """
    if constraints.sensors is not None:
        rays = ray_directions(xyz, constraints.sensors[mask] - origin)
        moves = move_along_rays(moves, rays, surface_normals(xyz + moves))
    if constraints.max_displacement is not None:
        length = np.linalg.norm(moves, axis=1, keepdims=True)
        moves = moves * np.minimum(1, constraints.max_displacement / np.maximum(length, 1e-300))
    if constraints.movable is not None:
        moves = np.where(constraints.movable[mask, None], moves, 0.0)
    return moves


def class_masks(
    cloud: Cloud, only: Sequence[int] | None, keep: Sequence[int] | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Which points [n] the denoiser sees, those of the classes `only`, and which may move, those not of the classes `keep`.

    None where no classes are given. Raises ScanError where the cloud has no classes, or no point of one that is named.
    """
    if not only and not keep:
        return None, None
    classes = cloud.attributes.get(CLASSES)
    if classes is None:
        raise ScanError(f"--only-class, --keep-class: the scan has no attribute `{CLASSES}` (leave the option out)")
    present = np.unique(classes)
    for name, wanted in (("--only-class", only or ()), ("--keep-class", keep or ())):
        missing = [number for number in wanted if number not in present]
        if missing:
            there = ", ".join(str(number) for number in present)
            raise ScanError(f"{name} {missing[0]}: no point is of this class; the scan has {there}")
    return (np.isin(classes, only) if only else None), (~np.isin(classes, keep) if keep else None)
