"""Scan a simulated yard, denoise the scan with the packaged weights, and compare with what was really there."""

from pathlib import Path

import numpy as np

from becalm.points import Cloud, write
from becalm.points.plot import draw
from becalm.shapes.simulated_scan import distance_to_scene, simulate, yard
from becalm.tasks import denoise

FOLDER = Path("demo")


def main(beams: int = 40_000) -> None:
    """Write the scan, the clean scan and the picture into `demo/`, and print the figures."""
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    scene = yard(rng)
    scan = simulate(rng, beams=beams, scene=scene)
    write(Cloud(scan.xyz, {"intensity": scan.intensity, "range": scan.range}), FOLDER / "scan.ply")

    for report in denoise.steps(FOLDER / "scan.ply", outliers="flag"):
        print(f"\rdenoising {len(scan.xyz):,} points: {report.done:4.0%}", end="", flush=True)
    result = report.result
    result.save(FOLDER / "clean.ply")
    cloud, outlier = result.original, result.outlier
    draw(cloud.local()[~outlier], result.cloud.local()[~outlier], FOLDER / "picture.png", unit="m")

    figures = result.report
    before, after = (distance_to_scene(scene, xyz[~outlier & ~scan.outlier]) for xyz in (cloud.xyz, result.points))
    print(f"\n\nThe scan against the scene it was made from ({FOLDER}/scan.ply, {FOLDER}/clean.ply)")
    print(f"{'':34}before    after")
    for name, value in (
        ("rms", lambda d: np.sqrt(np.mean(d**2))),
        ("median", np.median),
        ("95th percentile", percentile_95),
    ):
        print(f"distance to the surface, {name:<16} {1e3 * value(before):5.1f} mm {1e3 * value(after):5.1f} mm")
    print(
        f"{'noise as becalm estimates it':<34}{1e3 * figures.noise_before:5.1f} mm {1e3 * figures.noise_after:5.1f} mm"
    )
    correct = int((outlier & scan.outlier).sum())
    print(f"outliers: {int(scan.outlier.sum())} made, {int(outlier.sum())} flagged, {correct} of them correctly")
    print(f"picture:  {FOLDER}/picture.png")


def percentile_95(distances: np.ndarray) -> float:
    """The 95th percentile."""
    return float(np.quantile(distances, 0.95))


if __name__ == "__main__":
    main()
