"""A transformer over variables: each token is one variable, modulated by its own noise level.

Adaptive normalisation is that of DiT (Peebles & Xie 2023) with its modulation computed once for all layers, each of which
adds an offset of its own (as in PixArt-α, 2023). The stack may be run several times with the same weights, the input being
added anew before each run: depth without parameters.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, IndexEmbedding, LevelEmbedding

N_MODULATIONS = 6
"""Modulations of a block: shift, scale and gate of what mixes variables, and the same of the MLP after it."""

SAME_PLACE_BIAS = 3.0
"""Initial bias of an attention logit between two variables that share a row, a column or a box."""


class Shape(NamedTuple):
    """The size of a transformer."""

    width: int = 128
    """Numbers of a token."""
    heads: int = 4
    """Attention heads."""
    depth: int = 4
    """Blocks with weights of their own."""
    loops: int = 1
    """Times the stack of blocks is run."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, over the width."""


class ModulatedBlock(nn.Module):
    """A block over variables: variables exchange information, then an MLP per variable; both modulated by its noise level."""

    def __init__(self, width: int, mlp_ratio: int):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(N_MODULATIONS, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        hidden = mlp_ratio * width
        self.mix = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))

    def forward(
        self,
        h: Tensor,
        modulation: Float[Tensor, "part batch variable width"],
        same_place: Float[Tensor, "table variable variable"] | None = None,
    ) -> Tensor:
        """New tokens; the block's offset is added to `modulation`, that of all blocks; `same_place` is 1 where two variables
        have the same index in a table."""
        shift, scale, gate, shift2, scale2, gate2 = modulation + self.offset[:, None, None]
        h = h + gate * self.mix_variables(self.norm(h) * (1 + scale) + shift, same_place)
        return h + gate2 * self.mix(self.norm(h) * (1 + scale2) + shift2)

    def mix_variables(self, h: Tensor, same_place: Tensor | None) -> Tensor:
        """What each variable gets from the others."""
        raise NotImplementedError


class AttentionBlock(ModulatedBlock):
    """Attention over all variables, with a learned bias for those in the same row, column or box.

    Each head has a bias for each table. At first those of the first heads are large, each for one table, so that a head gathers
    a row, a column or a box without having to find out what these are.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, tables: int = 0):
        super().__init__(width, mlp_ratio)
        self.heads = heads
        kind = torch.arange(heads)[:, None] % (tables + 1)
        bias = SAME_PLACE_BIAS * (kind == torch.arange(tables)).float()
        self.attention_bias = nn.Parameter(bias) if tables else None
        self.attend = nn.Linear(width, 3 * width)
        self.gather = nn.Linear(width, width)

    def mix_variables(self, h: Tensor, same_place: Tensor | None) -> Tensor:
        """Multi-head attention."""
        q, k, v = self.attend(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = None if same_place is None else torch.tensordot(self.attention_bias, same_place, 1).to(q)  # type: ignore[arg-type]
        return self.gather(attention(q, k, v, bias).transpose(1, 2).flatten(2))


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Float[Tensor, "batch head variable width"]:
    """softmax(q kᵀ/√d + bias) v. In training on a CPU it is written out: the fused one's derivative takes three times as long."""
    if q.is_cuda or not torch.is_grad_enabled():
        return nn.functional.scaled_dot_product_attention(q, k, v, bias)
    logits = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
    weights = torch.softmax(logits if bias is None else logits + bias, -1, dtype=torch.float32)
    return weights.to(v) @ v


