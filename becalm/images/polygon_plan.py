"""The plan of Counting Polygons: what each patch of an image is part of, in numbers that are made along with its pixels."""

import torch
from torch.nn.functional import one_hot

from becalm.core.typing import Float, Int, Tensor
from becalm.images.polygons import MOST, Polygons

KINDS = 15
"""What a patch may show: ground, nine numbers, figures of five kinds."""


def plan(drawn: Polygons, side: int) -> Float[Tensor, "batch patch 22"]:
    """What each of side × side patches is part of, so that its pixels follow from it: the nearest number or figure.

    4 at the index of what is there, 0 ground, 1 to 9 a number, 7 + n a figure of n corners; 1.5 times the way to its centre in
    patches, x and y; 8 times its radius in patches over 2, less 1; 3 (cos nθ, sin nθ) of a figure's angle θ; 4 where a number's,
    and 4 where a figure's centre lies in this very patch, so that they can be counted. All but the first are 0 on ground, where
    the patch's centre lies outside the circle and half a patch around it.
    """
    at = (torch.arange(side, device=drawn.circles.device) + 0.5) / side
    centre = torch.stack([at.repeat(side), at.repeat_interleave(side)], -1)
    away = drawn.circles[:, None, :, :2] - centre[:, None]
    radius = drawn.circles[:, None, :, 2]
    beyond = torch.where(radius > 0, away.norm(dim=-1) - radius, torch.inf)
    nearest = beyond.argmin(-1, keepdim=True)
    part = (beyond.amin(-1, keepdim=True) < 0.5 / side).float()
    kind = torch.cat([drawn.count[:, None], drawn.corners[:, None], 7 + drawn.corners[:, None].expand(-1, MOST)], 1)
    phase = torch.cat([torch.zeros_like(drawn.turn[:, :2]), drawn.corners[:, None] * drawn.turn], 1)
    turn = 3 * torch.stack([phase.cos(), phase.sin()], -1) * (kind > MOST)[..., None]
    slot = torch.cat([4 * one_hot(kind, KINDS)[..., 1:], 8 * (drawn.circles[..., 2:] * side / 2 - 1), turn], -1)
    told = slot.gather(1, nearest.expand(-1, -1, slot.shape[-1]))
    way = 1.5 * side * away.gather(2, nearest[..., None].expand(-1, -1, -1, 2))[:, :, 0]
    here = (way.abs() <= 0.75).all(-1, keepdim=True)
    number = kind.gather(1, nearest[..., 0])[..., None] <= MOST
    parts = [told[..., : KINDS - 1], way, told[..., KINDS - 1 :], 4 * (here & number), 4 * (here & ~number)]
    return torch.cat([4 * (1 - part), part * torch.cat(parts, -1)], -1)


def told(
    plan: Float[Tensor, "*patch 22"],
) -> tuple[Int[Tensor, "*patch"], Float[Tensor, "*patch 2"], Float[Tensor, "*patch"]]:
    """What a plan tells: what is there, and the way to its centre and its radius in patches; on ground 0 and 2."""
    return plan[..., :KINDS].argmax(-1), plan[..., KINDS : KINDS + 2] / 1.5, 2 + plan[..., KINDS + 2] / 4
