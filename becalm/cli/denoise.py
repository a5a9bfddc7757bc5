"""becalm denoise: a noisy scan in, a clean scan out."""

import json
import sys
import time
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
    """What to do first with isolated points: nothing, an attribute `outlier`, or leave them out."""
    displacement: bool = False
    """Add an attribute `displacement`: how far each point moved."""
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
        from becalm.points import ScanError, read, write
        from becalm.points import denoise as work
        from becalm.points.formats.files import check_target

        started = time.time()
        output = self.output or self.scan.with_name(f"{self.scan.stem}.denoised{self.scan.suffix}")
        for target in (output, self.record, self.picture):
            if target:
                check_target(target, self.scan)
        sigma = level(self.noise)
        model = loaded(self.model, self.mode)
        cloud = read(self.scan, warn)
        try:
            outlier = work.outliers_of(cloud, self.outliers)
            xyz, frames = watched(work.stages(cloud, model, outlier, sigma, self.seed), self.record is not None)
        except ScanError as error:
            raise ScanError(f"{self.scan}: {error}") from error
        write(work.finished(cloud, xyz, outlier, self.outliers, self.displacement), output, warn)
        if self.record:
            recorded(self.record, cloud, frames)
        if self.picture:
            pictured(self.picture, cloud, xyz, ~outlier)
        summary = asdict(work.report(cloud, xyz, outlier)) | {"seconds": round(time.time() - started, 2)}
        print(json.dumps(summary | {"output": str(output)}) if self.json else table(summary, output))


def level(noise: str) -> float | None:
    """The noise level given, None for auto."""
    if noise == "auto":
        return None
    try:
        return float(noise)
    except ValueError:
        from becalm.points import ScanError

        raise ScanError(f"--noise {noise}: give a standard deviation in the scan's units, or auto") from None


def loaded(name: str, mode: str):
    """The model, in the mode asked for."""
    from becalm.systems.store import load

    return load(name)


def watched(stages, keep: bool):
    """The final positions, and (where they are kept) those after every sweep; a bar with the time left on standard error."""
    from tqdm import tqdm

    frames, xyz = [], None
    bar = tqdm(total=100, desc="denoising", bar_format="{l_bar}{bar}| {elapsed}, {remaining} left", disable=None)
    with bar:
        for stage in stages:
            bar.update(100 * stage.done - bar.n)
            if stage.xyz is not None:
                xyz = stage.xyz
                frames += [xyz] if keep else []
    return xyz, frames


def recorded(path: Path, cloud, frames: list) -> None:
    """Write the trajectory."""


def pictured(path: Path, cloud, xyz, kept) -> None:
    """Draw before and after."""
    from becalm.points.picture import draw

    shown = cloud.finite & kept
    draw(cloud.local()[shown], xyz[shown] - cloud.origin, path)


def warn(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr)


def table(summary: dict, output: Path) -> str:
    """The summary as aligned lines for people."""
    lines = {
        "points": f"{summary['points']:,}"
        + (f" ({summary['missing']:,} without coordinates)" if summary["missing"] else ""),
        "outliers": f"{summary['outliers']:,}",
        "noise": f"{summary['noise_before']:.4g} before, {summary['noise_after']:.4g} after (standard deviation, scan units)",
        "displacement": f"{summary['displacement_median']:.4g} median, {summary['displacement_95']:.4g} 95th percentile",
        "seconds": f"{summary['seconds']:.1f}",
        "written": str(output),
    }
    return "\n".join(f"{name:<13} {value}" for name, value in lines.items())
