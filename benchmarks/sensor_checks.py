"""What a denoiser of scans must do and must not do, each on a made scene whose surface is known exactly.

    python benchmarks/sensor_checks.py [--model jets]

Prints a figure and its goal for each: double walls become one, thin plates stay two, relief keeps its height, steps of a depth
camera and rings of a spinning head are smoothed, ground under trees and wires stay, and a lone point does not move at all.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from becalm.points.noise import correlated
from becalm.points.progress import DenoiseProgress, final_progress
from becalm.weights.store import load

Denoise = Callable[[np.ndarray], DenoiseProgress]
Figures = dict[str, tuple[float, str]]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Checks:
    """What to measure."""

    model: str = "jets"
    """A packaged name or a file of weights."""
    only: str = ""
    """Only checks whose name holds this."""
    output: Path = HERE / "results" / "sensor_checks.json"
    """The figures."""


def main(checks: Checks) -> None:
    """Measure, print and store."""
    model, rows = load(checks.model), []

    def denoise(points: np.ndarray) -> DenoiseProgress:
        middle = points.mean(0)
        last = final_progress(model.iter_denoise(points - middle))
        return last._replace(xyz=last.xyz + middle)

    for name, check in CHECKS.items():
        if checks.only in name:
            for figure, (value, goal) in check(denoise, np.random.default_rng(7)).items():
                rows.append({"check": name, "figure": figure, "value": round(float(value), 4), "goal": goal})
                print(f"{name}: {figure} {value:.3f} ({goal})", flush=True)
    if not checks.only:
        checks.output.write_text(json.dumps(rows, indent=0))


def ratio(after: np.ndarray, before: np.ndarray) -> float:
    """Root mean square after over before."""
    return float(np.sqrt(np.mean(after**2) / np.mean(before**2)))


def grid(side: int, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Places [side², 2] on a unit grid about the origin, displaced at random."""
    steps = np.arange(side) - side / 2
    places = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    return places + jitter * rng.uniform(-1, 1, places.shape)


