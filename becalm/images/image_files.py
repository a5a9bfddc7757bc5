"""Read and write sets of images for a model of K levels: folders of image files, single images, NPY, NPZ and IDX files, arrays.

Arrays hold the levels 0 … K − 1 themselves, [image, height, width] or [image, height, width, colour]. Image files hold
brightness, as PNG scales it: level v of K ≤ 256 is round(255 v/(K − 1)), of more round(65535 v/(K − 1)).
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from becalm.core.files import InputError, atomic_file, fsync_path
from becalm.core.numpy_files import array_names, load_array, load_arrays
from becalm.core.typing import Int, Tensor
from becalm.images import idx

IMAGE_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jpg", ".jpeg")
"""Suffixes of image files."""

MAX_PIXELS = 64_000_000
"""Pixels an image file may have."""


@dataclass(frozen=True)
class ImageFormat:
    """Size and number of levels of the images that a model takes."""

    height: int
    width: int
    colours: int
    """1 for grey, 3 for colour; images of other numbers can only be arrays."""
    levels: int
    """K: values are whole numbers from 0 to K − 1."""

    def __str__(self) -> str:
        kind = {1: "grey", 3: "colour"}.get(self.colours, f"{self.colours}-channel")
        return f"{kind} images {self.width} × {self.height} of values 0 to {self.levels - 1}"

    @property
    def brightness(self) -> np.ndarray:
        """The brightness of each level in image files [K], uint8 or uint16."""
        top, dtype = (255, np.uint8) if self.levels <= 256 else (65535, np.uint16)
        return np.round(np.arange(self.levels) * (top / max(self.levels - 1, 1))).astype(dtype)


@dataclass(frozen=True)
class ImageSet:
    """Images with their names."""

    values: Int[Tensor, "image height width colour"]
    """0 to K − 1."""
    names: tuple[str, ...]
    """The file name of each, or its index in the array."""

    def __len__(self) -> int:
        return len(self.names)


def read(path: Path, expected: ImageFormat, array: str | None = None) -> ImageSet:
    """A set of images from a folder, an image file, .npy, .npz (`array` says which where several fit) or IDX, plain or gzip.

    Raises InputError that names the first file at fault and what the model takes.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give a folder of images, .npy, .npz or an IDX file")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return read_image_files(path, expected)
    if path.suffix == ".npz":
        where, values = read_npz(path, expected, array)
        return from_array(values, expected, where)
    return from_array(read_npy(path) if path.suffix == ".npy" else idx.read(path), expected, str(path))


def from_array(values: object, expected: ImageFormat, where: str = "images") -> ImageSet:
    """A set of images from an array or tensor; errors call it `where`."""
    images = check_array(where, np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values), expected)
    return ImageSet(images, tuple(str(i) for i in range(len(images))))


