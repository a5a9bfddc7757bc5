"""Denoisers of clouds side by side, suite by suite: the headline, gentle noise, noise of all kinds, edges, hard clouds, sizes.

    python benchmarks/points.py --meshes FOLDER [--suites headline gentle] [--official CHECKPOINT] [--fresh jets]

Seeds are fixed: a cell of a suite is the same cloud for every method and every run. Each method and size runs in a process of
its own, one cloud after another, on one thread. Rows already in the results are kept unless their method is named after
--fresh, so that slow peers run once.
"""

import hashlib
import json
import resource
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tyro
from clouds import SEED, SOLIDS, Cell, mesh_of, names, pair
from markdown_tables import PLAIN, ratios, table
from peers import METHODS, UNORDERED, Task

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """Cells, and the shapes each of them is measured on."""

    cells: tuple[Cell, ...]
    """What is done to each shape."""
    shapes: tuple[str, ...] = ()
    """Shapes by name; every develop mesh where none is named."""


KINDS = ("laplace", "uniform_ball", "discrete", "anisotropic", "unidirectional", "along_rays", "correlated")

SUITES = {
    "headline": Suite(tuple(Cell(n, s) for n in (10_000, 50_000) for s in (0.01, 0.02, 0.03))),
    "gentle": Suite(tuple(Cell(10_000, s) for s in (0.0, 0.001, 0.0025, 0.005))),
    "kinds": Suite(tuple(Cell(10_000, 0.02, kind) for kind in ("gaussian", *KINDS, "range_dependent"))),
    "edges": Suite(tuple(Cell(10_000, s) for s in (0.005, 0.01, 0.02, 0.03)), tuple(SOLIDS)),
    "hard": Suite(
        (
            Cell(10_000, 0.02, density="uneven"),
            Cell(10_000, 0.02, outliers=0.01),
            Cell(10_000, 0.02, density="uneven", outliers=0.01),
        )
    ),
    "sparse": Suite((Cell(2_000, 0.02),)),
    "large": Suite((Cell(500_000, 0.01), Cell(500_000, 0.02)), ("lion", "spot")),
}
"""What can be measured. Together `sparse` and `large` are the sizes beside the headline's."""


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    meshes: Path
    """Folder of `develop.*.npz` meshes."""
    suites: tuple[str, ...] = ("headline",)
    """Names from `SUITES`."""
    official: Path | None = None
    """SPD's published checkpoint; its rows are left out without it."""
    model: str = "jets"
    """Our model: a packaged name or a file of weights."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which rows to measure; `jets, outliers removed` only where there are outliers."""
    sizes: tuple[int, ...] = ()
    """Only clouds of these sizes; all where none is named."""
    levels: tuple[float, ...] = ()
    """Only these σ; all where none is named."""
    shapes: tuple[str, ...] = ()
    """Only these shapes; all of the suite where none is named."""
    fresh: tuple[str, ...] = ()
    """Methods whose earlier rows are measured again, in the cells asked for."""
    threads: int = 1
    """Threads of torch."""
    output: Path = HERE / "results" / "points.json"
    """The results, read and added to."""
    clouds: Path = Path("runs") / "clouds"
    """Where clean clouds are kept between runs."""


def main(benchmark: Benchmark) -> None:
    """Measure what is missing, write after every cloud, print a table a suite."""
    benchmark.output.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(benchmark.output.read_text())["rows"] if benchmark.output.exists() else []
    wanted = [(shape, cell) for name in benchmark.suites for shape, cell in runs(benchmark, SUITES[name])]
    keys = {key(shape, cell) for shape, cell in wanted}
    rows = [r for r in rows if r["method"] not in benchmark.fresh or key_of(r) not in keys]
    for method in benchmark.methods:
        if method.startswith("spd") and benchmark.official is None:
            continue
        for size in sorted({cell.points for _, cell in wanted}):
            measure_size(benchmark, method, [run for run in wanted if run[1].points == size], rows)
    for name in benchmark.suites:
        print(f"\n### {name}\n\n" + table(of_suite(rows, benchmark, name), METHODS))
    if "headline" in benchmark.suites:
        print("\n" + ratios(of_suite(rows, benchmark, "headline"), ("jets", "exact projection"), "spd paper"))
    print(json.dumps({"machine": machine(), "products": products(benchmark)}))


def measure_size(benchmark: Benchmark, method: str, wanted: list[tuple[str, Cell]], rows: list[dict]) -> None:
    """Add the missing rows of one method, in one process, to `rows` and to the file."""
    known = {key_of(row) for row in rows if row["method"] == method}
    missing = [run for run in dict.fromkeys(wanted) if key(*run) not in known]
    if method.endswith("outliers removed"):
        missing = [(shape, cell) for shape, cell in missing if cell.outliers]
    if not missing:
        return
    with get_context("spawn").Pool(1) as pool:
        for shape, cell in missing:
            rows.append(pool.apply(measure, (benchmark, method, shape, cell)))
            print(json.dumps(rows[-1]), flush=True)
            write(benchmark, rows)


def runs(benchmark: Benchmark, suite: Suite) -> list[tuple[str, Cell]]:
    """The shapes and cells of a suite that the options leave."""
    shapes = suite.shapes or names(benchmark.meshes)
    return [
        (shape, cell)
        for cell in suite.cells
        for shape in shapes
        if (not benchmark.sizes or cell.points in benchmark.sizes)
        and (not benchmark.levels or cell.noise in benchmark.levels)
        and (not benchmark.shapes or shape in benchmark.shapes)
    ]


