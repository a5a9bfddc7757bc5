"""The layout of an image of Counting Polygons: what is centred in each patch. It is sampled in place of pixels, then rendered."""

from typing import NamedTuple

import torch
from torch.nn.functional import one_hot

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images.counting_polygons.scenes import CORNERS, MAX_FIGURES, Scene

N_KINDS = MAX_FIGURES + len(CORNERS)
"""Kinds of what may be centred in a patch: the numbers 1 to 9, figures of 3 to 7 corners."""

LAYOUT_CHANNELS = N_KINDS + 11
"""Numbers of a patch."""

OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT = 3.0, 2.0, 3.8
"""Factors of a centre's offset and of a radius, and what is subtracted from the latter."""


class Layout(NamedTuple):
    """What is centred in patches."""

    present: Bool[Tensor, "*patch"]
    """Whether anything is."""
    kind: Int[Tensor, "*patch"]
    """Index of its kind; 0 where there is nothing."""
    offset: Float[Tensor, "*patch 2"]
    """x and y of its centre from that of the patch, in patches."""
    radius: Float[Tensor, "*patch 1"]
    """Its radius in patches."""
    turn: Float[Tensor, "*patch 2"]
    """Cosine and sine of n times the angle of a corner, of a figure of n corners; 0 for numbers."""


def encode_layout(scene: Scene, side: int) -> Float[Tensor, "batch patch 25"]:
    """What is centred in each of side × side patches, of an image on a plain ground, as numbers.

    4 at the index of its kind; three times the offset of its centre from the patch's, in patches, x and y; twice its radius in
    patches, less 3.8; 2 (cos nθ, sin nθ) of a figure of n corners, one of them at the angle θ; its colour and that of the
    ground, RGB in [−1, 1]. All are 0 where nothing is centred; no two centres share a patch.
    """
    kind = torch.cat([scene.count[:, None] - 1, scene.corners[:, None] - 1], 1)
    kind = torch.cat([kind, (MAX_FIGURES + scene.corners[:, None] - CORNERS[0]).expand(-1, MAX_FIGURES)], 1)
    centre, radius = scene.circles[..., :2] * side, scene.circles[..., 2:] * side
    patch = centre.floor().clamp(0, side - 1)
    phase = torch.cat([torch.zeros_like(scene.turn[:, :2]), scene.corners[:, None] * scene.turn], 1)
    turn = 2 * torch.stack([phase.cos(), phase.sin()], -1) * (kind >= MAX_FIGURES)[..., None]
    colour, ground = (c.flatten(1, 2)[:, :1].expand(*kind.shape, -1) * 2 - 1 for c in (scene.colour, scene.ground))
    offset, size = OFFSET_SCALE * (centre - patch - 0.5), RADIUS_SCALE * radius - RADIUS_SHIFT
    rows = torch.cat([4 * one_hot(kind, N_KINDS), offset, size, turn, colour, ground], -1)
    index = (patch[..., 1:] * side + patch[..., :1]).long().expand(-1, -1, rows.shape[-1])
    empty = torch.zeros(len(rows), side * side, rows.shape[-1], device=rows.device)
    return empty.scatter_add(1, index, torch.where(radius > 0, rows, 0.0))


def decode_layout(layout: Float[Tensor, "*patch 25"]) -> Layout:
    """What is centred in each patch, from the numbers of `encode_layout`."""
    kinds, offset, radius, turn, _ = layout.split([N_KINDS, 2, 1, 2, 6], -1)
    radius = (radius + RADIUS_SHIFT) / RADIUS_SCALE
    return Layout(kinds.amax(-1) > 2, kinds.argmax(-1), offset / OFFSET_SCALE, radius, turn / 2)