def source_files(path: Path) -> list[Path]:
    """The files that `read` reads: the image files of a folder in the order of their names, or the one file."""
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file; objects are refused."""
    return load_array(path)


def read_npz(path: Path, expected: ImageFormat, array: str | None) -> tuple[str, np.ndarray]:
    """The array named, or the only one with the shape of images of the model; and the name by which errors call it."""
    names = array_names(path)
    if array is not None and array not in names:
        raise InputError(f"{path}: has no array {array!r}; there is {', '.join(names)}")
    arrays = load_arrays(path, [array] if array else names)
    many = [name for name, values in arrays.items() if values.ndim >= 3]
    fitting = [name for name in many if fits_shape(arrays[name], expected)] or many or list(arrays)
    if len(fitting) != 1:
        raise InputError(f"{path}: has the arrays {', '.join(arrays)}; say which with --array, as --array {fitting[0]}"
                         if fitting else f"{path}: holds no array; the model takes {expected}")  # fmt: skip
    return f"{path}: {fitting[0]}", arrays[fitting[0]]


def fits_shape(values: np.ndarray, expected: ImageFormat) -> bool:
    """Whether an array has the shape of images of the model."""
    size = (expected.height, expected.width)
    return values.shape[1:] in ((*size, expected.colours), *([size] if expected.colours == 1 else []))


def check_array(where: str, values: np.ndarray, expected: ImageFormat) -> Int[Tensor, "image height width colour"]:
    """An array as images. Raises InputError where shape, type or range are not those of the model."""
    if values.dtype.kind not in "buif":
        raise InputError(f"{where}: holds {values.dtype}; the model takes {expected}")
    if not fits_shape(values, expected):
        shape = "[image, height, width]" if expected.colours == 1 else "[image, height, width, colour]"
        raise InputError(f"{where}: has the shape {list(values.shape)}; the model takes {expected}, as {shape}")
    if len(values) == 0:
        raise InputError(f"{where}: holds no image; the model takes {expected}")
    if values.dtype.kind == "f":
        check_whole_numbers(where, values, expected)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high < expected.levels):
        first = int(np.argmax(((values < 0) | (values >= expected.levels)).reshape(len(values), -1).any(1)))
        raise InputError(f"{where}: image {first}: values run from {low:g} to {high:g}; the model takes {expected}")
    whole = torch.from_numpy(np.ascontiguousarray(values.astype(np.int32)))
    return whole.reshape(len(values), expected.height, expected.width, expected.colours)


def check_whole_numbers(where: str, values: np.ndarray, expected: ImageFormat) -> None:
    """Raise InputError for floats that are not whole numbers, or whole by chance: all within [0, 1], for more than two levels."""
    if not np.isfinite(values).all():
        raise InputError(f"{where}: has values that are not finite; the model takes {expected}")
    low, high, top = values.min(), values.max(), expected.levels - 1
    if low >= 0 and high <= 1 and top > 1:
        raise InputError(
            f"{where}: holds fractions from {low:g} to {high:g} ({values.dtype}); the model takes {expected}: "
            f"multiply by {top}, round and store whole numbers"
        )
    if (values != np.round(values)).any():
        raise InputError(f"{where}: holds fractions ({values.dtype}); the model takes {expected}: store whole numbers")


def read_image_files(path: Path, expected: ImageFormat) -> ImageSet:
    """The images of one image file, or of all in a folder in the order of their names."""
    if expected.colours not in (1, 3):
        raise InputError(f"{path}: image files are grey or colour; the model takes {expected}, so give an .npy")
    files = source_files(path)
    if not files:
        raise InputError(f"{path}: holds no image ({', '.join(IMAGE_SUFFIXES)}); the model takes {expected}")
    level = np.full(65536, -1, dtype=np.int32)
    level[expected.brightness] = np.arange(expected.levels)
    values = np.stack([samples_to_levels(file, read_samples(file, expected), level, expected) for file in files])
    return ImageSet(torch.from_numpy(values), tuple(file.name for file in files))


def read_samples(path: Path, expected: ImageFormat) -> np.ndarray:
    """The samples of an image file, [height, width, colours]. Raises InputError for another size, depth or number of colours."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width:,} × {image.height:,} pixels; the model takes {expected}")
            samples, mode = pillow_samples(image)
    except (Image.DecompressionBombError, SyntaxError, ValueError, OSError) as error:
        if isinstance(error, InputError | FileNotFoundError):
            raise
        raise InputError(f"{path}: is no image that can be read ({error}); the model takes {expected}") from error
    shape, size = samples.shape, (expected.height, expected.width)
    if shape[:2] != size:
        raise InputError(f"{path}: is {shape[1]} × {shape[0]}; the model takes {expected}")
    if mode not in ("L", "RGB", "I;16") or shape[2] != expected.colours:
        kind = {"L": "grey", "I;16": "grey", "RGB": "in colour"}.get(mode, f"of mode {mode}")
        raise InputError(f"{path}: is {kind}; the model takes {expected}")
    if (samples.dtype == np.uint16) != (expected.levels > 256):
        bits = 8 * samples.dtype.itemsize
        raise InputError(f"{path}: has {bits} bits a sample; the model takes {expected}")
    return samples


