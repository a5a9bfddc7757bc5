"""Points per CPU-second of `becalm denoise` on a synthetic LAZ, and the memory of all processes: by default 100 000 points.

    python benchmarks/scale.py --points 1000000 --workers 1
    python benchmarks/scale.py --seams 200000 --tile 50000

The scan has 16-bit colours and UTM coordinates. Beside it, in the same run, CGAL's jet smoothing and Open3D's outlier filter on
200 000 of its points where they are installed, the machine's own matrix product, and what share of that rate the model reaches.
With `--seams` so many points are denoised in tiles and in one piece, and the errors near the tiles' borders are compared.
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

ORIGIN = np.array([500_000, 5_400_000, 300.0])
"""Where the terrain lies."""


def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the terrain without noise."""
    return np.sin(x / 3) * np.cos(y / 5) + 0.2 * np.sin(2 * x + y)


def write_terrain(path: Path, count: int, sigma: float = 0.02, chunk: int = 1_000_000) -> None:
    """A rough terrain of one point in every 0.05 × 0.05 units, with noise σ, written in parts."""
    import laspy

    header = laspy.LasHeader(version="1.4", point_format=7)
    header.scales, header.offsets = np.full(3, 0.001), ORIGIN
    side = 0.05 * np.sqrt(count)
    with laspy.open(path, "w", header=header) as writer:
        for first in range(0, count, chunk):
            n, rng = min(chunk, count - first), np.random.default_rng(first)
            x, y = (side * rng.random(n) for _ in range(2))
            z = height(x, y)
            points = laspy.ScaleAwarePointRecord.zeros(n, header=header)
            noise = sigma * rng.standard_normal((3, n))
            points.x, points.y, points.z = np.stack([x, y, z]) + ORIGIN[:, None] + noise
            for name in ("red", "green", "blue", "intensity"):
                points[name] = rng.integers(0, 65536, n)
            writer.write_points(points)


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children, shared pages counted by their share, where the system says so."""
    try:
        own = next(
            line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")
        )
        threads = Path(f"/proc/{pid}/task").iterdir()
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
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


def squared_errors(xyz: np.ndarray) -> np.ndarray:
    """Squared distances [n] of points [n, 3] to the terrain's tangent plane below them."""
    x, y, z = xyz.T
    slope_x = np.cos(x / 3) * np.cos(y / 5) / 3 + 0.4 * np.cos(2 * x + y)
    slope_y = -np.sin(x / 3) * np.sin(y / 5) / 5 + 0.2 * np.cos(2 * x + y)
    return (z - height(x, y)) ** 2 / (1 + slope_x**2 + slope_y**2)


def denoise_tiles(cloud, model, tile_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [n, 3] of a cloud denoised in tiles, and horizontal distances [n] of its points to the nearest other tile."""
    from becalm.points.constraints import Constraints
    from becalm.points.tile_denoise import Settings
    from becalm.tasks.tiling import LimitedParts, Tiling, iter_denoise_tiles

    parts = LimitedParts((cloud,), len(cloud), lambda _: Constraints())
    xyz, seam = cloud.xyz.copy(), np.full(len(cloud), np.inf)
    with tempfile.TemporaryDirectory() as folder:
        *_, (_, tiles) = iter_denoise_tiles(parts, Path(folder), model, Settings(), Tiling(tile=tile_points))
        rows, found = tiles.results(0, len(cloud))
        xyz[rows] = found["xyz"]
        for tile in tiles.numbers:
            outside = np.maximum(tiles.low[tile] - cloud.xyz, cloud.xyz - tiles.high[tile])[:, :2].clip(min=0)
            distance = np.linalg.norm(outside, axis=1)
            distance[np.fromfile(tiles.path(tile, "rows"), np.int64)] = np.inf
            seam = np.minimum(seam, distance)
    return xyz, seam


def seam_errors(path: Path, tile_points: int, halo: float = 32 * 0.05) -> dict:
    """Mean squared distances to the terrain within two halos of the borders of tiles and inside, in tiles and in one piece.

    Points within two halos of the scan's own edge count for neither.
    """
    from becalm import load
    from becalm.points import read
    from becalm.points.denoise import iter_denoise_cloud
    from becalm.points.progress import final_progress

    cloud, model = read(path), load("jets")
    tiled, seam = denoise_tiles(cloud, model, tile_points)
    results = {"tiles": tiled, "one_piece": final_progress(iter_denoise_cloud(cloud, model)).xyz}
    flat = cloud.xyz[:, :2]
    inner = ((flat > flat.min(axis=0) + 2 * halo) & (flat < flat.max(axis=0) - 2 * halo)).all(axis=1)
    places = {"border": inner & (seam < 2 * halo), "inside": inner & (seam >= 2 * halo)}
    errors = {kind: squared_errors(xyz - ORIGIN) for kind, xyz in results.items()}
    row = {place: {kind: float(errors[kind][mask].mean()) for kind in errors} for place, mask in places.items()}
    return row | {"points": {place: int(mask.sum()) for place, mask in places.items()}}


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


def product_operations(path: Path, most: int = 50_000) -> float:
    """Floating-point operations a point, of matrix products, with which the model denoises the first points of a scan."""
    from becalm import load
    from becalm.points import read
    from becalm.points.denoise import iter_denoise_cloud
    from becalm.points.progress import final_progress
    from becalm.training.flops import flop_counter

    cloud = read(path)[:most]
    with flop_counter() as counter:
        final_progress(iter_denoise_cloud(cloud, load("jets")))
    return counter.get_total_flops() / len(cloud)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tile", type=int, default=None)
    parser.add_argument(
        "--seams", type=int, default=None, help="compare errors near borders of tiles on so many points"
    )
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.seams:
            write_terrain(Path(folder) / "scan.laz", options.seams)
            found = seam_errors(Path(folder) / "scan.laz", options.tile or options.seams // 4)
        else:
            found = scale_rows(Path(folder), options)
    print(json.dumps(found.get("others", found)))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1))


def scale_rows(folder: Path, options: argparse.Namespace) -> dict:
    """Time and memory for each number of points, and points per CPU-second of what stands beside."""
    rows = []
    for count in options.points:
        scan, clean = folder / f"{count}.laz", folder / f"{count}.clean.laz"
        write_terrain(scan, count)
        tile = ["--tile", str(options.tile)] if options.tile else []
        row = run_command([str(scan), "-o", str(clean), "--json", "--workers", str(options.workers), *tile])
        row |= {"points": count, "points_per_cpu_second": count / row["cpu_seconds"]}
        rows.append(row)
        print(f"{count:>12,} points  {row['points_per_cpu_second']:>8.0f} a CPU-second  {row['peak_gib']:.2f} GiB")
    others = peers(scan) | {"matmul_gflops": matmul_rate()}
    gflops = product_operations(scan) * rows[-1]["points_per_cpu_second"] / 1e9
    return {"runs": rows, "others": others | {"share_of_matmul_rate": gflops / others["matmul_gflops"]}}


if __name__ == "__main__":
    main()