def key(shape: str, cell: Cell) -> tuple:
    """What tells one cloud from another."""
    return shape, cell.points, cell.noise, cell.kind, cell.density, cell.outliers


def key_of(row: dict) -> tuple:
    """The same of a row; the earliest rows name neither kind nor density."""
    return tuple({**PLAIN, **row}[name] for name in ("shape", "points", "noise", "kind", "density", "outliers"))


def of_suite(rows: list[dict], benchmark: Benchmark, name: str) -> list[dict]:
    """The rows of a suite, all its shapes, with every column of `key`."""
    suite = SUITES[name]
    keys = {key(shape, cell) for cell in suite.cells for shape in suite.shapes or names(benchmark.meshes)}
    return [{**PLAIN, **row} for row in rows if key_of(row) in keys]


def measure(benchmark: Benchmark, method: str, shape: str, cell: Cell) -> dict:
    """One row: the figures of one method on one cloud."""
    import torch

    torch.set_num_threads(benchmark.threads)
    mesh = mesh_of(benchmark.meshes, shape)
    noisy, clean, sigma = pair(mesh, shape, cell, benchmark.clouds)
    work = METHODS[method](Task(benchmark.model, benchmark.official, cell.noise, mesh))
    forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(noisy)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "method": method,
        "shape": shape,
        "points": cell.points,
        "noise": cell.noise,
        "kind": cell.kind,
        "density": cell.density,
        "outliers": cell.outliers,
        **figures(result, noisy, clean, mesh, sigma, method not in UNORDERED),
        "seconds": wall,
        "cpu_seconds": cpu,
        "points_per_second": cell.points / wall,
        "peak_mb": peak,
        "clean_sha256": hashlib.sha256(clean.tobytes()).hexdigest()[:16],
    }


def figures(result, noisy, clean, mesh, sigma: float, ordered: bool) -> dict:
    """How good a result [n + outliers, 3] is. Squares × 10⁴, lengths in radii, None where a figure has no meaning.

    All but the first three are of the cloud's own points where order tells them from outliers, else of all there are.
    """
    from becalm.points import metrics
    from becalm.points.neighbours import median_spacing
    from becalm.points.triangles import nearest_surface_points

    surface = mesh.vertices, mesh.faces
    own = result[: len(clean)] if ordered else result
    home = clean if ordered else nearest_surface_points(own, mesh.vertices[mesh.faces]).points
    radius = metrics.unit_sphere(clean)[1]
    row = {
        "chamfer": 1e4 * metrics.chamfer(result, clean),
        "surface": 1e4 * metrics.point_to_surface(result, *surface),
        "point_to_mesh": 1e4 * metrics.point_to_mesh(result, *surface),
        "surface_own": 1e4 * metrics.point_to_surface(own, *surface) if ordered else None,
        "rmse": metrics.rmse(own, clean) if ordered else None,
        "hausdorff_95": metrics.hausdorff(own, clean),
        "unevenness": metrics.unevenness(own),
        "shrinkage": metrics.shrinkage(own, *surface),
        "edge": 1e4 * metrics.edge_error(own, home, *surface, max(2 * sigma, median_spacing(clean))),
        "displacement": float(np.median(np.linalg.norm(own - noisy[: len(clean)], axis=1))) / radius
        if ordered
        else None,
    }
    return {name: None if value is None or np.isnan(value) else float(value) for name, value in row.items()}


def forget_peak() -> None:
    """Count peak memory from here on, where the system lets a process do so (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def write(benchmark: Benchmark, rows: list[dict]) -> None:
    """The rows, whole or not at all."""
    from becalm.core.files import atomic_file

    with atomic_file(benchmark.output) as temporary:
        temporary.write_text(json.dumps({"rows": rows}, indent=1))


def machine() -> dict:
    """Its own matrix products on one thread, beside which every speed is to be read."""
    import platform

    import torch

    rates = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(2048, 2048, generator=torch.Generator().manual_seed(SEED)).to(kind)
        a @ a
        start = time.process_time()
        for _ in range(5):
            a @ a
        rates[f"{name}_gflops"] = round(5 * 2 * 2.048**3 / (time.process_time() - start), 1)
    return {"processor": platform.processor() or platform.machine(), "python": platform.python_version(), **rates}


def products(benchmark: Benchmark) -> dict:
    """Floating-point operations in matrix products that our model needs for 10 000 points, and the rate it reaches."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from becalm.points.progress import final_points
    from becalm.weights.store import load

    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    sphere = rng.standard_normal((10_000, 3))
    sphere = sphere / np.linalg.norm(sphere, axis=1, keepdims=True) + 0.01 * rng.standard_normal((10_000, 3))
    model = load(benchmark.model)
    with FlopCounterMode(display=False) as counter:
        final_points(model.iter_denoise(sphere))
    start = time.process_time()
    final_points(model.iter_denoise(sphere))
    seconds, work = time.process_time() - start, counter.get_total_flops() / 1e9
    return {"gflop": round(work, 2), "cpu_seconds": round(seconds, 2), "gflops": round(work / seconds, 1)}


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
