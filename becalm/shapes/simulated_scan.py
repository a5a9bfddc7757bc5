"""A simulated laser scan of a small scene, with its ground truth.

The scanner rotates in a yard of flat ground, a wall with a corner, boxes, a column and balls. Beams are intersected exactly with
all bodies; the measured range has an error N(0, σ(r)²) along the beam, and a few returns are outliers.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

NO_HIT = 1e9
"""The distance of a ray that meets no surface."""


class SimulatedScan(NamedTuple):
    """Measurements of the scanner and their ground truth; row i of every array belongs to beam i."""

    xyz: np.ndarray
    """[n, 3] float64 measured positions, metres."""
    intensity: np.ndarray
    """[n] float32 in [0, 1]: reflectance × cosine of incidence."""
    range: np.ndarray
    """[n] float32 measured range, metres."""
    truth: np.ndarray
    """[n, 3] the true intersection of beam and scene."""
    outlier: np.ndarray
    """[n] bool: the measured range is an outlier."""
    sigma: np.ndarray
    """[n] standard deviation of the range error, metres."""


@dataclass(frozen=True)
class Scene:
    """Bodies on the ground z = 0 between walls; lengths in metres."""

    boxes: np.ndarray = field(default_factory=lambda: np.empty((0, 2, 3)))
    """[b, 2, 3] lowest and highest corner of boxes along the axes; the walls are among them."""
    columns: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    """[c, 4] x, y, radius, height of upright cylinders, open above."""
    balls: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    """[s, 4] centre and radius."""


def yard(rng: np.random.Generator) -> Scene:
    """A random scene 9 m wide: two walls that meet, crates, columns and balls, none near the scanner at 0."""
    walls = np.array([[[-4.7, -4.5, 0], [-4.5, 4.5, 3.0]], [[-4.5, 4.5, 0], [4.5, 4.7, 3.0]]])
    angle = np.sort(rng.uniform(0, 2 * np.pi / 9, 9)) * 0.5 + np.arange(9) * 2 * np.pi / 9
    place = rng.uniform(2, 3.4, 9)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    half, height = rng.uniform(0.2, 0.5, (5, 2)), rng.uniform(0.4, 1.6, 5)
    crates = np.stack([np.c_[place[:5] - half, np.zeros(5)], np.c_[place[:5] + half, height]], axis=1)
    columns = np.c_[place[5:7], rng.uniform(0.1, 0.35, 2), rng.uniform(1.5, 3, 2)]
    radius = rng.uniform(0.3, 0.6, 2)
    return Scene(np.concatenate([walls, crates]), columns, np.c_[place[7:], 0.8 * radius, radius])


def simulate(
    rng: np.random.Generator,
    beams: int = 40_000,
    scene: Scene | None = None,
    sigma: float = 0.008,
    growth: float = 0.0015,
    outliers: float = 0.005,
    max_range: float = 6.5,
) -> SimulatedScan:
    """Scan a scene (a random `yard`) from 2 m above its origin with about `beams` beams.

    Surfaces beyond `max_range` metres give no return. The range error has standard deviation
    σ(r) = sqrt(`sigma`² + (`growth` r)²), the sum of a fixed and a proportional part (metres); a share `outliers` of
    the returns has a range uniform between 0.5 m and 1.2 times the true one.
    """
    scene = yard(rng) if scene is None else scene
    eye, rays = np.array([0.0, 0.0, 2.0]), ray_directions(beams)
    distance, normal = cast_rays(scene, eye, rays)
    hit = distance < max_range
    distance, normal, rays = distance[hit], normal[hit], rays[hit]
    truth = eye + distance[:, None] * rays
    level = np.sqrt(sigma**2 + (growth * distance) ** 2)
    outlier = rng.random(len(truth)) < outliers
    false = rng.uniform(0.5, np.maximum(1.2 * distance, 0.6))
    measured = np.where(outlier, false, distance + level * rng.standard_normal(len(truth)))
    cosine = np.abs(np.einsum("nc,nc->n", normal, rays))
    shade = 0.6 + 0.3 * np.sin(3 * truth).prod(axis=1)
    intensity = np.where(outlier, 0.1 * rng.random(len(truth)), shade * cosine)
    xyz = eye + measured[:, None] * rays
    return SimulatedScan(xyz, intensity.astype(np.float32), measured.astype(np.float32), truth, outlier, level)


def ray_directions(beams: int, low: float = -1.2, high: float = 0.2) -> np.ndarray:
    """About `beams` unit vectors [n, 3] at equal steps of azimuth and of elevation (`low` to `high`, radians)."""
    step = np.sqrt(2 * np.pi * (high - low) / beams)
    azimuth = np.linspace(0, 2 * np.pi, round(2 * np.pi / step), endpoint=False)
    elevation = np.linspace(low, high, round((high - low) / step))
    a, e = (x.ravel() for x in np.meshgrid(azimuth, elevation))
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)


def cast_rays(scene: Scene, eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [n] along unit rays [n, 3] from `eye` to the first surface (`NO_HIT`: none), and its normal [n, 3]."""
    hits = [_ground(eye, rays)]
    hits += [_box(eye, rays, low, high) for low, high in scene.boxes]
    hits += [_column(eye, rays, column) for column in scene.columns]
    hits += [_ball(eye, rays, ball) for ball in scene.balls]
    distances = np.stack([d for d, _ in hits])
    first = distances.argmin(axis=0)
    rows = np.arange(len(rays))
    return distances[first, rows], np.stack([n for _, n in hits])[first, rows]


