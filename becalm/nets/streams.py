"""Two streams: many points that carry what is local, a few tokens that carry the whole; points never look at points.

A round reads points into tokens by cross-attention, mixes the tokens, and writes them back (Jabri et al. 2023; Huang et al.
2024 for point clouds): linear in the number of points, which training and sampling may have different.
"""

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding
from becalm.nets.latent import PARTS, Mixing, zeroed


class Crossing(nn.Module):
    """Cross-attention: what one set of rows gathers from another, of another width."""

    def __init__(self, width: int, source: int, heads: int):
        super().__init__()
        self.heads = heads
        inner = min(width, source)
        self.norm, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(source)
        self.ask, self.tell = nn.Linear(width, inner), nn.Linear(source, 2 * inner)
        self.gather = nn.Linear(inner, width)

    def forward(
        self, h: Float[Tensor, "batch row width"], source: Float[Tensor, "batch other source"]
    ) -> Float[Tensor, "batch row width"]:
        """h and what it gathers."""
        q = self.ask(self.norm(h)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.tell(self.norm_source(source)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weight = torch.softmax(q @ k.transpose(-1, -2) / k.shape[-1] ** 0.5, -1)
        return h + self.gather((weight @ v).transpose(1, 2).flatten(2))


class Round(nn.Module):
    """Read, mix twice, write; then each point by itself."""

    def __init__(self, width: int, tokens: int, heads: int):
        super().__init__()
        self.read, self.write = Crossing(tokens, width, heads), Crossing(width, tokens, heads)
        self.mix = nn.ModuleList(Mixing(tokens, heads, 2) for _ in range(2))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.each = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(
        self, h: Tensor, tokens: Tensor, modulation: Tensor, shift: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New points and new tokens."""
        tokens = self.read(tokens, h)
        for mix in self.mix:
            tokens = mix(tokens, modulation)
        h = self.write(h, tokens)
        return h + self.each(self.norm(h) * (1 + scale) + shift), tokens


class TwoStream(nn.Module):
    """From points with features, their levels and a condition of the whole to `outputs` numbers a point; it begins at zero."""

    def __init__(self, channels: int, outputs: int, condition: int, shape: tuple[int, int, int, int]):
        super().__init__()
        width, tokens, heads, rounds = shape
        self.place, self.enter = CoordinateEmbedding(3, width), nn.Linear(channels, width)
        self.level, self.hear = LevelEmbedding(width), nn.Linear(condition, width)
        self.tokens = nn.Parameter(0.5 * torch.randn(64, tokens))
        self.modulate, self.shift = zeroed(nn.Linear(width, PARTS * tokens)), zeroed(nn.Linear(width, 2 * width))
        self.rounds = nn.ModuleList(Round(width, tokens, heads) for _ in range(rounds))
        self.norm, self.leave = nn.LayerNorm(width), zeroed(nn.Linear(width, outputs))

    def forward(
        self,
        z: Float[Tensor, "batch point channel"],
        t: Float[Tensor, "batch #point 1"],
        condition: Float[Tensor, "batch condition"],
    ) -> Float[Tensor, "batch point output"]:
        """The first three channels are coordinates."""
        level = self.level(t) + self.hear(condition)[:, None]
        told = nn.functional.silu(level)
        h, tokens = self.enter(z) + self.place(z[..., :3] / 2) + level, self.tokens.expand(len(z), -1, -1)
        modulation = self.modulate(told.mean(1, keepdim=True)).unflatten(-1, (PARTS, -1)).movedim(-2, 0)
        shift, scale = self.shift(told).chunk(2, -1)
        for step in self.rounds:
            h, tokens = step(h, tokens, modulation, shift, scale)
        return self.leave(self.norm(h)).float()
