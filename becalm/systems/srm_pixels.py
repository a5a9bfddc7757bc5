"""SRM on patches of pixels whose counts must agree (Even Pixels): a pooled context and a per-pixel head.

Attention averages over the variables and loses a total that is nearly zero; here every token gets the sum itself. And a token is
too narrow to carry the noise of all its pixels; so a small network per pixel sees the pixel as it is.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.transformer import Shape, Transformer
from becalm.systems.srm import SRM, SRMConfig, place_kinds

SATURATION = 5.0
"""Slope of tanh(5 x), which bounds values before they are summed: the small errors of settled patches would add up otherwise."""


@dataclass(frozen=True)
class PixelSRMConfig(SRMConfig):
    """What a PixelSRM is built from; with `features` > 0 their sum over all variables is the pooled context."""

    pixel_channels: int = 0
    """Numbers of a pixel, of which a variable is made; 0: no per-pixel head."""
    pixel_depth: int = 3
    """Layers of the per-pixel head."""


class PixelSRM(SRM):
    """SRM that appends the sum of all settled features to every token and may have a per-pixel head (`nets.transformer`)."""

    Config: ClassVar[type[SRMConfig]] = PixelSRMConfig

    @classmethod
    def build_network(cls, config: PixelSRMConfig) -> nn.Module:
        """A transformer, its input wider by the pooled context, with a per-pixel head where `pixel_channels` is given."""
        tables, axes = place_kinds(config.places)
        pixels = (config.channels // config.pixel_channels, config.pixel_channels) if config.pixel_channels else (0, 0)
        inputs, outputs, shape = config.channels + config.features, 2 * config.channels + 1, Shape(*config.shape)
        return Transformer(inputs, outputs, tables, axes, shape, pixels, config.pixel_depth)

    def inputs(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]
    ) -> Float[Tensor, "batch variable input"]:
        """z with the pooled context of all variables appended to each."""
        z = z.float()
        if self.features is None:
            return z
        return torch.cat([z, self.pooled_context(z, t.float()).expand(*z.shape[:2], -1)], -1)

    def pooled_context(self, z: Tensor, t: Tensor) -> Float[Tensor, "batch 1 feature"]:
        """Σ_i (1 − t_i) fᵀ tanh(5 z_i): the sum of the features f over all variables, noise having no part in it."""
        total = ((1 - t) * torch.tanh(SATURATION * z)).sum(1, keepdim=True)
        return (total[..., None] * self.features).sum(-2)  # type: ignore[operator]
