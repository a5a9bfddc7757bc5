"""SRM on layouts of Counting Polygons: categorical channels, counts of them, and the circles nearest to each variable.

A variable is a patch's row of `images/counting_polygons/layout.py`: one of several mutually exclusive categories (or none),
then the offset and the radius of a circle, and more.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from becalm.core.process import Output
from becalm.core.typing import Float, Tensor
from becalm.images.counting_polygons import categorical
from becalm.images.counting_polygons.layout import N_KINDS, OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT
from becalm.images.counting_polygons.nearest_circles import N_FEATURES, CircleChannels, nearest_circle_features
from becalm.nets.conv_attention import ConvAttention
from becalm.nets.transformer import Shape
from becalm.systems.srm import SRM, SRMConfig


@dataclass(frozen=True)
class PolygonSRMConfig(SRMConfig):
    """What a PolygonSRM is built from."""

    features: int = N_KINDS
    """Number of categories, the first channels of a variable; certainty is about them."""


class PolygonSRM(SRM):
    """SRM whose first channels are mutually exclusive categories, encoded 4 or 0; the network gives their logits.

    The network (`nets.conv_attention`) sees of each variable the posterior mean given z_i alone, so that noise is not seen; the
    features of the four nearest circles; and how many variables have each category, as far as they are settled.
    """

    Config: ClassVar[type[SRMConfig]] = PolygonSRMConfig

    @classmethod
    def build_network(cls, config: PolygonSRMConfig) -> nn.Module:
        """Convolutions and attention over a square of patches; the counts of categories are its context."""
        inputs = config.channels + N_FEATURES + config.features
        return ConvAttention(inputs, 2 * config.channels + 1, Shape(*config.shape), config.features)

    @property
    def n_categories(self) -> int:
        """Number of categories."""
        return self.features.shape[1]  # type: ignore[union-attr]

    def inputs(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]
    ) -> Float[Tensor, "batch variable input"]:
        """Posterior mean of each variable given its own z, nearest circles, and counts of the categories."""
        z, n = z.float(), self.n_categories
        x, _ = self.posterior_mean(torch.cat([torch.zeros_like(z[..., :n]), z[..., n:]], -1), z, t)
        counts = self.category_counts(x, t.float())
        return torch.cat([x, self.nearest_circles(x, t), counts.expand(*z.shape[:2], -1)], -1)

    def decode(self, raw: Tensor, z: Tensor, t: Tensor) -> Output:
        """As SRM's, but the first channels are logits: their posterior mean, and the log-variance that follows from it."""
        output = super().decode(raw, z, t)
        return Output(*self.posterior_mean(output.value, z.float(), t), output.spread)

    def posterior_mean(self, value: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x and log_var from logits and z, by Bayes' rule (`categorical.posterior_mean`)."""
        alpha, sigma = (part.float() for part in self.schedule(t)[1:])
        return categorical.posterior_mean(value, z, alpha, sigma, self.n_categories)

    def category_counts(self, x: Tensor, t: Tensor) -> Float[Tensor, "batch 1 category"]:
        """Σ_i (1 − t_i) p_i: how many variables have each category, those at noise not counted."""
        return ((1 - t) * (x[..., : self.n_categories] / categorical.ON)).sum(1, keepdim=True)

    def nearest_circles(self, x: Tensor, t: Tensor) -> Float[Tensor, "batch variable feature"]:
        """Features of the circles nearest to each variable (`nearest_circles.nearest_circle_features`)."""
        alpha, sigma = (part[..., 0].float() for part in self.schedule(t)[1:])
        present = x[..., : self.n_categories].sum(-1) / categorical.ON
        channels = CircleChannels(self.n_categories, OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT)
        return nearest_circle_features(x, present, alpha, sigma, channels)

    def feature_loss(self, value: Tensor, target: Tensor) -> Float[Tensor, "batch variable 1"]:
        """Cross-entropy of the categories."""
        return categorical.cross_entropy(value, target, self.n_categories)
