"""Embeddings: noise levels, coordinates and places as vectors a network can add."""

import math

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor


def sinusoids(x: Float[Tensor, "*shape 1"], n_frequencies: int, max_frequency: float) -> Float[Tensor, "*shape wave"]:
    """cos and sin of 2π f x for `count` frequencies f, geometric from 1/2 to `most`: [..., 2 · count], in float32 at least."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    frequencies = torch.logspace(
        math.log10(0.5), math.log10(max_frequency), n_frequencies, dtype=x.dtype, device=x.device
    )
    angles = 2 * math.pi * x * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class LevelEmbedding(nn.Module):
    """One vector for each variable's noise level, made once and used by every layer.

    Within SRM's own network the like of it is computed again for every pixel in every block, which is 45 % of its arithmetic.
    """

    def __init__(self, width: int, n_frequencies: int = 32, max_frequency: float = 64.0):
        super().__init__()
        self.n_frequencies, self.max_frequency = n_frequencies, max_frequency
        self.enter = nn.Linear(2 * n_frequencies + 2, width)
        self.leave = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, "batch variable 1"]) -> Float[Tensor, "batch variable width"]:
        """t in [0, 1]; that it is exactly 0 (given) or 1 (unknown) is told beside the waves."""
        seen = [sinusoids(t, self.n_frequencies, self.max_frequency), t == 0, t == 1]
        told = torch.cat([part.to(self.enter.weight) for part in seen], -1)
        return self.leave(nn.functional.silu(self.enter(told)))


class IndexEmbedding(nn.Module):
    """The sum of one learned vector from each table: a cell's row, its column, its box."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.5 / math.sqrt(len(sizes)))  # type: ignore[arg-type]

    def forward(self, indices: Int[Tensor, "variable table"]) -> Float[Tensor, "variable width"]:
        """`places` holds a number for each variable and table."""
        return torch.stack([table(indices[:, i]) for i, table in enumerate(self.tables)]).sum(0)


class CoordinateEmbedding(nn.Module):
    """Coordinates in [−1, 1] as waves, mixed into one vector for each variable."""

    def __init__(self, axes: int, width: int, n_frequencies: int = 8, max_frequency: float = 8.0):
        super().__init__()
        self.n_frequencies, self.max_frequency = n_frequencies, max_frequency
        self.mix = nn.Linear(axes * (2 * n_frequencies + 1), width)

    def forward(self, coordinates: Float[Tensor, "*batch variable axis"]) -> Float[Tensor, "*batch variable width"]:
        """`places` holds the coordinates of each variable."""
        seen = torch.cat(
            [coordinates[..., None], sinusoids(coordinates[..., None], self.n_frequencies, self.max_frequency)], -1
        )
        return self.mix(seen.flatten(-2).to(self.mix.weight))
