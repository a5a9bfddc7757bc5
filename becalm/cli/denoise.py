"""becalm denoise: a noisy scan in, a clean scan out."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Denoise:
    """Denoise a scan: every point stays, in order, with its attributes; only positions change."""

    scan: Annotated[Path, tyro.conf.Positional]
    """The scan: .ply .pcd .las .laz .e57 .xyz .txt .csv .pts .npy .npz"""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """The denoised scan; by default SCAN.denoised.SUFFIX beside the scan."""
    model: str = "jets"
    """A packaged model (see `becalm models`) or a file of weights."""
    mode: Literal["fast", "paper"] = "fast"
    """SPD only: one new position for each point, or exactly as published (points are resampled: order and attributes are
    lost)."""
    noise: str = "auto"
    """Standard deviation of the noise in the scan's units, where it is known; or auto."""
    outliers: Literal["keep", "flag", "remove"] = "keep"
    """Points that are isolated, or displaced by more than the noise around them: keep, flag by an attribute `outlier`, or
    remove."""
    details: bool = False
    """Add attributes: `displacement` (length), `noise` (σ at the point), `confidence` (0 to 1), `noise_shared` (the
    part of σ that neighbours have in common), `surface` (probability to be of one), and SBD's `uncertainty`."""
    rule: Literal["mean", "flow", "ancestral"] | None = None
    """SBD only: the update of a step, the ancestral mean (the default), the deterministic flow, or ancestral sampling."""
    steps: int | None = None
    """SBD: steps of the reverse diffusion (4 by default); with --mode paper: steps T of SPD's gradient ascent (30 by default)."""
    alpha: float | None = None
    """With --mode paper: the first step α of SPD's gradient ascent (0.2 by default)."""
    uncertainty: int = 0
    """SBD only: ancestral runs, at least 2, whose spread is the attribute `uncertainty`; 0 for none."""
    record: Path | None = None
    """Write the positions after every pass over the cloud to this .safetensors file."""
    picture: Path | None = None
    """Write a picture of before and after, coloured by displacement, to this .png file."""
    seed: int = 0
    """Seed of all random numbers: the same seed gives the same result."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    columns: str = ""
    """Which columns of a text file are x, y and z, by number from 1 or by name: x=2,y=3,z=4. By default their names decide."""
    keep_types: bool = False
    """Write coordinates in the type of the file, even where float32 rounds them (PCL loads no other)."""
    force: bool = False
    """Denoise Gaussian splats, and coordinates that look like degrees, too."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Denoise the scan, write what was asked for and print the summary."""
        from becalm.core.files import InputError
        from becalm.points.formats import check_writable, default_output, read
        from becalm.points.formats.scan_files import check_output_path
        from becalm.points.plot import draw
        from becalm.tasks import denoise

        started = time.time()
        output = self.output or default_output(self.scan)
        for target in (output, self.record, self.picture):
            if target:
                check_output_path(target, self.scan)
        cloud = read(self.scan, warn, parse_columns(self.columns))
        check_writable(cloud, output)
        if self.mode == "paper":
            return self.run_as_published(output, cloud)
        if self.alpha is not None:
            raise InputError("--alpha is for --mode paper (leave it out)")
        options = {
            name: getattr(self, name)
            for name in ("outliers", "seed", "device", "rule", "steps", "uncertainty", "force")
        }
        sigma = parse_noise(self.noise)
        result, states = with_progress(denoise.steps(cloud, self.model, sigma=sigma, warn=warn, **options))
        result.save(output, self.details, warn, self.keep_types)
        summary = asdict(result.report)
        if self.record:
            facts = {"scan": self.scan.name, "model": self.model, "seed": self.seed}
            write_trajectory(self.record, result.original, states, facts)
        if self.picture:
            mask = result.original.finite & ~result.outlier
            draw(result.original.local()[mask], result.points[mask] - result.original.origin, self.picture)
        self.print_summary(summary | {"seconds": round(time.time() - started, 2), "output": str(output)})

    def run_as_published(self, output: Path, cloud: Any) -> None:
        """Denoise by SPD's published procedure: only positions come back, resampled."""
        from becalm.core.files import InputError
        from becalm.tasks.denoise import steps_as_published

        if self.rule is not None or self.uncertainty:
            raise InputError("--rule and --uncertainty are for SBD; --mode paper is SPD's (leave them out)")
        sigma, T, alpha = parse_noise(self.noise), self.steps or 30, self.alpha or 0.2
        reports = steps_as_published(cloud, self.model, self.outliers, sigma, self.seed, self.device, T, alpha, warn)
        result, _ = with_progress(reports)
        result.save(output, warn)
        warn(f"{output}: positions only: the paper's merge keeps neither order nor attributes")
        self.print_summary(result.report | {"output": str(output)})

    def print_summary(self, summary: dict) -> None:
        """Print the summary."""
        print(json.dumps(summary) if self.json else "\n".join(summary_lines(summary)))


