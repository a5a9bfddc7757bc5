"""Denoisers on scans as sensors make them: real ones with a reference surface, and simulated ones of every pattern and error.

    python benchmarks/sensors.py --real FOLDER [--meshes FOLDER] [--model jets] [--peers]

Of points on surfaces the error is the distance to the reference's tangent plane at the place that belongs to the point. A figure
is the root mean square after over before. `attainable` is what is left when the mean of the 25 nearest points' errors replaces
each error: what such a mean would leave if it knew the shape. Peers need `pip install becalm[benchmarks]`.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

HERE = Path(__file__).parent
SEED = 90_000
"""Far from the seeds that models learn from."""


@dataclass(frozen=True)
class Sensors:
    """What to measure."""

    real: Path | None = None
    """Folder of real scans: .npz with points, centre, normal and judged."""
    meshes: Path | None = None
    """Folder of `develop.*.npz` meshes that simulated scans show beside procedural shapes."""
    model: str = "jets"
    """A packaged name or a file of weights."""
    peers: bool = False
    """Measure classical filters too."""
    simulated: bool = True
    """Measure simulated scans too."""
    output: Path = HERE / "results" / "sensors.json"
    """The figures; rows of other methods in it are kept."""


class Case(NamedTuple):
    """A scan with its reference."""

    name: str
    points: np.ndarray
    centre: np.ndarray
    normal: np.ndarray
    judged: np.ndarray
    surface: np.ndarray

    def errors(self, points: np.ndarray) -> np.ndarray:
        """Signed distances [m] of the judged points to the reference."""
        return np.einsum("nc,nc->n", points - self.centre, self.normal)[self.judged]


def main(sensors: Sensors) -> None:
    """Measure, store and print."""
    methods = {"jets": ours(sensors.model)} | (PEERS if sensors.peers else {})
    old = json.loads(sensors.output.read_text()) if sensors.output.exists() else []
    rows = [row for row in old if row["method"] not in methods]
    for case in cases(sensors):
        for name, denoise in methods.items():
            rows.append(measure(case, name, denoise))
            print(json.dumps(rows[-1]), flush=True)
        sensors.output.write_text(json.dumps(rows, indent=0))
    print(table(rows))


def measure(case: Case, method: str, denoise: Callable) -> dict:
    """The figures of one method on one scan."""
    start = time.process_time()
    result, surface = denoise(case.points)
    seconds = time.process_time() - start
    before, after = case.errors(case.points), case.errors(result)
    moved = np.linalg.norm(result - case.points, axis=1)
    row = {
        "case": case.name,
        "method": method,
        "rms": rms(after) / rms(before),
        "attainable": attainable(case),
        "seconds_per_10000": 1e4 * seconds / len(case.points),
    }
    if not case.surface.all() and case.name not in REAL:
        row["off_surface_moved"] = float(np.median(moved[~case.surface]) / rms(before))
        if surface is not None:
            told = surface < 0.5
            row["off_surface_recall"] = float(told[~case.surface].mean())
            row["off_surface_precision"] = float((~case.surface)[told].mean()) if told.any() else None
    return row


def rms(errors: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(errors**2)))


def attainable(case: Case) -> float:
    """The root mean square of the mean error of 25 neighbours over that of the errors."""
    from becalm.points.neighbours import knn

    points, error = case.points[case.judged], case.errors(case.points)
    around = knn(points, 25)[1]
    return rms(error[around].mean(1)) / rms(error)


def spacing_of(points: np.ndarray) -> float:
    """The distance at which eight neighbours fill a disc: the median over the cloud."""
    from becalm.shapes.simulated_sensor import point_spacing

    return point_spacing(points)


REAL = ("kinect_mosd", "stereo_pr2", "rgbd_slam", "airborne")


def cases(sensors: Sensors) -> Iterator[Case]:
    """The real scans, then the simulated ones."""
    for path in sorted(sensors.real.glob("*.npz")) if sensors.real else ():
        data = dict(np.load(path))
        normal = data["normal"].astype(float)
        yield Case(path.stem, data["points"], data["centre"], normal, data["judged"], np.ones(len(normal), bool))
    if sensors.simulated:
        yield from simulated(sensors.meshes)


def errors_by_name() -> dict:
    """The errors of the simulated scans."""
    from becalm.shapes.simulated_sensor import ErrorModel

    return {
        "white": ErrorModel(0.6, 0.0),
        "correlated 3": ErrorModel(0.6, 0.8, (3.0, 3.0)),
        "correlated 8": ErrorModel(0.9, 0.9, (8.0, 8.0)),
        "disparity steps": ErrorModel(0.4, 0.6, (2.0, 2.0), power=2.0, step=2.0, disparity=True),
        "stripes": ErrorModel(0.3, 0.3, stripe=0.5),
        "range and incidence": ErrorModel(0.6, 0.3, power=1.0, incidence=1.0),
        "edges and strays": ErrorModel(0.4, 0.5, mixed=0.5, strays=0.01),
    }


def simulated(meshes: Path | None) -> Iterator[Case]:
    """A scan of every pattern with every error, and merged views."""
    from becalm.shapes.scan_scenes import object_source, random_scene
    from becalm.shapes.sensor_patterns import PATTERNS

    source = object_source(tuple(sorted(meshes.glob("develop.*.npz"))) if meshes else ())
    for p, pattern in enumerate([*PATTERNS, "photogrammetry"]):
        for e, (name, model) in enumerate(errors_by_name().items()):
            rng = np.random.default_rng([SEED, p, e])
            yield scanned(f"{pattern}, {name}", random_scene(rng, source), model, pattern, 1, rng)
        rng = np.random.default_rng([SEED, p, 99])
        layered = errors_by_name()["white"].__class__(0.2, 0.5, layers=1.0)
        if pattern != "photogrammetry":
            yield scanned(f"{pattern}, four views", random_scene(rng, source), layered, pattern, 4, rng)


def scanned(name: str, scene, model, pattern: str, views: int, rng: np.random.Generator) -> Case:
    """About 20 000 points of a scene."""
    from becalm.shapes.scan_scenes import radius_of_share, random_place
    from becalm.shapes.simulated_sensor import Region, sensor_scan

    while True:
        centre = random_place(scene, rng)
        radius = radius_of_share(scene, centre, float(np.exp(rng.uniform(np.log(0.05), 0))), rng)
        scan = sensor_scan(Region(scene, centre, radius, 20_000), model, rng, pattern, views)
        if scan.surface.sum() > 3000:
            break
    return Case(name, scan.noisy, scan.clean, scan.normals, scan.surface, scan.surface)


def ours(name: str) -> Callable:
    """The model, given nothing but the points."""
    from becalm.points.progress import final_progress
    from becalm.weights.store import load

    model = load(name)

    def denoise(points: np.ndarray):
        origin = points.mean(0)
        places, back = np.unique(points - origin, axis=0, return_inverse=True)
        back = back.reshape(-1)
        last = final_progress(model.iter_denoise(places))
        return points + (last.xyz - places)[back], None if last.surface is None else last.surface[back]

    return denoise


def cgal_jet(neighbours: int) -> Callable:
    """CGAL's jet smoothing, once."""

    def denoise(points: np.ndarray):
        from CGAL.CGAL_Kernel import Point_3
        from CGAL.CGAL_Point_set_3 import Point_set_3
        from CGAL.CGAL_Point_set_processing_3 import jet_smooth_point_set

        cloud = Point_set_3()
        for row in points.tolist():
            cloud.insert(Point_3(*row))
        jet_smooth_point_set(cloud, neighbours)
        return np.array([[p.x(), p.y(), p.z()] for p in cloud.points()]), None

    return denoise