def distance_to_scene(scene: Scene, points: np.ndarray) -> np.ndarray:
    """Distance [n] from points [n, 3] to the nearest surface of the scene, from either side; hidden parts count."""
    distances = [np.abs(points[:, 2])]
    for low, high in scene.boxes:
        beyond = np.maximum(low - points, points - high)
        outside = np.linalg.norm(beyond.clip(min=0), axis=1)
        distances.append(np.where(outside > 0, outside, -beyond.max(axis=1)))
    for x, y, radius, height in scene.columns:
        side = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius)
        past = np.maximum(np.maximum(points[:, 2] - height, -points[:, 2]), 0)
        distances.append(np.hypot(side, past))
    distances += [np.abs(np.linalg.norm(points - b[:3], axis=1) - b[3]) for b in scene.balls]
    return np.min(distances, axis=0)


def _ground(eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    down = np.minimum(rays[:, 2], -1e-12)
    distance = -eye[2] / down
    return np.where(distance < NO_HIT, distance, NO_HIT), np.broadcast_to([0.0, 0.0, 1.0], rays.shape)


def _box(eye: np.ndarray, rays: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slabs (Kay & Kajiya 1986): the ray is inside the box between its last entry and its first exit."""
    slope = np.where(np.abs(rays) < 1e-12, 1e-12, rays)
    a, b = (low - eye) / slope, (high - eye) / slope
    enter, leave = np.minimum(a, b), np.maximum(a, b).min(axis=1)
    axis, start = enter.argmax(axis=1), enter.max(axis=1)
    normal = -np.sign(slope) * (np.arange(3) == axis[:, None])
    return np.where((start > 0) & (start <= leave), start, NO_HIT), normal


def _column(eye: np.ndarray, rays: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y, radius, height = column
    flat = rays[:, :2] / np.maximum(np.linalg.norm(rays[:, :2], axis=1, keepdims=True), 1e-12)
    distance = _root(eye[:2] - [x, y], flat, radius) / np.maximum(np.linalg.norm(rays[:, :2], axis=1), 1e-12)
    at = eye + np.minimum(distance, NO_HIT)[:, None] * rays
    normal = np.c_[(at[:, :2] - [x, y]) / radius, np.zeros(len(at))]
    return np.where((at[:, 2] > 0) & (at[:, 2] < height) & (distance < NO_HIT), distance, NO_HIT), normal


def _ball(eye: np.ndarray, rays: np.ndarray, ball: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distance = _root(eye - ball[:3], rays, ball[3])
    return distance, (eye + distance[:, None] * rays - ball[:3]) / ball[3]


def _root(away: np.ndarray, rays: np.ndarray, radius: float) -> np.ndarray:
    """The first t > 0 with |away + t ray| = radius for unit rays, from outside; FAR where there is none."""
    half = rays @ away
    square = half**2 - (away @ away - radius**2)
    first = -half - np.sqrt(np.maximum(square, 0))
    return np.where((square > 0) & (first > 0), first, NO_HIT)
