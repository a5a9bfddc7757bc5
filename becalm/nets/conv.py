"""Small smooth convolutional network of a square image and its noise level: scores and energies of digits."""

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.mlp import LEVEL_FEATURES, embed_noise_level


class Block(nn.Module):
    """Residual block of two convolutions, the noise level added between them; initialised to the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        silu = nn.functional.silu
        return h + self.second(silu(self.first(silu(h)) + level))


class ConvNet(nn.Module):
    """Maps the pixels of an image [batch, side², channels], row by row, to `outputs` numbers per pixel.

    With four blocks the receptive field covers an 8 × 8 image. The positional embedding is a learned map.
    """

    def __init__(self, channels: int, outputs: int, side: int, width: int = 64, depth: int = 5):
        super().__init__()
        self.side, self.width = side, width
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, side, side))
        self.level = nn.Linear(LEVEL_FEATURES, depth * width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.leave = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self, u: Float[Tensor, "batch variable channel"], gamma: Float[Tensor, "*level 1"]
    ) -> Float[Tensor, "batch variable output"]:
        """γ is one for all [1, 1, 1], one per image [batch, 1, 1] or one per pixel [batch, side², 1]."""
        level = self.level(embed_noise_level(gamma).to(u)).mT
        level = level.unflatten(-1, (self.side, self.side)) if gamma.shape[1] > 1 else level[..., None]
        h = self.enter(u.mT.unflatten(-1, (self.side, self.side))) + self.place
        for block, part in zip(self.blocks, level.chunk(len(self.blocks), 1), strict=True):
            h = block(h, part)
        return self.leave(nn.functional.silu(h)).flatten(2).mT
