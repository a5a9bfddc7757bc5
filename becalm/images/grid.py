"""Images as sets of variables: square patches in row-major order, and whole cells made smaller or larger."""

from math import isqrt

import torch
from torch.nn import functional as F

from becalm.core.typing import Float, Tensor


def cut(images: Float[Tensor, "batch *shape"], size: int) -> Float[Tensor, "batch variable channel"]:
    """Cut images [batch, height, width] or [batch, height, width, colour] into patches of size × size pixels.

    Patches are in row-major order, and so are the numbers of one patch: row, column, colour. Raises ValueError where
    the patches do not fill the image.
    """
    batch, height, width, colours = *images.shape[:3], _colours(images.shape[1:])
    rows, columns = _patches(height, width, size)
    parts = images.reshape(batch, rows, size, columns, size, colours).transpose(2, 3)
    return parts.reshape(batch, rows * columns, size * size * colours)


def join(
    variables: Float[Tensor, "batch variable channel"], shape: tuple[int, ...], size: int
) -> Float[Tensor, "batch *shape"]:
    """Put patches of size × size pixels back into images of the given shape: the inverse of `cut`.

    `shape` is that of one image, (height, width) or (height, width, colour). Raises ValueError where it does not fit.
    """
    batch, count, channels = variables.shape
    colours = _colours(shape)
    rows, columns = _patches(shape[0], shape[1], size)
    if (count, channels) != (rows * columns, size * size * colours):
        raise ValueError(
            f"variables: {count} of {channels} numbers do not make an image of shape {tuple(shape)}; "
            f"patches of {size} need {rows * columns} of {size * size * colours}"
        )
    parts = variables.reshape(batch, rows, columns, size, size, colours).transpose(2, 3)
    return parts.reshape(batch, *shape)


def side_of(cells: Float[Tensor, "*any channel"]) -> int:
    """Side in pixels of square grey cells of h·h numbers. Raises ValueError where they are not square."""
    side = isqrt(cells.shape[-1])
    if side * side != cells.shape[-1]:
        raise ValueError(f"cells: {cells.shape[-1]} numbers are no square of pixels")
    return side


def shrink(cells: Float[Tensor, "*any fine"], side: int) -> Float[Tensor, "*any coarse"]:
    """Square grey cells at a smaller side: the mean over the area of every new pixel; cells never mix.

    Where the old side is no multiple of the new one, neighbouring areas share the pixels between them.
    """
    if side > side_of(cells):
        raise ValueError(f"side: {side} is larger than the cells' {side_of(cells)}; use enlarge")
    return F.adaptive_avg_pool2d(_planes(cells), side).reshape(*cells.shape[:-1], side * side)


def enlarge(cells: Float[Tensor, "*any coarse"], side: int) -> Float[Tensor, "*any fine"]:
    """Square grey cells at a larger side: smooth, and `shrink` gives them back where the side is a multiple.

    y = B(x) + N(x − S(B(x))) with B bilinear, N nearest and S the area mean: one step of iterative back-projection
    (Irani and Peleg, "Improving Resolution by Image Registration", 1991), exact here because S N = 1. Without it the
    strokes would come out paler than they went in. Values may leave the range of x a little.
    """
    if side < side_of(cells):
        raise ValueError(f"side: {side} is smaller than the cells' {side_of(cells)}; use shrink")
    planes = _planes(cells)
    smooth = F.interpolate(planes, size=side, mode="bilinear", align_corners=False)
    missing = planes - F.adaptive_avg_pool2d(smooth, side_of(cells))
    finer = smooth + F.interpolate(missing, size=side, mode="nearest")
    return finer.reshape(*cells.shape[:-1], side * side)


def _planes(cells: Tensor) -> Tensor:
    side = side_of(cells)
    return cells.reshape(-1, 1, side, side)


def _colours(shape: torch.Size | tuple[int, ...]) -> int:
    if len(shape) not in (2, 3):
        raise ValueError(f"an image has shape (height, width) or (height, width, colour), not {tuple(shape)}")
    return shape[2] if len(shape) == 3 else 1


def _patches(height: int, width: int, size: int) -> tuple[int, int]:
    if size < 1 or height % size or width % size:
        raise ValueError(f"patches of {size} × {size} do not fill {height} × {width} pixels")
    return height // size, width // size
