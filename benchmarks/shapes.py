"""What a perfect generator would score on the families and on LDraw (the oracle rows), and what shapes and scores cost.

    python benchmarks/shapes.py [--ldraw FILE] [--shapes 200] [--chamfer-points 2048] [--emd-points 512]

Times are CPU milliseconds of one process. Writes results/shapes.json beside this file.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from becalm.shapes import families, set_metrics, sets

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    ldraw: Path | None = None
    """The archive of LDraw parts; its row is left out without it."""
    shapes: int = 200
    """Shapes in each of the two sets of a row."""
    chamfer_points: int = 2048
    """Points of a shape for CD, JSD and thickness."""
    emd_points: int = 512
    """Points of a shape for EMD."""
    seed: int = 0
    """Decides shapes and their points."""


def milliseconds(name: str, n: int = 2048, count: int = 100) -> float:
    """CPU time of a fresh shape of a family."""
    rng = np.random.default_rng(0)
    start = time.process_time()
    for _ in range(count):
        families.sample_family(rng, name, n)
    return (time.process_time() - start) / count * 1e3


def costs(points: np.ndarray, emd_points: int) -> dict[str, float]:
    """CPU milliseconds a pair of CD and EMD, and a shape of thickness."""
    some, out = points[:12], {}
    for name, metric, x in (
        ("CD", set_metrics.chamfer_matrix, some),
        ("EMD", set_metrics.emd_matrix, some[:, :emd_points]),
    ):
        start = time.process_time()
        metric(x, x.copy())
        out[f"{name} ms a pair"] = (time.process_time() - start) / len(x) ** 2 * 1e3
    start = time.process_time()
    set_metrics.local_thickness(some)
    return out | {"thickness ms a shape": (time.process_time() - start) / len(some) * 1e3}


def rows(benchmark: Benchmark) -> list[set_metrics.Row]:
    """The oracle row of every family, of all families together, and of LDraw."""
    settings = set_metrics.Settings(benchmark.chamfer_points, benchmark.emd_points, seed=benchmark.seed)
    found, n, seed = [], benchmark.chamfer_points, benchmark.seed
    for classes in (*((name,) for name in families.CLASSES), families.CLASSES):
        train = sets.generate_families(benchmark.shapes, n, 2 * seed, classes, "train")
        test = sets.generate_families(benchmark.shapes, n, 2 * seed + 1, classes, "test")
        found.append(
            {"set": classes[0] if len(classes) == 1 else "families"} | set_metrics.oracle(test, train, settings)
        )
        print(line(found[-1]), flush=True)
    if benchmark.ldraw:
        train, test = sets.load_ldraw(benchmark.ldraw, "train"), sets.load_ldraw(benchmark.ldraw, "test")
        chosen = np.random.default_rng(seed).permutation(len(test))[: benchmark.shapes]
        few = sets.ShapeSet(test.points[chosen], test.labels[chosen], test.classes, test.protocol)
        found.append({"set": "ldraw"} | set_metrics.oracle(few, train, settings))
        print(line(found[-1]), flush=True)
    return found


def line(row: set_metrics.Row) -> str:
    """A row in words, with its intervals."""
    cells = [f"{row['set']:>10}"]
    for name, value in row.items():
        if isinstance(value, set_metrics.Estimate):
            cells.append(f"{name} {value.value:.4g} ({value.low:.4g}–{value.high:.4g})")
    return "  ".join([*cells, f"JSD {row['JSD']:.4f}"])


def main(benchmark: Benchmark) -> None:
    made = {name: milliseconds(name) for name in families.CLASSES}
    cost = costs(sets.generate_families(12, benchmark.chamfer_points, 0, ("chair",)).points, benchmark.emd_points)
    print({name: round(value, 3) for name, value in (made | cost).items()})
    found = [
        {k: v._asdict() if isinstance(v, set_metrics.Estimate) else v for k, v in row.items()}
        for row in rows(benchmark)
    ]
    result = {"ms a shape of 2048 points": made, "costs": cost, "oracles": found}
    (HERE / "results" / "shapes.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
