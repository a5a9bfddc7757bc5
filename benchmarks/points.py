"""Denoisers of clouds side by side: develop meshes × 10 000 and 50 000 points × 1, 2, 3 % Gaussian noise.

    python benchmarks/points.py --meshes FOLDER [--official CHECKPOINT] [--fresh jets]

Clean clouds are Poisson-disk samples in the unit sphere, σ is in radii of the clean cloud's sphere, seeds are fixed. Each
method and size runs in a process of its own (peak memory), one after another, on one thread. Rows already in the results are
kept unless their method is named after --fresh, so that slow peers run once.
"""

import hashlib
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tyro

HERE = Path(__file__).parent
SEED = 20260101


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    meshes: Path
    """Folder of `develop.*.npz` meshes."""
    official: Path | None = None
    """SPD's published checkpoint; its rows are left out without it."""
    model: str = "jets"
    """Our model: a packaged name or a file of weights."""
    methods: tuple[str, ...] = ("noisy", "jets", "cgal jet", "open3d mls", "spd fast", "spd paper")
    """Which rows to measure."""
    sizes: tuple[int, ...] = (10_000, 50_000)
    """Points of the clouds."""
    levels: tuple[float, ...] = (0.01, 0.02, 0.03)
    """σ in radii."""
    shapes: tuple[str, ...] = ()
    """Meshes by name; all where none is named."""
    fresh: tuple[str, ...] = ()
    """Methods whose earlier rows are measured again."""
    threads: int = 1
    """Threads of torch."""
    output: Path = HERE / "results" / "points.json"
    """The results, read and added to."""
    clouds: Path = Path("runs") / "clouds"
    """Where clean clouds are kept between runs."""


def main(benchmark: Benchmark) -> None:
    """Measure what is missing, write after every cloud, print the table."""
    benchmark.output.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(benchmark.output.read_text())["rows"] if benchmark.output.exists() else []
    rows = [row for row in rows if row["method"] not in benchmark.fresh]
    for method in benchmark.methods:
        if method.startswith("spd") and benchmark.official is None:
            continue
        for size in benchmark.sizes:
            known = {(r["shape"], r["noise"]) for r in rows if r["method"] == method and r["points"] == size}
            with get_context("spawn").Pool(1, maxtasksperchild=None) as pool:
                for shape in benchmark.shapes or shapes(benchmark.meshes):
                    for noise in benchmark.levels:
                        if (shape, noise) not in known:
                            rows.append(pool.apply(measure, (benchmark, method, shape, size, noise)))
                            print(json.dumps(rows[-1]), flush=True)
                            write(benchmark, rows)
    write(benchmark, rows)
    print(table(rows))
    print(json.dumps({"machine": machine(), "products": products(benchmark)}))


def shapes(folder: Path) -> list[str]:
    """The develop meshes by name."""
    return [path.name.split(".")[1] for path in sorted(folder.glob("develop.*.npz"))]


def cloud(benchmark: Benchmark, shape: str, size: int):
    """The mesh in its unit sphere and the clean cloud [size, 3] on it."""
    from becalm.points import mesh as meshes

    mesh = meshes.unit_sphere(meshes.load(benchmark.meshes / f"develop.{shape}.npz"))
    kept = benchmark.clouds / f"{shape}.{size}.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, meshes.poisson_disk(mesh, size, np.random.default_rng(SEED)).points)
    return mesh, np.load(kept)


def measure(benchmark: Benchmark, method: str, shape: str, size: int, noise: float) -> dict:
    """One row: the figures of one method on one cloud."""
    import torch

    from becalm.points.metrics import chamfer, point_to_mesh, point_to_surface, unit_sphere

    torch.set_num_threads(benchmark.threads)
    mesh, clean = cloud(benchmark, shape, size)
    rng = np.random.default_rng([SEED, round(1e5 * noise), size])
    noisy = clean + noise * unit_sphere(clean)[1] * rng.standard_normal(clean.shape)
    work = METHODS[method](benchmark, noise)
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(noisy)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "method": method,
        "shape": shape,
        "points": size,
        "noise": noise,
        "chamfer": 1e4 * chamfer(result, clean),
        "surface": 1e4 * point_to_surface(result, mesh.vertices, mesh.faces),
        "point_to_mesh": 1e4 * point_to_mesh(result, mesh.vertices, mesh.faces),
        "seconds": wall,
        "cpu_seconds": cpu,
        "points_per_second": size / wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "clean_sha256": hashlib.sha256(clean.tobytes()).hexdigest()[:16],
    }


def ours(benchmark: Benchmark, noise: float) -> Callable:
    """The packaged model, told nothing."""
    from becalm.points.stage import last
    from becalm.systems.store import load

    model = load(benchmark.model)
    return lambda xyz: last(model.sweeps(xyz))


