"""Scenes to scan: objects, table tops, rooms, and terrain with trees, grass, wires and poles."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points import mesh as meshes_
from becalm.points.noise import unit_directions
from becalm.shapes.random_surfaces import height_field, primitive, random_surface_sampler, rotation
from becalm.shapes.solids import surface_sampler

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


class Scene(NamedTuple):
    """A scene about the origin."""

    parts: list[Part]
    """What it is made of."""
    radius: float
    """Of a ball that holds it."""
    upright: bool
    """Seen from above or aside, as terrain is."""


def random_scene(rng: Rng, surface: Callable[[Rng], Callable]) -> Scene:
    """A random scene; `surface(rng)` gives the draw of a random object in its unit sphere."""
    kind = rng.choice(["object", "table", "room", "terrain"], p=[0.3, 0.25, 0.2, 0.25])
    return {"object": lone_object, "table": table_top, "room": room, "terrain": terrain}[str(kind)](rng, surface)


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


def draw_near(
    scene: Scene, centre: np.ndarray, radius: float, count: int, rng: Rng, most: int = 600_000
) -> ScenePoints:
    """About `count` points of a scene within `radius` of `centre`, uniform by area.

    Each part is probed first: none is drawn of what is not there, and where more than `most` points of a part would have to be
    drawn, all parts get fewer. None where no probe finds anything.
    """
    found = []
    for draw, area, clip in scene.parts:
        draw, share = clip(centre, radius) if clip else (draw, 1.0)
        near = float((np.linalg.norm(draw(1000, rng).points - centre, axis=1) < radius).mean()) if share else 0.0
        found += [(draw, area * share, near)] if near else []
    if not found:
        return ScenePoints(np.empty((0, 3)), np.empty((0, 3)), np.empty(0, bool))
    total = sum(area * near for _, area, near in found)
    count = min(count, int(most * total / max((area for _, area, _ in found), default=1.0)))
    parts = []
    for draw, area, _ in found:
        points = draw(int(count * area / total) + 1, rng)  # of these a part is near
        near = np.linalg.norm(points.points - centre, axis=1) < radius
        parts.append(ScenePoints(*(rows[near] for rows in points)))
    return ScenePoints(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))


def random_place(scene: Scene, rng: Rng) -> np.ndarray:
    """A random point [3] of a scene, by area."""
    areas = np.array([part.area for part in scene.parts])
    return scene.parts[rng.choice(len(areas), p=areas / areas.sum())].draw(1, rng).points[0]


def radius_of_share(scene: Scene, centre: np.ndarray, share: float, rng: Rng) -> float:
    """The radius of the ball about `centre` that holds this share of a scene's area; below a thousandth it is as in a plane."""
    whole = sum(part.area for part in scene.parts)
    points = [part.draw(int(4000 * part.area / whole) + 20, rng).points for part in scene.parts]
    distance = np.sort(np.linalg.norm(np.concatenate(points) - centre, axis=1))
    rank = share * len(distance)
    if rank < 8:
        return float(distance[8] * np.sqrt(rank / 8))
    return float(distance[min(int(rank), len(distance) - 1)])


def lone_object(rng: Rng, surface: Callable) -> Scene:
    """One object, turned at random."""
    return Scene([of_surface(surface(rng), rotation(rng), 1.0, np.zeros(3), 1.0)], 1.0, False)


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


def table_top(rng: Rng, surface: Callable) -> Scene:
    """A plane with two to six objects on it."""
    parts = [of_surface(plane(rng, 1.0, rng.choice([0, 0, 0.01, 0.04])), np.eye(3), 1.0, np.zeros(3), 4.0)]
    for _ in range(rng.integers(2, 7)):
        size = rng.uniform(0.12, 0.45)
        place = np.r_[rng.uniform(-0.7, 0.7, 2), rng.uniform(0.3, 0.9) * size]
        parts.append(of_surface(surface(rng), rotation(rng), size, place, 12 * size**2))
    return Scene(parts, 1.3, True)


def room(rng: Rng, surface: Callable) -> Scene:
    """Two or three walls that meet, with objects before and through them."""
    whole = rotation(rng)
    turns = [np.eye(3), np.eye(3)[[2, 0, 1]], np.eye(3)[[1, 2, 0]]][: rng.integers(2, 4)]
    parts = []
    for turn in turns:
        wall = plane(rng, 1.0, float(rng.choice([0, 0, 0.005])))
        parts.append(of_surface(wall, whole @ turn, 1.0, whole @ turn @ np.array([0, 0, -1.0]), 4.0))
    for _ in range(rng.integers(0, 5)):
        size = rng.uniform(0.1, 0.5)
        place = whole @ rng.uniform(-1, 0.6, 3)
        parts.append(of_surface(surface(rng), rotation(rng), size, place, 12 * size**2))
    return Scene(parts, 1.8, False)


