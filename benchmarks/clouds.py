"""The clouds of the benchmark: shapes, even and uneven samples of them, and their noise, each from a fixed seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np

SEED = 20260101


@dataclass(frozen=True)
class Cell:
    """What is done to each shape of a suite."""

    points: int
    """Points of the clean cloud."""
    noise: float
    """Standard deviation per coordinate, sqrt(E|d|²/3), in radii of the clean cloud's sphere; for Gaussian noise that is σ."""
    kind: str = "gaussian"
    """The noise's law: one of `becalm.points.noise.LAWS`, or `range_dependent`."""
    density: Literal["even", "uneven"] = "even"
    """Poisson-disk, or thinned by how obliquely a sensor sees the surface."""
    outliers: float = 0.0
    """Added stray points as a share of the cloud, uniform in its box and 10 % beyond."""

    @property
    def plain(self) -> bool:
        """Whether this is Gaussian noise on an even cloud; outliers come on top of the same points."""
        return (self.kind, self.density) == ("gaussian", "even")


class Pair(NamedTuple):
    """What a denoiser gets, and the truth."""

    noisy: np.ndarray
    """[n + o, 3]: the points, then the outliers."""
    clean: np.ndarray
    """[n, 3]: row i is where point i belongs."""
    sigma: float
    """The noise's standard deviation per coordinate, a length."""


def names(folder: Path) -> list[str]:
    """The develop meshes by name."""
    return [path.name.split(".")[1] for path in sorted(folder.glob("develop.*.npz"))]


def mesh_of(folder: Path, shape: str):
    """The mesh in its unit sphere: a solid of `SOLIDS`, or develop.NAME.npz of the folder."""
    from becalm.points import mesh as meshes

    mesh = SOLIDS[shape]() if shape in SOLIDS else meshes.load(folder / f"develop.{shape}.npz")
    return meshes.unit_sphere(mesh)


def pair(mesh, shape: str, cell: Cell, kept: Path) -> Pair:
    """The clean cloud, drawn once and kept as a file, and its noisy twin."""
    from becalm.points.metrics import unit_sphere
    from becalm.points.noise import uniform_outliers

    file = kept / f"{shape}.{cell.points}{'' if cell.density == 'even' else '.uneven'}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, (even if cell.density == "even" else uneven)(mesh, cell.points))
    clean = np.load(file)
    sigma = cell.noise * unit_sphere(clean)[1]
    seed = [SEED, round(1e5 * cell.noise), cell.points]
    rng = np.random.default_rng(seed if cell.plain else [*seed, crc32(f"{cell.kind} {cell.density}".encode())])
    noisy = clean + displacements(clean, sigma, cell.kind, rng)
    return Pair(np.concatenate([noisy, uniform_outliers(noisy, round(cell.outliers * len(noisy)), rng)]), clean, sigma)


def even(mesh, points: int) -> np.ndarray:
    """A Poisson-disk sample [points, 3]."""
    from becalm.points.mesh import poisson_disk

    return poisson_disk(mesh, points, np.random.default_rng(SEED)).points


def uneven(mesh, points: int) -> np.ndarray:
    """Of a Poisson-disk sample three times as large, `points` drawn in proportion to |cos| of the angle of sight.

    The sensor stands outside, and sees through the body: what lies behind is thinned by the same rule.
    """
    from becalm.points.mesh import poisson_disk
    from becalm.points.noise import random_viewpoint

    rng = np.random.default_rng([SEED, points])
    places, normals = poisson_disk(mesh, 3 * points, rng)
    sight = places - random_viewpoint(places, rng)
    cosine = np.abs(np.einsum("nc,nc->n", sight, normals)) / np.linalg.norm(sight, axis=1) + 1e-6
    return places[np.sort(rng.choice(len(places), points, replace=False, p=cosine / cosine.sum()))]


def displacements(clean: np.ndarray, sigma: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Noise [n, 3] of a kind with E|d|² = 3σ² over the cloud.

    `range_dependent` is Gaussian in all directions, its σ growing with the square of the range from a place outside.
    """
    from becalm.points.noise import LAWS, VARIANCE_FACTOR, gaussian, random_viewpoint, range_dependent

    if kind != "range_dependent":
        return LAWS[kind](clean, sigma / np.sqrt(VARIANCE_FACTOR[kind]), rng)
    level = range_dependent(clean, 1.0, random_viewpoint(clean, rng), 1.0)
    return gaussian(clean, sigma * level / np.sqrt((level**2).mean()), rng)


def prism(polygon: list[tuple[float, float]], triangles: list[tuple[int, int, int]], height: float):
    """A counter-clockwise polygon, cut into triangles (of its corners), extruded along z: a closed mesh, normals outwards."""
    from becalm.points.mesh import Mesh

    k, flat, cap = len(polygon), np.array(polygon, dtype=np.float64), np.array(triangles)
    here = np.arange(k)
    there = (here + 1) % k
    sides = np.concatenate([np.stack([here, there, there + k], 1), np.stack([here, there + k, here + k], 1)])
    vertices = np.concatenate([np.c_[flat, np.zeros(k)], np.c_[flat, np.full(k, height)]])
    return Mesh(vertices, np.concatenate([cap[:, ::-1], cap + k, sides]))


def cube():
    """Twelve edges of 90 degrees."""
    return prism([(0, 0), (1, 0), (1, 1), (0, 1)], [(0, 1, 2), (0, 2, 3)], 1.0)


def angle():
    """An L, extruded: a hollow edge among the others, and walls half as thick as they are wide."""
    corners = [(0, 0), (1, 0), (1, 0.5), (0.5, 0.5), (0.5, 1), (0, 1)]
    return prism(corners, [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5)], 1.0)


def steps():
    """Three stairs, extruded: hollow and full edges close to each other."""
    corners = [(0, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2), (1, 3), (0, 3)]
    return prism(corners, [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 5, 6), (0, 6, 7)], 2.0)


def hexagon():
    """A flat nut without its hole: six edges of 60 degrees, twelve of 90."""
    turn = np.arange(6) * np.pi / 3
    corners = [(float(np.cos(a)), float(np.sin(a))) for a in turn]
    return prism(corners, [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5)], 0.8)


SOLIDS = {"cube": cube, "angle": angle, "steps": steps, "hexagon": hexagon}
"""Shapes with sharp edges, beside the meshes."""
