"""Random procedural surfaces for training: smooth, sharp-edged, thin and open ones."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from becalm.points.elimination import eliminate_samples
from becalm.points.noise import unit_directions
from becalm.shapes.charts import Chart, SurfaceSampler, chart_sampler, restricted_sampler, union_sampler
from becalm.shapes.implicit import gyroid, level_set_sampler, metaballs
from becalm.shapes.solids import Solid, ball, cuboid, frustum, leaves_points, pose, prism, surface_sampler

Rng = np.random.Generator


class Surface(NamedTuple):
    """Evenly spaced points exactly on a surface, in the unit sphere about the centre of their bounding box."""

    points: np.ndarray
    """[n, 3] float64."""
    normals: np.ndarray
    """[n, 3] unit normals."""
    kind: str
    """The family's name in `FAMILIES`."""


def random_surface(rng: Rng, n: int, kind: str | None = None) -> Surface:
    """n even points of a random member of a family (any, where `kind` is not given), normalised to the unit sphere."""
    kind, draw = random_surface_sampler(rng, kind)
    points, normals = draw(3 * n, rng)
    kept = eliminate_samples(points, n)
    points, normals = points[kept], normals[kept]
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    return Surface(points / np.linalg.norm(points, axis=1).max(), normals, kind)


def random_surface_sampler(rng: Rng, kind: str | None = None) -> tuple[str, SurfaceSampler]:
    """A random member of a family: the family's name and a sampler of the surface."""
    kind = str(rng.choice(list(FAMILIES))) if kind is None else kind
    return kind, FAMILIES[kind](rng)


def rotation(rng: Rng) -> np.ndarray:
    """A uniformly random rotation [3, 3]."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


# Smooth


def sphere_chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The unit sphere: heights uniform in v, so areas are equal (Archimedes)."""
    z = 2 * v - 1
    wide = np.sqrt(np.maximum(1 - z**2, 0))
    return np.stack([wide * np.cos(2 * np.pi * u), wide * np.sin(2 * np.pi * u), z], axis=1)


def bumpy_sphere(rng: Rng) -> SurfaceSampler:
    """An ellipsoid whose radius waves: x = a ∘ d (1 + Σ_j b_j sin(w_j·d + φ_j)) over directions d."""
    w = unit_directions(waves := int(rng.integers(3, 9)), rng) * rng.uniform(1.5, 9, (waves, 1))
    size = rng.uniform(0.2, 1.0) * rng.dirichlet(np.ones(waves)) * 0.6
    phase, axes = rng.uniform(0, 2 * np.pi, waves), rng.uniform(0.5, 1, 3)

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        d = sphere_chart(u, v)
        return axes * d * (1 + np.sin(d @ w.T + phase) @ size)[:, None]

    return chart_sampler(chart)


def superquadric(rng: Rng) -> SurfaceSampler:
    """|x/a|^(2/p), |y/b|^(2/p), |z/c|^(2/q): from pillows (p < 1) to spindles (p > 1) (Barr 1981)."""
    p, q = rng.uniform(0.35, 1.6, 2)
    axes = rng.uniform(0.4, 1, 3)

    def power(x: np.ndarray, e: float) -> np.ndarray:
        return np.sign(x) * np.abs(x) ** e

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        a, b = 2 * np.pi * u, np.pi * (v - 0.5)
        flat = power(np.cos(b), q)
        return axes * np.stack([flat * power(np.cos(a), p), flat * power(np.sin(a), p), power(np.sin(b), q)], axis=1)

    return chart_sampler(chart, 240)


def ring(rng: Rng) -> SurfaceSampler:
    """A torus whose circle waves up and down and whose tube swells."""
    lobes, up, swell = rng.integers(1, 5, 2), rng.uniform(0, 0.3), rng.uniform(0, 0.35)
    tube, phase = rng.uniform(0.12, 0.4), rng.uniform(0, 2 * np.pi, 2)

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        a, b = 2 * np.pi * u, 2 * np.pi * v
        radius = tube * (1 + swell * np.sin(lobes[0] * a + phase[0]))
        out = 1 + radius * np.cos(b)
        return np.stack(
            [out * np.cos(a), out * np.sin(a), radius * np.sin(b) + up * np.sin(lobes[1] * a + phase[1])], 1
        )

    return chart_sampler(chart)


def revolution(rng: Rng) -> SurfaceSampler:
    """A vase: a wavy profile turned about z, closed or open at its ends."""
    sizes, phases = rng.uniform(0, 0.3, 4) / np.arange(1, 5), rng.uniform(0, 2 * np.pi, 4)
    closed, length = rng.uniform(0, 1) < 0.5, rng.uniform(0.8, 3)

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        wave = np.sin(np.outer(v, 2 * np.pi * np.arange(1, 5)) + phases) @ sizes
        radius = (0.6 + wave).clip(0.08)
        radius = radius * np.sqrt(np.maximum(4 * v * (1 - v), 0)) if closed else radius
        a = 2 * np.pi * u
        return np.stack([radius * np.cos(a), radius * np.sin(a), length * (v - 0.5)], axis=1)

    return chart_sampler(chart)


