"""Real scans, whose truth nobody knows: how flat their planes are before and after, whether folds stay, and a picture of each.

    python benchmarks/scans.py FOLDER [--model jets]

Planes are searched in the scan as it is, with a fixed seed; the points of each are chosen once and followed by their index.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Scans:
    """What to measure."""

    folder: tyro.conf.Positional[Path]
    """Folder of scans."""
    model: str = "jets"
    """A packaged name or a file of weights."""
    planes: int = 4
    """Planes to find in each scan."""
    width: float = 4.0
    """How far from a plane its points may lie, in spacings (never less than four times the noise)."""
    seed: int = 0
    """Of the search."""
    output: Path = HERE / "results" / "scans.json"
    """The figures."""
    images: Path = HERE.parent / "docs" / "images"
    """Folder of the pictures."""


@dataclass(frozen=True)
class Plane:
    """A flat patch of a scan."""

    normal: np.ndarray
    """[3] unit."""
    offset: float
    """normal · x of its points."""
    members: np.ndarray
    """[m] indices of the points that lie on it."""

    def height(self, points: np.ndarray) -> np.ndarray:
        """Signed distances [n] of points [n, 3]."""
        return points @ self.normal - self.offset


def main(scans: Scans) -> None:
    """Measure every scan, write figures and pictures, print a table."""
    rows = [measure(scans, path) for path in sorted(scans.folder.glob("*.pcd"))]
    scans.output.parent.mkdir(parents=True, exist_ok=True)
    scans.output.write_text(json.dumps({"model": Path(scans.model).stem, "scans": rows}, indent=1))
    print(table(rows))


def measure(scans: Scans, path: Path) -> dict:
    """The figures of one scan, in its own units, and its picture."""
    from becalm.points.estimate import noise_level
    from becalm.points.formats import read
    from becalm.points.neighbours import median_spacing
    from becalm.tasks.denoise import denoise
    from becalm.weights.store import load

    cloud, model = read(path), load(scans.model)
    start = time.process_time()
    result = denoise(cloud, model, seed=scans.seed).cloud
    seconds = time.process_time() - start
    before, after = cloud.local()[cloud.measured], result.local()[cloud.measured]
    gap, noise = median_spacing(before), noise_level(before)
    width = max(scans.width * gap, 4 * noise)
    planes = find_planes(before, scans.planes, width, np.random.default_rng(scans.seed))
    folds = [fold(before, after, a, b, width) for i, a in enumerate(planes) for b in planes[i + 1 :]]
    draw(before, after, planes[0], scans.images / f"{path.stem}.png")
    return {
        "scan": path.stem,
        "points": len(before),
        "spacing": gap,
        "noise_before": noise,
        "noise_after": noise_level(after),
        "displacement_median": float(np.median(np.linalg.norm(after - before, axis=1))),
        "plane_width": width,
        "planes": [flatness(before, after, plane) for plane in planes],
        "folds": [f for f in folds if f is not None],
        "cpu_seconds": seconds,
    }


def find_planes(points: np.ndarray, count: int, width: float, rng: np.random.Generator) -> list[Plane]:
    """The largest planes, one after another among the points [n, 3] that are left: RANSAC (Fischler & Bolles 1981).

    Candidates are fitted to the 256 nearest of random points, which finds small planes in large scenes as well; the best by
    members in a sample is fitted again to all its members, three times. A member lies within `width`, and so do most of
    its neighbours: what only passes through the plane is none.
    """
    from becalm.points.neighbours import knn

    left, planes = np.arange(len(points)), []
    while len(planes) < count and len(left) > len(points) / 100 + 1000:
        here = points[left]
        sample = here[rng.choice(len(here), min(20_000, len(here)), replace=False)]
        seeds = knn(here, 256, here[rng.choice(len(here), min(600, len(here)), replace=False)])[1]
        candidates = [fitted(here[row]) for row in seeds]
        support = [int((np.abs(sample @ normal - offset) < width / 2).sum()) for normal, offset in candidates]
        normal, offset = candidates[int(np.argmax(support))]
        for _ in range(3):
            near = np.abs(here @ normal - offset) < width
            inside = np.flatnonzero(near)
            inside = inside[near[knn(here, 32, here[inside])[1]].mean(axis=1) > 0.9]
            normal, offset = fitted(here[inside])
        planes.append(Plane(normal, offset, left[inside]))
        left = np.delete(left, inside)
    return planes


def fitted(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Unit normal [3] and offset of the least-squares plane of points [m, 3]."""
    middle = points.mean(axis=0)
    away = points - middle
    normal = np.linalg.eigh(away.T @ away)[1][:, 0]
    return normal, float(normal @ middle)


def spread(values: np.ndarray) -> float:
    """A robust standard deviation: the median absolute deviation over 0.6745."""
    return float(np.median(np.abs(values - np.median(values))) / 0.6745)


