"""Rays of a sensor whose place is known: a range that is wrong moves a point along its ray, and nowhere else."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.neighbours import knn

LEAST_COSINE = 0.3
"""Where a ray grazes the surface at a smaller cosine to its normal, its point moves by the part of the displacement along the ray
alone: to reach the surface it would have to move very far."""


FARTHEST = 1e5
"""A viewpoint may be this many times the cloud's size away."""

NORMAL_NEIGHBOURS = 16
"""Points of the denoised cloud to which a plane is fitted for the normal of a point."""

MAX_UNEVENNESS = 0.7
"""In nine of ten places of an organised cloud, neighbouring steps between rays differ by less than this share of the shorter."""


def sensor_places(cloud: Cloud, warn: Callable[[str], object]) -> np.ndarray | None:
    """Where the sensor stood, [n, 3] for each point, as far as the cloud's file says so; None where it does not.

    Files that say so: E57 and PTX (the poses of their scans; without one the origin, where an E57 has the fields of a scanner's
    frame, and the grid of a PTX fits rays from it) and
    organised PCD (VIEWPOINT), whose grid must fit rays from there; `warn` is called with one line where it does not. Of any file
    the attribute `viewpoint` [n, 3].
    """
    given = cloud.attributes.get("viewpoint")
    if given is not None and given.shape == cloud.xyz.shape:
        return given.astype(np.float64)
    source = cloud.source
    if source is None or source.format not in ("e57", "ptx", "pcd"):
        return None
    if source.format == "ptx":
        return ptx_places(source)
    return e57_places(source) if source.format == "e57" else pcd_places(cloud, source, warn)


SENSOR_FRAME = {"sphericalRange", "rowIndex", "columnIndex"}
"""Fields of E57 that a scan in its scanner's own frame has, and a merged cloud has not."""


def e57_places(source: Any) -> np.ndarray | None:
    """The places [n, 3] of the scanners of an E57 file: the translations of its scans' poses.

    None where a scan has no pose, or that of the origin, and no fields that show that its frame is the scanner's: many programs
    write merged clouds so.
    """
    scans = source.header.scans
    if not all(scan.translation.any() or SENSOR_FRAME & set(scan.fields) for scan in scans):
        return None
    return np.stack([scan.translation for scan in scans])[source.rows["scan"]]


def ptx_places(source: Any) -> np.ndarray | None:
    """The places [n, 3] of the scanners of a PTX file; None where a scan has no pose, and no grid of rays from its origin."""
    places = [scan.place for scan in source.header.scans]
    return None if any(place is None for place in places) else np.stack(places)[source.rows["scan"]]


def pcd_places(cloud: Cloud, source: Any, warn: Callable[[str], object]) -> np.ndarray | None:
    """The VIEWPOINT [n, 3] of an organised PCD file; None where it is not organised, or its grid does not fit its rays."""
    header = source.header
    if header.place is not None:
        return np.broadcast_to(header.place, cloud.xyz.shape)
    grid = organised_grid(cloud, header)
    if grid is None:
        return None
    place = header.viewpoint
    if not grid_fits([grid], place):
        warn(unfit_grid_warning(source.path, place))
        return None
    return np.broadcast_to(place, cloud.xyz.shape)


def unfit_grid_warning(path: Any, place: np.ndarray) -> str:
    """What is said of an organised PCD whose VIEWPOINT [3] is not used."""
    return f"{path}: its grid does not fit rays from VIEWPOINT {place.tolist()}: the viewpoint is not used"


def grid_fits(bands: Iterable[np.ndarray], place: np.ndarray) -> bool:
    """Whether the rays from `place` [3] to an organised cloud turn by even steps along rows and columns.

    `bands` are all of it, or some of its rows that follow each other, each [rows, columns, 3], NaN where nothing was measured.
    """
    uneven = [step_changes(band, place) for band in bands] if np.isfinite(place).all() else []
    if not uneven or any(part is None for part in uneven):
        return False
    ratios = np.concatenate([part for part in uneven if part is not None])
    return len(ratios) >= 16 and bool(np.quantile(ratios, 0.9) < MAX_UNEVENNESS)


def step_changes(grid: np.ndarray, place: np.ndarray) -> np.ndarray | None:
    """By what share neighbouring steps between rays from `place` [3] to a grid [rows, columns, 3] differ, of the shorter step;
    None where the place is a point of the grid."""
    ray = grid - place
    length = np.linalg.norm(ray, axis=2, keepdims=True)
    if not np.nanmin(length, initial=np.inf) > 0:
        return None
    ray = ray / length
    uneven = []
    for axis in (0, 1):
        step = np.diff(ray, axis=axis)
        lengths = np.linalg.norm(step, axis=2)
        change = np.linalg.norm(np.diff(step, axis=axis), axis=2)
        first, second = (lengths[:-1], lengths[1:]) if axis == 0 else (lengths[:, :-1], lengths[:, 1:])
        ratio = change / np.maximum(np.minimum(first, second), 1e-300)
        uneven.append(ratio[np.isfinite(ratio)])
    return np.concatenate(uneven)