def height_field(rng: Rng) -> SurfaceSampler:
    """A piece of terrain: a sum of sinusoids over a rectangle, smaller as they get shorter; its border is open."""
    waves = int(rng.integers(2, 12))
    k = rng.standard_normal((waves, 2)) * rng.uniform(1, 7, (waves, 1))
    size = rng.uniform(0, 0.5, waves) / (1 + np.linalg.norm(k, axis=1))
    phase, aspect = rng.uniform(0, 2 * np.pi, waves), rng.uniform(0.4, 1)

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        flat = np.stack([2 * u - 1, aspect * (2 * v - 1)], axis=1)
        return np.c_[flat, np.sin(flat @ k.T + phase) @ size]

    return chart_sampler(chart)


def blobs(rng: Rng) -> SurfaceSampler:
    """Metaballs: overlapping blobs that blend into each other."""
    radii = rng.uniform(0.18, 0.5, count := int(rng.integers(2, 8)))
    steps = unit_directions(count, rng) * 1.3 * radii[:, None]
    centres = np.cumsum(steps, axis=0) if rng.random() < 0.5 else rng.uniform(-0.6, 0.6, (count, 3))
    reach = 2 * radii[:, None] + 0.05
    return level_set_sampler(metaballs(centres, radii), (centres - reach).min(axis=0), (centres + reach).max(axis=0))


def labyrinth(rng: Rng) -> SurfaceSampler:
    """A piece of a gyroid: handles and saddles everywhere, open where the box cuts it."""
    field = gyroid(rng.uniform(2.5, 5), rng.uniform(0, 2 * np.pi, 3), rng.uniform(-0.8, 0.8))
    return level_set_sampler(field, -np.ones(3), np.ones(3))


# Sharp edges


def polygon(rng: Rng, corners: int | None = None) -> np.ndarray:
    """A random star-shaped polygon [k, 2] about 0, counter-clockwise, often not convex."""
    k = int(rng.integers(3, 10)) if corners is None else corners
    angle = 2 * np.pi * (np.arange(k) + rng.uniform(-0.3, 0.3, k)) / k
    radius = rng.uniform(0.45, 1, k) if rng.random() < 0.6 else np.ones(k)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def stairs(rng: Rng) -> Solid:
    """A flight of steps, as an extruded polygon."""
    count, rise = int(rng.integers(2, 8)), rng.uniform(0.5, 1.2)
    run = np.arange(count + 1) / count
    tread = np.stack([np.repeat(run, 2)[:-1], rise * np.repeat(run, 2)[1:]], axis=1)
    outline = np.concatenate([tread, [[1, -0.15], [0, -0.15]]])[::-1]
    return prism(outline - [0.5, rise / 2], float(rng.uniform(0.4, 1.5)))


def primitive(rng: Rng) -> Solid:
    """A box, prism, cylinder, cone or ball about as large as the unit ball."""
    sides = rng.uniform(0.4, 1.6, 3)
    bottom, top = rng.uniform(0.2, 0.8, 2)
    return [
        lambda: cuboid(sides),
        lambda: prism(0.8 * polygon(rng), float(sides[2])),
        lambda: frustum(bottom, bottom, float(sides[2])),
        lambda: frustum(bottom, top if rng.random() < 0.5 else 0.0, float(sides[2])),
        lambda: ball(bottom),
        lambda: stairs(rng),
    ][rng.integers(6)]()


def solid(rng: Rng) -> SurfaceSampler:
    """One primitive."""
    return primitive(rng).draw


def assembly(rng: Rng) -> SurfaceSampler:
    """The union of one to four primitives, at random angles or along the axes, less up to three others."""
    askew = rng.random() < 0.5

    def one(spread: float) -> Solid:
        turn = rotation(rng) if askew else np.eye(3)[rng.permutation(3)]
        return pose(primitive(rng), turn, rng.uniform(-spread, spread, 3))

    solids = [one(0.6) for _ in range(rng.integers(1, 5))]
    sampler = surface_sampler(solids, [one(0.9) for _ in range(rng.integers(0, 4))])
    return sampler if leaves_points(sampler) else assembly(rng)


