"""Triangle meshes, and points sampled on them: uniformly at random, or evenly spaced."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.core.files import InputError
from becalm.core.numpy_files import load_arrays
from becalm.points.elimination import eliminate_samples


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles; raises ValueError where the arrays do not fit each other."""

    vertices: np.ndarray
    """[v, 3] float64."""
    faces: np.ndarray
    """[f, 3] int64: the three vertices of each triangle."""

    def __post_init__(self):
        vertices, faces = np.asarray(self.vertices, np.float64), np.asarray(self.faces, np.int64)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
            raise ValueError(f"mesh: vertices of shape {vertices.shape} must be [v, 3] and finite")
        if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
            raise ValueError(f"mesh: faces of shape {faces.shape} must be [f, 3] with f > 0")
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise ValueError(f"mesh: faces name vertices {faces.min()} to {faces.max()} of {len(vertices)}")
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)


class Samples(NamedTuple):
    """Points on a surface."""

    points: np.ndarray
    """[n, 3] float64."""
    normals: np.ndarray
    """[n, 3] unit normals."""


def load(path: Path) -> Mesh:
    """Read a mesh from a NumPy archive with `vertices` [v, 3] and `faces` [f, 3]; InputError where it is none."""
    try:
        archive = load_arrays(path, ("vertices", "faces"))
        return Mesh(archive["vertices"], archive["faces"])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (ValueError, KeyError, OSError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a mesh, an .npz with `vertices` [v, 3] and `faces` [f, 3] ({error})") from error


def triangles(mesh: Mesh) -> np.ndarray:
    """Corners [f, 3, 3] of every triangle."""
    return mesh.vertices[mesh.faces]


def unit_sphere(mesh: Mesh) -> Mesh:
    """The mesh moved and scaled: the box of its used vertices centred at 0, the farthest of them at distance 1."""
    used = mesh.vertices[np.unique(mesh.faces)]
    centre = (used.min(axis=0) + used.max(axis=0)) / 2
    radius = np.sqrt(((used - centre) ** 2).sum(axis=1).max())
    return Mesh((mesh.vertices - centre) / radius, mesh.faces)


def normals_and_areas(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals [f, 3] by the right-hand rule (zero where a triangle has no area) and areas [f]."""
    corners = triangles(mesh)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(length, 1e-300)[:, None], length / 2


def sample(mesh: Mesh, n: int, rng: np.random.Generator) -> Samples:
    """n independent points, uniform by area: (1 − √u) a + √u (1 − v) b + √u v c (Osada et al. 2002, eq. 1).

    Raises InputError for a mesh without area, or with too much to count.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        normals, areas = normals_and_areas(mesh)
        total = np.cumsum(areas)
    if not 0 < total[-1] < np.inf:
        raise InputError(f"mesh: its triangles have an area of {total[-1]:g} in all; give one with a surface")
    face = np.searchsorted(total, rng.random(n) * total[-1], side="right")
    u, v = np.sqrt(rng.random(n)), rng.random(n)
    weights = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    return Samples(np.einsum("nk,nkc->nc", weights, triangles(mesh)[face]), normals[face])


def poisson_disk(mesh: Mesh, n: int, rng: np.random.Generator, factor: float = 4.0) -> Samples:
    """Exactly n evenly spaced points: `factor` times as many random ones, thinned by weighted sample elimination."""
    points, normals = sample(mesh, int(np.ceil(factor * n)), rng)
    kept = eliminate_samples(points, n, float(normals_and_areas(mesh)[1].sum()))
    return Samples(points[kept], normals[kept])
