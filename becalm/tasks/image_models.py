"""What the tasks on models of images share: the images as variables of the model, and checks of numbers."""

from pathlib import Path
from typing import Any

from becalm.core.files import InputError
from becalm.core.typing import Int, Tensor
from becalm.images import image_files
from becalm.images.image_files import ImageFormat, ImageSet
from becalm.systems.vdm import VDM, images_to_variables


def read_images(
    model: VDM, images: Any, array: str | None = None
) -> tuple[ImageSet, Int[Tensor, "image variable channel"]]:
    """Images, from a path or an array, and the same as variables of the model. Raises InputError saying what the model takes."""
    expected = ImageFormat(*model.shape, model.levels)
    if isinstance(images, str | Path):
        read = image_files.read(Path(images), expected, array)
    else:
        read = image_files.from_array(images, expected)
    return read, images_to_variables(model, read.values)


def check_at_least_one(**counts: int | None) -> None:
    """Raise InputError for the first count that is below 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: {count}; must be at least 1")
