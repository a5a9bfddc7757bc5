"""Tasks of SRM on whole pictures: images as patches that are variables, each at its row and column."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Float, Tensor
from becalm.images.counting_polygons.layout import LAYOUT_CHANNELS, N_KINDS, encode_layout
from becalm.images.counting_polygons.renderer import render
from becalm.images.counting_polygons.scenes import plain_background, polygons, sample_scene
from becalm.images.even_pixels import even_pixels, to_unit
from becalm.images.grid import cut, join
from becalm.nets.coverage import CoverageNetwork
from becalm.systems.srm import SRM
from becalm.weights.store import load

Draw = Callable[[int, torch.Generator], Float[Tensor, "batch height width 3"]]
"""Real images of a task: (batch, generator) → images in [−1, 1]."""


@dataclass(frozen=True)
class Task:
    """Random images of one size, made by a rule and cut into patches of which each is a variable: here its pixels."""

    name: str
    """As a benchmark and in the metadata of a file."""
    draw: Draw
    """Draws real images."""
    size: int
    """Side of an image in pixels."""
    patch: int
    """Side of a patch in pixels."""
    mean: float = 0.0
    """Mean of the data, subtracted from every number."""
    data_variance: float = 1.0
    """Mean square of the data after that."""

    @property
    def side(self) -> int:
        """Patches in a row."""
        return self.size // self.patch

    @property
    def channels(self) -> int:
        """Numbers of a patch."""
        return 3 * self.patch**2

    @property
    def n_categories(self) -> int:
        """How many of them, the first ones, are categorical (`images.counting_polygons.categorical`)."""
        return 0

    def places(self) -> list[list[float]]:
        """Row and column of every patch in row-major order, in [−1, 1]."""
        at = torch.linspace(-1, 1, self.side).tolist()
        return [[row, column] for row in at for column in at]

    def features(self) -> Float[Tensor, "channel feature"]:
        """What pooled sums and certainty are about: mean colours of a patch, times its side, so that each has unit length."""
        return torch.eye(3).repeat(self.patch**2, 1) / self.patch

    def sample_patches(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch variable channel"]:
        """Real images as the network sees them: patches in row-major order, of mean 0."""
        return cut(self.draw(batch, generator), self.patch) - self.mean

    def to_images(self, patches: Float[Tensor, "batch variable channel"]) -> Float[Tensor, "batch height width 3"]:
        """The images that patches make up."""
        return join(patches + self.mean, (self.size, self.size, 3), self.patch)


@dataclass(frozen=True)
class PolygonTask(Task):
    """Polygons: a variable is what is centred in a patch; the layout of an image is rendered when it is complete."""

    @property
    def channels(self) -> int:
        return LAYOUT_CHANNELS

    @property
    def n_categories(self) -> int:
        return N_KINDS

    def features(self) -> Float[Tensor, "channel feature"]:
        return torch.eye(LAYOUT_CHANNELS, N_KINDS)

    def sample_patches(self, batch: int, generator: torch.Generator) -> Float[Tensor, "batch variable channel"]:
        return encode_layout(sample_scene(batch, generator, 1, plain_background), self.side)

    def to_images(self, patches: Float[Tensor, "batch variable channel"]) -> Float[Tensor, "batch height width 3"]:
        return render(load("painter", CoverageNetwork), patches, self.size)


def plain_polygons(batch: int, generator: torch.Generator) -> Float[Tensor, "batch 128 128 3"]:
    """Images of polygons and their two numbers, each on one colour."""
    return polygons(batch, generator, background=plain_background).images


EVEN_PIXELS = Task("even-pixels", partial(even_pixels, size=32), 32, 4, -0.3, 0.38)
"""A pixel is 0.35 ± a direction of the hue, in [0, 1]: −0.3 is the mean, exactly, of every image and channel."""

POLYGONS = PolygonTask("polygons", plain_polygons, 128, 8, data_variance=0.026)
"""One to nine polygons of three to seven corners on a plain ground, and the two numbers."""

TASKS = {task.name: task for task in (EVEN_PIXELS, POLYGONS)}
"""Tasks by name."""


def check_model(model: SRM, task: Task, name: str) -> SRM:
    """The model, if it is one for the task. Raises InputError, naming its file."""
    shape = 0 if model.places is None else len(model.places), model.channels
    wanted = task.side**2, task.channels
    if shape != wanted:
        raise InputError(
            f"{name}: is for another task: it has {shape[0]} variables of {shape[1]} numbers, "
            f"and {task.name} has {wanted[0]} of {wanted[1]}; train one with `becalm train {task.name.replace('-', '_')}`"
        )
    return model


def image_grid(images: Float[Tensor, "image height width 3"], columns: int = 8) -> Float[Tensor, "down across 3"]:
    """Images side by side, in [0, 1], two white pixels apart; places left over are white."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    framed = torch.ones(rows * columns, height + 2, width + 2, 3)
    framed[:count, 1:-1, 1:-1] = to_unit(images)
    return framed.view(rows, columns, height + 2, width + 2, 3).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def write_image_grid(images: Float[Tensor, "batch height width 3"], path: Path) -> None:
    """Write images side by side as one PNG; the file is whole or the old one stays as it was."""
    from PIL import Image

    levels = (image_grid(images) * 255).round().byte().numpy()
    with atomic_file(path) as temporary:
        Image.fromarray(levels).save(temporary, format="PNG")