def drilled_block(rng: Rng) -> SurfaceSampler:
    """A block with holes through it and bosses on it, like a machined part."""
    block = prism(polygon(rng) if rng.random() < 0.5 else polygon(rng, 4), height := float(rng.uniform(0.2, 0.9)))
    places = np.c_[rng.uniform(-0.5, 0.5, (6, 2)), np.zeros(6)]
    radii = rng.uniform(0.05, 0.22, 6)
    cut = rng.integers(1, 4)
    holes = [pose(frustum(r, r, 3 * height), np.eye(3), p) for r, p in zip(radii[:cut], places, strict=False)]
    heights = height * rng.uniform(1.1, 2.5, 6)
    some = slice(3, 3 + rng.integers(0, 4))
    bosses = [
        pose(frustum(r, r, h), np.eye(3), p) for r, h, p in zip(radii[some], heights[some], places[some], strict=True)
    ]
    return surface_sampler([block, *bosses], holes)


# Thin parts


def plates(rng: Rng) -> SurfaceSampler:
    """Thin plates that intersect at random angles."""
    thin = rng.uniform(0.01, 0.08)
    parts = [
        pose(cuboid(np.array([*rng.uniform(0.6, 2, 2), thin])), rotation(rng), rng.uniform(-0.3, 0.3, 3))
        for _ in range(rng.integers(1, 5))
    ]
    return surface_sampler(parts, [])


def fins(rng: Rng) -> SurfaceSampler:
    """A heat sink: parallel thin fins on a base."""
    count, thin, height = int(rng.integers(3, 9)), rng.uniform(0.015, 0.08), rng.uniform(0.3, 1)
    base = cuboid(np.array([2.0, rng.uniform(0.5, 2), 0.2]))
    depth = rng.uniform(0.5, 1.7)
    places = np.linspace(-0.9, 0.9, count) + rng.uniform(-0.02, 0.02, count)
    fin = cuboid(np.array([thin, depth, height]))
    return surface_sampler([base, *(pose(fin, np.eye(3), np.array([x, 0, height / 2 + 0.05])) for x in places)], [])


def wire_chart(rng: Rng, thick: float) -> Chart:
    """A tube about a wavy curve along x, with cross-sections perpendicular to the curve."""
    size, phase = rng.uniform(0, 0.25, (2, 3)) / np.arange(1, 4), rng.uniform(0, 2 * np.pi, (2, 3))
    start, k = rng.uniform(-0.6, 0.6, 2), np.pi * np.arange(1, 4)

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        wave = np.outer(2 * u - 1, k)
        y, z = (np.sin(wave + phase[c]) @ size[c] + start[c] for c in (0, 1))
        dy, dz = (np.cos(wave + phase[c]) @ (k * size[c]) for c in (0, 1))
        forth = np.stack([np.ones_like(u), dy, dz], axis=1)
        side = np.stack([-dy, np.ones_like(u), np.zeros_like(u)], axis=1) / np.sqrt(1 + dy**2)[:, None]
        up = np.cross(forth, side)
        up /= np.linalg.norm(up, axis=1, keepdims=True)
        a = 2 * np.pi * v[:, None]
        return np.stack([2 * u - 1, y, z], axis=1) + thick * (np.cos(a) * side + np.sin(a) * up)

    return chart


def wires(rng: Rng) -> SurfaceSampler:
    """Thin tubes along wavy curves, open at their ends."""
    thick = rng.uniform(0.015, 0.12, int(rng.integers(1, 6)))
    return union_sampler([chart_sampler(wire_chart(rng, float(t)), 100) for t in thick], list(thick))


# Open borders


def cut_open(rng: Rng) -> SurfaceSampler:
    """A surface of another family, cut by planes and with round holes: with open borders."""
    kinds = [k for k in FAMILIES if k != "opened"]
    draw = FAMILIES[str(rng.choice(kinds))](rng)
    some = draw(400, rng).points
    normal = unit_directions(int(rng.integers(0, 3)), rng)
    offset = np.quantile(some @ normal.T, 0.7, axis=0)
    centre = some[rng.integers(400, size=rng.integers(1, 4))]
    radius = np.linalg.norm(np.ptp(some, axis=0)) * rng.uniform(0.04, 0.15, len(centre))

    def keep(points: np.ndarray) -> np.ndarray:
        away = ((points[:, None] - centre) ** 2).sum(-1) > radius**2
        return np.all(points @ normal.T < offset, axis=1) & np.all(away, axis=1)

    return restricted_sampler(draw, keep)


FAMILIES: dict[str, Callable[[Rng], SurfaceSampler]] = {
    "bumpy_sphere": bumpy_sphere,
    "superquadric": superquadric,
    "ring": ring,
    "revolution": revolution,
    "height_field": height_field,
    "blobs": blobs,
    "labyrinth": labyrinth,
    "solid": solid,
    "assembly": assembly,
    "drilled": drilled_block,
    "plates": plates,
    "fins": fins,
    "wires": wires,
    "opened": cut_open,
}
