"""Generate new data: shapes or images out of noise."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.core.typing import Int, Tensor
from becalm.tasks.html import png_bytes, summary_html
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shape_files import check_counts
from becalm.tasks.shapes import Shapes, class_labels, in_batches, load_on


@runtime_checkable
class Generator(Protocol):
    """A model that new data can be sampled from."""

    makes: Literal["shapes", "images"]
    """What it generates: clouds [batch, points, 3], or images [batch, height, width, colour] with values of so many `levels`."""
    classes: Sequence[str]
    """Names of the classes it can be conditioned on; none for an unconditional model."""
    default_sampler: Sampler
    """How it is sampled where no sampler is given."""

    def generate(
        self,
        label: Int[Tensor, " batch"],
        points: int,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield states of the sampling, where there are any to look at, and last the data, one for each entry of `label`.

        `label` counts classes from 1; 0 is any. `points` is the size of each cloud; images have the size they were trained at.
        """
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """New images, with what there is to say about them."""

    images: np.ndarray
    """[image, height, width, colour]: whole numbers from 0 to levels − 1."""
    levels: int
    """How many values a number can take."""
    facts: dict[str, object] = field(default_factory=dict)
    """The settings, and what was measured."""

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = " × ".join(str(n) for n in self.images.shape[1:])
        return f"Images({len(self.images)} of {size}{''.join(f', {k} {v}' for k, v in self.facts.items())})"

    def _repr_html_(self) -> str:
        rows = {"images": len(self.images), **self.facts}
        return summary_html("Images", rows, png_bytes(lambda path: self.draw(path, most=64)))

    def save(self, path: Path | str) -> None:
        """Write PNGs into a new folder, or one .npy, .npz or IDX file. Raises InputError."""
        from becalm.images import image_files

        image_files.write(Path(path), torch.from_numpy(self.images), self.levels)

    def draw(self, path: Path | str, most: int | None = None) -> None:
        """Write a PNG of all images side by side, or of the first `most`. Raises InputError, OSError."""
        from becalm.images import image_files

        image_files.write_grid(Path(path), torch.from_numpy(self.images[:most]), self.levels)


def generate(
    model: str | Path | nn.Module,
    number: int = 16,
    label: str | None = None,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Shapes | Images:
    """`number` new shapes or images from a packaged model, a file of weights or a loaded model.

    `label` names a class and `points` is the size of each cloud, for models of shapes. The same seed gives the same data. Raises
    InputError.
    """
    return final_result(steps(model, number, label, points, sampler, seed, device))


def steps(
    model: str | Path | nn.Module,
    number: int = 16,
    label: str | None = None,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[Progress]:
    """`generate`, with a report after each batch of shapes or each step of images."""
    check_counts(number, points)
    loaded, started = load_on(model, device, Generator), time.time()
    reports = image_steps if loaded.makes == "images" else shape_steps
    for report in reports(loaded, number, label, points, sampler or loaded.default_sampler, seed):
        if report.result:
            report.result.facts["seconds"] = round(time.time() - started, 2)
        yield report


def shape_steps(
    model: Generator, number: int, label: str | None, points: int, sampler: Sampler, seed: int
) -> Iterator[Progress]:
    """Reports after each batch of shapes."""
    labels, generator = class_labels(model, label, number), torch.Generator().manual_seed(seed)

    def make(rows: range) -> Tensor:
        *_, shapes = model.generate(labels[: len(rows)], points, sampler, generator)
        return shapes

    facts = {"label": label or "any", "sampler": sampler.update, "steps": sampler.steps, "seed": seed}
    for report in in_batches(make, number, points):
        yield report if report.result is None else report._replace(result=Shapes(report.result, facts))


def image_steps(
    model: Any, number: int, label: str | None, points: int, sampler: Sampler, seed: int
) -> Iterator[Progress]:
    """Reports after each step of all images."""
    if sampler.guidance:
        raise InputError("guidance: a model of images has no classes to guide it by; leave it out")
    labels, generator = class_labels(model, label, number), torch.Generator().manual_seed(seed)
    for k, state in enumerate(model.generate(labels, points, sampler, generator)):
        yield Progress(min(k + 1, sampler.steps) / (sampler.steps + 1), state)
    facts = {"sampler": sampler.update, "steps": sampler.steps, "seed": seed}
    yield Progress(1.0, None, Images(state.cpu().numpy(), model.levels, facts))
