"""A picture of a denoised scan: before and after, whole and in a section, coloured by the displacement of each point."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import atomic_file
from becalm.points.neighbours import knn

MAX_DRAWN = 60_000
"""Points drawn in a panel at most."""


def draw(before: np.ndarray, after: np.ndarray, path: Path, unit: str = "scan units", seed: int = 0) -> None:
    """Write a PNG of finite positions before and after, both [n, 3]; raises OSError where it cannot be written."""
    with atomic_file(path) as temporary:
        figure(before, after, unit, seed).savefig(temporary, format="png")


def png(before: np.ndarray, after: np.ndarray, unit: str = "scan units", seed: int = 0) -> bytes:
    """The same picture at half the size, as the bytes of a PNG."""
    buffer = BytesIO()
    figure(before, after, unit, seed).savefig(buffer, format="png", dpi=50)
    return buffer.getvalue()


def figure(before: np.ndarray, after: np.ndarray, unit: str, seed: int) -> Any:
    """A Matplotlib figure of positions [n, 3] before and after: the whole cloud above, a thin section below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    moved = np.linalg.norm(after - before, axis=1)
    largest = float(np.quantile(moved, 0.98)) or 1.0
    picture = Figure(figsize=(15, 9), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    panels = picture.subplots(2, 2, height_ratios=(5, 3))
    rows = (
        ("the whole, from above and aside", *oblique_view(before, after), np.ones(len(moved), dtype=bool)),
        ("a section, seen along the surface", *section(before, after, moved)),
    )
    for row, (name, first, second, mask) in enumerate(rows):
        limits = axis_limits(first[mask], second[mask])
        for column, (title, view) in enumerate((("before", first), ("after", second))):
            artist = scatter(panels[row, column], view[mask], moved[mask], largest, seed)
            panels[row, column].set_title(f"{title}: {name}", fontsize=12)
            panels[row, column].set(xlim=limits[:, 0], ylim=limits[:, 1])
    picture.colorbar(artist, ax=panels, shrink=0.6, label=f"displacement ({unit})", pad=0.01)
    return picture


def oblique_view(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both clouds [n, 3] in the coordinates of an oblique view from above: (right, up, towards the viewer)."""
    tilt, aside = np.radians(-55), np.radians(30)
    about_z = np.array([[np.cos(aside), -np.sin(aside), 0], [np.sin(aside), np.cos(aside), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    turn = (about_x @ about_z).T
    return before @ turn, after @ turn


def section(before: np.ndarray, after: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A thin section where points moved far: both clouds in its view (along the surface, across it, towards the viewer), and its
    mask [n].

    Of 48 neighbourhoods of some hundred points it is the one with the greatest mean displacement against its final thickness.
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


def axis_limits(*views: np.ndarray) -> np.ndarray:
    """Limits [2, 2] (low, high) of the axes that contain 99.6 % of the points of all views."""
    low, high = np.quantile(np.concatenate(views)[:, :2], (0.002, 0.998), axis=0)
    margin = 0.04 * (high - low).max()
    return np.stack([low - margin, high + margin])


def scatter(panel, view: np.ndarray, moved: np.ndarray, largest: float, seed: int):
    """Draw points from back to front, coloured by displacement up to `largest`, the smaller the more there are."""
    chosen = np.random.default_rng(seed).permutation(len(view))[:MAX_DRAWN]
    chosen = chosen[np.argsort(view[chosen, 2])]
    size = np.clip(60_000 / max(len(chosen), 1), 0.6, 7)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    return panel.scatter(
        view[chosen, 0], view[chosen, 1], c=moved[chosen], s=size, cmap="viridis", vmin=0, vmax=largest, linewidths=0
    )
