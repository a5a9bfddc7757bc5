"""A network over variables that fill a square, as the patches of an image do: convolutions see around, attention sees all."""

import math

import torch
from torch import nn
from torch.nn.functional import conv2d, silu

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding
from becalm.nets.transformer import PARTS, Block, Modulated, Shape

REACH, RING = 5, 0.8
"""Places on either side that a convolution sees, two of the widest circles of Counting Polygons, and a ring's width in them."""


def rings() -> Float[Tensor, "kernel down across"]:
    """Kernels that tell places by their distance, in rings that overlap; the same times the cosine and sine of the direction."""
    at = torch.arange(-REACH, REACH + 1).float()
    down, across = torch.meshgrid(at, at, indexing="ij")
    distance = (down.square() + across.square()).sqrt()
    ring = (1 - (distance / RING - torch.arange(math.ceil(REACH / RING) + 1)[:, None, None]).abs()).clamp_min(0)
    toward = torch.stack([torch.ones_like(distance), down / distance.clamp_min(1), across / distance.clamp_min(1)])
    return (ring[:, None] * toward).flatten(0, 1)


RINGS = rings()
"""Shared by all layers."""


class Near(Modulated):
    """Every place of a square sees those around it, then mixes its own numbers; both modulated per place.

    All numbers of the 3 × 3 places around are seen together, and each number on its own as far as it reaches, by its distance
    and by whether it lies more to one side: what keeps its distance is told by where it is missing.
    """

    def __init__(self, width: int, ratio: int):
        super().__init__(width, ratio)
        self.around = nn.Conv2d(width, width, 3, padding=1)
        self.beyond = nn.Parameter(torch.zeros(width, len(RINGS)))

    def gathered(self, h: Float[Tensor, "batch place width"], kin: Tensor | None) -> Tensor:
        """Both convolutions."""
        side = math.isqrt(h.shape[1])
        planes = h.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        kernel = torch.tensordot(self.beyond, RINGS.to(self.beyond), 1)[:, None].to(planes)
        beyond = conv2d(planes, kernel, padding=REACH, groups=len(kernel))
        return (self.around(planes) + beyond).permute(0, 2, 3, 1).flatten(1, 2)


class Mosaic(nn.Module):
    """From noisy patches, their levels and their coordinates to `outputs` numbers for each.

    The patches fill a square in row-major order; `shape` tells how many of `Near` and of attention see them in turn. The last
    `heard` channels are counts, alike for all patches: each is told as waves and passes a layer of its own, for it takes more
    than a product to tell three from four. What is heard is added to the answer as well, by layers of its own.
    """

    def __init__(self, channels: int, outputs: int, shape: Shape, heard: int = 0):
        super().__init__()
        if shape.loops != 1:
            raise ValueError(f"mosaic: {shape.loops} loops: it is run once")
        width, self.heard = shape.width, heard
        self.level, self.place = LevelEmbedding(width), CoordinateEmbedding(2, width)
        self.modulate = nn.Linear(width, PARTS * width)
        self.enter = nn.Linear(channels - heard, width)
        layers = CoordinateEmbedding(heard, width), nn.SiLU(), nn.Linear(width, width)
        self.hear = nn.Sequential(*layers) if heard else None
        self.reply = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU()) if heard else None
        self.add = nn.Linear(width, outputs) if heard else None
        blocks = [(Near(width, 1), Block(width, shape.heads, shape.ratio)) for _ in range(shape.depth)]
        self.blocks = nn.ModuleList(block for pair in blocks for block in pair)
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, outputs)
        self.begin()

    def begin(self) -> None:
        """Gates begin open by a little and the answer at zero."""
        for layer in (self.modulate, self.leave, self.add):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        for block in self.blocks:
            with torch.no_grad():
                block.offset[[2, 5]] = 0.1  # type: ignore[index]

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"], places: Tensor
    ) -> Float[Tensor, "1 batch variable output"]:
        """The answer, after the one run there is; `places` [variable, 2], coordinates."""
        level = self.level(t)
        told = self.modulate(silu(level)).unflatten(-1, (PARTS, -1)).movedim(-2, 0)
        h = self.enter(z[..., : z.shape[-1] - self.heard]) + self.place(places) + level
        said: Tensor | float = 0.0
        if self.hear and self.reply and self.add:
            heard = self.hear(z[:, :1, -self.heard :] / 10)
            h, said = h + heard, self.add(self.reply(heard))
        for block in self.blocks:
            h = block(h, told)
        return (said + self.leave(self.norm(h)))[None]
