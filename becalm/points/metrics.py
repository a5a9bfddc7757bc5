"""Measures of a denoised cloud: Chamfer, point-to-mesh, point-to-surface, Hausdorff distances, shrinkage, edges, evenness.

Distances are squared and relative to a unit sphere, as in the literature since Luo & Hu (ICCV 2021), whose tables
print them times 10⁴. The centre of a sphere is the middle of the axis-aligned box, its radius the largest distance.
"""

import numpy as np

from becalm.points.neighbours import knn
from becalm.points.triangles import nearest_surface_points, squared_distances_to_points, squared_distances_to_triangles


def unit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The sphere (centre [3], radius) about the middle of the points' box that reaches the farthest of them."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return centre, float(np.sqrt(((points - centre) ** 2).sum(axis=1).max()))


def chamfer(gen: np.ndarray, ref: np.ndarray) -> float:
    """mean_a min_b |a−b|² + mean_b min_a |a−b|², a in gen [n, 3], b in ref [m, 3], in radii² of the reference."""
    there, back = knn(ref, 1, gen)[0], knn(gen, 1, ref)[0]
    return float((there**2).mean() + (back**2).mean()) / unit_sphere(ref)[1] ** 2


def point_to_surface(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """mean_p d²(p, nearest triangle), one way, in radii² of the sphere of the mesh's vertices [v, 3]."""
    triangles = np.asarray(vertices, np.float64)[faces]
    return (
        float(squared_distances_to_triangles(np.asarray(points, np.float64), triangles).mean())
        / unit_sphere(vertices)[1] ** 2
    )


def point_to_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """`point_to_surface` plus mean_f d²(triangle f, nearest point): both ways, as the published tables have it.

    The second term depends on how finely the mesh is cut: compare on the same mesh only.
    """
    triangles = np.asarray(vertices, np.float64)[faces]
    back = squared_distances_to_points(triangles, np.asarray(points, np.float64)).mean() / unit_sphere(vertices)[1] ** 2
    return point_to_surface(points, vertices, faces) + float(back)


def hausdorff(gen: np.ndarray, ref: np.ndarray, quantile: float = 0.95) -> float:
    """The larger of the two directions' quantiles of nearest distances (not squared), in radii of the reference."""
    there, back = knn(ref, 1, gen)[0], knn(gen, 1, ref)[0]
    return max(float(np.quantile(there, quantile)), float(np.quantile(back, quantile))) / unit_sphere(ref)[1]


def rmse(gen: np.ndarray, ref: np.ndarray) -> float:
    """sqrt(mean_i |a_i − b_i|²) of clouds [n, 3] paired by index, in radii of the reference.

    Raises ValueError where the shapes differ.
    """
    if gen.shape != ref.shape:
        raise ValueError(f"rmse: clouds of shapes {gen.shape} and {ref.shape} are not paired")
    return float(np.sqrt(((gen - ref) ** 2).sum(axis=1).mean())) / unit_sphere(ref)[1]


def shrinkage(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """The mean signed distance to the surface, in radii of the mesh's vertices: negative where the cloud shrank.

    The sign is the side of the nearest triangle; of several that meet at the nearest place, of the one that faces the
    point most. Outwards is where the triangles' normals point, all turned together where the volume they enclose
    (Σ a·(b × c) / 6 about the middle) is negative: of little meaning for a mesh that is open or turned both ways.
    """
    centre, radius = unit_sphere(vertices)
    triangles = np.asarray(vertices, np.float64)[faces] - centre
    local = np.asarray(points, np.float64) - centre
    nearest = nearest_surface_points(local, triangles)
    corners = triangles[nearest.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = local - nearest.points
    outwards = np.sign(np.einsum("fc,fc->f", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum()) or 1.0
    side = np.sign(np.einsum("nc,nc->n", away, normal))
    return float((outwards * side * np.linalg.norm(away, axis=1)).mean() / radius)


def sharp_edges(vertices: np.ndarray, faces: np.ndarray, degrees: float = 40.0) -> np.ndarray:
    """Ends [e, 2, 3] of the edges between two triangles that are folded by more than an angle (0 is flat).

    Vertices at the same place count as one; edges of one triangle or of more than two are left out.
    """
    place, vertex = np.unique(np.asarray(vertices, np.float64), axis=0, return_inverse=True)
    corners = vertex.reshape(-1)[np.asarray(faces)]
    normal = np.cross(place[corners[:, 1]] - place[corners[:, 0]], place[corners[:, 2]] - place[corners[:, 0]])
    length = np.linalg.norm(normal, axis=1)
    corners, normal = corners[length > 0], normal[length > 0] / length[length > 0, None]
    ends = np.stack([corners, np.roll(corners, -1, axis=1)], axis=2).reshape(-1, 2)
    forward = np.where(ends[:, 0] < ends[:, 1], 1.0, -1.0)
    edge, which, count = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    first = (np.cumsum(count) - count)[count == 2]
    one, two = order[first], order[first + 1]
    turned = -forward[one] * forward[two]  # neighbours that are turned alike run along their edge in opposite ways
    fold = turned * np.einsum("ec,ec->e", normal[one // 3], normal[two // 3])
    return place[edge[count == 2][fold < np.cos(np.radians(degrees))]]


def edge_error(
    points: np.ndarray, home: np.ndarray, vertices: np.ndarray, faces: np.ndarray, width: float, degrees: float = 40.0
) -> float:
    """mean d²(p, nearest triangle) over the points [n, 3] whose `home` [n, 3] lies within `width` of a sharp edge.

    `home` is where a point belongs: its clean place, or where that is not known its nearest place on the surface. In
    radii² of the mesh's vertices; NaN where there is no sharp edge, or no point near one.
    """
    edges = sharp_edges(vertices, faces, degrees)
    if not len(edges):
        return float("nan")
    near = squared_distances_to_triangles(np.asarray(home, np.float64), edges[:, [0, 1, 1]]) <= width**2
    return point_to_surface(points[near], vertices, faces) if near.any() else float("nan")


def unevenness(points: np.ndarray) -> float:
    """The coefficient of variation of the distance to the nearest other point: 0 for a lattice, 0.52 for uniformly random
    points."""
    distances = knn(points, 2)[0][:, 1]
    return float(distances.std() / distances.mean())
