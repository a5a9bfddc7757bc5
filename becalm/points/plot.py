"""A picture of a denoised scan: before and after from near, the displacement of every point, and a section."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import atomic_file
from becalm.points.neighbours import knn
from becalm.points.rays import surface_normals

MAX_DRAWN = 60_000
"""Points drawn in a panel at most."""

PANEL_RATIO = 0.9
"""Height of a panel over its width."""


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
    """A Matplotlib figure of positions [n, 3] before and after: the noisiest and the sharpest place from near, shaded, the whole
    coloured by displacement, and a section with a scale bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    moved = np.linalg.norm(after - before, axis=1)
    picture = Figure(figsize=(17, 10), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    panels = picture.subplots(2, 3)
    for row, (name, members, turn) in enumerate(close_ups(after, moved)):
        centre = after[members].mean(axis=0)
        views = [(points[members] - centre) @ turn for points in (before, after)]
        limits = axis_limits(views[1])
        for column, (title, view) in enumerate(zip(("before", "after"), views, strict=True)):
            draw_shaded(panels[row, column], view)
            finish_panel(panels[row, column], f"{title}: {name}", limits, unit)
    largest = float(np.quantile(moved, 0.98)) or 1.0
    whole = (after - after.mean(axis=0)) @ principal_axes(after)
    artist = scatter(panels[0, 2], whole, moved, largest, seed)
    finish_panel(panels[0, 2], "displacement of every point", axis_limits(whole), unit)
    picture.colorbar(artist, ax=panels[0, 2], shrink=0.7, label=f"displacement ({unit})", pad=0.01)
    draw_section(panels[1, 2], *section(before, after, moved), unit)
    return picture


def close_ups(after: np.ndarray, moved: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Of 48 neighbourhoods that with the greatest mean displacement and that with the most varied normals: name, indices [k] and
    axes [3, 3] of a view upon each, aslant."""
    size = min(max(len(after) // 40, 600), len(after), 4000)
    centres = after[np.linspace(0, len(after) - 1, 48).astype(int)]
    near = knn(after, size, centres)[1]
    frames = np.stack([principal_axes(after[members]) for members in near])
    noisy = moved[near].mean(axis=1)
    sharp = np.array([normal_spread(after[members]) for members in near])
    picked = [int(noisy.argmax()), int(sharp.argmax())]
    names = ("where points moved farthest", "where the surface bends most")
    return [(name, near[i], frames[i] @ tilt(35.0)) for name, i in zip(names, picked, strict=True)]


def normal_spread(points: np.ndarray) -> float:
    """How varied the normals of points [k, 3] are: 0 on a plane, up to 2/3."""
    normals = surface_normals(points)
    return float(1 - np.linalg.eigvalsh(normals.T @ normals / len(normals))[-1])


def principal_axes(points: np.ndarray) -> np.ndarray:
    """Columns [3, 3]: the longest axis of points [n, 3], the next, and the direction from which most of them is visible."""
    axes = np.linalg.eigh(np.cov(points.T))[1][:, ::-1]
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    return axes


def tilt(degrees: float) -> np.ndarray:
    """The matrix [3, 3] that turns a view by an angle about its horizontal axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def draw_shaded(panel, view: np.ndarray) -> None:
    """Draw points [n, 3] from back to front, lit from the upper left by their own normals."""
    normals = surface_normals(view, 12)
    normals *= np.sign(normals[:, 2:])
    light = np.array([-0.5, 0.6, 0.62])
    order = np.argsort(view[:, 2])
    shade = (0.2 + 0.8 * np.clip(normals @ light, 0, 1))[order]
    size = np.clip(60_000 / len(view), 3, 60)
    panel.scatter(view[order, 0], view[order, 1], c=shade, s=size, cmap="gray", vmin=0, vmax=1.05, linewidths=0)


def draw_section(panel, before: np.ndarray, after: np.ndarray, mask: np.ndarray, unit: str) -> None:
    """Draw a thin section: points before in red, points after in blue with the surface through them, the running median."""
    first, second = before[mask], after[mask]
    order = np.argsort(second[:, 0])
    width = max(len(order) // 60, 5)
    kept = order[: len(order) // width * width].reshape(-1, width)
    panel.scatter(first[:, 0], first[:, 1], s=9, c="tab:red", alpha=0.6, linewidths=0, label="before")
    panel.scatter(second[:, 0], second[:, 1], s=9, c="tab:blue", linewidths=0, label="after")
    panel.plot(*(np.median(second[kept, axis], axis=1) for axis in (0, 1)), c="black", lw=0.8, label="surface")
    panel.legend(loc="lower right", fontsize=9, ncols=3)
    low, high = np.quantile(np.concatenate([first, second])[:, :2], (0.002, 0.998), axis=0)
    margin = 0.08 * (high - low)
    low, high = low - margin, high + margin
    low[1] -= 0.5 * (high[1] - low[1])  # room for the legend and the scale bar
    times = max(n for n in (1, 2, 5, 10, 20, 50, 100) if n == 1 or n * (high[1] - low[1]) <= 0.9 * (high[0] - low[0]))
    title = f"section where points moved far, heights × {times}"
    finish_panel(panel, title, np.stack([low, high]), unit, times)


def finish_panel(panel, title: str, limits: np.ndarray, unit: str, times: int = 1) -> None:
    """Give a panel its title, limits that contain [2, 2] and fill it, and a scale bar of a round length.

    Heights are drawn `times` as long."""
    low, high = filling_limits(limits, PANEL_RATIO / times)
    panel.set_aspect(times)
    panel.set(xticks=[], yticks=[], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    panel.set_title(title, fontsize=12)
    wide = float(high[0] - low[0])
    power = 10.0 ** np.floor(np.log10(wide / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= wide / 4)
    x, y = low[0] + 0.04 * wide, low[1] + 0.04 * float(high[1] - low[1])
    panel.plot([x, x + length], [y, y], c="black", lw=3, solid_capstyle="butt")
    panel.annotate(
        f"{length:g} {unit}",
        (x + length / 2, y),
        (0, 5),
        textcoords="offset points",
        ha="center",
        fontsize=10,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


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
        moved[members].mean() / (np.sqrt(max(f[0][0], 0)) + moved[members].mean() + np.finfo(float).tiny)
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


def filling_limits(limits: np.ndarray, ratio: float) -> np.ndarray:
    """Limits [2, 2] (low, high) about the same centre, made wider or higher until height over width is `ratio`."""
    middle, size = limits.mean(axis=0), limits[1] - limits[0]
    size = np.maximum(size, [size[1] / ratio, size[0] * ratio])
    return np.stack([middle - size / 2, middle + size / 2])


def scatter(panel, view: np.ndarray, moved: np.ndarray, largest: float, seed: int):
    """Draw points from back to front, coloured by displacement up to `largest`, the smaller the more there are."""
    chosen = np.random.default_rng(seed).permutation(len(view))[:MAX_DRAWN]
    chosen = chosen[np.argsort(view[chosen, 2])]
    size = np.clip(60_000 / max(len(chosen), 1), 0.6, 7)
    return panel.scatter(
        view[chosen, 0], view[chosen, 1], c=moved[chosen], s=size, cmap="viridis", vmin=0, vmax=largest, linewidths=0
    )
