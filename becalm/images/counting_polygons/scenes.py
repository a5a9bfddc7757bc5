"""Counting Polygons (Wewer et al. 2025, appendix): figures that agree with two printed numbers.

An image shows 1 to 9 regular polygons or stars, all with the same 3 to 7 corners, and in two random places the number of
figures and the number of corners, in one colour on a background.
Images are [batch, size, size, 3] in [-1, 1]; lengths are in units of the image's side, y down; hues in turns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d, interpolate

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.even_pixels import BINS, hsv_to_rgb, hue_histogram

MAX_FIGURES, CORNERS = 9, (3, 4, 5, 6, 7)
"""Figures in an image at most, and corners a figure may have."""
COVERED_SHARE, MAX_RADIUS, DRAWING_SCALE = 0.36, 0.15, 0.9
"""Share of the image the circles cover, their greatest radius, and a drawing's radius over its circle's."""
STROKES = ((0, -1), (1, -0.5), (1, 0.5), (0, 1), (-1, 0.5), (-1, -0.5), (0, 0))
"""Centres (x, y) of a digit's strokes a to g, clockwise from the top, the middle one last; upright where x is not 0."""
DIGITS = ("bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
"""Strokes of the digits 1 to 9."""


@dataclass(frozen=True)
class Scene:
    """The contents of images of polygons: numbers, circles, rotations and colours."""

    count: Int[Tensor, " batch"]
    corners: Int[Tensor, " batch"]
    circles: Float[Tensor, "batch slot 3"]
    """x, y, r of the count, of the number of corners, and of the figures, of which the first `count` exist."""
    turn: Float[Tensor, "batch figure"]
    """Angle of a corner of each figure, in radians from the x axis."""
    ground: Float[Tensor, "batch height width 3"]
    """The background, RGB in [0, 1]."""
    colour: Float[Tensor, "batch 1 1 3"]
    """Of figures and numbers, RGB in [0, 1]."""


@dataclass(frozen=True)
class Polygons(Scene):
    """Images with the contents that they were drawn from."""

    images: Float[Tensor, "batch height width 3"]


def plain_background(batch: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch height width 3"]:
    """One random colour an image, in HSV."""
    draw = torch.rand(batch, 1, 1, 3, generator=generator, device=generator.device)
    return (draw * draw.new_tensor([1, 0.6, 1])).expand(-1, size, size, -1)


def smooth_background(batch: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch height width 3"]:
    """Smooth random colours in HSV: fields of 3, 6 and 12 bumps a side, hues within some 0.2 of a random one."""
    field = torch.zeros(batch, 3, 3, 3, device=generator.device)
    for bumps, weight in ((3, 0.8), (6, 0.4), (12, 0.2)):
        bump = torch.randn(batch, 3, bumps, bumps, generator=generator, device=generator.device)
        field = interpolate(field, (bumps, bumps), mode="bicubic") + weight * bump
    hue, saturation, value = interpolate(field, (size, size), mode="bicubic").unbind(1)
    base = torch.rand(batch, 1, 1, generator=generator, device=generator.device)
    return torch.stack([(base + 0.1 * hue) % 1.0, 0.6 * (2 * saturation).sigmoid(), 0.1 + 0.9 * value.sigmoid()], -1)


def polygons(
    batch: int,
    generator: torch.Generator,
    size: int = 128,
    background: Callable[[int, int, torch.Generator], Tensor] = smooth_background,
    inner: float | None = None,
) -> Polygons:
    """Random images of polygons, or of stars with the radius `inner` between the corners, over the outer one.

    Counts, corners and rotations are uniform; the hue is where the background, (batch, size, generator) → HSV of saturation at
    most 0.6, has least. At 128 pixels stars of `inner` 0.25 are legible; the successor benchmark's 0.1 needs some 256.
    """
    contents = sample_scene(batch, generator, size, background)
    alpha = coverage(contents.circles, torch.stack([contents.count, contents.corners], 1), contents.turn, size, inner)[
        ..., None
    ]
    images = alpha * contents.colour + (1 - alpha) * contents.ground
    return Polygons(**vars(contents), images=images * 2 - 1)


def sample_scene(
    batch: int,
    generator: torch.Generator,
    size: int = 128,
    background: Callable[[int, int, torch.Generator], Tensor] = smooth_background,
) -> Scene:
    """The random contents of images, not drawn yet; of a plain background one pixel (`size` 1) is enough."""
    device = generator.device
    count = torch.randint(1, MAX_FIGURES + 1, (batch,), generator=generator, device=device)
    corners = torch.randint(CORNERS[0], CORNERS[-1] + 1, (batch,), generator=generator, device=device)
    circles = place_circles(count + 2, generator)
    turn = torch.rand(batch, MAX_FIGURES, generator=generator, device=device) * 2 * math.pi
    ground = background(batch, size, generator)
    return Scene(count, corners, circles, turn, hsv_to_rgb(ground), figure_colour(rarest_hue(ground[..., 0])))


def rarest_hue(hue: Float[Tensor, "batch height width"], blur: float = 26.0) -> Float[Tensor, " batch"]:
    """The hue at which the histogram, under a Gaussian of `blur` bins around the circle, is least."""
    bins = torch.arange(BINS, device=hue.device, dtype=torch.float64)
    apart = (bins[:, None] - bins).abs()
    kernel = torch.exp(-0.5 * (torch.minimum(apart, BINS - apart) / blur) ** 2)
    return ((hue_histogram(hue).double() @ kernel).argmin(1) / BINS).float()


def figure_colour(hue: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 3"]:
    """RGB of figures and numbers: S = 1, V = 0.9."""
    return hsv_to_rgb(torch.stack([hue, torch.ones_like(hue), torch.full_like(hue, 0.9)], -1)[:, None, None])


def place_circles(number: Int[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, "batch slot 3"]:
    """Circles (x, y, r) in the unit square that do not overlap: the first `number` of the slots exist, r = 0 elsewhere.

    Uniform centres are pushed apart, each pair by its overlap, for 150 rounds; what overlap is left shrinks the radii,
    r_i ← r_i min_j d_ij / (r_i + r_j), which separates every pair.
    """
    draws = torch.rand(
        len(number), MAX_FIGURES + 2, 3, generator=generator, device=generator.device, dtype=torch.float64
    )
    exists = torch.arange(MAX_FIGURES + 2, device=draws.device) < number[:, None]
    radius = (COVERED_SHARE / (math.pi * number.double())).sqrt()[:, None] * (0.8 + 0.3 * draws[..., 2])
    radius = radius.clamp_max(MAX_RADIUS) * exists
    low = radius[..., None]
    centre = low + draws[..., :2] * (1 - 2 * low)
    pair = exists[:, None] & exists[:, :, None] & ~torch.eye(MAX_FIGURES + 2, dtype=torch.bool, device=draws.device)
    reach = radius[:, None] + radius[:, :, None]
    for _ in range(150):
        gap = centre[:, :, None] - centre[:, None]
        distance = gap.norm(dim=-1)
        push = torch.where(pair, (reach - distance).clamp_min(0) / distance.clamp_min(1e-9), 0.0)
        centre = torch.clamp(centre + 0.5 * (push[..., None] * gap).sum(2), low, 1 - low)
    distance = torch.where(pair, (centre[:, :, None] - centre[:, None]).norm(dim=-1), torch.inf)
    radius = radius * (distance / reach.clamp_min(1e-9)).min(2).values.clamp_max(1)
    return torch.cat([centre, radius[..., None]], -1).float()


def coverage(
    circles: Float[Tensor, "batch slot 3"],
    numbers: Int[Tensor, "batch 2"],
    turn: Float[Tensor, "batch figure"],
    size: int,
    inner: float | None,
) -> Float[Tensor, "batch size size"]:
    """Share of each pixel that drawings cover, from 4 × 4 samples.

    Each drawing has a window of its own, which may leave the image as the drawing does not.
    """
    image, slot = (circles[..., 2] > 0).nonzero(as_tuple=True)
    x, y, r = (circles[image, slot] * size).unbind(-1)
    half = int(circles[..., 2].max().item() * size) + 2
    left, top = x.floor().long() - half, y.floor().long() - half
    steps = (torch.arange(8 * half, device=x.device) + 0.5) / 4
    u = ((left - x)[:, None] + steps)[:, None] / (DRAWING_SCALE * r)[:, None, None]
    v = ((top - y)[:, None] + steps)[:, :, None] / (DRAWING_SCALE * r)[:, None, None]
    digit, figure = slot < 2, slot >= 2
    inside = torch.zeros(len(x), 8 * half, 8 * half, device=x.device)
    inside[digit] = inside_digit(u[digit], v[digit], numbers[image[digit], slot[digit]]).float()
    turn, corners = turn[image[figure], slot[figure] - 2], numbers[image[figure], 1]
    inside[figure] = inside_figure(u[figure], v[figure], corners, turn, inner).float()
    pixels = torch.arange(2 * half, device=x.device)
    rows, columns = ((at[:, None] + pixels).clamp(0, size - 1) for at in (top, left))
    where = (image[:, None, None] * size + rows[:, :, None]) * size + columns[:, None]
    flat = torch.zeros(len(circles) * size * size, device=x.device)
    return flat.index_add_(0, where.flatten(), avg_pool2d(inside, 4).flatten()).view(-1, size, size)


def inside_figure(
    u: Float[Tensor, "#n 1 w"],
    v: Float[Tensor, "#n h 1"],
    corners: Int[Tensor, " n"],
    turn: Float[Tensor, " n"],
    inner: float | None,
) -> Bool[Tensor, "n h w"]:
    """Whether (u, v) lies in the star of outer radius 1; an inner radius cos(π/corners), for None, makes it the polygon.

    With the angle folded into [0, π/corners] it is one edge that bounds all.
    """
    half = (math.pi / corners)[:, None, None]
    valley = torch.cos(half) if inner is None else torch.full_like(half, inner)
    angle = (torch.atan2(v, u) - turn[:, None, None]) % (2 * half)
    angle, radius = torch.minimum(angle, 2 * half - angle), (u * u + v * v).sqrt()
    x, y = valley * torch.cos(half), valley * torch.sin(half)
    return (x - 1) * radius * torch.sin(angle) - y * (radius * torch.cos(angle) - 1) >= 0


def inside_digit(
    u: Float[Tensor, "#n 1 w"], v: Float[Tensor, "#n h 1"], digit: Int[Tensor, " n"]
) -> Bool[Tensor, "n h w"]:
    """Whether (u, v) lies on a stroke of the digit, 1 to 9, 1.44 high and 0.72 wide between the strokes' axes."""
    lit = torch.tensor([[stroke in strokes for stroke in "abcdefg"] for strokes in DIGITS], device=u.device)[digit - 1]
    inside = torch.zeros(len(digit), v.shape[1], u.shape[2], dtype=torch.bool, device=u.device)
    for index, (x, y) in enumerate(STROKES):
        across, down = 0.12 + 0.36 * (x == 0), 0.12 + 0.36 * (x != 0)
        stroke = ((u - 0.36 * x).abs() <= across) & ((v - 0.72 * y).abs() <= down)
        inside |= stroke & lit[:, index, None, None]
    return inside
