"""Reading images of polygons without a trained network: figures, their corners and the printed numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.counting_polygons.scenes import CORNERS, Polygons, figure_colour, inside_digit, inside_figure
from becalm.images.even_pixels import BINS, rgb_to_hsv, to_unit


@dataclass(frozen=True)
class Reading:
    """The figures and numbers in images, as far as they can be read."""

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
    corners, digit = classify_parts(parts, inner)
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
    c = figure_colour(
        torch.from_numpy(ndimage.gaussian_filter1d(histogram, 2, axis=1, mode="wrap").argmax(1) / BINS).float()
    )
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


def classify_parts(parts: Parts, inner: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Corners and digit of each component, one of them 0, or both for neither.

    Moments are compared with those of ideal figures, whatever the rotation, then of digits. A distance must be below 0.6 of a
    disc's from the nearest ideal, so that a round or a shapeless blot is not counted as a figure of some corners.
    """
    side = torch.linspace(-1, 1, 201)
    u, v, n = side[None, None], side[None, :, None], torch.tensor(CORNERS)
    found = moments(parts)[:, None]

    def nearest(drawings: Tensor, form: Callable[[np.ndarray], np.ndarray], first: int) -> np.ndarray:
        index, y, x = drawings.numpy().nonzero()
        ideal = form(moments(Parts(index, index, y, x, np.ones(len(y)))))
        distance = np.linalg.norm(form(found) - ideal, axis=-1)
        return (distance.min(1) < 0.6 * np.linalg.norm(ideal, axis=1).min()) * (distance.argmin(1) + first)

    corners = nearest(inside_figure(u, v, n, torch.zeros(len(n)), inner), np.abs, CORNERS[0])
    return corners, nearest(inside_digit(u, v, torch.arange(1, 10)), np.asarray, 1) * (corners == 0)


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