class PixelHead(nn.Module):
    """Per-pixel MLP head, conditioned on the token and the patch mean.

    The MLP is shared by all `count` pixels of a variable, `channels` numbers each. It sees the pixel itself, noise and all, so
    a token has to carry only what its pixels have in common; between its layers each pixel gets the mean over all pixels of the
    variable, so that they can agree on a sum.
    """

    def __init__(self, width: int, count: int, channels: int, hidden: int = 64, depth: int = 3):
        super().__init__()
        self.count, self.channels = count, channels
        self.enter, self.leave = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.place = nn.Parameter(torch.randn(count, hidden))
        self.modulation = nn.Linear(width, 2 * depth * hidden)
        self.mix = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.mix_mean = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(depth - 1))
        for layer in (self.leave, *self.mix_mean):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, h: Float[Tensor, "batch variable width"], z: Float[Tensor, "batch variable channel"]
    ) -> Float[Tensor, "batch variable number"]:
        """count · channels numbers a variable from its token h and its pixels, the first channels of z."""
        first, *others = self.modulation(h)[..., None, :].chunk(len(self.mix) + 1, -1)
        pixels = z[..., : self.count * self.channels].unflatten(-1, (self.count, self.channels))
        hidden = nn.functional.silu(scale_and_shift(self.enter(pixels), first) + self.place)
        for mix, mix_mean, modulation in zip(self.mix, self.mix_mean, others, strict=True):
            mean = mix_mean(hidden.mean(-2, keepdim=True))
            hidden = hidden + nn.functional.silu(scale_and_shift(mix(hidden), modulation) + mean)
        return self.leave(hidden).flatten(-2)


def scale_and_shift(
    h: Float[Tensor, "*token width"], by: Float[Tensor, "*other twice"]
) -> Float[Tensor, "*token width"]:
    """h (1 + scale) + shift, scale and shift being the halves of `by`."""
    scale, shift = by.chunk(2, -1)
    return h * (1 + scale) + shift


def open_gates(blocks: Iterable[nn.Module]) -> None:
    """Set the offsets of both gates of every block to 0.1, so that fresh blocks change their tokens a little."""
    for block in blocks:
        with torch.no_grad():
            block.offset[[2, 5]] = 0.1  # type: ignore[index]


class Transformer(nn.Module):
    """From noisy variables, their levels and their places to `outputs` numbers for each.

    Places are indices into tables of the sizes `tables`, or coordinates on `axes` axes, or nothing. With `pixels` = (count,
    channels) a `PixelHead` of `pixel_depth` layers adds its output to the first outputs. A fresh network puts out zeros.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        tables: tuple[int, ...] = (),
        axes: int = 0,
        shape: Shape | None = None,
        pixels: tuple[int, int] = (0, 0),
        pixel_depth: int = 3,
    ):
        super().__init__()
        shape = shape or Shape()
        if tables and axes:
            raise ValueError("Transformer: give either the sizes of place tables or a number of coordinate axes")
        width = shape.width
        self.loops = shape.loops
        self.enter = nn.Sequential(nn.Linear(channels, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.place = IndexEmbedding(tables, width) if tables else CoordinateEmbedding(axes, width) if axes else None
        self.level = LevelEmbedding(width)
        self.modulate = nn.Linear(width, N_MODULATIONS * width)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, shape.heads, shape.mlp_ratio, len(tables)) for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, outputs))
        self.pixel_head = PixelHead(width, *pixels, depth=pixel_depth) if all(pixels) else None
        for layer in (self.modulate, self.leave[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        open_gates(self.blocks)

    def forward(
        self,
        z: Float[Tensor, "batch variable channel"],
        t: Float[Tensor, "batch variable 1"],
        places: Tensor | None = None,
    ) -> Float[Tensor, "loop batch variable output"]:
        """The output after each run of the stack; the last one counts. `places` [variable, tables or axes]."""
        level = self.level(t)
        place = 0.0 if self.place is None else self.place(places)
        tokens = self.enter(z) + place + level
        modulation = self.modulate(nn.functional.silu(level)).unflatten(-1, (N_MODULATIONS, -1)).movedim(-2, 0)
        same_place = None
        if isinstance(self.place, IndexEmbedding) and places is not None:
            same_place = (places[:, None] == places).movedim(-1, 0).to(tokens)
        h, outputs = torch.zeros_like(tokens), []
        for _ in range(self.loops):
            h = h + tokens
            for block in self.blocks:
                h = block(h, modulation, same_place)
            output = self.leave(token := self.norm(h))
            if self.pixel_head is not None:
                pixels = self.pixel_head(token, z)
                output = output + nn.functional.pad(pixels, (0, output.shape[-1] - pixels.shape[-1]))
            outputs.append(output)
        return torch.stack(outputs)