def terrain(rng: Rng, surface: Callable) -> Scene:
    """Ground with some of: trees, grass, wires, poles, houses."""
    ground = plane(rng, 1.0, float(rng.choice([0.0, 0.02, 0.06]))) if rng.random() < 0.6 else height_field(rng)
    parts = [of_surface(ground, np.eye(3), 1.0, np.zeros(3), 4.0)]
    for _ in range(rng.integers(0, 9) if rng.random() < 0.7 else 0):
        parts.append(Part(tree(rng), rng.uniform(0.2, 1.2)))
    if rng.random() < 0.4:
        parts.append(Part(grass(rng), rng.uniform(0.3, 2)))
    for _ in range(rng.integers(1, 5) if rng.random() < 0.4 else 0):
        parts.append(Part(wire(rng), 0.25))
    for _ in range(rng.integers(0, 4)):
        height, thick = rng.uniform(0.2, 0.8), rng.uniform(0.004, 0.05)
        parts.append(Part(pole(height, thick, np.r_[rng.uniform(-0.9, 0.9, 2), 0]), 20 * height * thick + 0.02))
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(0.1, 0.4)
        parts.append(of_surface(surface(rng), rotation(rng), size, np.r_[rng.uniform(-0.8, 0.8, 2), 0], 12 * size**2))

    return Scene(parts, 1.3, True)


def _volume(points: np.ndarray) -> ScenePoints:
    return ScenePoints(points, np.zeros_like(points), np.zeros(len(points), bool))


def tree(rng: Rng) -> DrawScene:
    """Leaves in an ellipsoidal crown, clumped as leaves are, over the ground."""
    axes = rng.uniform(0.08, 0.35, 3)
    centre = np.r_[rng.uniform(-0.9, 0.9, 2), axes[2] * rng.uniform(0.6, 2.2)]
    clumps = unit_directions(count := int(rng.integers(5, 60)), rng) * np.cbrt(rng.random((count, 1)))
    thick = rng.uniform(0.1, 0.5)

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        spot = clumps[rng.integers(len(clumps), size=n)] + thick * rng.standard_normal((n, 3))
        return _volume(spot * axes + centre)

    return draw_points


def grass(rng: Rng) -> DrawScene:
    """Blades over a part of the ground, exponential in height."""
    middle, size, height = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.2, 1.0), rng.uniform(0.005, 0.06)

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        xy = np.clip(middle + rng.uniform(-size, size, (n, 2)), -1, 1)
        return _volume(np.c_[xy, height * rng.exponential(size=n)])

    return draw_points


def wire(rng: Rng) -> DrawScene:
    """A cable that hangs between two places: a parabola, as a catenary with little sag is."""
    ends = np.c_[rng.uniform(-1, 1, (2, 2)), rng.uniform(0.15, 0.8, 2)]
    sag, thick = rng.uniform(0, 0.12), rng.uniform(0.0, 0.002)

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        u = rng.random(n)[:, None]
        points = ends[0] * (1 - u) + ends[1] * u - np.array([0, 0, 4 * sag]) * u * (1 - u)
        return _volume(points + thick * rng.standard_normal((n, 3)))

    return draw_points


def pole(height: float, thick: float, place: np.ndarray) -> DrawScene:
    """An upright cylinder of radius `thick`."""

    def draw_points(n: int, rng: Rng) -> ScenePoints:
        angle, z = rng.uniform(0, 2 * np.pi, n), rng.uniform(0, height, n)
        normal = np.c_[np.cos(angle), np.sin(angle), np.zeros(n)]
        return ScenePoints(normal * thick + np.c_[np.zeros((n, 2)), z] + place, normal, np.ones(n, bool))

    return draw_points


def object_source(meshes: tuple[Path, ...]) -> Callable[[Rng], Callable]:
    """A function that gives the draw of a random object in its unit sphere: a mesh of the files, a procedural surface, or a
    simple solid, as most things in rooms are."""

    def source(rng: Rng) -> Callable:
        kind = rng.random()
        if meshes and kind < 0.4:
            return of_mesh(_mesh(meshes[rng.integers(len(meshes))]))
        draw = surface_sampler([primitive(rng)], []) if kind > 0.7 else random_surface_sampler(rng)[1]
        some = draw(2000, rng).points
        middle = (some.min(0) + some.max(0)) / 2
        radius = float(np.linalg.norm(some - middle, axis=1).max())

        def unit(n: int, rng: Rng):
            points, normals = draw(n, rng)
            return (points - middle) / radius, normals

        return unit

    return source


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
def _mesh(path: Path) -> meshes_.Mesh:
    """A mesh in its unit sphere, kept in memory."""
    return meshes_.unit_sphere(meshes_.load(path))
