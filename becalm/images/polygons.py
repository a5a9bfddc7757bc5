"""Counting Polygons (Wewer et al. 2025, appendix): figures that agree with two printed numbers, and how to check it.

An image shows 1 to 9 regular polygons or stars, all with the same 3 to 7 corners, and in two random places the number of
figures and the number of corners, in one colour on a background. `read_polygons` recovers them without a trained network.
Images are [batch, size, size, 3] in [-1, 1]; lengths are in units of the image's side, y down; hues in turns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.even_pixels import BINS, hsv_to_rgb, hue_histogram, rgb_to_hsv, to_unit

MOST, CORNERS = 9, (3, 4, 5, 6, 7)
"""Figures in an image at most, and corners a figure may have."""
FILL, WIDEST, WITHIN = 0.36, 0.15, 0.9
"""Share of the image the circles cover, their greatest radius, and a drawing's radius over its circle's."""
STROKES = ((0, -1), (1, -0.5), (1, 0.5), (0, 1), (-1, 0.5), (-1, -0.5), (0, 0))
"""Centres (x, y) of a digit's strokes a to g, clockwise from the top, the middle one last; upright where x is not 0."""
DIGITS = ("bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
"""Strokes of the digits 1 to 9."""


@dataclass(frozen=True)
class Polygons:
    """Images and the truth about them."""

    images: Float[Tensor, "batch height width 3"]
    count: Int[Tensor, " batch"]
    corners: Int[Tensor, " batch"]
    circles: Float[Tensor, "batch slot 3"]
    """x, y, r of the count, of the number of corners, and of the figures, of which the first `count` exist."""
    turn: Float[Tensor, "batch figure"]
    """Angle of a corner of each figure, in radians from the x axis."""


def plain(batch: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch height width 3"]:
    """One random colour an image, in HSV."""
    draw = torch.rand(batch, 1, 1, 3, generator=generator, device=generator.device)
    return (draw * draw.new_tensor([1, 0.6, 1])).expand(-1, size, size, -1)


def smooth(batch: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch height width 3"]:
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
    background: Callable[[int, int, torch.Generator], Tensor] = smooth,
    inner: float | None = None,
) -> Polygons:
    """Random images of polygons, or of stars with the radius `inner` between the corners, over the outer one.

    Counts, corners and rotations are uniform; the hue is where the background, (batch, size, generator) → HSV of saturation at
    most 0.6, has least. At 128 pixels stars of `inner` 0.25 are legible; the successor benchmark's 0.1 needs some 256.
    """
    device = generator.device
    count = torch.randint(1, MOST + 1, (batch,), generator=generator, device=device)
    corners = torch.randint(CORNERS[0], CORNERS[-1] + 1, (batch,), generator=generator, device=device)
    circles = place(count + 2, generator)
    turn = torch.rand(batch, MOST, generator=generator, device=device) * 2 * math.pi
    ground = background(batch, size, generator)
    alpha = coverage(circles, torch.stack([count, corners], 1), turn, size, inner)[..., None]
    images = alpha * colour(rarest_hue(ground[..., 0])) + (1 - alpha) * hsv_to_rgb(ground)
    return Polygons(images * 2 - 1, count, corners, circles, turn)


def rarest_hue(hue: Float[Tensor, "batch height width"], blur: float = 26.0) -> Float[Tensor, " batch"]:
    """The hue at which the histogram, under a Gaussian of `blur` bins around the circle, is least."""
    bins = torch.arange(BINS, device=hue.device, dtype=torch.float64)
    apart = (bins[:, None] - bins).abs()
    kernel = torch.exp(-0.5 * (torch.minimum(apart, BINS - apart) / blur) ** 2)
    return ((hue_histogram(hue).double() @ kernel).argmin(1) / BINS).float()


def colour(hue: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 3"]:
    """RGB of figures and numbers: S = 1, V = 0.9."""
    return hsv_to_rgb(torch.stack([hue, torch.ones_like(hue), torch.full_like(hue, 0.9)], -1)[:, None, None])


def place(number: Int[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, "batch slot 3"]:
    """Circles (x, y, r) in the unit square that do not overlap: the first `number` of the slots exist, r = 0 elsewhere.

    Uniform centres are pushed apart, each pair by its overlap, for 150 rounds; what overlap is left shrinks the radii,
    r_i ← r_i min_j d_ij / (r_i + r_j), which separates every pair.
    """
    draws = torch.rand(len(number), MOST + 2, 3, generator=generator, device=generator.device, dtype=torch.float64)
    exists = torch.arange(MOST + 2, device=draws.device) < number[:, None]
    radius = (FILL / (math.pi * number.double())).sqrt()[:, None] * (0.8 + 0.3 * draws[..., 2])
    radius = radius.clamp_max(WIDEST) * exists
    low = radius[..., None]
    centre = low + draws[..., :2] * (1 - 2 * low)
    pair = exists[:, None] & exists[:, :, None] & ~torch.eye(MOST + 2, dtype=torch.bool, device=draws.device)
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
    """Share of each pixel that is drawn on, from 4 × 4 samples.

    Each drawing has a window of its own, which may leave the image as the drawing does not.
    """
    image, slot = (circles[..., 2] > 0).nonzero(as_tuple=True)
    x, y, r = (circles[image, slot] * size).unbind(-1)
    half = int(circles[..., 2].max().item() * size) + 2
    left, top = x.floor().long() - half, y.floor().long() - half
    steps = (torch.arange(8 * half, device=x.device) + 0.5) / 4
    u = ((left - x)[:, None] + steps)[:, None] / (WITHIN * r)[:, None, None]
    v = ((top - y)[:, None] + steps)[:, :, None] / (WITHIN * r)[:, None, None]
    digit, figure = slot < 2, slot >= 2
    inside = torch.zeros(len(x), 8 * half, 8 * half, device=x.device)
    inside[digit] = in_digit(u[digit], v[digit], numbers[image[digit], slot[digit]]).float()
    turn, corners = turn[image[figure], slot[figure] - 2], numbers[image[figure], 1]
    inside[figure] = in_figure(u[figure], v[figure], corners, turn, inner).float()
    pixels = torch.arange(2 * half, device=x.device)
    rows, columns = ((at[:, None] + pixels).clamp(0, size - 1) for at in (top, left))
    where = (image[:, None, None] * size + rows[:, :, None]) * size + columns[:, None]
    flat = torch.zeros(len(circles) * size * size, device=x.device)
    return flat.index_add_(0, where.flatten(), avg_pool2d(inside, 4).flatten()).view(-1, size, size)


def in_figure(
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


def in_digit(u: Float[Tensor, "#n 1 w"], v: Float[Tensor, "#n h 1"], digit: Int[Tensor, " n"]) -> Bool[Tensor, "n h w"]:
    """Whether (u, v) lies on a stroke of the digit, 1 to 9, 1.44 high and 0.72 wide between the strokes' axes."""
    lit = torch.tensor([[stroke in strokes for stroke in "abcdefg"] for strokes in DIGITS], device=u.device)[digit - 1]
    inside = torch.zeros(len(digit), v.shape[1], u.shape[2], dtype=torch.bool, device=u.device)
    for index, (x, y) in enumerate(STROKES):
        across, down = 0.12 + 0.36 * (x == 0), 0.12 + 0.36 * (x != 0)
        stroke = ((u - 0.36 * x).abs() <= across) & ((v - 0.72 * y).abs() <= down)
        inside |= stroke & lit[:, index, None, None]
    return inside


@dataclass(frozen=True)
class Reading:
    """What the images show, as far as it can be read."""

    count: Int[Tensor, " batch"]
    """Components that are no number."""
    corners: Int[Tensor, " batch"]
    """Of most of the figures, 0 where none is readable."""
    uniform: Bool[Tensor, " batch"]
    """Whether all have these corners."""
    numbers: Int[Tensor, "batch 2"]
    """The printed ones in order, (-1, -1) unless there are exactly two."""

    def consistent(self) -> Bool[Tensor, " batch"]:
        """Whether the numbers are the count and the corners, in either order."""
        return (self.numbers == torch.stack([self.count, self.corners], 1).sort(1).values).all(1)


class PolygonScores(NamedTuple):
    """Shares of the images; the last one, of real images that are read without a mistake, bounds what the others mean."""

    are_numbers_consistent: float
    are_vertices_uniform: float
    both: float
    read_right: float


def polygon_scores(images: Float[Tensor, "batch h w 3"], real: Polygons, inner: float | None = None) -> PolygonScores:
    """The benchmark's scores of `images`, and the reader's accuracy on `real` ones of the same kind and size."""
    read, test = read_polygons(images, inner), read_polygons(real.images, inner)
    consistent, uniform = read.consistent(), read.uniform
    right = (test.count == real.count.cpu()) & (test.corners == real.corners.cpu()) & test.uniform & test.consistent()
    return PolygonScores(*(x.float().mean().item() for x in (consistent, uniform, consistent & uniform, right)))


def read_polygons(images: Float[Tensor, "batch height width 3"], inner: float | None = None) -> Reading:
    """Read figures and numbers, on the CPU; `inner` as in `polygons`."""
    parts = components(images)
    corners, digit = recognise(parts, inner)
    figures, digits = np.zeros((2, len(images), 10), dtype=np.int64)
    image = np.zeros(len(digit), dtype=np.int64)
    image[parts.label] = parts.image
    np.add.at(figures, (image[digit == 0], corners[digit == 0]), 1)
    np.add.at(digits, (image[digit > 0], digit[digit > 0]), 1)
    count, most = figures.sum(1), figures[:, 1:].max(1)
    common = (most > 0) * (figures[:, 1:].argmax(1) + 1)
    pair = np.stack([(digits > 0).argmax(1), 9 - (digits[:, ::-1] > 0).argmax(1)], 1)
    pair[digits.sum(1) != 2] = -1
    return Reading(*map(torch.from_numpy, (count, common, (most == count) & (count > 0), pair)))


class Parts(NamedTuple):
    """Pixels of the components, numpy arrays [pixel]: label from 0, image, row, column, and share covered."""

    label: np.ndarray
    image: np.ndarray
    y: np.ndarray
    x: np.ndarray
    alpha: np.ndarray


def components(images: Float[Tensor, "batch height width 3"], speck: float = 6e-4) -> Parts:
    """Connected drawings in the commonest vivid hue that cover at least a share `speck` of the image.

    The covered share α solves pixel = α c + (1 − α) b in least squares, with the colour c and the background b blurred in from
    pixels that lie apart from c. A component is where α > 0.4, and one pixel around.
    """
    from scipy import ndimage

    rgb = to_unit(images.cpu())
    hue, saturation, value = rgb_to_hsv(rgb).unbind(-1)
    vivid = (saturation > 0.8) & (value > 0.7)
    bins = torch.where(vivid, (hue * BINS).round().long() % BINS, BINS).flatten(1)
    histogram = torch.zeros(len(rgb), BINS + 1).scatter_add_(1, bins, torch.ones(bins.shape))[:, :BINS].numpy()
    c = colour(torch.from_numpy(ndimage.gaussian_filter1d(histogram, 2, axis=1, mode="wrap").argmax(1) / BINS).float())
    apart = max_pool2d(((rgb - c).norm(dim=-1) < 0.5).float(), 5, 1, 2)[..., None] == 0
    blurred = ndimage.gaussian_filter(torch.cat([rgb * apart, apart], -1).numpy(), (0, 2, 2, 0))
    b = torch.from_numpy(blurred[..., :3] / blurred[..., 3:].clip(1e-6))
    alpha = ((rgb - b) * (c - b)).sum(-1) / (c - b).square().sum(-1).clamp_min(1e-6)
    alpha = (alpha.clamp(0, 1) * ~apart[..., 0]).numpy()
    plane = np.ones((3, 3, 3)) * np.array([0, 1, 0])[:, None, None]
    label = np.asarray(ndimage.label(alpha > 0.4, plane)[0], dtype=np.int64)  # type: ignore[index]
    keep = np.bincount(label.ravel(), alpha.ravel()) >= max(4, speck * alpha[0].size)
    keep[0] = False
    label = (np.cumsum(keep) * keep)[label]
    label = np.where(label > 0, label, ndimage.maximum_filter(label, (1, 3, 3)))
    image, y, x = label.nonzero()
    return Parts(label[image, y, x] - 1, image, y, x, alpha[image, y, x])


def recognise(parts: Parts, inner: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Corners and digit of each component, one of them 0, or both for neither.

    Moments are compared with those of ideal figures, whatever the rotation, then of digits. A distance must be below 0.6 of a
    disc's from the nearest ideal, so that a round or a shapeless blot is not counted as a figure of some corners.
    """
    side = torch.linspace(-1, 1, 201)
    u, v, n = side[None, None], side[None, :, None], torch.tensor(CORNERS)
    seen = moments(parts)[:, None]

    def nearest(drawings: Tensor, form: Callable[[np.ndarray], np.ndarray], first: int) -> np.ndarray:
        index, y, x = drawings.numpy().nonzero()
        ideal = form(moments(Parts(index, index, y, x, np.ones(len(y)))))
        distance = np.linalg.norm(form(seen) - ideal, axis=-1)
        return (distance.min(1) < 0.6 * np.linalg.norm(ideal, axis=1).min()) * (distance.argmin(1) + first)

    corners = nearest(in_figure(u, v, n, torch.zeros(len(n)), inner), np.abs, CORNERS[0])
    return corners, nearest(in_digit(u, v, torch.arange(1, 10)), np.asarray, 1) * (corners == 0)


def moments(parts: Parts) -> np.ndarray:
    """Σ α zᵏ / Σ α |z|ᵏ for k = 2 … 7, complex [component, 6], z from the centroid.

    Scale does not matter, rotation only for the phase. For a disc all are 0, for n corners all but the multiples of n.
    """

    def total(x: np.ndarray) -> np.ndarray:
        x = x * parts.alpha
        return np.bincount(parts.label, np.real(x)) + 1j * np.bincount(parts.label, np.imag(x))

    z = parts.x + 1j * parts.y
    z = z - (total(z) / total(np.ones(len(z))))[parts.label]
    return np.stack([total(z**k) / total(np.abs(z) ** k) for k in range(2, CORNERS[-1] + 1)], 1)
