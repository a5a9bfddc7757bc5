"""A picture of a denoised scan: before and after, the whole and a detail, coloured by how far each point moved."""

from pathlib import Path

import numpy as np

from becalm.core.files import atomic_file
from becalm.points.neighbours import knn

MOST = 60_000
"""Points drawn in a panel at most."""


def draw(before: np.ndarray, after: np.ndarray, path: Path, unit: str = "scan units", seed: int = 0) -> None:
    """Write a PNG of finite positions before and after, both [n, 3]; raises OSError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    moved = np.linalg.norm(after - before, axis=1)
    most = float(np.quantile(moved, 0.98)) or 1.0
    figure = Figure(figsize=(15, 9), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, height_ratios=(5, 3))
    rows = (
        ("the whole, from above and aside", *turned(before, after), np.ones(len(moved), dtype=bool)),
        ("a section, seen along the surface", *section(before, after, moved)),
    )
    for row, (name, first, second, shown) in enumerate(rows):
        limits = frame(first[shown], second[shown])
        for column, (title, view) in enumerate((("before", first), ("after", second))):
            drawn = scatter(panels[row, column], view[shown], moved[shown], most, seed)
            panels[row, column].set_title(f"{title}: {name}", fontsize=12)
            panels[row, column].set(xlim=limits[:, 0], ylim=limits[:, 1])
    figure.colorbar(drawn, ax=panels, shrink=0.6, label=f"displacement ({unit})", pad=0.01)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def turned(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [n, 3] seen from above and aside: (right, up, towards the viewer)."""
    tilt, aside = np.radians(-55), np.radians(30)
    about_z = np.array([[np.cos(aside), -np.sin(aside), 0], [np.sin(aside), np.cos(aside), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    turn = (about_x @ about_z).T
    return before @ turn, after @ turn


def section(before: np.ndarray, after: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A thin slice where much moved, seen from its edge: both clouds as (along, across, towards the viewer), and the slice [n].

    Of 48 neighbourhoods of some hundred points, the one with the greatest mean displacement against its thickness after.
    """
    size = min(max(len(after) // 150, 400), len(after), 2500)
    centres = after[np.linspace(0, len(after) - 1, 48).astype(int)]
    near = knn(after, size, centres)[1]
    frames = [np.linalg.eigh(np.cov(after[members].T)) for members in near]
    worth = [
        moved[members].mean() / (np.sqrt(max(f[0][0], 0)) + moved[members].mean())
        for members, f in zip(near, frames, strict=True)
    ]
    best = int(np.argmax(worth))
    turn = frames[best][1][:, [2, 0, 1]]
    views = [(points - centres[best]) @ turn for points in (before, after)]
    inside = np.zeros(len(after), dtype=bool)
    inside[near[best]] = True
    depth = np.abs(views[1][:, 2])
    return *views, inside & (depth <= np.quantile(depth[inside], 0.3))


def frame(*views: np.ndarray) -> np.ndarray:
    """Limits [2, 2] (low, high) that hold nearly all points of all views, stray ones aside."""
    low, high = np.quantile(np.concatenate(views)[:, :2], (0.002, 0.998), axis=0)
    margin = 0.04 * (high - low).max()
    return np.stack([low - margin, high + margin])


def scatter(panel, view: np.ndarray, moved: np.ndarray, most: float, seed: int):
    """Draw points from back to front, size by their number, shaded a little by depth."""
    chosen = np.random.default_rng(seed).permutation(len(view))[:MOST]
    chosen = chosen[np.argsort(view[chosen, 2])]
    size = np.clip(60_000 / max(len(chosen), 1), 0.6, 7)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    return panel.scatter(
        view[chosen, 0], view[chosen, 1], c=moved[chosen], s=size, cmap="viridis", vmin=0, vmax=most, linewidths=0
    )
