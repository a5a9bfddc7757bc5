"""Nearest circles: exact features of the circles next to each variable of a square grid: gap, direction and σ.

A network that sees neighbours through convolutions knows where they are to half a place; two circles that may touch and not
overlap have to be known to a tenth of one.
"""

import math
from typing import NamedTuple

import torch

from becalm.core.typing import Float, Tensor

MAX_CIRCLES, N_NEAREST = 16, 4
"""Circles of an image that are considered, the most probable ones, and those nearest to a variable that it gets features of."""

BIN_WIDTH, MAX_GAP = 0.4, 4.0
"""Width of the bins that a gap is linearly interpolated between, and the greatest gap, in places."""

N_BINS = math.floor(MAX_GAP / BIN_WIDTH) + 1
N_FEATURES = N_NEAREST * (N_BINS + 3)
"""Features of a variable: of each circle its gap in bins, cosine and sine of its direction, and σ."""


class CircleChannels(NamedTuple):
    """How channels of a variable encode a circle: offset from the middle of its place, x and y, then radius, in places."""

    first: int
    """The channel of x; y and the radius follow."""
    offset_scale: float
    """Factor of the offset."""
    radius_scale: float
    """Factor of the radius."""
    radius_shift: float
    """What is subtracted from the scaled radius."""


def nearest_circle_features(
    z: Float[Tensor, "batch variable channel"],
    probability: Float[Tensor, "batch variable"],
    alpha: Float[Tensor, "batch variable"],
    sigma: Float[Tensor, "batch variable"],
    channels: CircleChannels,
) -> Float[Tensor, "batch variable feature"]:
    """Features of the four nearest circles: gap, direction, σ; zeros where there are fewer.

    The gap is from the variable's own centre (the middle of its place where it has no circle) to the other circle's edge,
    taken as 0 where negative, as weights of the two nearest bins. `probability` is that of a circle in each variable; there is
    one where it exceeds ½. Offsets and radii are read from the mean of x given z under unit variance, αz/(α² + σ²).
    """
    side, first = math.isqrt(z.shape[1]), channels.first
    mean = z[..., first : first + 3] * (alpha / (alpha.square() + sigma.square()))[..., None]
    at = torch.arange(side, device=z.device, dtype=z.dtype)
    middle = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).flatten(0, 1)
    centre = middle + mean[..., :2] / channels.offset_scale
    radius = (mean[..., 2] + channels.radius_shift) / channels.radius_scale
    likely, index = probability.topk(min(MAX_CIRCLES, side**2), 1)
    vector = centre.take_along_dim(index[..., None], 1)[:, None] - centre[:, :, None]
    own = index[:, None] == torch.arange(side**2, device=z.device)[:, None]
    distance = vector.norm(dim=-1)
    gap = distance - radius.take_along_dim(index, 1)[:, None]
    gap = gap.masked_fill(own | (likely < 0.5)[:, None], torch.inf)
    gap, nearest = gap.topk(min(N_NEAREST, side**2), 2, largest=False)
    direction = (vector / distance.clamp_min(1e-3)[..., None]).take_along_dim(nearest[..., None], 2)
    noise = sigma.take_along_dim(index, 1)[:, None].expand_as(distance).take_along_dim(nearest, 2)
    position = gap.clamp(0, MAX_GAP + BIN_WIDTH) / BIN_WIDTH
    bins = (1 - (position[..., None] - torch.arange(N_BINS, device=z.device)).abs()).clamp_min(0)
    present = (gap < MAX_GAP + BIN_WIDTH)[..., None]
    return (torch.cat([bins, direction, noise[..., None]], -1) * present).flatten(2)
