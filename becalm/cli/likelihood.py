"""becalm likelihood: how many bits a model needs for images, in all and for each."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Likelihood:
    """Measure images by a model of them: bits a dimension with a standard error, the bound's terms, and what fits least."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model (see `becalm models`) or a file of weights."""
    images: Annotated[Path, tyro.conf.Positional]
    """A folder of images, an image, .npy, .npz or an IDX file, plain or gzip."""
    array: str | None = None
    """Which array of an .npz, where several fit."""
    steps: int | None = None
    """Steps T of the bound; left out, infinitely many."""
    draws: int = 1
    """Noise levels and noises an image: more make each image's value surer."""
    exact: bool = False
    """Also the likelihood by the probability-flow ODE, with its three errors; slow."""
    probes: int | None = None
    """For --exact: estimate the divergence by so many random vectors; left out, exactly up to 128 dimensions, else by 4."""
    flow_steps: int = 100
    """For --exact: steps of the solver, of order 4; its error is told by a second run at half as many."""
    csv: Path | None = None
    """Write the values of each image to this .csv file."""
    rank: int = 0
    """List so many images that fit least, the worst first."""
    picture: Path | None = None
    """Write a histogram of the images' values, with the images of --rank, to this .png file."""
    batch: int = 128
    """Images that go through the network at once."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same values."""
    json: bool = False
    """Print one JSON object in place of the table."""

    def run(self) -> None:
        """Read, measure, write, report."""
        import torch

        from becalm.core.files import InputError, check_outputs
        from becalm.images import image_files
        from becalm.systems.vdm import VDM, images_to_variables
        from becalm.weights.store import load, located

        started = time.time()
        counts = (self.draws, self.batch, self.flow_steps, *(n for n in (self.steps, self.probes) if n is not None))
        if min(counts) < 1 or self.rank < 0:
            raise InputError(
                "--steps, --draws, --probes, --flow-steps and --batch must be at least 1, --rank at least 0"
            )
        check_outputs((self.csv, self.picture), (*image_files.sources(self.images), located(self.model)))
        model = load(self.model, VDM)
        if self.exact and model.start > 0:
            raise InputError(f"{self.model}: γ(0) is infinite, so the flow has no first state; leave out --exact")
        images = image_files.read(self.images, image_files.Expected(*model.shape, model.levels), self.array)
        v, generator = images_to_variables(model, images.values), torch.Generator().manual_seed(self.seed)
        found = self.measured(model, v, generator)
        if not torch.isfinite(found.total).all():
            first = images.names[int((~torch.isfinite(found.total)).int().argmax())]
            raise InputError(f"{self.model}: has no finite bound for image {first}: damaged weights? take others")
        terms = found.estimates()
        summary = {"bits_per_dim": terms["total"].bits, "bits_per_dim_error": plain(terms["total"].bits_error)}
        summary |= {"images": len(v), "dimensions": found.dimensions, "steps": self.steps, "draws": self.draws}
        summary["terms"] = {name: {k: plain(x) for k, x in part._asdict().items()} for name, part in terms.items()}
        if self.exact:
            summary["exact"] = self.flow(model, v, generator)
        worst = found.total.argsort(descending=True)[: self.rank].tolist()
        each = found.total / (found.dimensions * math.log(2))
        summary["rank"] = [{"image": images.names[i], "bits_per_dim": float(each[i])} for i in worst]
        if self.csv:
            listed(self.csv, images.names, found)
        if self.picture:
            pictured(self.picture, each.numpy(), images.values[worst], model.levels)
        summary["seconds"] = round(time.time() - started, 2)
        print(json.dumps(summary) if self.json else "\n".join(table(summary)))

    def measured(self, model, v, generator):
        """The bound of every image."""
        import torch
        from tqdm import tqdm

        from becalm.core.likelihood import concatenate_bounds
        from becalm.systems.vdm import bound

        parts = []
        with tqdm(total=len(v), desc="bound", unit="image", disable=None) as bar, torch.no_grad():
            for rows in v.split(self.batch):
                parts.append(bound(model, rows, self.steps, self.draws, generator))
                bar.update(len(rows))
        return concatenate_bounds(parts)

    def flow(self, model, v, generator) -> dict:
        """Bits by the probability-flow ODE, one draw of z₀ an image as VDM's decoder wants it, and how far off they may be."""
        import torch
        from tqdm import tqdm

        from becalm.core.flow_likelihood import dequantize_noise, log_density
        from becalm.core.flow_solvers import runge_kutta
        from becalm.core.likelihood import encode_levels, mean_estimate

        denoiser, size = model.denoiser, v[0].numel()
        probes = self.probes or (None if size <= 128 else 4)
        parts = []
        with tqdm(total=len(v), desc="flow", unit="image", disable=None) as bar:
            for rows in v.split(self.batch):
                y, more = dequantize_noise(encode_levels(rows, model.levels), model.schedule, model.levels, generator)
                solver = runge_kutta(self.flow_steps)
                parts.append(log_density(denoiser, y, solver, probes, generator=generator).add_nats(more))
                bar.update(len(rows))
        mean = mean_estimate(torch.cat([part.nats for part in parts]).neg(), size)
        names, scale = ("end_error", "solver_error", "trace_error"), size * math.log(2)
        errors = {name: torch.cat([getattr(part, name) for part in parts]).mean() for name in names}
        told = {name: plain(float(error) / scale) for name, error in errors.items()}
        told |= {"probes": probes, "flow_steps": self.flow_steps}
        return {"bits_per_dim": mean.bits, "bits_per_dim_error": plain(mean.bits_error)} | told


