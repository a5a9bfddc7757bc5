"""becalm denoise: a noisy scan in, a clean scan out."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Denoise:
    """Clean a scan: every point stays, in order, with its attributes; only its position settles."""

    scan: Annotated[Path, tyro.conf.Positional]
    """The scan: .ply .pcd .las .laz .e57 .xyz .txt .csv .pts .npy .npz"""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """The clean scan; left out, SCAN.denoised.SUFFIX beside the scan."""
    model: str = "jets"
    """A packaged model (see `becalm models`) or a file of weights."""
    mode: Literal["fast", "paper"] = "fast"
    """How SPD runs: one answer a point, or exactly as published (points are re-sampled: order and attributes are lost)."""
    noise: str = "auto"
    """The noise's standard deviation in the scan's units, where it is known; or auto."""
    outliers: Literal["keep", "flag", "remove"] = "keep"
    """What to do with points that are isolated or contradict the noise around them: nothing, attribute `outlier`, leave out."""
    details: bool = False
    """Add attributes: `displacement` (how far each point moved), `noise` (σ found there) and `confidence` (0 to 1)."""
    record: Path | None = None
    """Write the positions after every sweep to this .safetensors file."""
    picture: Path | None = None
    """Write a picture of before and after, coloured by displacement, to this .png file."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same result."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, find outliers, denoise, write, report."""
        from becalm.points import denoise as work
        from becalm.points import read, write
        from becalm.points.formats.scan_files import check_output_path
        from becalm.systems.jets import Jets
        from becalm.systems.sbd import SBD
        from becalm.systems.spd import SPD
        from becalm.weights.store import load

        started = time.time()
        output = self.output or self.scan.with_name(f"{self.scan.stem}.denoised{self.scan.suffix}")
        for target in (output, self.record, self.picture):
            if target:
                check_output_path(target, self.scan)
        sigma, model = level(self.noise), load(self.model, Jets, SBD, SPD)
        cloud = read(self.scan, warn)
        outlier = work.find_isolated(cloud, self.outliers)
        if self.mode == "paper":
            return self.as_published(model, cloud.select(cloud.finite & ~outlier), sigma, output)
        with naming(self.scan):
            swept = watched(work.iter_denoise_cloud(cloud, model, outlier, sigma, self.seed))
        stage, outlier = work.mark_outliers(cloud, swept[-1], outlier, self.outliers)
        told = cloud.with_attributes(work.point_attributes(cloud, stage)) if self.details else cloud
        write(work.apply_outlier_policy(told, stage, outlier, self.outliers), output, warn)
        summary = asdict(work.summarize(cloud, stage, outlier))
        if self.record:
            frames = [s.xyz for s in (*swept[:-1], stage)]
            recorded(self.record, cloud, frames, {"scan": self.scan.name, "model": self.model, "seed": self.seed})
        if self.picture:
            pictured(self.picture, cloud, stage.xyz, ~outlier)
        self.tell(summary | {"seconds": round(time.time() - started, 2), "output": str(output)})

    def as_published(self, model, cloud, sigma: float | None, output: Path) -> None:
        """SPD as in the paper: positions alone come back, sampled anew."""
        import torch

        from becalm.points import Cloud, ScanError, write
        from becalm.points.denoise import check_points
        from becalm.points.estimate import noise_level
        from becalm.points.metrics import unit_sphere
        from becalm.systems.spd import MOST, SPD, paper

        if not isinstance(model, SPD):
            raise ScanError(f"--mode paper is SPD's; {self.model} is {type(model).__name__} (leave --mode out)")
        local = cloud.local()
        with naming(self.scan):
            check_points(local, sigma)
            if len(local) > MOST:
                raise ScanError(f"{len(local):,} points; --mode paper takes {MOST:,} (leave --mode out)")
        share = (sigma or noise_level(local)) / unit_sphere(local)[1]
        generator = torch.Generator().manual_seed(self.seed)
        xyz = watched(paper(model, local, 2 if share > 0.025 else 1, generator))[-1].xyz
        write(Cloud(xyz + cloud.origin), output, warn)
        warn(f"{output}: positions only: the paper's merge keeps neither order nor attributes")
        self.tell(
            {
                "points": len(xyz),
                "noise_before": noise_level(local),
                "noise_after": noise_level(xyz),
                "output": str(output),
            }
        )

    def tell(self, summary: dict) -> None:
        """Print the summary."""
        print(json.dumps(summary) if self.json else "\n".join(lines(summary)))


@contextmanager
def naming(scan: Path) -> Iterator[None]:
    """Put the scan's name before an error about its points."""
    from becalm.points import ScanError

    try:
        yield
    except ScanError as error:
        raise ScanError(f"{scan}: {error}") from error


def level(noise: str) -> float | None:
    """The noise level given, None for auto."""
    if noise == "auto":
        return None
    try:
        return float(noise)
    except ValueError:
        from becalm.points import ScanError

        raise ScanError(f"--noise {noise}: give a standard deviation in the scan's units, or auto") from None


def watched(stages) -> list:
    """The stages that have positions; meanwhile a bar with the time left on standard error."""
    from tqdm import tqdm

    frames = []
    with tqdm(total=100, desc="denoising", bar_format="{l_bar}{bar}| {elapsed}, {remaining} left", disable=None) as bar:
        for stage in stages:
            bar.update(100 * stage.done - bar.n)
            frames += [] if stage.xyz is None else [stage]
    return frames


def recorded(path: Path, cloud, frames: list, facts: dict) -> None:
    """Write the positions before and after every sweep as one trajectory, about the cloud's origin."""
    import torch

    from becalm.core import trajectory

    z = torch.stack([torch.as_tensor(xyz - cloud.origin) for xyz in (cloud.xyz, *frames)])[:, None]
    t = torch.linspace(1, 0, len(z), dtype=z.dtype)[:, None, None, None].expand(*z.shape[:3], 1)
    trajectory.write(trajectory.Trajectory(z, t, z.clone(), facts | {"origin": cloud.origin.tolist()}), path)


def pictured(path: Path, cloud, xyz, kept) -> None:
    """Draw before and after."""
    from becalm.points.plot import draw

    shown = cloud.finite & kept
    draw(cloud.local()[shown], xyz[shown] - cloud.origin, path)


def warn(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr)


def lines(summary: dict) -> Iterator[str]:
    """The summary for people."""
    missing = f" ({summary['missing']:,} without coordinates)" if summary.get("missing") else ""
    yield f"points        {summary['points']:,}{missing}"
    yield f"noise         {summary['noise_before']:.4g} before, {summary['noise_after']:.4g} after (σ in scan units)"
    if "outliers" in summary:
        median, most = summary["displacement_median"], summary["displacement_95"]
        yield f"at the points {summary['noise_low']:.4g} to {summary['noise_high']:.4g} (5th to 95th percentile of σ)"
        yield f"normal        {normal(summary['jarque_bera'], summary['normal_p'])}"
        yield f"outliers      {summary['outliers']:,}"
        yield f"displacement  {median:.4g} median, {most:.4g} 95th percentile"
        yield f"seconds       {summary['seconds']:.1f}"
    yield f"written       {summary['output']}"


def normal(statistic: float | None, p: float | None) -> str:
    """Whether the noise looks Gaussian, for people."""
    if statistic is None or p is None:
        return "not to be told"
    return f"{'yes' if p > 0.01 else 'no'} (Jarque–Bera {statistic:.3g}, p {p:.2g})"
