"""How many bits a model needs for images: `becalm.likelihood("mnist", images).bits_per_dim`."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from becalm.core.files import InputError, atomic_file
from becalm.core.flow_likelihood import FlowLikelihood, dequantize_noise, log_density
from becalm.core.flow_solvers import runge_kutta
from becalm.core.likelihood import Bound, Estimate, concatenate_bounds, mean_estimate
from becalm.core.typing import Int, Tensor
from becalm.images.image_files import ImageSet
from becalm.systems.vdm import VDM, bound, encode_levels
from becalm.tasks.html import png_bytes, summary_html
from becalm.tasks.image_models import check_at_least_one, read_images
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shapes import load_on, model_name

TERMS = ("prior", "reconstruction", "diffusion")
"""The terms of the bound, in the order in which they are shown."""

FLOW_ERRORS = ("end_error", "solver_error", "trace_error")
"""What may be wrong with the likelihood of the flow."""

MAX_DRAWN = 12
"""Images in the picture beside the histogram, at most."""


@dataclass(frozen=True)
class FlowSettings:
    """How the likelihood of the probability-flow ODE is computed."""

    steps: int = 100
    """Steps of the solver, of order 4; its error is estimated by a second run with half as many."""
    probes: int | None = None
    """Random vectors that estimate the divergence; None computes it exactly up to 128 dimensions, and takes 4 above."""


@dataclass(frozen=True)
class FlowBits:
    """The likelihood of the probability-flow ODE, means over images in bits a dimension."""

    bits_per_dim: float
    """−log₂ p of one draw of z₀ an image, decoded as VDM does."""
    standard_error: float
    """Of that mean over the images; NaN for a single image."""
    end_error: float
    """KL(q(z₁|x) ‖ N(0, I)), what the assumed end of the flow costs."""
    solver_error: float
    """Estimate of the ODE solver's error."""
    trace_error: float
    """Standard error of the divergence: 0 where it is exact, NaN for a single probe."""
    settings: FlowSettings
    """How it was computed, with the probes that were taken."""


