"""Parametric surfaces over the unit square, and samplers of points on surfaces, uniform by area."""

from collections.abc import Callable

import numpy as np

from becalm.points.mesh import Samples

Chart = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(u [n], v [n]) in the unit square -> points [n, 3]."""
SurfaceSampler = Callable[[int, np.random.Generator], Samples]
"""(n, rng) -> n points of a surface, uniform by area, with normals."""
STEP = 1e-5


def chart_sampler(chart: Chart, cells: int = 160) -> SurfaceSampler:
    """A sampler of a chart: a cell of a grid with probability by area, then uniform in it; points are exactly on the surface.

    Within a cell the area element is taken as constant, so the density is right to the order of the cell's size.
    """
    edge = np.linspace(0, 1, cells + 1)
    corner = chart(np.repeat(edge, cells + 1), np.tile(edge, cells + 1)).reshape(cells + 1, cells + 1, 3)
    diagonals = corner[1:, 1:] - corner[:-1, :-1], corner[1:, :-1] - corner[:-1, 1:]
    area = np.linalg.norm(np.cross(*diagonals), axis=2).ravel() / 2
    total = np.cumsum(area)

    def draw(n: int, rng: np.random.Generator) -> Samples:
        cell = np.searchsorted(total, rng.random(n) * total[-1], side="right")
        u, v = (cell // cells + rng.random(n)) / cells, (cell % cells + rng.random(n)) / cells
        points = chart(u, v)
        return Samples(points, _normals(chart, u, v, points))

    return draw


def _normals(chart: Chart, u: np.ndarray, v: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Unit normals by one-sided differences, inwards at the border of the square."""
    step = np.where(u > 0.5, -STEP, STEP), np.where(v > 0.5, -STEP, STEP)
    along_u = (chart(u + step[0], v) - points) / step[0][:, None]
    along_v = (chart(u, v + step[1]) - points) / step[1][:, None]
    normal = np.cross(along_u, along_v)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)


def union_sampler(draws: list[SurfaceSampler], areas: list[float]) -> SurfaceSampler:
    """A sampler of several surfaces as one, each with its share of the points by area."""
    share = np.asarray(areas) / np.sum(areas)

    def draw(n: int, rng: np.random.Generator) -> Samples:
        parts = [d(int(m), rng) for d, m in zip(draws, rng.multinomial(n, share), strict=True)]
        return Samples(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))

    return draw


def restricted_sampler(
    draw: SurfaceSampler, keep: Callable[[np.ndarray], np.ndarray], batch: int = 4096
) -> SurfaceSampler:
    """A sampler of the part of a surface where `keep(points [n, 3])` is true; raises ValueError where almost no point is."""

    def sampler(n: int, rng: np.random.Generator) -> Samples:
        parts, left, size = [], n, max(batch, n)
        for _ in range(60):
            points, normals = draw(size, rng)
            chosen = np.flatnonzero(keep(points))
            if len(chosen) > left:  # not the first ones: a draw may hold its parts one after the other
                chosen = rng.choice(chosen, left, replace=False)
            parts.append(Samples(points[chosen], normals[chosen]))
            left -= len(chosen)
            if left == 0:
                return Samples(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))
            size = int(np.clip(1.1 * left * size / max(len(chosen), 1), batch, 8 * n + batch))
        raise ValueError(f"keep: left {n - left} of the {n} points asked for")

    return sampler
