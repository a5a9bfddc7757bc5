"""A picture of a denoised scan: before and after, the whole and a detail, coloured by how far each point moved."""

from pathlib import Path

import numpy as np

from becalm.core.files import replacing

MOST = 60_000
"""Points drawn in a panel at most."""


def draw(before: np.ndarray, after: np.ndarray, path: Path, unit: str = "scan units", seed: int = 0) -> None:
    """Write a PNG of finite positions before and after, both [n, 3]; raises OSError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    moved = np.linalg.norm(after - before, axis=1)
    views = [turned(points, after) for points in (before, after)]
    figure = Figure(figsize=(14, 11), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    most = float(np.quantile(moved, 0.98)) or 1.0
    middle, reach = detail(views[1], moved)
    for column, (view, title) in enumerate(zip(views, ("before", "after"), strict=True)):
        for row, window in enumerate((np.ones(len(view), dtype=bool), np.abs(view[:, :2] - middle).max(1) < reach)):
            drawn = scatter(panels[row, column], view[window], moved[window], most, seed)
            panels[row, column].set_title(title if row == 0 else f"{title}, a detail", fontsize=13)
    for row, limits in enumerate((frame(views[0], views[1]), np.stack([middle - reach, middle + reach]))):
        for panel in panels[row]:
            panel.set(xlim=limits[:, 0], ylim=limits[:, 1])
    figure.colorbar(drawn, ax=panels, shrink=0.6, label=f"displacement ({unit})", pad=0.01)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def turned(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The points [n, 3] seen from above and aside: (right, up, towards the viewer), about the middle of the reference."""
    down, aside = np.radians(-62), np.radians(35)
    about_z = np.array([[np.cos(aside), -np.sin(aside), 0], [np.sin(aside), np.cos(aside), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(down), -np.sin(down)], [0, np.sin(down), np.cos(down)]])
    return (points - np.median(reference, axis=0)) @ (about_x @ about_z).T


def detail(view: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle [2] and half side of a window worth a closer look: the densest of 64 places where points moved most."""
    low, high = np.quantile(view[:, :2], (0.02, 0.98), axis=0)
    reach = 0.11 * float((high - low).max()) or 1.0
    places = view[np.argsort(moved)[:: max(1, len(view) // 64)], :2]
    inside = [np.abs(view[:, :2] - place).max(1) < reach for place in places]
    weight = [np.sqrt(mask.sum()) * moved[mask].mean() for mask in inside]
    return places[int(np.argmax(weight))], reach


def frame(*views: np.ndarray) -> np.ndarray:
    """Limits [2, 2] (low, high) that hold nearly all points of all views, stray ones aside."""
    low, high = np.quantile(np.concatenate(views)[:, :2], (0.002, 0.998), axis=0)
    margin = 0.04 * (high - low).max()
    return np.stack([low - margin, high + margin])


def scatter(panel, view: np.ndarray, moved: np.ndarray, most: float, seed: int):
    """Draw points from back to front, size by their number, shaded a little by depth."""
    chosen = np.random.default_rng(seed).permutation(len(view))[:MOST]
    chosen = chosen[np.argsort(view[chosen, 2])]
    size = np.clip(60_000 / max(len(chosen), 1), 0.6, 14)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    return panel.scatter(
        view[chosen, 0], view[chosen, 1], c=moved[chosen], s=size, cmap="viridis", vmin=0, vmax=most, linewidths=0
    )
