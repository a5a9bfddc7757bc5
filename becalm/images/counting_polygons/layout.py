"""The plan of Counting Polygons: what is centred in each patch of an image. It is made in place of pixels, and then painted."""

import torch
from torch.nn.functional import one_hot

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.counting_polygons.scenes import CORNERS, MOST, Scene

KINDS = MOST + len(CORNERS)
"""What may be centred in a patch: the numbers 1 to 9, figures of 3 to 7 corners."""

WIDTH = KINDS + 11
"""Numbers that tell a patch."""

WAY, RADIUS, LEAST = 3.0, 2.0, 3.8
"""Of its numbers: what the way to a centre and the radius are multiplied by, and what is taken off the latter."""


def plan(scene: Scene, side: int) -> Float[Tensor, "batch patch 25"]:
    """What is centred in each of side × side patches, of an image on a plain ground.

    4 at the index of its kind; three times the way from the patch's centre to its own in patches, x and y; twice its radius
    in patches, less 3.8; 2 (cos nθ, sin nθ) of a figure of n corners, one of them at the angle θ; its colour and that of the
    ground, RGB in [−1, 1]. All are 0 where nothing is centred; no two centres share a patch.
    """
    kind = torch.cat([scene.count[:, None] - 1, scene.corners[:, None] - 1], 1)
    kind = torch.cat([kind, (MOST + scene.corners[:, None] - CORNERS[0]).expand(-1, MOST)], 1)
    at, radius = scene.circles[..., :2] * side, scene.circles[..., 2:] * side
    patch = at.floor().clamp(0, side - 1)
    phase = torch.cat([torch.zeros_like(scene.turn[:, :2]), scene.corners[:, None] * scene.turn], 1)
    turn = 2 * torch.stack([phase.cos(), phase.sin()], -1) * (kind >= MOST)[..., None]
    colour, ground = (c.flatten(1, 2)[:, :1].expand(*kind.shape, -1) * 2 - 1 for c in (scene.colour, scene.ground))
    told = torch.cat(
        [4 * one_hot(kind, KINDS), WAY * (at - patch - 0.5), RADIUS * radius - LEAST, turn, colour, ground], -1
    )
    index = (patch[..., 1:] * side + patch[..., :1]).long().expand(-1, -1, told.shape[-1])
    held = torch.zeros(len(told), side * side, told.shape[-1], device=told.device)
    return held.scatter_add(1, index, torch.where(radius > 0, told, 0.0))


def told(
    plan: Float[Tensor, "*patch 25"],
) -> tuple[
    Bool[Tensor, "*patch"],
    Int[Tensor, "*patch"],
    Float[Tensor, "*patch 2"],
    Float[Tensor, "*patch 1"],
    Float[Tensor, "*patch 2"],
]:
    """Whether something is centred in each patch, its kind, the way to its centre and its radius in patches, and its turn."""
    flags, way, radius, turn, _ = plan.split([KINDS, 2, 1, 2, 6], -1)
    return flags.amax(-1) > 2, flags.argmax(-1), way / WAY, (radius + LEAST) / RADIUS, turn / 2
