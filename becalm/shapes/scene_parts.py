"""Parts of scenes to scan: surfaces, and what is no surface: leaves, grass, wires."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points import mesh as meshes_
from becalm.points.noise import unit_directions

Rng = np.random.Generator


class ScenePoints(NamedTuple):
    """Places that a ray can meet; rows belong together."""

    points: np.ndarray
    """[n, 3] float64."""
    normals: np.ndarray
    """[n, 3] unit normals; zero where there is no surface."""
    surface: np.ndarray
    """[n] bool: on a surface; False for leaves, grass and wires."""


DrawScene = Callable[[int, Rng], ScenePoints]
"""(n, rng) -> about n points of a part of a scene."""

Clip = Callable[[np.ndarray, float], tuple[DrawScene, float]]
"""(centre, radius) -> a draw of what lies near a ball, and its share of the part's area."""


class Part(NamedTuple):
    """A part of a scene."""

    draw: DrawScene
    """Draws points of all of it."""
    area: float
    """Its area (of leaves and wires: of the area that their share of the points would cover)."""
    clip: Clip | None = None
    """Draws points of a small place of it without drawing all of it, where that can be done."""


def of_surface(draw: Callable, turn: np.ndarray, scale: float, shift: np.ndarray, area: float) -> Part:
    """A surface turned, scaled and moved; where its draw can be clipped (`draw.clip`), so can the part."""

    def place_sampler(draw: Callable) -> DrawScene:
        def draw_points(n: int, rng: Rng) -> ScenePoints:
            points, normals = draw(n, rng)
            return ScenePoints(points @ turn.T * scale + shift, normals @ turn.T, np.ones(len(points), bool))

        return draw_points

    def clip(centre: np.ndarray, radius: float) -> tuple[DrawScene, float]:
        clipped, share = draw.clip(  # type: ignore[attr-defined]
            (centre - shift) @ turn / scale, radius / scale
        )
        return place_sampler(clipped), share

    return Part(place_sampler(draw), area, clip if hasattr(draw, "clip") else None)


def plane(rng: Rng, half: float, wave: float = 0.0) -> Callable:
    """A square z = 0 of side 2 `half`, with waves of height `wave`."""
    frequency, phase = rng.uniform(0.5, 3, (2, 2)) * np.pi / half, rng.uniform(0, 6.3, 2)

    def draw(n: int, rng: Rng, low: np.ndarray | float = -half, high: np.ndarray | float = half):
        xy = rng.uniform(low, high, (n, 2))
        angle = xy @ frequency.T + phase
        z = wave * np.sin(angle).sum(1)
        slope = wave * np.cos(angle) @ frequency
        normal = np.c_[-slope, np.ones(n)]
        return np.c_[xy, z], normal / np.linalg.norm(normal, axis=1, keepdims=True)

    def clip(centre: np.ndarray, radius: float):
        low, high = (centre[:2] - radius).clip(-half, half), (centre[:2] + radius).clip(-half, half)
        return lambda n, rng: draw(n, rng, low, high), float(np.prod(high - low)) / (2 * half) ** 2

    draw.clip = clip  # type: ignore[attr-defined]
    return draw


def volume_points(points: np.ndarray) -> ScenePoints:
    return ScenePoints(points, np.zeros_like(points), np.zeros(len(points), bool))


def tree(rng: Rng) -> DrawScene:
    """Leaves in an ellipsoidal crown, clumped as leaves are, over the ground."""
    axes = rng.uniform(0.08, 0.35, 3)
    centre = np.r_[rng.uniform(-0.9, 0.9, 2), axes[2] * rng.uniform(0.6, 2.2)]
    clumps = unit_directions(count := int(rng.integers(5, 60)), rng) * np.cbrt(rng.random((count, 1)))
    thick = rng.uniform(0.1, 0.5)

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        spot = clumps[rng.integers(len(clumps), size=n)] + thick * rng.standard_normal((n, 3))
        return volume_points(spot * axes + centre)

    return draw_points


def grass(rng: Rng) -> DrawScene:
    """Blades over a part of the ground, exponential in height."""
    middle, size, height = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.2, 1.0), rng.uniform(0.005, 0.06)

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        xy = np.clip(middle + rng.uniform(-size, size, (n, 2)), -1, 1)
        return volume_points(np.c_[xy, height * rng.exponential(size=n)])

    return draw_points


def wire(rng: Rng) -> DrawScene:
    """A cable that hangs between two places: a parabola, as a catenary with little sag is."""
    ends = np.c_[rng.uniform(-1, 1, (2, 2)), rng.uniform(0.15, 0.8, 2)]
    sag, thick = rng.uniform(0, 0.12), rng.uniform(0.0, 0.002)

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        u = rng.random(n)[:, None]
        points = ends[0] * (1 - u) + ends[1] * u - np.array([0, 0, 4 * sag]) * u * (1 - u)
        return volume_points(points + thick * rng.standard_normal((n, 3)))

    return draw_points


def pole(height: float, thick: float, place: np.ndarray) -> DrawScene:
    """An upright cylinder of radius `thick`."""

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        angle, z = rng.uniform(0, 2 * np.pi, n), rng.uniform(0, height, n)
        normal = np.c_[np.cos(angle), np.sin(angle), np.zeros(n)]
        return ScenePoints(normal * thick + np.c_[np.zeros((n, 2)), z] + place, normal, np.ones(n, bool))

    return draw_points


def of_mesh(mesh: meshes_.Mesh) -> Callable:
    """A draw of a mesh that can be clipped to the triangles near a ball."""
    corners = meshes_.triangles(mesh)
    middle = corners.mean(1)
    reach = np.linalg.norm(corners - middle[:, None], axis=2).max(1)
    area = meshes_.normals_and_areas(mesh)[1]

    def draw(n: int, rng: Rng):
        return meshes_.sample(mesh, n, rng)

    def clip(centre: np.ndarray, radius: float):
        near = np.linalg.norm(middle - centre, axis=1) < radius + reach
        if not area[near].sum():
            return draw, 0.0
        part = meshes_.Mesh(mesh.vertices, mesh.faces[near])
        return (lambda n, rng: meshes_.sample(part, n, rng)), float(area[near].sum() / area.sum())

    draw.clip = clip  # type: ignore[attr-defined]
    return draw


@lru_cache(maxsize=64)
def load_unit_mesh(path: Path) -> meshes_.Mesh:
    """A mesh in its unit sphere, kept in memory."""
    return meshes_.unit_sphere(meshes_.load(path))


def thin_volumes(places: ScenePoints, rng: Rng) -> ScenePoints:
    """The places with 2 to 100 % of the leaves, grass and wires: where some are left out, rays pass through to what is behind."""
    share = np.exp(rng.uniform(np.log(0.02), 0))
    kept = places.surface | (rng.random(len(places.surface)) < share)
    return ScenePoints(*(rows[kept] for rows in places))