def open3d_mls(spacings: float) -> Callable:
    """Open3D's projection on local planes within a radius."""

    def denoise(points: np.ndarray):
        import open3d

        middle = points.mean(0)
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points - middle))
        radius = open3d.geometry.KDTreeSearchParamRadius(spacings * spacing_of(points))
        return np.asarray(cloud.smooth_mls(radius).points) + middle, None

    return denoise


def local_fit(kind: str, neighbours: int) -> Callable:
    """Projection onto a plane or a quadric fitted to the nearest neighbours."""

    def denoise(points: np.ndarray):
        import torch

        from becalm.points.neighbours import knn
        from becalm.points.polyfit import fit_jets

        cloud, rows = torch.as_tensor(points), torch.arange(len(points))
        around = torch.as_tensor(knn(points, neighbours)[1])
        unit = torch.full((len(points),), spacing_of(points))
        move = fit_jets(cloud, around, unit, rows, (neighbours,)).vectors[:, 0 if kind == "plane" else 1]
        return points + move.double().numpy() * float(unit[0]), None

    return denoise


PEERS = {
    "cgal jet, 24": cgal_jet(24),
    "cgal jet, 60": cgal_jet(60),
    "open3d mls, 4 h": open3d_mls(4),
    "open3d mls, 8 h": open3d_mls(8),
    "plane, 60": local_fit("plane", 60),
    "quadric, 60": local_fit("quadric", 60),
}


def table(rows: list[dict]) -> str:
    """Rows by scan, methods by column; geometric means of the real and of the simulated scans below."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = list(dict.fromkeys(row["case"] for row in rows))
    value = {(row["case"], row["method"]): row["rms"] for row in rows}
    best = {row["case"]: row["attainable"] for row in rows}
    lines = [f"| scan | {' | '.join(methods)} | attainable |", "|---" * (len(methods) + 2) + "|"]
    groups = {"real scans": [n for n in names if n in REAL], "simulated": [n for n in names if n not in REAL]}
    for title, group in groups.items():
        for name in group:
            cells = [f"{value[name, m]:.3f}" if (name, m) in value else "–" for m in methods]
            lines.append(f"| {name} | {' | '.join(cells)} | {best[name]:.3f} |")
        if group:
            means = [geometric([value[n, m] for n in group if (n, m) in value]) for m in methods]
            lines.append(
                f"| **geometric mean, {title}** | {' | '.join(means)} | {geometric([best[n] for n in group])} |"
            )
    return "\n".join(lines)


def geometric(values: list[float]) -> str:
    """A geometric mean, printed."""
    return f"**{np.exp(np.mean(np.log(values))):.3f}**" if values else "–"


if __name__ == "__main__":
    main(tyro.cli(Sensors))
