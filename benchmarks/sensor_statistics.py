"""What the noise of scans is like, real and simulated: its size, how far neighbours share it, and the steps it stands on.

    python benchmarks/sensor_statistics.py --real FOLDER [--meshes FOLDER] [--draws 60]

σ/h is the root mean square error over the point spacing, ρ the correlation of the errors of points 1, 2 and 5 spacings apart,
quantum the step of the range (or of a coordinate) in spacings. Of the simulation the 10, 50 and 90 % quantiles of parts drawn as
`jets` learns from them are shown.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy.spatial import cKDTree

from becalm.points.quantisation import coordinate_steps
from becalm.shapes.cloud_pairs import sensor_pair
from becalm.shapes.sensor_patterns import point_spacing

LAGS = (1, 2, 5)
"""Distances, in spacings, of the correlations."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    real: Path | None = None
    """Folder of real scans: .npz with points, centre, normal and judged."""
    meshes: Path | None = None
    """Folder of `train.*.npz` meshes that the simulation shows beside procedural shapes."""
    draws: int = 60
    """Simulated parts."""


def main(options: Options) -> None:
    """Print the table."""
    print("| scan | σ/h | ρ 1 | ρ 2 | ρ 5 | quantum/h |", "|---|---|---|---|---|---|", sep="\n")
    for path in sorted(options.real.glob("*.npz")) if options.real else ():
        data = dict(np.load(path))
        judged = data["judged"]
        error = np.einsum("nc,nc->n", data["points"] - data["centre"], data["normal"].astype(float))[judged]
        print_row(path.stem, statistics(data["points"][judged], error, data.get("origin")))
    rows = np.array([row for i in range(options.draws) if (row := simulated(i, options.meshes)) is not None])
    for quantile in (0.1, 0.5, 0.9):
        print_row(f"simulated, {quantile:.0%} quantile", np.nanquantile(rows, quantile, axis=0))


def print_row(name: str, values: np.ndarray) -> None:
    """A row of the table."""
    print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)


def simulated(index: int, meshes: Path | None) -> np.ndarray | None:
    """The statistics of the points of surfaces in one simulated part; None where it has no noise."""
    pair = sensor_pair(np.random.default_rng([90_000, index]), meshes)
    kept = pair.surface
    error = np.einsum("nc,nc->n", pair.noisy - pair.clean, pair.normals)[kept]
    return statistics(pair.noisy[kept], error) if kept.sum() > 500 and error.std() > 0 else None


def statistics(points: np.ndarray, error: np.ndarray, origin: np.ndarray | None = None) -> np.ndarray:
    """σ/h, ρ at each of LAGS, and the widest step over h, of points [n, 3] with signed errors [n]."""
    spacing, tree = point_spacing(points), cKDTree(points)
    some = np.random.default_rng(0).choice(len(points), min(3000, len(points)), replace=False)
    mean_square, correlations = np.mean(error**2), []
    for lag in LAGS:
        outer = tree.query_ball_point(points[some], (lag + 0.4) * spacing)
        here, there = np.repeat(some, [len(o) for o in outer]), np.concatenate(outer).astype(int)
        away = np.linalg.norm(points[here] - points[there], axis=1) / spacing
        ring = away > max(lag - 0.4, 0.3)
        correlations.append(np.mean(error[here[ring]] * error[there[ring]]) / mean_square if ring.any() else np.nan)
    steps = [found.step / spacing for found in coordinate_steps(points, origin)]
    return np.array([np.sqrt(mean_square) / spacing, *correlations, max(steps, default=0.0)])


if __name__ == "__main__":
    main(tyro.cli(Options))
