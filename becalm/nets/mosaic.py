"""A network over an image whose patches are variables: convolutions see the pixels, attention sees the patches.

A transformer alone must carry what a patch looks like through its token, and an outline must be handed on from token to token.
Here convolutions over quarters of patches look at what lies on both sides of a border, and hand it past the tokens to the
answer (as a U-Net does); every quarter is modulated by the noise level of its patch, embedded once a patch.
"""

from math import isqrt

import torch
from torch import nn
from torch.nn.functional import silu

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding
from becalm.nets.transformer import PARTS, Block, Modulated, Shape


class Near(Modulated):
    """Every place of a square sees those around it, 3 × 3, then mixes its own numbers; both modulated per place."""

    def __init__(self, width: int, ratio: int):
        super().__init__(width, ratio)
        self.around = nn.Conv2d(width, width, 3, padding=1)

    def gathered(self, h: Float[Tensor, "batch place width"], kin: Tensor | None) -> Tensor:
        """The convolution."""
        side = isqrt(h.shape[1])
        planes = h.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.around(planes).permute(0, 2, 3, 1).flatten(1, 2)


class Mosaic(nn.Module):
    """From noisy patches, their levels and their coordinates to `outputs` numbers for each, in one run.

    The patches, of `colours` numbers a pixel and an even side, fill a square in row-major order. `fine` is the width and the
    number of the blocks over quarters of patches, before and again after those over patches, which `shape` tells: so many
    of `Near` and of attention in turn. The first outputs of a patch are `values` for each of its numbers; what is left, if
    anything, is told by its token. So are the `plan` numbers that follow the pixels of a patch, which its token hears, too;
    the last `heard` numbers are heard alone.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        colours: int,
        fine: tuple[int, int],
        shape: Shape,
        values: int = 2,
        plan: int = 0,
        heard: int = 0,
    ):
        super().__init__()
        pixels = channels - plan - heard
        self.parts = [pixels, plan, heard]
        self.side, self.colours, self.values = isqrt(pixels // colours), colours, values
        if self.side**2 * colours != pixels or self.side % 2 or shape.loops != 1:
            raise ValueError(f"mosaic: {pixels} numbers are no patch of an even side in {colours} colours, run once")
        width, (thin, depth) = shape.width, fine
        quarter = pixels // 4
        self.level, self.place = LevelEmbedding(width), CoordinateEmbedding(2, width)
        self.modulate, self.modulate_fine = nn.Linear(width, PARTS * width), nn.Linear(width, PARTS * thin)
        self.enter, self.tell = nn.Linear(quarter, thin), nn.Linear(width, thin)
        self.down = nn.ModuleList(Near(thin, 2) for _ in range(depth))
        self.narrow, self.widen = nn.Linear(4 * thin + plan, width), nn.Linear(width, 4 * thin)
        self.hear = nn.Parameter(torch.zeros(heard, width))
        blocks = [(Near(width, 1), Block(width, shape.heads, shape.ratio)) for _ in range(shape.depth)]
        self.blocks = nn.ModuleList(block for pair in blocks for block in pair)
        self.merge = nn.Linear(2 * thin, thin)
        self.up = nn.ModuleList(Near(thin, 2) for _ in range(depth))
        self.norm, self.leave = nn.LayerNorm(thin), nn.Linear(thin, values * quarter)
        self.rest = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs - values * pixels))
        self.begin()

    def begin(self) -> None:
        """Gates begin open by a little and the answer at zero."""
        for layer in (self.modulate, self.modulate_fine, self.leave, self.rest[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for block in (*self.down, *self.blocks, *self.up):
            with torch.no_grad():
                block.offset[[2, 5]] = 0.1  # type: ignore[index]

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"], places: Tensor
    ) -> Float[Tensor, "1 batch variable output"]:
        """The answer, after the one run there is; `places` [variable, 2], coordinates."""
        level = self.level(t)
        coarse, fine = (
            told(silu(level)).unflatten(-1, (PARTS, -1)).movedim(-2, 0) for told in (self.modulate, self.modulate_fine)
        )
        fine = torch.stack([spread(part) for part in fine])
        pixels, plan, heard = z.split(self.parts, -1)
        h = self.enter(quarters(pixels, self.side, self.colours)) + spread(self.tell(level))
        for block in self.down:
            h = block(h, fine)
        token = self.narrow(torch.cat([gathered(h), plan], -1)) + heard @ self.hear + self.place(places) + level
        for block in self.blocks:
            token = block(token, coarse)
        h = self.merge(torch.cat([scattered(self.widen(token)), h], -1))
        for block in self.up:
            h = block(h, fine)
        said = self.leave(self.norm(h)).chunk(self.values, -1)
        *plans, rest = self.rest(token).tensor_split([self.parts[1] * (i + 1) for i in range(self.values)], -1)
        values = [whole(part, self.side, self.colours) for part in said]
        return torch.cat([*(part for pair in zip(values, plans, strict=True) for part in pair), rest], -1)[None]


def spread(h: Float[Tensor, "batch variable width"]) -> Float[Tensor, "batch quarter width"]:
    """What is known of each patch, at each of its quarters; quarters are in row-major order of the image."""
    side = isqrt(h.shape[1])
    parts = h.unflatten(1, (side, 1, side, 1)).expand(-1, side, 2, side, 2, -1)
    return parts.reshape(len(h), -1, h.shape[-1])


def gathered(h: Float[Tensor, "batch quarter width"]) -> Float[Tensor, "batch variable wide"]:
    """The four quarters of each patch side by side."""
    side = isqrt(h.shape[1]) // 2
    return h.unflatten(1, (side, 2, side, 2)).transpose(2, 3).flatten(3).flatten(1, 2)


def scattered(h: Float[Tensor, "batch variable wide"]) -> Float[Tensor, "batch quarter width"]:
    """The inverse of `gathered`."""
    side = isqrt(h.shape[1])
    return h.unflatten(2, (2, 2, -1)).unflatten(1, (side, side)).transpose(2, 3).flatten(1, 4)


def quarters(
    z: Float[Tensor, "batch variable channel"], side: int, colours: int
) -> Float[Tensor, "batch quarter part"]:
    """Patches of side × side pixels cut once more."""
    parts = z.unflatten(-1, (2, side // 2, 2, side // 2 * colours)).transpose(3, 4)
    return scattered(parts.flatten(2))


def whole(h: Float[Tensor, "batch quarter part"], side: int, colours: int) -> Float[Tensor, "batch variable channel"]:
    """The inverse of `quarters`."""
    parts = gathered(h).unflatten(-1, (2, 2, side // 2, side // 2 * colours)).transpose(3, 4)
    return parts.flatten(2)