def plain(value: float) -> float | None:
    """JSON has no NaN."""
    return value if value == value else None


def listed(path: Path, names: tuple[str, ...], found) -> None:
    """Write a line an image: bits a dimension of every term."""
    import csv

    from becalm.core.files import atomic_file

    scale = found.dimensions * math.log(2)
    parts = [getattr(found, name) / scale for name in ("total", "prior", "reconstruction", "diffusion")]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "bits_per_dim", "prior", "reconstruction", "diffusion"])
        rows.writerows([name, *values] for name, *values in zip(names, *(p.tolist() for p in parts), strict=True))


def pictured(path: Path, bits, worst, levels: int) -> None:
    """Draw how many images need how many bits, and below it those that fit least."""
    from matplotlib.figure import Figure

    from becalm.core.files import atomic_file

    shown = worst[:12]
    figure = Figure(figsize=(8, 4.5 if len(shown) else 3.2), layout="constrained")
    upper = figure.add_gridspec(2, max(len(shown), 1), height_ratios=(3, 1)) if len(shown) else None
    axes = figure.add_subplot(upper[0, :] if upper else 111)
    axes.hist(bits, bins=min(60, max(5, len(bits) // 5)), color="#3b6ea5")
    axes.axvline(float(bits.mean()), color="black", linewidth=1)
    axes.set(xlabel=f"bits a dimension (mean {bits.mean():.4g})", ylabel="images")
    for i, image in enumerate(shown):
        one = figure.add_subplot(upper[1, i])  # type: ignore[index]
        one.imshow(image.squeeze(-1).numpy() / max(levels - 1, 1), cmap="gray", vmin=0, vmax=1)
        one.axis("off")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def table(summary: dict):
    """The summary for people."""

    def number(value: float, error: float | None) -> str:
        return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")

    steps = "infinitely many" if summary["steps"] is None else summary["steps"]
    yield f"bits a dimension  {number(summary['bits_per_dim'], summary['bits_per_dim_error'])}"
    yield f"images            {summary['images']:,} of {summary['dimensions']:,} dimensions, {steps} steps"
    for name in ("prior", "reconstruction", "diffusion"):
        part = summary["terms"][name]
        yield f"  {name:<15} {number(part['bits'], part['bits_error'])}"
    if "exact" in summary:
        flow = summary["exact"]
        yield f"by the flow       {number(flow['bits_per_dim'], flow['bits_per_dim_error'])}"
        for name in ("end", "solver", "trace"):
            error = flow[f"{name}_error"]
            yield f"  {name + ' error':<15} {'not to be told from one probe' if error is None else f'{error:.2g}'}"
    for place, one in enumerate(summary["rank"], 1):
        yield f"{place:>4}. {one['bits_per_dim']:.4f}  {one['image']}"