def grid_bands(parts: Iterable[np.ndarray], width: int, rows: int = 4) -> Iterator[np.ndarray]:
    """A few whole rows [rows, width, 3] of each part [n, 3] of an organised cloud that has them."""
    first = 0
    for xyz in parts:
        skip = -first % width
        count = min((len(xyz) - skip) // width, rows)
        if count >= 3:
            yield xyz[skip : skip + count * width].reshape(count, width, 3)
        first += len(xyz)


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


def check_viewpoint(cloud: Cloud, place: np.ndarray) -> np.ndarray:
    """A sensor's place [3], or one for each point [n, 3], as [n, 3].

    Raises ScanError where it is not finite, so far away that all rays are the same, among the points of the cloud, or
    contradicted by the grid of an organised PCD.
    """
    xyz, rows = cloud.xyz, cloud.measured
    ray_directions(xyz[rows], place if place.shape != xyz.shape else place[rows])
    if place.shape == (3,):
        near = xyz[rows]
        if np.linalg.norm(place - near.mean(0)) > FARTHEST * max(float(np.ptp(near, axis=0).max()), 1e-300):
            raise ScanError(
                "viewpoint: is as good as at infinity; give the sensor's x, y and z in the scan's coordinates"
            )
        check_outside(near, place)
        check_grid(cloud, place)
    return np.broadcast_to(place, xyz.shape)


def check_grid(cloud: Cloud, place: np.ndarray) -> None:
    """Raise ScanError where a cloud of an organised PCD does not fit rays from `place` [3]; small grids tell nothing."""
    grid = None if cloud.source is None or cloud.source.format != "pcd" else organised_grid(cloud, cloud.source.header)
    if grid is not None and cloud.measured.sum() >= 64 and not grid_fits([grid], place):
        raise unfit_viewpoint_error(place)


def unfit_viewpoint_error(place: np.ndarray) -> ScanError:
    """The error for a given place [3] of the sensor that an organised grid contradicts."""
    return ScanError(
        f"--viewpoint {' '.join(f'{x:g}' for x in place)}: the file's grid does not fit rays from there; give the sensor's "
        "place in the scan's coordinates, or leave it out"
    )


def organised_grid(cloud: Cloud, header: Any) -> np.ndarray | None:
    """The positions [rows, columns, 3] of an organised PCD, NaN where nothing was measured; None where it is not organised."""
    if header.height < 2 or header.width < 2 or header.width * header.height != len(cloud):
        return None
    return np.where(cloud.measured[:, None], cloud.xyz, np.nan).reshape(header.height, header.width, 3)


def check_outside(xyz: np.ndarray, viewpoint: np.ndarray) -> None:
    """Raise ScanError where a viewpoint [3] is nearer to points of a cloud [n, 3] than three times their spacing there."""
    nearest = xyz[np.linalg.norm(xyz - viewpoint, axis=1).argmin()]
    distances = np.sort(np.linalg.norm(xyz - nearest, axis=1))[1:9]
    if np.linalg.norm(nearest - viewpoint) < 3 * distances.mean():
        raise ScanError("viewpoint: lies inside the cloud, among its points; give the sensor's place, or leave it out")


def surface_normals(xyz: np.ndarray, k: int = NORMAL_NEIGHBOURS, block: int = 2**15) -> np.ndarray:
    """Unit normals [n, 3], up to their sign, of the planes fitted to the k nearest points of a cloud [n, 3]."""
    around = knn(xyz, min(k, len(xyz)))[1]
    normals = np.empty_like(xyz)
    for first in range(0, len(xyz), block):
        rows = slice(first, first + block)
        near = xyz[around[rows]]
        near -= near.mean(axis=1, keepdims=True)
        normals[rows] = np.linalg.eigh(near.transpose(0, 2, 1) @ near)[1][:, :, 0]
    return normals


def move_along_rays(move: np.ndarray, rays: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Displacements [n, 3] along unit `rays` that end on the same surface as `move`, whose unit `normals` are given.

    With d the displacement, n the normal and r the ray: r (d·n)/(r·n), or r (d·r) where |r·n| < LEAST_COSINE.
    """
    cosine = np.einsum("nc,nc->n", rays, normals)
    steep = np.abs(cosine) >= LEAST_COSINE
    across = np.einsum("nc,nc->n", move, normals) / np.where(steep, cosine, 1)
    length = np.where(steep, across, np.einsum("nc,nc->n", move, rays))
    return length[:, None] * rays
