"""How good a denoised cloud is: Chamfer, point-to-mesh, point-to-surface, Hausdorff distances and evenness.

Distances are squared and relative to a unit sphere, as in the literature since Luo & Hu (ICCV 2021), whose tables
print them times 10⁴. The centre of a sphere is the middle of the axis-aligned box, its radius the largest distance.
"""

import numpy as np

from becalm.points.neighbours import knn
from becalm.points.triangles import to_points, to_surface


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
    return float(to_surface(np.asarray(points, np.float64), triangles).mean()) / unit_sphere(vertices)[1] ** 2


def point_to_mesh(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """`point_to_surface` plus mean_f d²(triangle f, nearest point): both ways, as the published tables have it.

    The second term depends on how finely the mesh is cut: compare on the same mesh only.
    """
    triangles = np.asarray(vertices, np.float64)[faces]
    back = to_points(triangles, np.asarray(points, np.float64)).mean() / unit_sphere(vertices)[1] ** 2
    return point_to_surface(points, vertices, faces) + float(back)


def hausdorff(gen: np.ndarray, ref: np.ndarray, quantile: float = 0.95) -> float:
    """The larger of the two directions' quantiles of nearest distances (not squared), in radii of the reference."""
    there, back = knn(ref, 1, gen)[0], knn(gen, 1, ref)[0]
    return max(float(np.quantile(there, quantile)), float(np.quantile(back, quantile))) / unit_sphere(ref)[1]


def unevenness(points: np.ndarray) -> float:
    """The coefficient of variation of the distance to the nearest other point: 0 for a lattice, 0.52 for chance."""
    distances = knn(points, 2)[0][:, 1]
    return float(distances.std() / distances.mean())
