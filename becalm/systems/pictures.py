"""Tasks of SRM on whole pictures: images as patches that are variables, each at its row and column."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from becalm.core.files import InputError, replacing
from becalm.core.typing import Float, Tensor
from becalm.images.even_pixels import even_pixels, to_unit
from becalm.images.grid import cut, join
from becalm.images.polygon_plan import plan
from becalm.images.polygons import plain, polygons
from becalm.systems.srm import SRM

Draw = Callable[[int, torch.Generator], Float[Tensor, "batch height width 3"]]
"""Real images of a task: (batch, generator) → images in [−1, 1]."""

Planned = Callable[
    [int, torch.Generator], tuple[Float[Tensor, "batch height width 3"], Float[Tensor, "batch variable plan"]]
]
"""The same images, and what each patch is part of."""


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
    planned: Planned | None = None
    """Draws the same images and tells what each patch is part of, which is then made along with its pixels."""
    plan: int = 0
    """Numbers that tell it."""

    @property
    def side(self) -> int:
        """Patches in a row."""
        return self.size // self.patch

    @property
    def pixels(self) -> int:
        """Numbers of a patch that are colours."""
        return 3 * self.patch**2

    @property
    def channels(self) -> int:
        """Numbers of a patch: its colours, then its plan."""
        return self.pixels + self.plan

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


def planned_polygons(batch: int, generator: torch.Generator) -> tuple[Tensor, Float[Tensor, "batch 256 22"]]:
    """The same, and their plan."""
    drawn = polygons(batch, generator, background=plain)
    return drawn.images, plan(drawn, 16)


def means(task: Task) -> Float[Tensor, "channel 3"]:
    """The mean of each colour over a patch, times the patch's side: three functions of unit length."""
    return torch.eye(3).repeat(task.patch**2, 1) / task.patch


def planning(task: Task) -> Float[Tensor, "channel plan"]:
    """The plan of a patch, of its channels."""
    return torch.eye(task.channels)[:, task.pixels :]


EVEN_PIXELS = Task("even-pixels", partial(even_pixels, size=32), 32, 4, -0.3, 0.38, coordinates)
"""A pixel is 0.35 ± a direction of the hue, in [0, 1]: −0.3 is the mean, exactly, of every image and channel."""

POLYGONS = Task("polygons", plain_polygons, 128, 8, -0.1, 0.32, coordinates, planned_polygons, 22)
"""One to nine polygons of three to seven corners on a plain ground, and the two numbers."""

TASKS = {task.name: task for task in (EVEN_PIXELS, POLYGONS)}
"""Tasks by name."""


def variables(images: Float[Tensor, "batch height width 3"], task: Task) -> Float[Tensor, "batch variable channel"]:
    """Images as the network sees them: patches in row-major order, of mean 0."""
    return cut(images, task.patch) - task.centre


def real_patches(task: Task, batch: int, generator: torch.Generator) -> Float[Tensor, "batch variable channel"]:
    """Real images as the network sees them, with their plan."""
    if task.planned is None:
        return variables(task.draw(batch, generator), task)
    images, plan = task.planned(batch, generator)
    return torch.cat([variables(images, task), plan], -1)


def pictures(patches: Float[Tensor, "batch variable channel"], task: Task) -> Float[Tensor, "batch height width 3"]:
    """The images that patches show; their plan is left out."""
    return join(patches[..., : task.pixels] + task.centre, (task.size, task.size, 3), task.patch)


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