def flatness(before: np.ndarray, after: np.ndarray, plane: Plane, patch: int = 400) -> dict:
    """Residuals of the same points before and after: to the whole plane, and to planes of their own in patches.

    Each state is fitted anew. A patch is the `patch` nearest of a member, where a wall's own bend does not count: the
    median over 200 patches of the robust standard deviation.
    """
    from becalm.points.neighbours import knn

    states = [points[plane.members] for points in (before, after)]
    some = np.linspace(0, len(plane.members) - 1, 200).astype(int)
    rows = knn(states[0], min(patch, len(states[0])), states[0][some])[1]
    result: dict = {"points": len(plane.members)}
    for name, state in zip(("before", "after"), states, strict=True):
        result[f"whole_{name}"] = residual(state)
        result[f"patches_{name}"] = float(np.median([residual(state[row]) for row in rows]))
    return result


def residual(points: np.ndarray) -> float:
    """Robust standard deviation of points [m, 3] about their own plane."""
    normal, offset = fitted(points)
    return spread(points @ normal - offset)


def fold(before: np.ndarray, after: np.ndarray, a: Plane, b: Plane, width: float, fewest: int = 200) -> dict | None:
    """Points near the crease of two planes: their distance to the nearer plane, before and after; None where there is no crease.

    The crease is where the planes meet, as far as members of both lie within six widths of it. Points count that lie that
    near it and, as scanned, within two widths of a plane. A rounded fold leaves them farther from both planes.
    """
    along = np.cross(a.normal, b.normal)
    if np.linalg.norm(along) < np.sin(np.radians(30)):
        return None
    along = along / np.linalg.norm(along)
    on_line = np.linalg.lstsq(np.stack([a.normal, b.normal, along]), np.array([a.offset, b.offset, 0.0]), rcond=None)[0]
    away = before - on_line
    place = away @ along
    radial = np.linalg.norm(away - place[:, None] * along, axis=1)
    both = [plane.members[radial[plane.members] < 6 * width] for plane in (a, b)]
    if min(len(members) for members in both) < fewest:
        return None
    cells = [np.unique(np.floor(place[members] / (6 * width))) for members in both]
    shared = np.isin(np.floor(place / (6 * width)), np.intersect1d(*cells))
    chosen = shared & (radial < 6 * width) & (nearer(before, a, b) < 2 * width)
    if chosen.sum() < fewest:
        return None
    result: dict = {
        "points": int(chosen.sum()),
        "degrees": float(np.degrees(np.arccos(min(1, abs(a.normal @ b.normal))))),
    }
    for name, points in (("before", before), ("after", after)):
        result[f"{name}_median"] = float(np.median(nearer(points[chosen], a, b)))
        result[f"{name}_rms"] = float(np.sqrt((nearer(points[chosen], a, b) ** 2).mean()))
    return result


def nearer(points: np.ndarray, a: Plane, b: Plane) -> np.ndarray:
    """Distance [n] to the nearer of two planes."""
    return np.minimum(np.abs(a.height(points)), np.abs(b.height(points)))


def draw(before: np.ndarray, after: np.ndarray, plane: Plane, path: Path, size: int = 8000) -> None:
    """A section across the largest plane where it is densest, before over after, as a small PNG; heights are stretched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from becalm.points.neighbours import knn

    members = before[plane.members]
    trial = members[np.linspace(0, len(members) - 1, 64).astype(int)]
    reach, near = knn(before, min(size, len(before)), trial)
    best = int(reach[:, -1].argmin())
    view = np.linalg.svd(plane.normal[None])[2][[1, 2, 0]].T
    shown = near[best][np.abs((before[near[best]] - trial[best]) @ view[:, 1]) < 0.06 * reach[best, -1]]
    limit = 5 * max(spread(plane.height(members)), 1e-9)
    figure = Figure(figsize=(8, 4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for panel, points, name in zip(panels, (before, after), ("before", "after"), strict=True):
        place = (points[shown] - trial[best]) @ view
        height = plane.height(points[shown]) - np.median(plane.height(before[shown]))
        panel.plot(place[:, 0], height, ".", markersize=2, color="black")
        panel.set(ylim=(-limit, limit), ylabel=name)
    panels[1].set_xlabel("along the plane; upwards, the distance from it, stretched (scan units)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def table(rows: list[dict]) -> str:
    """A line a plane and a fold, in Markdown."""
    lines = ["| scan | what | points | before | after | after/before |", "|---|---|---|---|---|---|"]
    for row in rows:
        what = [("median displacement", row["points"], 0.0, row["displacement_median"])]
        what.append(("estimated noise", row["points"], row["noise_before"], row["noise_after"]))
        for i, p in enumerate(row["planes"]):
            what.append((f"plane {i + 1}, whole", p["points"], p["whole_before"], p["whole_after"]))
            what.append((f"plane {i + 1}, patches", p["points"], p["patches_before"], p["patches_after"]))
        for f in row["folds"]:
            what.append((f"fold of {f['degrees']:.0f}°, rms", f["points"], f["before_rms"], f["after_rms"]))
        for name, points, before, after in what:
            share = f"{after / before:.2f}" if before else ""
            lines.append(f"| {row['scan'][:12]} | {name} | {points:,} | {before:.3g} | {after:.3g} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Scans))
