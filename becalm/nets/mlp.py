"""Smooth MLP of a low-dimensional vector and its noise level: scores and energies."""

import torch
from torch import nn

from becalm.core.typing import Float, Tensor

LEVEL_FREQUENCIES = (0.5, 1.0, 2.0)
"""Frequencies of the sinusoidal features of log σ/α, in radians per unit."""


def embed_noise_level(gamma: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape feature"]:
    """Smooth features of a noise level: log σ/α = γ/2, its sines and cosines."""
    log = gamma / 2
    angle = log * torch.tensor(LEVEL_FREQUENCIES, dtype=log.dtype, device=log.device)
    return torch.cat([log / 4, angle.sin(), angle.cos()], -1)


LEVEL_FEATURES = 1 + 2 * len(LEVEL_FREQUENCIES)
"""Number of features of `embed_noise_level`."""


class Mlp(nn.Module):
    """MLP of each variable: a vector of about unit variance and its noise level to `outputs` numbers.

    The noise level scales and shifts the activations of every layer (FiLM; Perez et al. 2018). SiLU has no vanishing derivative,
    as traces and energies need; the last layer is initialised to 0.
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
        modulation = self.level(embed_noise_level(gamma).to(u)).chunk(2 * len(self.layers) + 2, -1)
        h = nn.functional.silu(self.enter(u) * (1 + modulation[0]) + modulation[1])
        for layer, scale, shift in zip(self.layers, modulation[2::2], modulation[3::2], strict=True):
            h = nn.functional.silu(layer(h) * (1 + scale) + shift)
        return self.leave(h)
