"""becalm denoise: a noisy scan in, a clean scan out."""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Denoise:
    """Denoise a scan: every point stays, in order, with its attributes; only positions change."""

    scan: Annotated[Path, tyro.conf.Positional]
    """The scan: .ply .pcd .las .laz .e57 .xyz .txt .asc .csv .pts .ptx .npy .npz .bin, a mesh in .obj
    .off .stl .glb; or - for standard input, with --format."""
    more: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Further scans; each may be a folder, or a pattern such as 'scans/*.laz'."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """The denoised scan, for several scans a folder; by default SCAN.denoised.SUFFIX beside the scan, or - for standard output:
    the summary then goes to standard error."""
    format: str | None = None
    """Format of standard input and output, by its suffix: ply, laz, xyz …"""
    force: bool = False
    """Replace outputs that exist (inputs are never replaced); denoise Gaussian splats, and coordinates that look like degrees."""
    model: str = "jets"
    """A packaged model (see `becalm models`) or a file of weights."""
    mode: Literal["fast", "paper"] = "fast"
    """SPD only: one new position for each point, or exactly as published (points are resampled: order and attributes are
    lost)."""
    noise: str = "auto"
    """Standard deviation of the noise in the scan's units, where it is known; or auto."""
    outliers: Literal["keep", "flag", "remove"] = "keep"
    """Points that are isolated, displaced by more than the noise around them, or hang between two surfaces (where the sensor's
    place is known): keep, flag by an attribute `outlier`, or remove."""
    viewpoint: tuple[float, float, float] | Literal["none"] | None = None
    """Where the sensor stood, x y z: points move along its rays only. Left out, as the file says (E57, PTX, organised PCD); none:
    points move freely."""
    max_displacement: float | None = None
    """No point moves farther, in the scan's units."""
    only_class: str | None = None
    """LAS: denoise the points of these classes alone, such as 2,6. Points of other classes stay, and do not count as neighbours:
    use it for ground under leaves."""
    keep_class: str | None = None
    """LAS: leave the points of these classes where they are. They do count as neighbours: use it for points that are right."""
    details: bool = False
    """Print more figures, and add attributes: `displacement` (length), `noise` (σ at the point), `confidence` (0 to 1),
    `noise_shared` (the part of σ that neighbours have in common), `surface` (probability to be of one), SBD's `uncertainty`."""
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
    scale: float | None = None
    """LAS and LAZ: round coordinates to this, in the scan's units, in place of the scale of the file."""
    tile: int | None = None
    """Points in a tile: larger scans are divided into tiles, each denoised with its surroundings. By default 500000, or less if
    memory is small."""
    buffer: str = "auto"
    """Width of a tile's surroundings in the scan's units; auto: 32 spacings, or 64 where neighbours share the noise."""
    workers: int | None = None
    """Processes that denoise tiles, one thread each; by default one for each core that may be used."""
    memory: str | None = None
    """Memory that all of them may take, such as 4GB; by default a quarter of what is free."""
    cluster: str | None = None
    """Denoise tiles on the workers of a Dask scheduler, such as tcp://10.0.0.1:8786."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Denoise the scan or the scans, write what was asked for and print the summary."""
        from becalm.cli.denoise_many import denoise_each, expand_scans
        from becalm.cli.streams import STREAM

        scans = expand_scans((self.scan, *self.more))
        if scans != [self.scan]:
            return denoise_each(self, scans)
        lines = self.run_one()
        print(
            "\n".join(lines),
            file=sys.stderr if self.output == STREAM or self.default_output() == STREAM else sys.stdout,
        )

    def run_one(self) -> list[str]:
        """Denoise the one scan, write what was asked for and return the lines of the summary."""
        from becalm.cli.streams import STREAM, read_stream, write_stream
        from becalm.core.files import InputError, check_outputs
        from becalm.points.formats import check_format, check_suffix, check_writable, read
        from becalm.points.formats.stream import open_stream

        output = self.output or self.default_output()
        streams = [path for path in (self.scan, output) if path == STREAM]
        if bool(streams) != (self.format is not None):
            raise InputError(
                "--format goes with - for standard input or output: such as `becalm denoise - --format ply`"
            )
        check_outputs([None if output == STREAM else output, self.record, self.picture], [self.scan], self.force)
        if self.picture and find_spec("matplotlib") is None:
            raise ModuleNotFoundError("a picture needs matplotlib", name="matplotlib")  # before the work, not after
        if self.alpha is not None and self.mode != "paper":
            raise InputError("--alpha is for --mode paper (leave it out)")
        parse_noise(self.noise)  # refused before the work
        with read_stream(self.scan, self.format) as scan, write_stream(output, self.format) as target:
            check_suffix(scan)
            check_format(target, self.scale, self.keep_types)
            if not self.needs_memory() and open_stream(scan) is not None:  # a wrong header is refused without torch
                from becalm.tasks.denoise_large import open_large

                large = open_large(scan, target, self.parse_tiles())
                if large is not None:
                    return self.run_large(large, target, str(output))
            run = self.run_as_published if self.mode == "paper" else self.run_task
            cloud = read(scan, warn, parse_columns(self.columns))
            check_writable(cloud, target)
            return run(cloud, target, str(output))

    def interruption(self) -> str | None:
        """What is said after an interruption where finished tiles of a large scan are kept; None where none are."""
        from becalm.tasks.denoise_large import interruption

        return interruption(self.output or self.default_output())

    def default_output(self) -> Path:
        """Where the scan goes if no name is given."""
        from becalm.cli.streams import STREAM
        from becalm.points.formats import default_output

        return STREAM if self.scan == STREAM else default_output(self.scan)

    def run_task(self, cloud: Any, target: Path, name: str) -> list[str]:
        """Denoise, write, and return the lines of the summary, in which the output is called `name`."""
        from becalm.cli.denoise_summary import summary_lines
        from becalm.tasks import denoise
        from becalm.weights.packaged import weights_sha256

        started = time.time()
        result, states = with_progress(denoise.steps(cloud, self.model, warn=warn, **self.task_options()))
        result.save(target, self.details, warn, self.keep_types, self.scale)
        if self.record:
            model = {"model": self.model, "model_sha256": weights_sha256(self.model)}
            facts = {"scan": self.scan.name, **model, "seed": self.seed}
            write_trajectory(self.record, result.original, states, facts)
        if self.picture:
            result.draw(self.picture)
        result = result.as_written(target, self.keep_types, self.scale)
        seconds = time.time() - started
        if self.json:
            return [json.dumps(asdict(result.report) | {"seconds": round(seconds, 2), "output": name})]
        return [*summary_lines(result, self.details), f"written       {name}  ({seconds:.1f} seconds)"]

    def run_large(self, stream: Any, target: Path, name: str) -> list[str]:
        """Denoise a scan of several tiles from file to file, and return the lines of the summary."""
        from becalm.cli.denoise_summary import summary_lines
        from becalm.points.formats import check_writable
        from becalm.points.plot import draw
        from becalm.tasks.denoise_large import iter_denoise_stream

        started = time.time()
        check_writable(next(iter(stream)), target)
        options = self.task_options()
        written = (self.details, warn, self.keep_types, self.scale)
        result, _ = with_progress(iter_denoise_stream(stream, target, self.model, *written, **options))
        if self.picture:
            taken = ~result.progress.outlier
            origin = result.original.origin
            draw(result.original.local()[taken], result.progress.xyz[taken] - origin, self.picture)
        seconds = time.time() - started
        if self.json:
            return [json.dumps(asdict(result.report) | {"seconds": round(seconds, 2), "output": name})]
        return [*summary_lines(result, self.details), f"written       {name}  ({seconds:.1f} seconds)"]

    def needs_memory(self) -> bool:
        """Whether an option asks for what is done with the whole scan in memory only."""
        return self.mode == "paper" or bool(self.record or self.uncertainty or self.columns)

    def task_options(self) -> dict[str, Any]:
        """The options of `becalm.denoise`."""
        options = {name: getattr(self, name) for name in OPTIONS}
        options |= {key: parse_classes(key, getattr(self, key)) for key in ("only_class", "keep_class")}
        return options | {"sigma": parse_noise(self.noise), "tiling": self.parse_tiles()}

    def parse_tiles(self) -> Any:
        """How the scan is divided into tiles, and who works on them."""
        from becalm.cli.tile_options import parse_tiling

        return parse_tiling(self.tile, self.buffer, self.workers, self.memory, self.cluster)

    def run_as_published(self, cloud: Any, target: Path, name: str) -> list[str]:
        """Denoise by SPD's published procedure: only positions come back, resampled."""
        from becalm.core.files import InputError
        from becalm.tasks.resample import steps_as_published

        useless = [key for key, unused in UNUSED_BY_PAPER.items() if getattr(self, key) != unused]
        if useless:
            raise InputError(f"--{useless[0].replace('_', '-')}: --mode paper has no use for it (leave it out)")
        sigma, T, alpha = parse_noise(self.noise), self.steps or 30, self.alpha or 0.2
        reports = steps_as_published(cloud, self.model, self.outliers, sigma, self.seed, self.device, T, alpha, warn)
        result, _ = with_progress(reports)
        result.save(target, warn)
        warn(f"{name}: positions only: the paper's merge keeps neither order nor attributes")
        report = result.report | {"output": name}
        return [json.dumps(report)] if self.json else [f"{key:<13} {value}" for key, value in report.items()]


OPTIONS = ("outliers", "seed", "device", "force", "rule", "steps", "uncertainty", "viewpoint", "max_displacement")
"""Fields that are options of `becalm.denoise` as they are."""

UNUSED_BY_PAPER = {
    **dict.fromkeys(("rule", "viewpoint", "max_displacement", "only_class", "keep_class", "record", "picture")),
    "uncertainty": 0,
    "details": False,
}
"""Fields that SPD's published procedure cannot use, and their values where they are left out."""


def parse_classes(option: str, text: str | None) -> list[int] | None:
    """The classes of a list such as 2,6. Raises InputError."""
    from becalm.core.files import InputError

    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InputError(
            f"--{option.replace('_', '-')} {text}: give numbers with commas between them, as 2,6"
        ) from None


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
