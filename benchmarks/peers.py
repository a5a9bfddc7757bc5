"""The denoisers of the benchmark: ours, SPD, classical filters, and two that bound them: none and the exact projection."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Denoise = Callable[[np.ndarray], np.ndarray]
"""Noisy points [n, 3] to where they end."""


@dataclass(frozen=True)
class Task:
    """All that a method may be made from. Only the peers whose authors knew it look at `noise`, only the bound at `mesh`."""

    model: str
    """Our model: a packaged name or a file of weights."""
    official: Path | None
    """SPD's published checkpoint."""
    noise: float
    """σ in radii."""
    mesh: object
    """The true surface."""


def nothing(task: Task) -> Denoise:
    """The input itself."""
    return lambda xyz: xyz


def projection(task: Task) -> Denoise:
    """Every point to its nearest place on the true surface: what is left is where along it."""
    from becalm.points.mesh import triangles
    from becalm.points.triangles import nearest_surface_points

    return lambda xyz: nearest_surface_points(xyz, triangles(task.mesh)).points


def ours(task: Task) -> Denoise:
    """The model with no information but the cloud."""
    from becalm.points.progress import final_points
    from becalm.weights.store import load

    model = load(task.model)
    return lambda xyz: final_points(model.iter_denoise(xyz))


def ours_without_outliers(task: Task) -> Denoise:
    """As `becalm denoise --outliers remove`: outliers are removed."""
    from becalm.tasks.denoise import denoise
    from becalm.weights.store import load

    model = load(task.model)
    return lambda xyz: denoise(xyz, model, outliers="remove").cloud.xyz


def spd_fast(task: Task) -> Denoise:
    """SPD with the official weights in our inference: one new position for each point."""
    from becalm.points.progress import final_points
    from becalm.weights.importer import read_official

    model = read_official(task.official)
    return lambda xyz: final_points(model.iter_denoise(xyz))


def spd_paper(task: Task) -> Denoise:
    """SPD as published: sphere, farthest-point seeds, merge; two passes at 3 %, which its authors knew to be 3 %."""
    from becalm.points.progress import final_points
    from becalm.systems.spd import iter_denoise_paper
    from becalm.weights.importer import read_official

    model = read_official(task.official)
    return lambda xyz: final_points(iter_denoise_paper(model, xyz, passes=2 if task.noise > 0.025 else 1))


def cgal_jet(task: Task) -> Denoise:
    """CGAL's jet smoothing, 24 neighbours, twice."""
    from CGAL.CGAL_Kernel import Point_3
    from CGAL.CGAL_Point_set_3 import Point_set_3
    from CGAL.CGAL_Point_set_processing_3 import jet_smooth_point_set

    def smooth(xyz: np.ndarray) -> np.ndarray:
        points = Point_set_3()
        for row in xyz.tolist():
            points.insert(Point_3(*row))
        for _ in range(2):
            jet_smooth_point_set(points, 24)
        return np.array([[p.x(), p.y(), p.z()] for p in points.points()])

    return smooth


def open3d_mls(task: Task) -> Denoise:
    """Open3D's projection on local planes, radius 0.1."""
    import open3d

    def smooth(xyz: np.ndarray) -> np.ndarray:
        points = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
        return np.asarray(points.smooth_mls(open3d.geometry.KDTreeSearchParamRadius(0.1)).points)

    return smooth


def open3d_bilateral(task: Task) -> Denoise:
    """Open3D's bilateral filter as it comes: at most 30 neighbours within 0.05, both deviations 0.05."""
    import open3d

    def smooth(xyz: np.ndarray) -> np.ndarray:
        points = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
        return np.asarray(points.smooth_bilateral().points)

    return smooth


METHODS: dict[str, Callable[[Task], Denoise]] = {
    "noisy": nothing,
    "exact projection": projection,
    "jets": ours,
    "jets, outliers removed": ours_without_outliers,
    "spd fast": spd_fast,
    "spd paper": spd_paper,
    "cgal jet": cgal_jet,
    "open3d mls": open3d_mls,
    "open3d bilateral": open3d_bilateral,
}

UNORDERED = ("spd paper", "jets, outliers removed")
"""Methods whose rows are not those of the input."""