def parse_noise(noise: str) -> float | None:
    """The noise level of the option --noise, None for auto. Raises InputError."""
    from becalm.core.files import InputError

    if noise == "auto":
        return None
    try:
        return float(noise)
    except ValueError:
        raise InputError(f"--noise {noise}: give a standard deviation in the scan's units, or auto") from None


def parse_columns(text: str) -> dict[str, str] | None:
    """The columns of the option --columns, None where it is not given. Raises InputError."""
    from becalm.core.files import InputError

    parts = [part.partition("=") for part in text.split(",") if part]
    if any(not value for _, _, value in parts):
        raise InputError(f"--columns {text}: give the columns of x, y and z as x=2,y=3,z=4 or x=EAST,y=NORTH,z=H")
    return {axis.strip().lower(): value.strip() for axis, _, value in parts} or None


def with_progress(reports: Iterable) -> tuple[Any, list]:
    """The result of a task and the states on the way to it; meanwhile a bar on standard error shows the time left."""
    from tqdm import tqdm

    states, result = [], None
    with tqdm(total=100, desc="denoising", bar_format="{l_bar}{bar}| {elapsed}, {remaining} left", disable=None) as bar:
        for report in reports:
            bar.update(100 * report.done - bar.n)
            states += [] if report.state is None else [report.state]
            result = report.result
    return result, states


def write_trajectory(path: Path, cloud: Any, states: list, facts: dict) -> None:
    """Write the positions before and after every pass as one trajectory, about the cloud's origin."""
    import torch

    from becalm.core import trajectory

    z = torch.stack([torch.as_tensor(xyz - cloud.origin) for xyz in (cloud.xyz, *states)])[:, None]
    t = torch.linspace(1, 0, len(z), dtype=z.dtype)[:, None, None, None].expand(*z.shape[:3], 1)
    trajectory.write(trajectory.Trajectory(z, t, z.clone(), facts | {"origin": cloud.origin.tolist()}), path)


def warn(line: str) -> None:
    """Print one line on standard error."""
    print(line, file=sys.stderr)


def summary_lines(summary: dict) -> Iterator[str]:
    """The summary as lines of text."""
    missing = f" ({summary['missing']:,} without coordinates)" if summary.get("missing") else ""
    yield f"points        {summary['points']:,}{missing}"
    yield f"noise         {summary['noise_before']:.4g} before, {summary['noise_after']:.4g} after (σ in scan units)"
    if "outliers" in summary:
        median, high = summary["displacement_median"], summary["displacement_95"]
        yield f"at the points {summary['noise_low']:.4g} to {summary['noise_high']:.4g} (5th to 95th percentile of σ)"
        if summary["noise_shared"] is not None:
            yield f"shared        {summary['noise_shared']:.4g} of it in common with neighbours (σ, median over the points)"
            yield f"off surfaces  {summary['off_surface']:,} points of leaves, wires or strays, which are not moved"
        yield f"normal        {normality_verdict(summary['jarque_bera'], summary['normal_p'])}"
        yield f"outliers      {summary['outliers']:,}"
        yield f"displacement  {median:.4g} median, {high:.4g} 95th percentile"
        yield f"seconds       {summary['seconds']:.1f}"
    yield f"written       {summary['output']}"


def normality_verdict(statistic: float | None, p: float | None) -> str:
    """Whether the noise is Gaussian, by the Jarque–Bera test at 1 %."""
    if statistic is None or p is None:
        return "not tested (no noise, or too few points)"
    return f"{'yes' if p > 0.01 else 'no'} (Jarque–Bera {statistic:.3g}, p {p:.2g})"
