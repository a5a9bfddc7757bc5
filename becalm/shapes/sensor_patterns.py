"""Where sensors look: the raster of rays of a camera, a rotating mirror, a spinning head, an airborne scanner, a profiler.

A pattern maps a place in space to raster coordinates (column, row) and back from a raster cell to its ray. Steps between
columns and rows are set afterwards (`Raster.scaled`), so that a scan can be given the number of points that is wanted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from becalm.points.neighbours import knn

Rng = np.random.Generator


@dataclass(frozen=True)
class Raster:
    """A pattern of rays, seen from a sensor's own frame: x to the right, y down or along the track, z forwards."""

    to_raster: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Points [n, 3] in the sensor's frame to continuous column and row [n] at steps of 1."""
    to_ray: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Columns and rows [n] to where rays start [n, 3] and their unit directions [n, 3], in the sensor's frame."""
    axes: np.ndarray
    """[3, 3] rows: the frame's axes in space."""
    eye: np.ndarray
    """[3] where the sensor is, or where its track begins."""
    step: tuple[float, float] = (1.0, 1.0)
    """Column and row steps, in the units of `to_raster`."""

    def scale_steps(self, factor: float) -> "Raster":
        """The same pattern with both steps times `factor`."""
        return replace(self, step=(self.step[0] * factor, self.step[1] * factor))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Continuous column and row [n] of points [n, 3] in space."""
        column, row = self.to_raster((points - self.eye) @ self.axes.T)
        return column / self.step[0], row / self.step[1]

    def rays(self, column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Starts and unit directions [n, 3] in space of the rays at (column, row)."""
        start, direction = self.to_ray(column * self.step[0], row * self.step[1])
        return start @ self.axes + self.eye, direction @ self.axes


def frame(forward: np.ndarray, rng: Rng) -> np.ndarray:
    """Axes [3, 3] of a sensor that looks along `forward`, turned about it at random."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(z, rng.standard_normal(3))
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, 3] at length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


def camera(eye: np.ndarray, axes: np.ndarray) -> Raster:
    """The pixels of a depth camera (structured light, time of flight, stereo): column x/z, row y/z."""

    def to_raster(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        depth = np.maximum(p[:, 2], 1e-9)
        return p[:, 0] / depth, p[:, 1] / depth

    def to_ray(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        direction = unit(np.stack([column, row, np.ones_like(column)], axis=1))
        return np.zeros_like(direction), direction

    return Raster(to_raster, to_ray, axes, eye)


def rotating_laser(eye: np.ndarray, axes: np.ndarray, ratio: float = 1.0) -> Raster:
    """A laser with rotating mirror, azimuth × elevation; with `ratio` 3 to 20 a spinning head of few beams, whose rows are
    that many times farther apart than its columns. The axis of rotation is the frame's y."""

    def to_raster(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.arctan2(p[:, 0], p[:, 2]), np.arctan2(p[:, 1], np.hypot(p[:, 0], p[:, 2]))

    def to_ray(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = np.cos(row)
        direction = np.stack([flat * np.sin(column), np.sin(row), flat * np.cos(column)], axis=1)
        return np.zeros_like(direction), direction

    return Raster(to_raster, to_ray, axes, eye, (1 / np.sqrt(ratio), np.sqrt(ratio)))


def line_scanner(eye: np.ndarray, axes: np.ndarray, ratio: float = 1.0, zigzag: float = 0.0) -> Raster:
    """A fan of rays that moves along the frame's y: an airborne scanner (`zigzag`: the track covered while the mirror swings
    through a radian) or a stripe profiler on a rail. Columns are angles, rows places along the track;
    `ratio` as in `rotating_laser`."""

    def to_raster(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = np.arctan2(p[:, 0], np.maximum(p[:, 2], 1e-9))
        return angle, p[:, 1] - zigzag * np.abs(angle)

    def to_ray(column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        none = np.zeros_like(column)
        start = np.stack([none, row + zigzag * np.abs(column), none], axis=1)
        return start, np.stack([np.sin(column), none, np.cos(column)], axis=1)

    return Raster(to_raster, to_ray, axes, eye, (1 / np.sqrt(ratio), np.sqrt(ratio)))


PATTERNS = {"camera": 0.4, "mirror": 0.15, "spinning": 0.15, "airborne": 0.15, "profiler": 0.15}
"""Kinds of patterns, and how often each is drawn."""


def random_raster(
    rng: Rng, target: np.ndarray, radius: float, upright: bool = False, kind: str | None = None
) -> Raster:
    """A random pattern (of a `kind` of PATTERNS, or any) that looks at a ball about `target` [3].

    With `upright` it looks from above or aside, as over terrain.
    """
    direction = rng.standard_normal(3)
    if upright:
        direction[2] = abs(direction[2]) + 0.3
    direction /= np.linalg.norm(direction)
    distance = radius * np.exp(rng.uniform(np.log(1.6), np.log(12)))
    eye = target + distance * direction
    axes = frame(target - eye, rng)
    kind = kind or str(rng.choice(list(PATTERNS), p=list(PATTERNS.values())))
    if kind == "camera":
        return camera(eye, axes)
    if kind == "mirror":
        return rotating_laser(eye, axes, float(np.exp(rng.uniform(-0.4, 0.4))))
    if kind == "spinning":
        return rotating_laser(eye, axes, float(np.exp(rng.uniform(np.log(3), np.log(20)))))
    # A line scanner's columns are angles and its rows lengths: make both as wide at the target, then as uneven as asked.
    ratio = float(np.exp(rng.uniform(-0.7, 0.7) if kind == "airborne" else rng.uniform(0, np.log(10))))
    zigzag = distance * float(rng.uniform(0, 0.5)) if kind == "airborne" else 0.0
    made = line_scanner(eye, axes, 1.0, zigzag)
    return replace(made, step=(1 / np.sqrt(ratio) / distance, np.sqrt(ratio)))


def fitted_raster(raster: Raster, points: np.ndarray, count: int) -> Raster:
    """The raster with steps so wide that about `count` of its cells hold one of the points."""
    column, row = raster.project(points)
    low, high = -12.0, 6.0
    for _ in range(12):
        middle = (low + high) / 2
        cells = np.floor(column / np.exp(middle)) * 1e7 + np.floor(row / np.exp(middle))
        low, high = (middle, high) if len(np.unique(cells)) > count else (low, middle)
    return raster.scale_steps(float(np.exp((low + high) / 2)))


def point_spacing(points: np.ndarray) -> float:
    """The distance of neighbours at which eight of them fill a disc: the median over the cloud."""
    some = points[:: max(1, len(points) // 2000)]
    return float(np.median(knn(points, min(9, len(points)), some)[0][:, -1])) * np.sqrt(np.pi / 8)
