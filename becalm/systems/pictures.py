"""Tasks of SRM on whole pictures: images as patches that are variables, each at its row and column."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from becalm.core.files import InputError, replacing
from becalm.core.typing import Float, Int, Tensor
from becalm.images.even_pixels import even_pixels, to_unit
from becalm.images.grid import cut, join
from becalm.images.polygons import MOST, plain, polygons
from becalm.systems.srm import SRM

Draw = Callable[[int, torch.Generator], Float[Tensor, "batch height width 3"]]
"""Real images of a task: (batch, generator) → images in [−1, 1]."""

Labelled = Callable[[int, torch.Generator], tuple[Float[Tensor, "batch height width 3"], Int[Tensor, "batch variable"]]]
"""The same images, and what each patch shows."""


@dataclass(frozen=True)
class Task:
    """Images of one size, drawn by a rule, and how they are cut for the network."""

    name: str
    """As a benchmark and in the metadata of a file."""
    draw: Draw
    """Makes real images."""
    size: int
    """Side of an image in pixels."""
    patch: int
    """Side of a patch in pixels: a patch is a variable."""
    centre: float
    """Taken from every number, so that the data's mean is 0."""
    power: float
    """Mean square of the data after that."""
    layout: Callable[["Task"], list[list[float]] | list[list[int]]]
    """Where the patches are, as the network is told."""
    labelled: Labelled | None = None
    """Draws the same images and tells what each patch shows, for training; None where there is nothing to tell."""
    labels: int = 0
    """How many things that may be."""

    @property
    def side(self) -> int:
        """Patches in a row."""
        return self.size // self.patch

    @property
    def channels(self) -> int:
        """Numbers in a patch."""
        return 3 * self.patch**2

    def places(self) -> list[list[float]] | list[list[int]]:
        """A row for every patch, in row-major order."""
        return self.layout(self)


def coordinates(task: "Task") -> list[list[float]]:
    """Row and column of every patch, in [−1, 1]: no patch is nearer to one than to another at first."""
    at = torch.linspace(-1, 1, task.side).tolist()
    return [[row, column] for row in at for column in at]


def plain_polygons(batch: int, generator: torch.Generator) -> Float[Tensor, "batch 128 128 3"]:
    """Images of polygons and their two numbers, each on one colour."""
    return polygons(batch, generator, background=plain).images


def labelled_polygons(batch: int, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, "batch 256"]]:
    """The same, and what the circle around a patch's centre shows: a number 1 to 9, 7 + the corners of a figure, or 0."""
    drawn = polygons(batch, generator, background=plain)
    at = (torch.arange(16) + 0.5) / 16
    x, y = at.repeat(16), at.repeat_interleave(16)
    circle = drawn.circles[:, :, None]
    inside = (x - circle[..., 0]).square() + (y - circle[..., 1]).square() < circle[..., 2].square()
    shows = torch.cat([drawn.count[:, None], drawn.corners[:, None], 7 + drawn.corners[:, None].expand(-1, MOST)], 1)
    return drawn.images, (inside * shows[..., None]).amax(1)


def means(task: Task) -> Float[Tensor, "channel 3"]:
    """The mean of each colour over a patch, times the patch's side: three functions of unit length."""
    return torch.eye(3).repeat(task.patch**2, 1) / task.patch


EVEN_PIXELS = Task("even-pixels", partial(even_pixels, size=32), 32, 4, -0.3, 0.38, coordinates)
"""A pixel is 0.35 ± a direction of the hue, in [0, 1]: −0.3 is the mean, exactly, of every image and channel."""

POLYGONS = Task("polygons", plain_polygons, 128, 8, -0.1, 0.32, coordinates, labelled_polygons, 15)
"""One to nine polygons of three to seven corners on a plain ground, and the two numbers."""

TASKS = {task.name: task for task in (EVEN_PIXELS, POLYGONS)}
"""Tasks by name."""


def variables(images: Float[Tensor, "batch height width 3"], task: Task) -> Float[Tensor, "batch variable channel"]:
    """Images as the network sees them: patches in row-major order, of mean 0."""
    return cut(images, task.patch) - task.centre


def pictures(patches: Float[Tensor, "batch variable channel"], task: Task) -> Float[Tensor, "batch height width 3"]:
    """The inverse of `variables`."""
    return join(patches + task.centre, (task.size, task.size, 3), task.patch)


def fitting(model: SRM, task: Task, name: str) -> SRM:
    """The model, if it is one for the task. Raises InputError, naming its file."""
    shape, wanted = (len(model.places), model.config["channels"]), (task.side**2, task.channels)
    if shape != wanted:
        raise InputError(
            f"{name}: is for another task: it has {shape[0]} variables of {shape[1]} numbers, "
            f"and {task.name} has {wanted[0]} of {wanted[1]}; train one with `becalm train {task.name.replace('-', '_')}`"
        )
    return model


def sheet(images: Float[Tensor, "image height width 3"], columns: int = 8) -> Float[Tensor, "down across 3"]:
    """Images side by side, in [0, 1], two white pixels apart; places left over are white."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    framed = torch.ones(rows * columns, height + 2, width + 2, 3)
    framed[:count, 1:-1, 1:-1] = to_unit(images)
    return framed.view(rows, columns, height + 2, width + 2, 3).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def write_sheet(images: Float[Tensor, "batch height width 3"], path: Path) -> None:
    """Write images side by side as one PNG; the file is whole or the old one stays as it was."""
    from PIL import Image

    levels = (sheet(images) * 255).round().byte().numpy()
    with replacing(path) as temporary:
        Image.fromarray(levels).save(temporary, format="PNG")