def pillow_samples(image) -> tuple[np.ndarray, str]:
    """Samples [height, width, colours] of a Pillow image, and its mode, without palette and without an opaque alpha channel."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA") and image.getextrema()[-1] == (255, 255):
        image = image.convert(image.mode[:-1])
    image = image.convert("L") if image.mode == "1" else image
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    samples = np.asarray(image)
    samples = samples.astype(np.uint16) if mode == "I;16" else samples
    return samples.reshape(*samples.shape[:2], -1), mode


def samples_to_levels(path: Path, samples: np.ndarray, level: np.ndarray, expected: ImageFormat) -> np.ndarray:
    """The level of each sample, by the table `level` of brightnesses. Raises InputError for a brightness of no level."""
    values = level[samples]
    if (values < 0).any():
        first, allowed = samples[values < 0][0], expected.brightness
        listed = ", ".join(str(b) for b in allowed[:3]) + f", … {allowed[-1]}"
        raise InputError(f"{path}: brightness {first} is none of {listed}; the model takes {expected}")
    return values


def write(path: Path, values: Int[Tensor, "image height width colour"], levels: int) -> None:
    """Write images to .npy, .npz (its array `images`), IDX (a name with idx; .gz as well) or else a new folder of PNGs.

    Grey images are written without the axis of colours. The file, or the folder, is whole or absent; a folder that holds anything
    is refused.
    """
    path, dtype = Path(path), np.uint8 if levels <= 256 else np.uint16
    array = values.cpu().numpy().astype(dtype)
    flat = array[..., 0] if array.shape[-1] == 1 else array
    if path.suffix not in (".npy", ".npz") and "idx" not in path.name:
        return write_folder(path, array, ImageFormat(array.shape[1], array.shape[2], array.shape[3], levels))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, flat)
        elif path.suffix == ".npz":
            np.savez_compressed(file, images=flat)
        else:
            file.write(idx.encode(flat, path.suffix == ".gz"))


def check_target(path: Path) -> None:
    """Raise InputError where images could not be written to `path`, before the work is done."""
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path}: the folder is not empty; give a new one")
    single = path.suffix in (".npy", ".npz") or "idx" in path.name
    if path.is_dir() and single:
        raise InputError(f"{path}: is a folder; give the name of a file")
    if path.suffix.lower() in IMAGE_SUFFIXES and not single:
        raise InputError(f"{path}: one picture holds no set; give a new folder, .npy, .npz or a name with idx")
    if path.is_file() and not single:
        raise InputError(f"{path}: is a file; give a new folder, or a name that ends in .npy, .npz or -idx3-ubyte")
    if not path.resolve().parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; make it first")


def write_folder(folder: Path, values: np.ndarray, expected: ImageFormat) -> None:
    """Write a folder of PNGs 00000.png …; values [image, height, width, colours]."""
    from PIL import Image

    check_target(folder)
    if expected.colours not in (1, 3) or (expected.colours == 3 and expected.levels > 256):
        raise InputError(f"{folder}: no PNG holds {expected}; give a name that ends in .npy")
    temporary = folder.resolve().with_name(f".becalm-{secrets.token_hex(6)}.part")
    temporary.mkdir()
    try:
        for i, image in enumerate(to_brightness(values, expected)):
            Image.fromarray(image).save(temporary / f"{i:05d}.png", optimize=True)
        fsync_path(temporary, os.O_RDONLY)
        if folder.is_dir():
            folder.rmdir()
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def to_brightness(values: np.ndarray, expected: ImageFormat) -> Iterator[np.ndarray]:
    """The brightness of each image, [height, width] or [height, width, 3]."""
    table = expected.brightness
    for image in values:
        yield table[image[..., 0] if expected.colours == 1 else image]


def write_grid(path: Path, values: Int[Tensor, "image height width colour"], levels: int, smallest: int = 56) -> None:
    """Write one PNG of all images side by side, about as many rows as columns, each enlarged to at least `smallest` pixels."""
    from PIL import Image

    count, height, width, colours = values.shape
    columns, times = int(np.ceil(np.sqrt(count))), max(1, -(-smallest // max(height, width)))
    rows = -(-count // columns)
    table = np.round(np.arange(levels) * (255 / max(levels - 1, 1))).astype(np.uint8)
    cells = np.full((rows * columns, height + 1, width + 1, colours), 96, dtype=np.uint8)
    cells[:count, :-1, :-1] = table[values.cpu().numpy()]
    sheet = cells.reshape(rows, columns, *cells.shape[1:]).transpose(0, 2, 1, 3, 4)
    sheet = (
        sheet.reshape(rows * (height + 1), columns * (width + 1), colours)[:-1, :-1].repeat(times, 0).repeat(times, 1)
    )
    with atomic_file(path) as temporary:
        Image.fromarray(sheet[..., 0] if colours == 1 else sheet[..., :3]).save(temporary, format="PNG")
