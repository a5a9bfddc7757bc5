"""Two streams: many points that carry local detail, a few tokens that carry the whole; points never attend to points.

A block reads points into tokens by cross-attention, mixes the tokens by self-attention, and writes them back (Jabri et al. 2023;
Huang et al. 2024 for point clouds): linear in the number of points, which may differ between training and sampling.
"""

from typing import ClassVar

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding
from becalm.nets.latent import MODULATIONS, AttentionBlock, zero_init


class CrossAttention(nn.Module):
    """Multi-head cross-attention between two sets of rows of different widths, with a residual connection."""

    former_names: ClassVar = {"query": "ask", "key_value": "tell", "output": "gather"}

    def __init__(self, width: int, source: int, heads: int):
        super().__init__()
        self.heads = heads
        inner = min(width, source)
        self.norm, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(source)
        self.query, self.key_value = nn.Linear(width, inner), nn.Linear(source, 2 * inner)
        self.output = nn.Linear(inner, width)

    def forward(
        self, h: Float[Tensor, "batch row width"], source: Float[Tensor, "batch other source"]
    ) -> Float[Tensor, "batch row width"]:
        """h plus what its rows read from `source`."""
        q = self.query(self.norm(h)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(self.norm_source(source)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weight = torch.softmax(q @ k.transpose(-1, -2) / k.shape[-1] ** 0.5, -1)
        return h + self.output((weight @ v).transpose(1, 2).flatten(2))


class TwoStreamBlock(nn.Module):
    """Tokens read the points, attend to each other twice and write back; then an MLP of each point."""

    former_names: ClassVar = {"mlp": "each"}

    def __init__(self, width: int, tokens: int, heads: int):
        super().__init__()
        self.read, self.write = CrossAttention(tokens, width, heads), CrossAttention(width, tokens, heads)
        self.mix = nn.ModuleList(AttentionBlock(tokens, heads, 2) for _ in range(2))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(
        self, h: Tensor, tokens: Tensor, modulation: Tensor, shift: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The points and the tokens after the block; `modulation` is that of the tokens, shift and scale of the points."""
        tokens = self.read(tokens, h)
        for mix in self.mix:
            tokens = mix(tokens, modulation)
        h = self.write(h, tokens)
        return h + self.mlp(self.norm(h) * (1 + scale) + shift), tokens


class TwoStream(nn.Module):
    """From points with features, noise levels and a global condition to `outputs` numbers a point, 0 at first.

    `shape` is the width of points, the width of tokens, the attention heads and the number of blocks.
    """

    former_names: ClassVar = {
        "embed_position": "place",
        "embed": "enter",
        "embed_condition": "hear",
        "blocks": "rounds",
        "head": "leave",
    }

    def __init__(self, channels: int, outputs: int, condition: int, shape: tuple[int, int, int, int]):
        super().__init__()
        width, tokens, heads, blocks = shape
        self.embed_position, self.embed = CoordinateEmbedding(3, width), nn.Linear(channels, width)
        self.level, self.embed_condition = LevelEmbedding(width), nn.Linear(condition, width)
        self.tokens = nn.Parameter(0.5 * torch.randn(64, tokens))
        self.modulate, self.shift = (
            zero_init(nn.Linear(width, MODULATIONS * tokens)),
            zero_init(nn.Linear(width, 2 * width)),
        )
        self.blocks = nn.ModuleList(TwoStreamBlock(width, tokens, heads) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), zero_init(nn.Linear(width, outputs))

    def forward(
        self,
        z: Float[Tensor, "batch point channel"],
        t: Float[Tensor, "batch #point 1"],
        condition: Float[Tensor, "batch condition"],
    ) -> Float[Tensor, "batch point output"]:
        """The outputs of points z at levels t; the first three channels of z are coordinates."""
        level = self.level(t) + self.embed_condition(condition)[:, None]
        active = nn.functional.silu(level)
        h, tokens = self.embed(z) + self.embed_position(z[..., :3] / 2) + level, self.tokens.expand(len(z), -1, -1)
        modulation = self.modulate(active.mean(1, keepdim=True)).unflatten(-1, (MODULATIONS, -1)).movedim(-2, 0)
        shift, scale = self.shift(active).chunk(2, -1)
        for block in self.blocks:
            h, tokens = block(h, tokens, modulation, shift, scale)
        return self.head(self.norm(h)).float()
