"""Scenes to scan: objects, table tops, rooms, fine relief, thin plates, and terrain with trees, grass, wires and poles."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.shapes.random_surfaces import height_field, primitive, random_surface_sampler, rotation
from becalm.shapes.relief import plate_faces, relief
from becalm.shapes.scene_parts import (
    Part,
    ScenePoints,
    grass,
    load_unit_mesh,
    of_mesh,
    of_surface,
    plane,
    pole,
    tree,
    wire,
)
from becalm.shapes.solids import surface_sampler

Rng = np.random.Generator


class Scene(NamedTuple):
    """A scene about the origin."""

    parts: list[Part]
    """What it is made of."""
    radius: float
    """Of a ball that holds it."""
    upright: bool
    """Seen from above or aside, as terrain is."""
    total: tuple[float, float] = (100_000, 20_000_000)
    """Points of a scan of all of it, least and most."""
    around: bool = False
    """Scanned from all sides."""


def random_scene(rng: Rng, surface: Callable[[Rng], Callable]) -> Scene:
    """A random scene; `surface(rng)` gives the draw of a random object in its unit sphere."""
    kinds = {lone_object: 0.15, table_top: 0.15, room: 0.12, terrain: 0.3, fine_detail: 0.2, thin_plate: 0.08}
    return list(kinds)[rng.choice(len(kinds), p=list(kinds.values()))](rng, surface)


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


def fine_detail(rng: Rng, surface: Callable) -> Scene:
    """A coin, an inscription, a hide: relief of a few spacings."""
    return Scene([of_surface(relief(rng), rotation(rng), 1.0, np.zeros(3), 4.0)], 1.5, False, (4_000, 40_000))


def thin_plate(rng: Rng, surface: Callable) -> Scene:
    """The two faces of a plate whose thickness is a few spacings."""
    turn = rotation(rng)
    parts = [of_surface(face, turn, 1.0, np.zeros(3), 4.0) for face in plate_faces(rng)]
    return Scene(parts, 1.5, False, (8_000, 40_000), around=True)


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
    for _ in range(rng.integers(*((0, 1), (1, 9), (10, 40))[rng.integers(3)])):
        parts.append(Part(tree(rng), rng.uniform(0.3, 3)))
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
    return Scene(parts, 1.3, True, (10_000, 2_000_000))


def object_source(meshes: tuple[Path, ...]) -> Callable[[Rng], Callable]:
    """A function that gives the draw of a random object in its unit sphere: a mesh of the files, a procedural surface, or a
    simple solid, as most things in rooms are."""

    def source(rng: Rng) -> Callable:
        kind = rng.random()
        if meshes and kind < 0.4:
            return of_mesh(load_unit_mesh(meshes[rng.integers(len(meshes))]))
        draw = surface_sampler([primitive(rng)], []) if kind > 0.7 else random_surface_sampler(rng)[1]
        some = draw(2000, rng).points
        middle = (some.min(0) + some.max(0)) / 2
        radius = float(np.linalg.norm(some - middle, axis=1).max())

        def unit(n: int, rng: Rng):
            points, normals = draw(n, rng)
            return (points - middle) / radius, normals

        return unit

    return source
