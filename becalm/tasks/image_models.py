"""What the tasks on models of images share: the model on its device, and the images as its variables."""

from pathlib import Path
from typing import Any

from torch import nn

from becalm.core.device import device_of
from becalm.core.files import InputError
from becalm.core.typing import Int, Tensor
from becalm.images import image_files
from becalm.images.image_files import ImageFormat, ImageSet
from becalm.systems.vdm import VDM, images_to_variables
from becalm.weights.store import load


def load_image_model(model: str | Path | nn.Module, device: str) -> tuple[VDM, str]:
    """A VDM by its packaged name, its file or loaded already, on a device; and the name by which errors call it."""
    if isinstance(model, str | Path):
        return load(model, VDM).to(device_of(device)), str(model)
    if not isinstance(model, VDM):
        raise InputError(f"model: is {type(model).__name__}; a VDM is needed, its packaged name or a file of weights")
    return model.eval().to(device_of(device)), "model"


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
