"""Digits as people write and scan them: every sheet has a hand (slant, size, thickness) and a paper (pencil, grain, squares).

`write_on_sheets` distorts clean digits at random. A sheet's strength is uniform from 0 to `strength`, and 0 for a third of the
sheets, so that clean digits stay among those that are learned from.
"""

from math import pi

import torch
from torch.nn import functional as F

from becalm.core.typing import Float, Int, Tensor

PLAIN = 1 / 3
"""Share of sheets whose digits stay as they are."""

SQUARED = 1 / 3
"""Share of sheets of squared paper."""

HAND = torch.tensor([0.06, 0.35, 0.18, 0.18, 0.03, 0.03, 0.8])
"""Half-ranges over sheets of turn (rad), slant, log width, log height, shift right and down (sides), thickening."""

CELL = torch.tensor([0.08, 0.08, 0.08, 0.08, 0.1, 0.1, 0.2])
"""Half-ranges of the same from one digit of a sheet to the next."""


def write_on_sheets(
    images: Float[Tensor, "digit height width"],
    sheet: Int[Tensor, " digit"],
    generator: torch.Generator,
    strength: float = 1.0,
) -> Float[Tensor, "digit height width"]:
    """The digits, ink in [0, 1], in the hand and on the paper of their sheets, which are numbered from 0.

    All numbers are drawn from the generator, on the CPU. With `strength` 0 the digits come back as they are.
    """
    if not len(images):
        return images
    sheets = int(sheet.max()) + 1
    level = strength * torch.rand(sheets, generator=generator) * (torch.rand(sheets, generator=generator) >= PLAIN)
    hand = uniform((sheets, len(HAND)), generator) * HAND
    own = uniform((len(images), len(CELL)), generator) * CELL
    motion = (hand[sheet] + own) * level[sheet, None]
    written = change_thickness(move(images, motion[:, :6]), motion[:, 6])
    return scan(written, sheet, level, generator)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers uniform in [−1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1


def move(
    images: Float[Tensor, "digit height width"], motion: Float[Tensor, "digit 6"]
) -> Float[Tensor, "digit height width"]:
    """The images turned, slanted, stretched and shifted about their centres, with paper around them.

    `motion` holds turn (radians), slant (right per up), the logarithms of width and height, and the shift right and down
    in sides of the image.
    """
    turn, slant, width, height, right, down = motion.unbind(1)
    cos, sin = torch.cos(turn), torch.sin(turn)
    # where each new pixel comes from: the inverse of shift · turn · slant · stretch, in units of half a side
    rows = torch.stack([cos + slant * -sin, sin + slant * cos, -sin, cos], 1).unflatten(1, (2, 2))
    inverse = rows * torch.exp(-torch.stack([width, height], 1))[:, :, None]
    origin = inverse @ torch.stack([right, down], 1)[:, :, None] * -2
    places = F.affine_grid(torch.cat([inverse, origin], 2), [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], places, align_corners=False)[:, 0]


def change_thickness(
    images: Float[Tensor, "digit height width"], amount: Float[Tensor, " digit"]
) -> Float[Tensor, "digit height width"]:
    """The strokes thicker by up to about a pixel on either side (amount 1) or thinner (amount −1); 0 changes nothing.

    A mean of the image with its grey dilation or erosion over a cross of five pixels; a thinned digit keeps its greatest ink.
    """
    padded = F.pad(images[:, None], (1, 1, 1, 1))[:, 0]
    cross = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    most, least = images, images
    for part in cross:
        most, least = torch.maximum(most, part), torch.minimum(least, part)
    share = amount.clamp(-1, 1)[:, None, None]
    thin = torch.lerp(images, least, -0.8 * share.clamp_max(0))
    peak = images.amax((1, 2), keepdim=True) / thin.amax((1, 2), keepdim=True).clamp_min(1e-3)
    return torch.where(share > 0, torch.lerp(images, most, share.clamp_min(0)), (thin * peak.clamp(1, 3)).clamp(0, 1))


def scan(
    images: Float[Tensor, "digit height width"],
    sheet: Int[Tensor, " digit"],
    level: Float[Tensor, " sheet"],
    generator: torch.Generator,
) -> Float[Tensor, "digit height width"]:
    """The digits as a scanner sees them on their sheets: pale pencil, blur, squared paper, shade and grain, by the sheet's level.

    What is seen is ink over paper, 1 − (1 − ink)(1 − squares), plus shade and noise, within [0, 1].
    """
    count, (height, width) = len(level), images.shape[1:]
    draw = torch.rand(count, 5, generator=generator) * level[:, None]
    pale, blur, grain, shade, faint = draw[sheet].T[..., None, None]
    fine = torch.randn(images.shape, generator=generator)
    lines = squares(sheet, count, (height, width), generator)
    ink = torch.lerp(images, F.avg_pool2d(images[:, None], 3, 1, 1)[:, 0], blur)
    ink = ink * (1 - 0.5 * pale) * (1 + 0.5 * pale * fine).clamp(0, 1)
    fall = uniform((len(sheet), 2), generator)[..., None, None]
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    tint = 0.1 * shade * (fall[:, 0] * rows + fall[:, 1] * columns).abs()
    noise = 0.12 * grain * fine.flip(0)
    return (1 - (1 - ink) * (1 - 0.4 * faint * lines) + tint + noise).clamp(0, 1)


def squares(
    sheet: Int[Tensor, " digit"], count: int, shape: tuple[int, int], generator: torch.Generator
) -> Float[Tensor, "digit height width"]:
    """The lines of squared paper, 1 on a line and 0 beside it, for the share SQUARED of the sheets; their phase is of each digit.

    The spacing is of the sheet, from a third of the image's height to all of it; a line is about a pixel wide.
    """
    spacing = shape[0] * (1 + 2 * torch.rand(count, 1, generator=generator)) / 3
    squared = (torch.rand(count, 1, generator=generator) < SQUARED)[sheet, :, None].float()
    phase = torch.rand(len(sheet), 2, generator=generator) * 2 * pi

    def lines(length: int, start: Tensor) -> Tensor:
        place = torch.arange(length) / spacing[sheet] + start[:, None] / (2 * pi)
        return (1 - (place - place.round()).abs() * spacing[sheet]).clamp(0, 1)

    rows, columns = lines(shape[0], phase[:, 0])[:, :, None], lines(shape[1], phase[:, 1])[:, None, :]
    return squared * torch.maximum(rows, columns)
