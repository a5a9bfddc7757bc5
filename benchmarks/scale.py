"""Points per CPU-second of `becalm denoise` on a synthetic LAZ, and the memory of all processes: by default 100 000 points.

    python benchmarks/scale.py --points 1000000 --workers 1

The scan has 16-bit colours and UTM coordinates. Beside it, in the same run, CGAL's jet smoothing and Open3D's outlier filter on
200 000 of its points where they are installed, and the machine's own matrix product.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np


def write_terrain(path: Path, count: int, sigma: float = 0.02, chunk: int = 1_000_000) -> None:
    """A rough terrain of one point in every 0.05 × 0.05 units, with noise σ, written in parts."""
    import laspy

    header = laspy.LasHeader(version="1.4", point_format=7)
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 5_400_000.0, 300.0])
    side = 0.05 * np.sqrt(count)
    with laspy.open(path, "w", header=header) as writer:
        for first in range(0, count, chunk):
            n, rng = min(chunk, count - first), np.random.default_rng(first)
            x, y = (side * rng.random(n) for _ in range(2))
            z = np.sin(x / 3) * np.cos(y / 5) + 0.2 * np.sin(2 * x + y)
            points = laspy.ScaleAwarePointRecord.zeros(n, header=header)
            noise = sigma * rng.standard_normal((3, n))
            points.x, points.y, points.z = x + 500_000 + noise[0], y + 5_400_000 + noise[1], z + 300 + noise[2]
            for name in ("red", "green", "blue", "intensity"):
                points[name] = rng.integers(0, 65536, n)
            writer.write_points(points)


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children, shared pages counted by their share, where the system says so."""
    try:
        own = next(
            line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")
        )
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return (int(own.split()[1]) << 10) + sum(resident_bytes(int(child)) for child in children)
    except (OSError, StopIteration):
        return 0


def run_command(arguments: list[str]) -> dict:
    """Wall and CPU seconds, and the peak memory, of a `becalm denoise`."""
    started, before, peak = time.time(), os.times(), [0]
    process = subprocess.Popen(
        [sys.executable, "-m", "becalm", "denoise", *arguments], stdout=subprocess.PIPE, text=True
    )

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], resident_bytes(process.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return {
        "seconds": time.time() - started,
        "cpu_seconds": cpu,
        "peak_gib": peak[0] / 2**30,
        "report": json.loads(out),
    }


def peers(path: Path, most: int = 200_000) -> dict:
    """Points per CPU-second of other filters on the first points of a scan."""
    from becalm.points import read

    xyz = np.array(read(path).local()[:most])
    found = {}
    try:
        from CGAL.CGAL_Kernel import Point_3
        from CGAL.CGAL_Point_set_3 import Point_set_3
        from CGAL.CGAL_Point_set_processing_3 import jet_smooth_point_set

        points = Point_set_3()
        for row in xyz.tolist():
            points.insert(Point_3(*row))
        started = time.process_time()
        jet_smooth_point_set(points, 24)
        found["cgal_jet"] = len(xyz) / (time.process_time() - started)
    except ImportError:
        pass
    try:
        import open3d

        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz))
        started = time.process_time()
        cloud.remove_statistical_outlier(24, 2.0)
        found["open3d_outliers"] = len(xyz) / (time.process_time() - started)
    except ImportError:
        pass
    return found


def matmul_rate(n: int = 1024, times: int = 5) -> float:
    """GFLOP/s of the machine's float32 matrix product on one core."""
    import torch

    torch.set_num_threads(1)
    a = torch.randn(n, n)
    started = time.process_time()
    for _ in range(times):
        a @ a
    return 2 * n**3 * times / (time.process_time() - started) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tile", type=int, default=None)
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.points:
            scan, clean = Path(folder) / f"{count}.laz", Path(folder) / f"{count}.clean.laz"
            write_terrain(scan, count)
            tile = ["--tile", str(options.tile)] if options.tile else []
            row = run_command([str(scan), "-o", str(clean), "--json", "--workers", str(options.workers), *tile])
            row |= {"points": count, "points_per_cpu_second": count / row["cpu_seconds"]}
            rows.append(row)
            print(f"{count:>12,} points  {row['points_per_cpu_second']:>8.0f} a CPU-second  {row['peak_gib']:.2f} GiB")
        others = peers(scan) | {"matmul_gflops": matmul_rate()}
    print("  ".join(f"{name} {value:,.0f}" for name, value in others.items()))
    if options.output:
        options.output.write_text(json.dumps({"runs": rows, "others": others}, indent=1))


if __name__ == "__main__":
    main()
