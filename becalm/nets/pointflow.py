"""From latent points back to points: each tells the Gaussian of the points that belong to it, and a flow refines it.

Points do not see each other, so any number of them can be had.
"""

from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding
from becalm.nets.latent import FORM, PARTS, Mixing, zeroed


def symmetric(six: Float[Tensor, "*row 6"], most: float = 4.5) -> Float[Tensor, "*row 3 3"]:
    """The symmetric matrix of six numbers, scaled down to a norm of at most `most`."""
    power = (six.square() * six.new_tensor([1.0, 1, 1, 2, 2, 2])).sum(-1, keepdim=True)
    six = six * (most / power.clamp_min(most**2).sqrt())
    return six[..., [0, 3, 4, 3, 1, 5, 4, 5, 2]].unflatten(-1, (3, 3))


class PointFlow(nn.Module):
    """The velocity of single points that flow from noise to where a condition puts them; points do not see each other.

    A residual network whose layers the condition shifts and scales. It begins at zero.
    """

    def __init__(self, width: int, condition: int, depth: int):
        super().__init__()
        self.place, self.level = CoordinateEmbedding(3, width, 4, 2.0), LevelEmbedding(width, 8, 8.0)
        self.modulate = nn.Linear(condition, (2 * depth + 1) * width)
        self.enter = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.back = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.leave = zeroed(nn.Linear(width, 3))

    def conditions(self, condition: Float[Tensor, "batch row condition"]) -> Float[Tensor, "batch row modulation"]:
        """Shifts and scales, made once for all steps of a flow."""
        return self.modulate(nn.functional.silu(condition))

    def forward(
        self,
        z: Float[Tensor, "batch point 3"],
        t: Float[Tensor, "#batch #point 1"],
        modulation: Float[Tensor, "batch #point modulation"],
    ) -> Float[Tensor, "batch point 3"]:
        """What the linear guess of the velocity leaves over; z in units of its own noise."""
        first, *rest = modulation.chunk(2 * len(self.enter) + 1, -1)
        h = self.place(z / 2) + self.level(t.clamp(0.001, 0.999)) + first
        for enter, back, shift, scale in zip(self.enter, self.back, rest[::2], rest[1::2], strict=True):
            h = h + back(nn.functional.silu(enter(self.norm(h) * (1 + scale) + shift)))
        return self.leave(self.norm(h)).float()


class Guide(NamedTuple):
    """What a latent point tells of the points that belong to it: the data's units are those of `reach`."""

    modulation: Float[Tensor, "batch anchor modulation"]
    """Of their flow."""
    share: Float[Tensor, "batch anchor"]
    """The logarithm of their part of all points."""
    middle: Float[Tensor, "batch anchor 3"]
    """Their mean, from the latent point."""
    form: Float[Tensor, "batch anchor 3 3"]
    """S, symmetric: exp(S) makes their covariance 1."""


class Decoder(nn.Module):
    """From latents to what guides the flow of points."""

    def __init__(self, width: int, heads: int, depth: int, globals_: int, features: int):
        super().__init__()
        self.place, self.enter = CoordinateEmbedding(3, width), nn.Linear(features, width)
        self.modulate = zeroed(nn.Linear(globals_, PARTS * width))
        self.blocks = nn.ModuleList(Mixing(width, heads, 2) for _ in range(depth))
        self.norm, self.tell = nn.LayerNorm(width), zeroed(nn.Linear(width, 10))
        self.flow = PointFlow(width, width, 2)

    def forward(self, z: Float[Tensor, "batch global"], h: Float[Tensor, "batch anchor channel"]) -> Guide:
        """The guides of all latent points."""
        tokens = self.place(h[..., :3]) + self.enter(h[..., 3:])
        modulation = self.modulate(z)[:, None].unflatten(-1, (PARTS, -1)).movedim(-2, 0)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        tokens = self.norm(tokens)
        share, middle, form = self.tell(tokens).float().split([1, 3, 6], -1)
        share = torch.log_softmax(share[..., 0], 1)
        return Guide(self.flow.conditions(tokens), share, middle, symmetric(h[..., 3 : 3 + FORM].float() + form))
