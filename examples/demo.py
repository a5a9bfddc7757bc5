"""Scan a simulated yard, denoise the scan with the packaged weights, and compare with what was really there."""

from pathlib import Path

import numpy as np

import becalm
from becalm.points import Cloud, read, write
from becalm.points.denoise import apply_outlier_policy, find_isolated, iter_denoise_cloud, mark_outliers, summarize
from becalm.points.plot import draw
from becalm.shapes.simulated_scan import simulate, to_scene, yard

FOLDER = Path("demo")


def main() -> None:
    """Write the scan, the clean scan and the picture into `demo/`, and print the figures."""
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    scene = yard(rng)
    scan = simulate(rng, beams=40_000, scene=scene)
    write(Cloud(scan.xyz, {"intensity": scan.intensity, "range": scan.range}), FOLDER / "scan.ply")

    cloud, model = read(FOLDER / "scan.ply"), becalm.load("jets")
    outlier = find_isolated(cloud, "flag")
    for stage in iter_denoise_cloud(cloud, model, outlier):
        print(f"\rdenoising {len(cloud):,} points: {stage.done:4.0%}", end="", flush=True)
    stage, outlier = mark_outliers(cloud, stage, outlier, "flag")
    result = apply_outlier_policy(cloud, stage, outlier, "flag")
    write(result, FOLDER / "clean.ply")
    draw(cloud.local()[~outlier], result.local()[~outlier], FOLDER / "picture.png", unit="m")

    figures = summarize(cloud, stage, outlier)
    before, after = (to_scene(scene, c.xyz[~outlier & ~scan.outlier]) for c in (cloud, result))
    print(f"\n\nThe scan against the scene it was made from ({FOLDER}/scan.ply, {FOLDER}/clean.ply)")
    print(f"{'':34}before    after")
    for name, value in (
        ("rms", lambda d: np.sqrt(np.mean(d**2))),
        ("median", np.median),
        ("95th percentile", percentile),
    ):
        print(f"distance to the surface, {name:<16} {1e3 * value(before):5.1f} mm {1e3 * value(after):5.1f} mm")
    print(
        f"{'noise as becalm estimates it':<34}{1e3 * figures.noise_before:5.1f} mm {1e3 * figures.noise_after:5.1f} mm"
    )
    found = int((outlier & scan.outlier).sum())
    print(f"outliers: {int(scan.outlier.sum())} made, {int(outlier.sum())} flagged, {found} of them rightly")
    print(f"picture:  {FOLDER}/picture.png")


def percentile(distances: np.ndarray) -> float:
    """The 95th."""
    return float(np.quantile(distances, 0.95))


if __name__ == "__main__":
    main()