def double_wall(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """A plane scanned twice, the scans half a spacing above and below it, without and with noise of .15 spacings."""
    xy, figures = grid(120, 0.5, rng), {}
    layer = 0.5 * rng.choice([-1, 1], len(xy))
    for noise in (0.0, 0.15):
        z = layer + noise * rng.standard_normal(len(xy))
        after = denoise(np.c_[xy, z]).xyz[:, 2]
        inside = np.abs(xy).max(1) < 50
        figures[f"noise {noise:g}: rms after over before"] = ratio(after[inside], z[inside]), "≤ .25"
    return figures


def thin_plate(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """Two faces of a plate, 3 spacings apart, with white noise of .3 spacings: its thickness after over before, and the noise."""
    xy = grid(110, 0.5, rng)
    face = np.where(rng.random(len(xy)) < 0.5, 1.5, -1.5)
    z = face + 0.3 * rng.standard_normal(len(xy))
    after = denoise(np.c_[xy, z]).xyz[:, 2]
    inside = np.abs(xy).max(1) < 45
    gap = after[inside & (face > 0)].mean() - after[inside & (face < 0)].mean()
    return {
        "thickness over true": (gap / 3, "≥ .97"),
        "noise after over before": (ratio((after - face)[inside], (z - face)[inside]), "≤ .8"),
    }


def raster_cylinder(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """A cylinder on a perfect raster with white noise of half a spacing along its normals."""
    angle, y = np.meshgrid(np.arange(200) / 80, np.arange(120.0), indexing="ij")
    normal = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1).reshape(-1, 3)
    along = np.c_[np.zeros((normal.shape[0], 1)), y.reshape(-1, 1), np.zeros((normal.shape[0], 1))]
    before = 0.5 * rng.standard_normal(len(normal))
    after = np.linalg.norm((denoise((80 + before)[:, None] * normal + along).xyz)[:, ::2], axis=1) - 80
    inside = (np.abs(y.ravel() - 60) < 50) & (np.abs(angle.ravel() - 1.25) < 1.1)
    return {"rms after over before": (ratio(after[inside], before[inside]), "≤ .25")}


def ring_lidar(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """A room of 6 × 8 × 3 m seen by 32 beams of 1.3° that spin, steps of .3°, 2 cm of white range noise."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(0, 360, 0.3)), np.radians(np.arange(32) * 1.3 - 20))
    ray = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    ).reshape(-1, 3)
    half = np.array([3.0, 4.0, 1.5])
    reach = half / np.maximum(np.abs(ray), 1e-12)
    distance = reach.min(1)
    points = (distance + 0.02 * rng.standard_normal(len(ray)))[:, None] * ray
    axis = reach.argmin(1)

    def errors(xyz: np.ndarray) -> np.ndarray:
        return np.abs(np.take_along_axis(xyz, axis[:, None], 1)[:, 0]) - half[axis]

    return {"rms after over before": (ratio(errors(denoise(points).xyz), errors(points)), "≤ .5")}


def depth_steps(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """A curved wall at 2.4 m seen by 160 × 120 pixels whose disparity has steps of 16 mm there."""
    column, row = np.meshgrid((np.arange(160) - 80) / 290, (np.arange(120) - 60) / 290)
    column, row = column.ravel(), row.ravel()
    depth = 2.4 + 0.15 * column + 0.1 * np.sin(6 * row) + 0.05 * np.cos(9 * column)
    scale = 2.4**2 / 0.016
    seen = scale / np.round(scale / (depth + 0.003 * rng.standard_normal(len(depth))))
    ray = np.stack([column, row, np.ones_like(row)], 1)
    after = denoise(seen[:, None] * ray).xyz
    expected = 2.4 + 0.15 * after[:, 0] / after[:, 2] + 0.1 * np.sin(6 * after[:, 1] / after[:, 2])
    expected += 0.05 * np.cos(9 * after[:, 0] / after[:, 2])
    inside = (np.abs(column) < 0.25) & (np.abs(row) < 0.18)
    return {"rms after over before": (ratio((after[:, 2] - expected)[inside], (seen - depth)[inside]), "≤ .5")}


def relief(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """Waves, a coin's rim and letters' strokes all over a plane, and a coin and letters on a plain one, under noise that
    neighbours share in part: what is left of the detail (slope of the height after on the true one, over that before), and of
    the noise."""
    xy, figures = grid(150, 0.4, rng), {}
    inside = np.abs(xy).max(1) < 65
    shapes = {
        "waves 12 spacings long": 1.0 * np.sin(2 * np.pi * xy[:, 0] / 12),
        "a rim 6 spacings wide": 1.5 * np.exp(-(((np.hypot(*xy.T) - 40) / 3) ** 2)),
        "strokes 5 spacings wide": 1.5 * (np.abs(((xy[:, 0] + 0.3 * xy[:, 1]) % 20) - 10) < 2.5),
        "a coin 3 spacings high": 3.0 * coin(xy),
        "letters 3 spacings high": 3.0 * letters(xy),
    }
    for name, height in shapes.items():
        noise = 0.25 * rng.standard_normal(len(xy))
        noise += 0.25 * correlated(np.c_[xy, 0 * height], 1.0, rng, 2.0)[:, 0]
        after = denoise(np.c_[xy, height + noise]).xyz[:, 2]
        slopes = [np.polyfit(height[inside], z[inside], 1)[0] for z in (after, height + noise)]
        figures[f"{name}: slope"] = slopes[0] / slopes[1], "≥ .95"
        figures[f"{name}: noise"] = ratio((after - height)[inside], noise[inside]), "≤ 1"
    return figures


def coin(xy: np.ndarray) -> np.ndarray:
    """The relief [n] of a coin on a plain face: a rim, 36 beads within it and a few bumps, 4 to 14 spacings wide, 1 high."""
    angles = np.arange(36) * np.pi / 18
    beads = 40 * np.c_[np.cos(angles), np.sin(angles)]
    bumps = np.array([[0, 8], [-9, -3], [10, -4], [0, -14], [-4, 18], [14, 12], [-16, 10], [3, 0]])
    height = np.exp(-(((np.hypot(*xy.T) - 46) / 2) ** 2))
    for centres, width in ((beads, 2.0), (bumps[:4], 7.0), (bumps[4:], 3.5)):
        height += sum(np.exp(-np.square(xy - centre).sum(1) / width**2) for centre in centres)
    return height


def letters(xy: np.ndarray) -> np.ndarray:
    """The relief [n] of the letters L, T, H and E on a plain face: strokes 7 spacings wide with edges 2 wide, 1 high."""
    strokes = [(-40, 4, 3.5, 16), (-32, -8.5, 11, 3.5), (-8, 16.5, 12, 3.5), (-8, 4, 3.5, 16)]
    strokes += [(12, 4, 3.5, 16), (26, 4, 3.5, 16), (19, 4, 8, 3.5)]
    strokes += [(40, 4, 3.5, 16), (46, 16.5, 8, 3.5), (45, 4, 7, 3.5), (46, -8.5, 8, 3.5)]
    parts = []
    for x, y, wide, high in strokes:
        within = np.minimum(wide - np.abs(xy[:, 0] - x), high - np.abs(xy[:, 1] - y))
        parts.append(1 / (1 + np.exp(-2 * within)))
    return np.max(parts, axis=0)


def forest(denoise: Denoise, rng: np.random.Generator) -> Figures:
    """Ground with 5 cm of noise, 5 points a square metre, under crowns of leaves; wires of 1 cm noise; a lone point."""
    ground = np.c_[rng.uniform(0, 60, (18_000, 2)), np.zeros(18_000)]
    ground[:, 2] = 2 * np.sin(ground[:, 0] / 15) + 1.5 * np.cos(ground[:, 1] / 11)
    truth = ground[:, 2].copy()
    ground[:, 2] += 0.05 * rng.standard_normal(len(ground))
    trees = rng.uniform(5, 55, (40, 2))
    which = rng.integers(40, size=30_000)
    high, wide = rng.uniform(5, 16, 40), rng.uniform(1.0, 3, 40)
    ball = rng.standard_normal((30_000, 3))
    ball *= (np.cbrt(rng.random(30_000)) / np.linalg.norm(ball, axis=1))[:, None]
    leaves = np.c_[trees[which] + wide[which, None] * ball[:, :2], high[which] + 3 * ball[:, 2]]
    along = np.linspace(0, 60, 1200)
    wire = np.c_[along, 30 + 0 * along, 20 - 4 * 2.0 / 3600 * along * (60 - along)]
    wires = wire + 0.01 * rng.standard_normal(wire.shape)
    lone = np.array([[30.0, 30.0, 60.0]])
    points = np.concatenate([ground, leaves, wires, lone])
    last = denoise(points)
    move = np.linalg.norm(last.xyz - points, axis=1)
    n, m = len(ground), len(ground) + len(leaves)
    cell = lambda p: (p[:, 0] // 4 * 100 + p[:, 1] // 4).astype(int)  # noqa: E731
    tops = [np.full(10_000, -np.inf) for _ in range(2)]
    for top, xyz in zip(tops, (points, last.xyz), strict=True):
        np.maximum.at(top, cell(xyz[n:m]).clip(0, 9999), xyz[n:m, 2])
    full = np.isfinite(tops[0]) & np.isfinite(tops[1])
    wire_error = [np.linalg.norm((x[m:-1] - wire)[:, 1:], axis=1) for x in (points, last.xyz)]
    return {
        "ground: median move over σ": (np.median(move[:n]) / 0.05, "≤ 1"),
        "ground: 95 % move over σ": (np.quantile(move[:n], 0.95) / 0.05, "≤ 3"),
        "ground: rms after over before": (ratio(last.xyz[:n, 2] - truth, points[:n, 2] - truth), "≤ 1"),
        "leaves: median move, m": (np.median(move[n:m]), "≤ .05"),
        "canopy maxima: mean change, m": (np.mean(tops[0][full] - tops[1][full]), "≤ .05"),
        "wire: rms after over before": (ratio(wire_error[1], wire_error[0]), "≤ 1"),
        "lone point: move": (move[-1], "0"),
    }


CHECKS: dict[str, Callable[[Denoise, np.random.Generator], Figures]] = {
    "double wall": double_wall, "thin plate": thin_plate, "raster cylinder": raster_cylinder, "ring lidar": ring_lidar,
    "depth steps": depth_steps, "relief": relief, "forest": forest,
}  # fmt: skip
"""Each check by name."""


if __name__ == "__main__":
    main(tyro.cli(Checks))
