"""Smooth networks of a few numbers and a noise level: score fields and energies of vectors."""

import torch
from torch import nn

from becalm.core.typing import Float, Tensor

LEVEL_FREQUENCIES = (0.5, 1.0, 2.0)
"""Frequencies, per e-fold of noise, at which a level is told."""


def embed_noise_level(gamma: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape feature"]:
    """A noise level as smooth features: log σ/α = γ/2 and its waves."""
    log = gamma / 2
    angle = log * torch.tensor(LEVEL_FREQUENCIES, dtype=log.dtype, device=log.device)
    return torch.cat([log / 4, angle.sin(), angle.cos()], -1)


LEVEL_FEATURES = 1 + 2 * len(LEVEL_FREQUENCIES)
"""Numbers that `told` gives."""


class Mlp(nn.Module):
    """From a vector of about unit size and its level to `outputs` numbers, for each variable by itself.

    The level scales and shifts what every layer says (FiLM; Perez et al. 2018), since it decides how sharp an answer is. SiLU,
    whose every derivative lives, so that it serves traces and energies; the last layer begins at 0.
    """

    def __init__(self, channels: int, outputs: int, width: int = 128, depth: int = 3):
        super().__init__()
        self.enter = nn.Linear(channels, width)
        self.level = nn.Linear(LEVEL_FEATURES, 2 * depth * width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.leave = nn.Linear(width, outputs)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, u: Float[Tensor, "batch variable channel"], gamma: Float[Tensor, "*level 1"]
    ) -> Float[Tensor, "batch variable output"]:
        """γ broadcasts over the variables."""
        said = self.level(embed_noise_level(gamma).to(u)).chunk(2 * len(self.layers) + 2, -1)
        h = nn.functional.silu(self.enter(u) * (1 + said[0]) + said[1])
        for layer, scale, shift in zip(self.layers, said[2::2], said[3::2], strict=True):
            h = nn.functional.silu(layer(h) * (1 + scale) + shift)
        return self.leave(h)
