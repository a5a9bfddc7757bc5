"""Surfaces of fine detail, as scanned coins, inscriptions, hides and thin plates have it: height fields over a bent square."""

from collections.abc import Callable

import numpy as np
from scipy.interpolate import RectBivariateSpline

from becalm.shapes.charts import SurfaceSampler, chart_sampler

Rng = np.random.Generator
Height = Callable[[np.ndarray], np.ndarray]
"""Places [n, 2] in the square from −1 to 1 to heights [n]."""

WIDTHS, HEIGHTS = (0.03, 0.4), (0.003, 0.08)
"""Least and greatest width and height of a detail; drawn evenly by their logarithms."""


def relief(rng: Rng) -> SurfaceSampler:
    """A bent square with one to three kinds of detail of random width and height, some of it on a part of the square only."""
    details = [random_detail(rng) for _ in range(rng.integers(1, 4))]
    edge = np.linspace(-1, 1, 257)
    places = np.stack(np.meshgrid(edge, edge, indexing="ij"), -1).reshape(-1, 2)
    fine = RectBivariateSpline(edge, edge, sum(detail(places) for detail in details).reshape(257, 257))  # type: ignore
    bent = random_bend(rng) if rng.random() < 0.7 else np.zeros(3)
    return height_sampler(lambda xy: quadratic(xy, bent) + fine.ev(*xy.T))


def plate_faces(rng: Rng) -> tuple[SurfaceSampler, SurfaceSampler]:
    """The two faces of a bent plate, .03 to .2 high over a square of side 2."""
    half, bent = float(np.exp(rng.uniform(np.log(0.015), np.log(0.1)))), random_bend(rng)
    return tuple(height_sampler(lambda xy, s=s: quadratic(xy, bent) + s * half) for s in (1, -1))  # type: ignore


def height_sampler(height: Height) -> SurfaceSampler:
    """Draws points and normals of a height field over the square, uniform by area."""

    def chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        xy = 2 * np.stack([u, v], 1) - 1
        return np.c_[xy, height(xy)]

    return chart_sampler(chart)


def random_bend(rng: Rng) -> np.ndarray:
    """Random coefficients [3] of `quadratic`."""
    return rng.uniform(-0.3, 0.3, 3)


def quadratic(xy: np.ndarray, bent: np.ndarray) -> np.ndarray:
    """The height [n] b₀x² + b₁xy + b₂y²."""
    x, y = xy.T
    return bent[0] * x * x + bent[1] * x * y + bent[2] * y * y


def random_detail(rng: Rng) -> Height:
    """Waves, bumps, rims or strokes, on the whole square or within a disc."""
    width, high = (float(np.exp(rng.uniform(*np.log(ends)))) for ends in (WIDTHS, HEIGHTS))
    high = min(high, width)
    shape = (waves, bumps, rims, strokes)[rng.integers(4)](rng, width)
    middle, radius = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.3, 0.9)
    whole = rng.random() < 0.25

    def detail(xy: np.ndarray) -> np.ndarray:
        inside = 1.0 if whole else soft_step((radius - np.linalg.norm(xy - middle, axis=1)) / width)
        return high * shape(xy) * inside

    return detail


def waves(rng: Rng, width: float) -> Height:
    """Up to four plane waves, half a wave `width` long or more."""
    count = int(rng.integers(1, 5))
    angle = rng.uniform(0, 2 * np.pi, count)
    k = np.stack([np.cos(angle), np.sin(angle)]) * np.pi / (width * rng.uniform(1, 2, count))
    phase = rng.uniform(0, 2 * np.pi, count)
    return lambda xy: np.sin(xy @ k + phase).sum(1) / np.sqrt(count)


def bumps(rng: Rng, width: float) -> Height:
    """Round bumps and pits `width` wide."""
    count = int(np.clip(rng.uniform(0.1, 0.7) / width**2, 1, 60))
    centres, sign = rng.uniform(-1, 1, (count, 2)), rng.choice([-1.0, 1.0], count)

    def height(xy: np.ndarray) -> np.ndarray:
        squared = np.square(xy[:, None] - centres).sum(-1)
        return np.exp(-4 * squared / width**2) @ sign

    return height


def rims(rng: Rng, width: float) -> Height:
    """Rings `width` wide about a place."""
    middle = rng.uniform(-1, 1, 2)
    radii = rng.uniform(0, 1.5, int(rng.integers(1, 5)))

    def height(xy: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(xy - middle, axis=1)
        return np.exp(-4 * ((away[:, None] - radii) / width) ** 2).sum(1)

    return height


def strokes(rng: Rng, width: float) -> Height:
    """Straight strokes `width` wide with flat tops and steep sides, as letters have."""
    count = int(np.clip(rng.uniform(0.2, 0.8) / width, 1, 30))
    ends = rng.uniform(-1, 1, (count, 2))
    angle, length = rng.uniform(0, np.pi, count), rng.uniform(1, 8, count) * width
    along = np.stack([np.cos(angle), np.sin(angle)], 1)
    steep = rng.uniform(0.05, 0.3)

    def height(xy: np.ndarray) -> np.ndarray:
        offset = xy[:, None] - ends
        t = np.clip((offset * along).sum(-1), 0, length)
        away = np.linalg.norm(offset - t[..., None] * along, axis=-1).min(1)
        return soft_step((0.5 - away / width) / steep)

    return height


def soft_step(x: np.ndarray) -> np.ndarray:
    """0 below −½, 1 above ½, a smooth rise between."""
    t = np.clip(x + 0.5, 0, 1)
    return t * t * (3 - 2 * t)