def spd_fast(benchmark: Benchmark, noise: float) -> Callable:
    """SPD with the official weights in our inference: one answer a point."""
    from becalm.points.stage import last
    from becalm.systems.importer import read_official

    model = read_official(benchmark.official)
    return lambda xyz: last(model.sweeps(xyz))


def spd_paper(benchmark: Benchmark, noise: float) -> Callable:
    """SPD as published: sphere, farthest-point seeds, merge; two passes at 3 %, which its authors knew to be 3 %."""
    from becalm.points.stage import last
    from becalm.systems.importer import read_official
    from becalm.systems.spd import paper

    model = read_official(benchmark.official)
    return lambda xyz: last(paper(model, xyz, passes=2 if noise > 0.025 else 1))


def nothing(benchmark: Benchmark, noise: float) -> Callable:
    """The input itself."""
    return lambda xyz: xyz


def cgal_jet(benchmark: Benchmark, noise: float) -> Callable:
    """CGAL's jet smoothing, 24 neighbours, twice."""
    from CGAL.CGAL_Kernel import Point_3
    from CGAL.CGAL_Point_set_3 import Point_set_3
    from CGAL.CGAL_Point_set_processing_3 import jet_smooth_point_set

    def smooth(xyz: np.ndarray) -> np.ndarray:
        points = Point_set_3()
        for row in xyz.tolist():
            points.insert(Point_3(*row))
        for _ in range(2):
            jet_smooth_point_set(points, 24)
        return np.array([[p.x(), p.y(), p.z()] for p in points.points()])

    return smooth


def open3d_mls(benchmark: Benchmark, noise: float) -> Callable:
    """Open3D's projection on local planes, radius 0.1."""
    import open3d

    def smooth(xyz: np.ndarray) -> np.ndarray:
        points = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
        return np.asarray(points.smooth_mls(open3d.geometry.KDTreeSearchParamRadius(0.1)).points)

    return smooth


METHODS = {
    "noisy": nothing,
    "jets": ours,
    "spd fast": spd_fast,
    "spd paper": spd_paper,
    "cgal jet": cgal_jet,
    "open3d mls": open3d_mls,
}


def write(benchmark: Benchmark, rows: list[dict]) -> None:
    """The rows, and the machine they were measured on."""
    from becalm.core.files import replacing

    with replacing(benchmark.output) as temporary:
        temporary.write_text(json.dumps({"rows": rows}, indent=1))


def machine() -> dict:
    """Its own matrix products on one thread, beside which every speed is to be read."""
    import platform

    import torch

    rates = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(2048, 2048).to(kind)
        a @ a
        begun = time.process_time()
        for _ in range(5):
            a @ a
        rates[f"{name}_gflops"] = round(5 * 2 * 2.048**3 / (time.process_time() - begun), 1)
    return {"processor": platform.processor() or platform.machine(), "python": platform.python_version(), **rates}


def products(benchmark: Benchmark) -> dict:
    """Floating-point operations in matrix products that our model needs for 10 000 points, and the rate it reaches."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from becalm.points.stage import last
    from becalm.systems.store import load

    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    sphere = rng.standard_normal((10_000, 3))
    sphere = sphere / np.linalg.norm(sphere, axis=1, keepdims=True) + 0.01 * rng.standard_normal((10_000, 3))
    model = load(benchmark.model)
    with FlopCounterMode(display=False) as counter:
        last(model.sweeps(sphere))
    begun = time.process_time()
    last(model.sweeps(sphere))
    seconds, work = time.process_time() - begun, counter.get_total_flops() / 1e9
    return {"gflop": round(work, 2), "cpu_seconds": round(seconds, 2), "gflops": round(work / seconds, 1)}


def table(rows: list[dict]) -> str:
    """Means over shapes, a line a method and cell, in Markdown."""
    lines = [
        "| points | noise | method | shapes | CD ×10⁴ | one-way P2M ×10⁴ | CPU s | points/CPU s | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size, noise in sorted({(r["points"], r["noise"]) for r in rows}):
        for method in METHODS:
            cell = [r for r in rows if (r["points"], r["noise"], r["method"]) == (size, noise, method)]
            if cell:
                mean = {key: np.mean([r[key] for r in cell]) for key in cell[0] if isinstance(cell[0][key], float)}
                lines.append(
                    f"| {size:,} | {noise:.1%} | {method} | {len(cell)} | {mean['chamfer']:.3f} | {mean['surface']:.3f} "
                    f"| {mean['cpu_seconds']:.2f} | {size / max(mean['cpu_seconds'], 1e-3):,.0f} "
                    f"| {max(r['peak_mb'] for r in cell):,.0f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
