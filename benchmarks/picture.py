"""The picture at the head of the README: a real scan before and after, and a cross-section with the reference surface.

    python benchmarks/picture.py FOLDER/kinect_mosd.npz docs/real.png

The file has `points`, and the tangent plane (`centre`, `normal`) of a reference surface at those that are `judged`.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import becalm
from becalm.points.rays import surface_normals

SPLAT = 3.2
"""Size of a drawn point."""


def shades(points: np.ndarray) -> np.ndarray:
    """Brightness of every point under a light from the left, by the normals of its 12 nearest."""
    normals = surface_normals(points, 12)
    return 0.25 + 0.75 * np.abs(normals @ np.array([-0.55, 0.45, 0.7])) ** 1.5


def main() -> None:
    """Clean the scan and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument(
        "--height", type=float, default=0.72, help="where the section cuts, as a share of the scan's height"
    )
    asked = parser.parse_args()
    data = dict(np.load(asked.scan))
    before = data["points"]
    after = becalm.denoise(before).points
    draw(before, after, data, asked)


def draw(before: np.ndarray, after: np.ndarray, data: dict, asked: argparse.Namespace) -> None:
    """Both clouds as the sensor saw them, and the heights of a slice above the reference surface."""
    figure = Figure(figsize=(12, 7), dpi=100, layout="constrained", facecolor="white")
    rows = figure.subplots(2, 2, height_ratios=[2.5, 1])
    low, high = np.quantile(after, [0.0005, 0.9995], axis=0)
    cut, thickness = low[1] + asked.height * (high[1] - low[1]), 0.01 * (high[1] - low[1])
    members = (np.abs(before[:, 1] - cut) < thickness) & data["judged"]
    centre, normal = data["centre"][members], data["normal"][members].astype(float)
    for column, (name, points) in enumerate((("before", before), ("after", after))):
        panel, order = rows[0, column], np.argsort(-points[:, 2])
        panel.scatter(*points[order, :2].T, c=shades(points)[order], s=SPLAT, cmap="gray", vmin=0, vmax=1, linewidths=0)
        panel.axhline(cut, color="tab:red", linewidth=1)
        panel.set(aspect="equal", xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(high[1], low[1]))
        panel.set_title(name)
        side, height = rows[1, column], np.einsum("nc,nc->n", points[members] - centre, normal)
        side.axhline(0, color="tab:red", linewidth=1)
        side.plot(points[members, 0], -1000 * height, "k.", markersize=3)
        side.set(xlim=(low[0], high[0]), ylim=(-4, 4), ylabel="mm", xticks=[])
        side.set_title(f"{name}: distance of the points along the red line from the reference surface", fontsize=10)
    figure.savefig(asked.picture)


if __name__ == "__main__":
    main()
