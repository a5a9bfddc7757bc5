"""Embeddings of noise levels, coordinates and indices."""

import math

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor


def sinusoids(x: Float[Tensor, "*shape 1"], n_frequencies: int, max_frequency: float) -> Float[Tensor, "*shape wave"]:
    """cos and sin of 2π f x for `n_frequencies` frequencies f, geometric from 1/2 to `max_frequency`.

    [..., 2 · n_frequencies], all cosines first, in float32 or better.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    frequencies = torch.logspace(
        math.log10(0.5), math.log10(max_frequency), n_frequencies, dtype=x.dtype, device=x.device
    )
    angles = 2 * math.pi * x * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class LevelEmbedding(nn.Module):
    """Embedding of each variable's noise level, computed once for all layers.

    (The network of the SRM paper computes it for every pixel in every block: 45 % of its arithmetic.)
    """

    def __init__(self, width: int, n_frequencies: int = 32, max_frequency: float = 64.0):
        super().__init__()
        self.n_frequencies, self.max_frequency = n_frequencies, max_frequency
        self.enter = nn.Linear(2 * n_frequencies + 2, width)
        self.leave = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, "batch variable 1"]) -> Float[Tensor, "batch variable width"]:
        """t in [0, 1]; two flags mark t = 0 (given) and t = 1 (unknown) exactly."""
        features = [sinusoids(t, self.n_frequencies, self.max_frequency), t == 0, t == 1]
        embedding = torch.cat([part.to(self.enter.weight) for part in features], -1)
        return self.leave(nn.functional.silu(self.enter(embedding)))


class IndexEmbedding(nn.Module):
    """Sum of one learned vector per index: a cell's row, its column, its box."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.5 / math.sqrt(len(sizes)))  # type: ignore[arg-type]

    def forward(self, indices: Int[Tensor, "variable table"]) -> Float[Tensor, "variable width"]:
        """`indices` holds one index per variable and table."""
        return torch.stack([table(indices[:, i]) for i, table in enumerate(self.tables)]).sum(0)


class CoordinateEmbedding(nn.Module):
    """Linear map of coordinates in [−1, 1] and their sinusoids."""

    def __init__(self, axes: int, width: int, n_frequencies: int = 8, max_frequency: float = 8.0):
        super().__init__()
        self.n_frequencies, self.max_frequency = n_frequencies, max_frequency
        self.mix = nn.Linear(axes * (2 * n_frequencies + 1), width)

    def forward(self, coordinates: Float[Tensor, "*batch variable axis"]) -> Float[Tensor, "*batch variable width"]:
        """`coordinates` of each variable."""
        features = torch.cat(
            [coordinates[..., None], sinusoids(coordinates[..., None], self.n_frequencies, self.max_frequency)], -1
        )
        return self.mix(features.flatten(-2).to(self.mix.weight))
