"""Implicit surfaces {f = 0} of a smooth function, and samplers of points on them, uniform by area."""

from collections.abc import Callable

import numpy as np

from becalm.points.mesh import Samples
from becalm.shapes.charts import SurfaceSampler

Field = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""points [n, 3] -> values [n] and gradients [n, 3]."""


def level_set_sampler(
    field: Field, low: np.ndarray, high: np.ndarray, cells: int = 40, steps: int = 6
) -> SurfaceSampler:
    """A sampler of {f = 0} inside the box low..high: uniform points of a thin shell, projected along the gradient.

    Each point descends by Newton steps x ← x − f ∇f / |∇f|². Of those that started within half a cell of where they
    end, the density on the surface is uniform to second order in shell thickness × curvature: the two sides of the
    shell err oppositely. Points that leave the box or do not converge (|f| > 10⁻⁹ |∇f|) are dropped.
    """
    side = float((high - low).max()) / cells
    counts = np.ceil((high - low) / side).astype(int)
    corners = low + side * np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3)
    value, slope = field(corners + side / 2)
    near = corners[np.abs(value) < 2.2 * side * np.linalg.norm(slope, axis=1) + 1e-12]

    def draw(n: int, rng: np.random.Generator) -> Samples:
        points, normals, share = np.empty((0, 3)), np.empty((0, 3)), 0.2
        for _ in range(40):
            if len(points) >= n:
                return Samples(points[:n], normals[:n])
            start = near[rng.integers(len(near), size=int((n - len(points)) / share * 1.1) + 64)]
            start = start + side * rng.random(start.shape)
            value, slope = field(start)
            start = start[np.abs(value) < 0.8 * side * np.linalg.norm(slope, axis=1)]
            end, normal, good = _project(field, start, steps)
            good &= np.linalg.norm(end - start, axis=1) < side / 2
            good &= np.all((end > low) & (end < high), axis=1)
            points, normals = np.concatenate([points, end[good]]), np.concatenate([normals, normal[good]])
            share = max(0.02, min(0.9, good.mean() * len(start) / max(len(value), 1)))
        raise ValueError(f"field: {len(points)} of {n} points found on its zero set")

    return draw


def _project(field: Field, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [n, 3] on the level set, their normals (in the direction of increasing f) and which of them converged."""
    x = start
    for _ in range(steps):
        value, slope = field(x)
        x = x - (value / np.maximum(np.einsum("nc,nc->n", slope, slope), 1e-12))[:, None] * slope
    value, slope = field(x)
    length = np.linalg.norm(slope, axis=1)
    return x, slope / np.maximum(length, 1e-300)[:, None], np.abs(value) < 1e-9 * length


def metaballs(centres: np.ndarray, radii: np.ndarray) -> Field:
    """f = 1 − Σ_j exp(1 − |x − c_j|²/r_j²): blobs of radii [k] about centres [k, 3] that blend into each other."""

    def field(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squared = (x**2).sum(1)[:, None] - 2 * x @ centres.T + (centres**2).sum(1)
        bump = np.exp(1 - squared / radii**2)
        pull = 2 * bump / radii**2
        return 1 - bump.sum(1), x * pull.sum(1)[:, None] - pull @ centres

    return field


def gyroid(frequency: float, phase: np.ndarray, level: float) -> Field:
    """f = Σ sin(ωx_c + φ_c) cos(ωx_{c+1} + φ_{c+1}) − level: a labyrinth of handles."""

    def field(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sin, cos = np.sin(frequency * x + phase), np.cos(frequency * x + phase)
        value = (sin * np.roll(cos, -1, axis=1)).sum(1) - level
        return value, frequency * (cos * np.roll(cos, -1, axis=1) - np.roll(sin, 1, axis=1) * sin)

    return field
