"""Grey images read from and written to files, and the picture of a solved puzzle with its cells numbered in their order."""

import warnings
from io import BytesIO
from math import isqrt
from pathlib import Path

import numpy as np
import torch

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Float, Int, Tensor

MAX_PIXELS = 64_000_000
"""Pixels an image may have."""

MAX_TINT = 32
"""How far red, green and blue of a grey image may lie apart, of 255: some scanners tint paper a little."""


def read_image(path: Path, colour: bool = False) -> Float[Tensor, "height width"]:
    """The grey values of an image file in [0, 1]; on white where it is transparent. Raises InputError naming the file.

    A photograph, `colour`, may have colours, and is turned upright as its camera says; other images must be grey.
    """
    from PIL import Image, ImageOps

    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width:,} × {image.height:,} pixels; at most {MAX_PIXELS:,} are read")
            image = ImageOps.exif_transpose(image) if colour else image
            wide, fractions = image.mode in ("I", "I;16", "F"), image.mode == "F"
            flat = (
                image if wide else Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            )
            tints = np.ptp(np.asarray(flat)[..., :3].astype(np.int16), axis=-1) if not (wide or colour) else np.zeros(1)
            if int(tints.max(initial=0)) > MAX_TINT:
                raise InputError(f"{path}: is a colour image; a grey one is needed (convert it first)")
            grey = np.asarray(flat if wide else flat.convert("L"), dtype=np.float32)
    except (Image.DecompressionBombError, SyntaxError, ValueError, OSError) as error:
        if isinstance(error, InputError | FileNotFoundError):
            raise
        raise InputError(f"{path}: is no image that can be read ({error}); give a PNG") from error
    brightest = grey.max(initial=0)
    return torch.from_numpy(grey / (65535.0 if brightest > 255 else 255.0 if brightest > 1 or not fractions else 1.0))


def write_image(image: Float[Tensor, "height width"], path: Path) -> None:
    """Write grey values in [0, 1] as an 8-bit PNG; the file is whole or the old one stays as it was."""
    from PIL import Image

    grey = (image.clamp(0, 1) * 255).round().byte().numpy()
    with atomic_file(path) as temporary:
        Image.fromarray(grey).save(temporary, format="PNG")


def order_png(
    image: Float[Tensor, "height width"], order: Int[Tensor, " cell"], certainty: Float[Tensor, " cell"]
) -> bytes:
    """A PNG of a solved puzzle three times as large: solved cells are tinted, from red (uncertain) to green (certain), and carry
    the number of their turn."""
    from PIL import Image, ImageDraw, ImageFont

    side = isqrt(len(order))
    pixel = 3 * image.shape[0] // side
    shape = (side * pixel, side * pixel)
    grey = Image.fromarray((image.clamp(0, 1) * 255).round().byte().numpy()).resize(shape, Image.Resampling.LANCZOS)
    picture = grey.convert("RGB")
    font = ImageFont.load_default(max(8, pixel // 5))
    for cell in (order > 0).nonzero()[:, 0].tolist():
        left, top = cell % side * pixel, cell // side * pixel
        box = (left, top, left + pixel, top + pixel)
        sure = float(certainty[cell].nan_to_num(0.5))
        tint = Image.new("RGB", (pixel, pixel), (int(255 * (1 - sure)), int(200 * sure), 60))
        dark = image[top // 3, left // 3] < 0.5
        picture.paste(Image.blend(picture.crop(box), tint, 0.35), box)
        at, colour = (left + pixel // 14, top + pixel // 14), "white" if dark else "black"
        ImageDraw.Draw(picture).text(at, str(int(order[cell])), colour, font)
    lines, inner = ImageDraw.Draw(picture), isqrt(side)
    for i in range(side + 1):
        at, width = min(i * pixel, side * pixel - 1), 3 if i % inner == 0 else 1
        lines.line((at, 0, at, shape[1]), (120, 120, 220), width)
        lines.line((0, at, shape[0], at), (120, 120, 220), width)
    png = BytesIO()
    picture.save(png, format="PNG")
    return png.getvalue()
