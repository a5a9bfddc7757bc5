"""Solids with flat and round faces, and their unions and differences: surfaces with sharp edges, sampled exactly."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from becalm.points.mesh import Samples
from becalm.points.noise import unit_directions
from becalm.shapes.charts import SurfaceSampler, restricted_sampler, union_sampler


@dataclass(frozen=True)
class Solid:
    """A body: a sampler of its surface, the surface's area, and a test for points strictly inside."""

    draw: SurfaceSampler
    """Uniform by area, normals outwards."""
    area: float
    """Of the whole surface."""
    inside: Callable[[np.ndarray], np.ndarray]
    """points [n, 3] -> bool [n]."""


def ball(radius: float) -> Solid:
    """The ball of a radius about 0."""

    def draw(n: int, rng: np.random.Generator) -> Samples:
        normals = unit_directions(n, rng)
        return Samples(radius * normals, normals)

    return Solid(draw, 4 * np.pi * radius**2, lambda p: np.einsum("nc,nc->n", p, p) < radius**2)


def frustum(bottom: float, top: float, height: float) -> Solid:
    """A cylinder or cone along z from −height/2 (radius `bottom`) to height/2 (radius `top`)."""
    slant = np.hypot(height, bottom - top)
    areas = np.pi * np.array([(bottom + top) * slant, bottom**2, top**2])

    def draw(n: int, rng: np.random.Generator) -> Samples:
        which = np.searchsorted(np.cumsum(areas), rng.random(n) * areas.sum() * (1 - 1e-15), side="right")
        angle, u = rng.uniform(0, 2 * np.pi, n), rng.random(n)
        wide = np.sqrt(bottom**2 + u * (top**2 - bottom**2))  # the side's density is proportional to its radius
        along = (wide - bottom) / (top - bottom) if top != bottom else u
        side = which == 0
        radius = np.where(side, wide, np.where(which == 1, bottom, top) * np.sqrt(u))
        z = height * np.where(side, along - 0.5, which - 1.5)
        out, up = np.where(side, height / slant, 0.0), np.where(side, (bottom - top) / slant, 2.0 * which - 3)
        cos, sin = np.cos(angle), np.sin(angle)
        return Samples(np.stack([radius * cos, radius * sin, z], 1), np.stack([out * cos, out * sin, up], 1))

    def inside(p: np.ndarray) -> np.ndarray:
        at = bottom + (top - bottom) * (p[:, 2] / height + 0.5)
        return (np.abs(p[:, 2]) < height / 2) & (np.hypot(p[:, 0], p[:, 1]) < at)

    return Solid(draw, float(areas.sum()), inside)


def prism(polygon: np.ndarray, height: float) -> Solid:
    """A simple polygon [k, 2], counter-clockwise, extruded along z from −height/2 to height/2."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    length = np.linalg.norm(edges, axis=1)
    outwards = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / length[:, None]
    cap = float(np.sum(polygon[:, 0] * edges[:, 1] - polygon[:, 1] * edges[:, 0])) / 2
    low, high = polygon.min(axis=0), polygon.max(axis=0)

    def side(n: int, rng: np.random.Generator) -> Samples:
        edge = rng.choice(len(length), n, p=length / length.sum())
        flat = polygon[edge] + rng.random((n, 1)) * edges[edge]
        return Samples(np.c_[flat, rng.uniform(-0.5, 0.5, n) * height], np.c_[outwards[edge], np.zeros(n)])

    def box(n: int, rng: np.random.Generator) -> Samples:
        up = rng.choice([-1.0, 1.0], n)
        return Samples(np.c_[rng.uniform(low, high, (n, 2)), up * height / 2], np.c_[np.zeros((n, 2)), up])

    caps = restricted_sampler(box, lambda p: within(p[:, :2], polygon))
    draw = union_sampler([side, caps], [float(length.sum()) * height, 2 * cap])
    area = float(length.sum()) * height + 2 * cap
    return Solid(draw, area, lambda p: (np.abs(p[:, 2]) < height / 2) & within(p[:, :2], polygon))


def within(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """bool [n]: points [n, 2] inside a polygon [k, 2], by the parity of the edges that a ray in direction +x crosses."""
    inside = np.zeros(len(points), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (points[:, 1] < y0) != (points[:, 1] < y1)
            inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) * ((x1 - x0) / (y1 - y0)))
    return inside


def cuboid(sides: np.ndarray) -> Solid:
    """A box about 0 with sides [3]."""
    x, y = sides[0] / 2, sides[1] / 2
    return prism(np.array([[-x, -y], [x, -y], [x, y], [-x, y]]), float(sides[2]))


def pose(solid: Solid, rotation: np.ndarray, shift: np.ndarray) -> Solid:
    """The solid turned by a rotation [3, 3] (rows are images: x ↦ R x) and then moved by `shift` [3]."""

    def draw(n: int, rng: np.random.Generator) -> Samples:
        points, normals = solid.draw(n, rng)
        return Samples(points @ rotation.T + shift, normals @ rotation.T)

    return replace(solid, draw=draw, inside=lambda p: solid.inside((p - shift) @ rotation))


def surface_sampler(solids: list[Solid], holes: list[Solid]) -> SurfaceSampler:
    """The surface of (union of `solids`) − (union of `holes`), for solids in general position (no shared faces)."""

    def draw(n: int, rng: np.random.Generator) -> Samples:
        points, normals = union_sampler([_numbered_sampler(s, i) for i, s in enumerate(solids + holes)], area)(n, rng)
        return Samples(points, normals)

    def keep(numbered: np.ndarray) -> np.ndarray:
        points, owner = numbered[:, :3], numbered[:, 3].astype(int)
        others = [s.inside(points) & (owner != i) for i, s in enumerate(solids + holes)]
        of_solid = owner < len(solids)
        in_solid, in_hole = np.any(others[: len(solids)], axis=0), np.zeros(len(points), bool)
        for other in others[len(solids) :]:
            in_hole |= other
        return np.where(of_solid, ~in_solid, in_solid) & ~in_hole

    area = [s.area for s in solids + holes]
    numbered = restricted_sampler(draw, keep)

    def sampler(n: int, rng: np.random.Generator) -> Samples:
        points, normals = numbered(n, rng)
        flip = np.where(points[:, 3:] < len(solids), 1.0, -1.0)
        return Samples(points[:, :3], flip * normals)

    return sampler


def leaves_points(sampler: SurfaceSampler) -> bool:
    """Whether the holes have not swallowed all of the solids, or almost."""
    try:
        sampler(4096, np.random.default_rng(0))
    except ValueError:
        return False
    return True


def _numbered_sampler(solid: Solid, number: int) -> SurfaceSampler:
    """A sampler of points [n, 4] of a solid; the fourth column is its number."""

    def draw(n: int, rng: np.random.Generator) -> Samples:
        points, normals = solid.draw(n, rng)
        return Samples(np.c_[points, np.full(n, float(number))], normals)

    return draw
