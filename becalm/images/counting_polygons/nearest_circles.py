"""Circles: variables of a square grid that tell where in their place a circle stands, and its radius; what is next to each.

A network that sees neighbours through convolutions knows where they are to half a place; two circles that may touch and not
overlap have to be known a tenth of one.
"""

import math
from typing import NamedTuple

import torch

from becalm.core.typing import Float, Tensor

SEEN, NEXT = 16, 4
"""Circles of an image that are looked at, the surest, and those next to a place that are told of."""

RING, REACH = 0.4, 4.0
"""How far apart the distances are at which a distance is told as shares of two, and the furthest, in places."""


class Circle(NamedTuple):
    """How channels tell a circle: the way from the middle of its place, x and y, then its radius, in places."""

    first: int
    """The channel of x; y and the radius follow."""
    way: float
    """What the way is multiplied by."""
    radius: float
    """What the radius is multiplied by, before `less` is taken off."""
    less: float
    """What is taken off."""


RINGS = math.floor(REACH / RING) + 1
TOLD = NEXT * (RINGS + 3)
"""Numbers told of what is next to a variable."""


def beside(
    z: Float[Tensor, "batch variable channel"],
    held: Float[Tensor, "batch variable"],
    alpha: Float[Tensor, "batch variable"],
    sigma: Float[Tensor, "batch variable"],
    circle: Circle,
) -> Float[Tensor, "batch variable told"]:
    """The circles nearest to each variable's own, or to the middle of its place where it has none: how far off each begins, as
    shares of rings, the cosine and sine of the direction, and its σ. Zeros stand for what is not there.

    `held` is how likely a variable has a circle; one stands where it is more likely than not. z is taken for what it shows of x
    on average if it has unit variance, α z/(α² + σ²).
    """
    side, first = math.isqrt(z.shape[1]), circle.first
    told = z[..., first : first + 3] * (alpha / (alpha.square() + sigma.square()))[..., None]
    at = torch.arange(side, device=z.device, dtype=z.dtype)
    middle = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).flatten(0, 1)
    centre, radius = middle + told[..., :2] / circle.way, (told[..., 2] + circle.less) / circle.radius
    likely, index = held.topk(min(SEEN, side**2), 1)
    gap = centre.take_along_dim(index[..., None], 1)[:, None] - centre[:, :, None]
    own = index[:, None] == torch.arange(side**2, device=z.device)[:, None]
    away = gap.norm(dim=-1)
    begins = away - radius.take_along_dim(index, 1)[:, None]
    begins = begins.masked_fill(own | (likely < 0.5)[:, None], torch.inf)
    begins, which = begins.topk(min(NEXT, side**2), 2, largest=False)
    toward = (gap / away.clamp_min(1e-3)[..., None]).take_along_dim(which[..., None], 2)
    noise = sigma.take_along_dim(index, 1)[:, None].expand_as(away).take_along_dim(which, 2)
    place = begins.clamp(0, REACH + RING) / RING
    rings = (1 - (place[..., None] - torch.arange(RINGS, device=z.device)).abs()).clamp_min(0)
    near = (begins < REACH + RING)[..., None]
    return (torch.cat([rings, toward, noise[..., None]], -1) * near).flatten(2)
