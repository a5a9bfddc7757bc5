"""Rays of a sensor whose place is known: a range that is wrong moves a point along its ray, and nowhere else."""

import numpy as np

from becalm.points.cloud import ScanError

LEAST_COSINE = 0.3
"""Where a ray grazes the surface at a smaller cosine to its normal, its point moves by the part of the displacement along the ray
alone: to reach the surface it would have to move very far."""


def ray_directions(xyz: np.ndarray, viewpoint: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 3] from the sensor at `viewpoint` ([3], or [n, 3]: one for each point) to points [n, 3].

    Raises ScanError where the place of the sensor is not finite, or is one of the points.
    """
    viewpoint = np.asarray(viewpoint, np.float64)
    if viewpoint.shape not in ((3,), xyz.shape):
        raise ScanError(
            f"viewpoint: has shape {viewpoint.shape}; give x, y and z, or a row for each of {len(xyz)} points"
        )
    if not np.isfinite(viewpoint).all():
        raise ScanError("viewpoint: is not finite; give the sensor's x, y and z in the scan's units")
    ray = xyz - viewpoint
    length = np.linalg.norm(ray, axis=1, keepdims=True)
    if length.min(initial=np.inf) < 1e-6 * np.median(length):
        raise ScanError("viewpoint: lies on a point of the scan; give the sensor's x, y and z in the scan's units")
    return ray / length


def check_outside(xyz: np.ndarray, viewpoint: np.ndarray) -> None:
    """Raise ScanError where a viewpoint [3] is nearer to points of a cloud [n, 3] than three times their spacing there."""
    nearest = xyz[np.linalg.norm(xyz - viewpoint, axis=1).argmin()]
    distances = np.sort(np.linalg.norm(xyz - nearest, axis=1))[1:9]
    if np.linalg.norm(nearest - viewpoint) < 3 * distances.mean():
        raise ScanError("viewpoint: lies inside the cloud, among its points; give the sensor's place, or leave it out")


def move_along_rays(move: np.ndarray, rays: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Displacements [n, 3] along unit `rays` that end on the same surface as `move`, whose unit `normals` are given.

    With d the displacement, n the normal and r the ray: r (d·n)/(r·n), or r (d·r) where |r·n| < LEAST_COSINE.
    """
    cosine = np.einsum("nc,nc->n", rays, normals)
    steep = np.abs(cosine) >= LEAST_COSINE
    across = np.einsum("nc,nc->n", move, normals) / np.where(steep, cosine, 1)
    length = np.where(steep, across, np.einsum("nc,nc->n", move, rays))
    return length[:, None] * rays