@dataclass(frozen=True, eq=False, repr=False)
class Likelihood:
    """The variational bound on −log₂ p of images, in bits a dimension."""

    bits_per_dim: float
    """Mean over the images."""
    standard_error: float
    """Standard error of that mean; NaN for a single image."""
    per_image: np.ndarray
    """Bits a dimension of each image [image]."""
    terms: dict[str, Estimate]
    """Prior, reconstruction, diffusion and total: means over the images, in nats an image and bits a dimension."""
    per_image_terms: dict[str, np.ndarray]
    """Prior, reconstruction and diffusion of each image, in bits a dimension."""
    images: ImageSet
    """The images with their names."""
    levels: int
    """How many values a number can take."""
    steps: int | None
    """T of the bound; None for infinitely many."""
    flow: FlowBits | None = None
    """The likelihood of the probability-flow ODE, where it was asked for."""

    @property
    def dimensions(self) -> int:
        """Numbers an image."""
        return self.images.values[0].numel()

    def worst(self, count: int) -> list[int]:
        """Places of the `count` images that need the most bits, the worst first."""
        return torch.from_numpy(self.per_image).argsort(descending=True)[:count].tolist()

    def __repr__(self) -> str:
        steps = "infinitely many" if self.steps is None else self.steps
        lines = [f"bits a dimension  {with_error(self.bits_per_dim, self.standard_error)}"]
        lines += [f"images            {len(self.images):,} of {self.dimensions:,} dimensions, {steps} steps"]
        lines += [f"  {name:<15} {with_error(self.terms[name].bits, self.terms[name].bits_error)}" for name in TERMS]
        if self.flow:
            lines += [f"by the flow       {with_error(self.flow.bits_per_dim, self.flow.standard_error)}"]
            for name in ("end", "solver", "trace"):
                error = getattr(self.flow, f"{name}_error")
                unknown = "not known from one probe" if math.isnan(error) else f"{error:.2g}"
                lines += [f"  {name + ' error':<15} {unknown}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {"bits a dimension": with_error(self.bits_per_dim, self.standard_error)}
        rows |= {name: with_error(self.terms[name].bits, self.terms[name].bits_error) for name in TERMS}
        rows |= {"images": len(self.images), "dimensions": self.dimensions}
        return summary_html("Likelihood", rows, png_bytes(lambda path: self.draw(path, MAX_DRAWN)))

    def save(self, path: Path | str) -> None:
        """Write a CSV file with a line an image: bits a dimension and the terms of the bound."""
        with atomic_file(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "bits_per_dim", *TERMS])
            columns = (self.per_image, *(self.per_image_terms[name] for name in TERMS))
            rows.writerows(zip(self.images.names, *(column.tolist() for column in columns), strict=True))

    def draw(self, path: Path | str, worst: int = 0) -> None:
        """Write a PNG of a histogram of the images' bits and, below it, of the `worst` images that need the most."""
        from matplotlib.figure import Figure

        rows = self.images.values[self.worst(min(worst, MAX_DRAWN))]
        figure = Figure(figsize=(8, 4.5 if len(rows) else 3.2), layout="constrained")
        grid = figure.add_gridspec(2, max(len(rows), 1), height_ratios=(3, 1)) if len(rows) else None
        axes = figure.add_subplot(grid[0, :] if grid else 111)
        axes.hist(self.per_image, bins=min(60, max(5, len(self.per_image) // 5)), color="#3b6ea5")
        axes.axvline(float(self.per_image.mean()), color="black", linewidth=1)
        axes.set(xlabel=f"bits a dimension (mean {self.per_image.mean():.4g})", ylabel="images")
        for i, image in enumerate(rows):
            panel = figure.add_subplot(grid[1, i])  # type: ignore[index]
            panel.imshow(image.squeeze(-1).numpy() / max(self.levels - 1, 1), cmap="gray", vmin=0, vmax=1)
            panel.axis("off")
        with atomic_file(Path(path)) as temporary:
            figure.savefig(temporary, format="png", dpi=120)


def with_error(value: float, error: float) -> str:
    """value ± error, or the value alone where its error is not known."""
    return f"{value:.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}")


def likelihood(
    model: str | Path | nn.Module,
    images: Any,
    steps: int | None = None,
    draws: int = 1,
    flow: FlowSettings | None = None,
    batch: int = 128,
    seed: int = 0,
    array: str | None = None,
    device: str = "cpu",
) -> Likelihood:
    """The variational bound of images by a model of them, in bits a dimension with a standard error, split into its terms.

    `images` is an array [image, height, width] or [image, height, width, colour] of whole numbers 0 … K − 1, or the path of a
    folder of images, an image, an .npy, an .npz (`array` names one of several) or an IDX file. `steps` is T, None for
    infinitely many; `draws` is how many noise levels each image gets; with `flow` the likelihood of the probability-flow ODE is
    computed as well. `batch` images go through the network at once. Raises InputError.
    """
    return final_result(iter_likelihood(model, images, steps, draws, flow, batch, seed, array, device))


def iter_likelihood(
    model: str | Path | nn.Module,
    images: Any,
    steps: int | None = None,
    draws: int = 1,
    flow: FlowSettings | None = None,
    batch: int = 128,
    seed: int = 0,
    array: str | None = None,
    device: str = "cpu",
) -> Iterator[Progress]:
    """`likelihood`, with a report after each batch."""
    check_at_least_one(steps=steps, draws=draws, batch=batch)
    if flow:
        check_at_least_one(flow_steps=flow.steps, probes=flow.probes)
    vdm, name = load_on(model, device, VDM).eval(), model_name(model)
    if flow and vdm.start > 0:
        raise InputError(f"{name}: γ(0) is infinite, so the flow has no first state; leave out the flow")
    read, v = read_images(vdm, images, array)
    generator, batches = torch.Generator().manual_seed(seed), v.split(batch)
    bounds, densities, work = [], [], len(batches) * (2 if flow else 1)
    for rows in batches:
        with torch.no_grad():
            bounds.append(bound(vdm, rows, steps, draws, generator))
        yield Progress(len(bounds) / (work + 1))
    whole = concatenate_bounds(bounds)
    if not torch.isfinite(whole.total).all():
        first = read.names[int((~torch.isfinite(whole.total)).int().argmax())]
        raise InputError(f"{name}: has no finite bound for image {first}: damaged weights? take others")
    if flow:
        settings = FlowSettings(flow.steps, flow.probes or (None if whole.dimensions <= 128 else 4))
        for rows in batches:
            densities.append(flow_density(vdm, rows, settings, generator))
            yield Progress((len(bounds) + len(densities)) / (work + 1))
    flow_bits = mean_flow_bits(densities, settings) if flow else None
    yield Progress(1.0, None, likelihood_of(whole, read, vdm.levels, steps, flow_bits))


steps = iter_likelihood
"""The name that the generator of every task has."""


def likelihood_of(whole: Bound, images: ImageSet, levels: int, steps: int | None, flow: FlowBits | None) -> Likelihood:
    """The result for the bounds of images."""
    terms, scale = whole.estimates(), whole.dimensions * math.log(2)
    each: dict[str, np.ndarray] = {name: (getattr(whole, name) / scale).cpu().numpy() for name in TERMS}
    total, mean = (whole.total / scale).cpu().numpy(), terms["total"]
    return Likelihood(mean.bits, mean.bits_error, total, terms, each, images, levels, steps, flow)


def flow_density(
    model: VDM, v: Int[Tensor, "image variable channel"], settings: FlowSettings, generator: torch.Generator
) -> FlowLikelihood:
    """log p of images by the probability-flow ODE, at one draw of z₀ each, decoded as VDM does."""
    y, decoder = dequantize_noise(encode_levels(model, v), model.schedule, model.levels, generator)
    solver = runge_kutta(settings.steps)
    return log_density(model.denoiser, y, solver, settings.probes, generator=generator).add_nats(decoder)


def mean_flow_bits(parts: list[FlowLikelihood], settings: FlowSettings) -> FlowBits:
    """Means over the images of all batches."""
    dimensions = parts[0].dimensions
    mean = mean_estimate(torch.cat([part.nats for part in parts]).neg(), dimensions)
    means = (float(torch.cat([getattr(part, name) for part in parts]).mean()) for name in FLOW_ERRORS)
    end, solver, trace = (error / (dimensions * math.log(2)) for error in means)
    return FlowBits(mean.bits, mean.bits_error, end, solver, trace, settings)
