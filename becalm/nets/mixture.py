"""From latent points back to points: each tells a mixture of Gaussians, of which its part of the surface is made.

A thin Gaussian is a piece of surface. Those of a latent point live in a frame that it tells first, in which what belongs to it
has about unit deviation, so that a thin sheet is as easy to describe as a ball. All is a density, learned by likelihood, and any
number of points can be drawn from it at once.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import CoordinateEmbedding
from becalm.nets.latent import FORM, PARTS, Mixing, zeroed

STRAY = 0.01
"""Share of points that a mixture leaves to anywhere when it learns, so that none of them can outweigh the others."""

FAR = 3.0
"""Deviation of these, in the mixture's units."""


PLASTIC = 1.2207440846057596
"""The root of g⁴ = g + 1."""


def spread_normal(rows: int, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "row count 3"]:
    """Numbers of N(0, I), by themselves; those that follow each other in a row shun each other.

    Uniform numbers without clumps, i/g + u, i/g² + u′, i/g³ + u″ modulo 1 for random u (Roberts 2018), through the normal's
    inverse distribution.
    """
    steps = torch.tensor([1 / PLASTIC, 1 / PLASTIC**2, 1 / PLASTIC**3], dtype=torch.float64)
    first = torch.rand(rows, 1, 3, generator=generator, dtype=torch.float64)
    uniform = (first + torch.arange(count, dtype=torch.float64)[:, None] * steps) % 1
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).float()


def symmetric(six: Float[Tensor, "*row 6"], most: float = 4.5) -> Float[Tensor, "*row 3 3"]:
    """The symmetric matrix of six numbers, scaled down to a norm of at most `most`."""
    power = (six.square() * six.new_tensor([1.0, 1, 1, 2, 2, 2])).sum(-1, keepdim=True)
    six = six * (most / power.clamp_min(most**2).sqrt())
    return six[..., [0, 3, 4, 3, 1, 5, 4, 5, 2]].unflatten(-1, (3, 3))


class Mixture(NamedTuple):
    """Gaussians: ln of their shares, their means, and L, lower triangular, which makes the covariance of each 1."""

    share: Float[Tensor, "*row part"]
    middle: Float[Tensor, "*row part 3"]
    log_scale: Float[Tensor, "*row part 3"]
    """Logarithms of L's diagonal."""
    below: Float[Tensor, "*row part 3"]
    """L₂₁, L₃₁ and L₃₂."""

    def log_density(self, x: Float[Tensor, "*row point 3"]) -> Float[Tensor, "*row point"]:
        """ln of the density at some points of each mixture, of which `STRAY` is a broad normal one about 0."""
        first, second, third = (x[..., None, :] - self.middle[..., None, :, :]).unbind(-1)
        scale, below = self.log_scale.exp()[..., None, :, :].unbind(-1), self.below[..., None, :, :].unbind(-1)
        distance = (scale[0] * first).square() + (below[0] * first + scale[1] * second).square()
        distance = distance + (below[1] * first + below[2] * second + scale[2] * third).square()
        normal = (self.share + self.log_scale.sum(-1))[..., None, :] - distance / 2
        stray = -x.square().sum(-1) / (2 * FAR**2) - 3 * math.log(FAR) + math.log(STRAY)
        return torch.logaddexp(normal.logsumexp(-1) + math.log1p(-STRAY), stray) - 1.5 * math.log(2 * math.pi)

    def place(self, part: Int[Tensor, "*row 1"], eps: Float[Tensor, "*row 3"]) -> Float[Tensor, "*row 3"]:
        """Points of the given parts, one of each mixture, from standard normal noise."""
        middle, log_scale, below = (
            each.gather(-2, part[..., None].expand(*part.shape, 3))[..., 0, :] for each in self[1:]
        )
        scale = log_scale.exp()
        first = eps[..., 0] / scale[..., 0]
        second = (eps[..., 1] - below[..., 0] * first) / scale[..., 1]
        third = (eps[..., 2] - below[..., 1] * first - below[..., 2] * second) / scale[..., 2]
        return middle + torch.stack([first, second, third], -1)


class MixtureHead(nn.Module):
    """The mixture that a condition tells (Bishop 1994).

    At first it is `count` Gaussians of deviation `size`, strewn about 0 with deviation `spread`, whatever the condition.
    """

    def __init__(self, width: int, condition: int, count: int, spread: float, size: float):
        super().__init__()
        self.tell = nn.Sequential(nn.Linear(condition, 2 * width), nn.SiLU(), zeroed(nn.Linear(2 * width, 10 * count)))
        start = torch.zeros(count, 10)
        start[:, 1:4] = spread * torch.randn(count, 3)
        start[:, 4:7] = -math.log(size)
        self.start = nn.Parameter(start)

    def forward(self, condition: Float[Tensor, "*row condition"]) -> Mixture:
        """One mixture for each row."""
        said = self.tell(condition).float().unflatten(-1, self.start.shape) + self.start
        share, middle, log_scale, below = said.split([1, 3, 3, 3], -1)
        return Mixture(share[..., 0].log_softmax(-1), middle, log_scale.clamp(-2, 5), below)


class Guide(NamedTuple):
    """What latent points tell of the points that belong to them, in units of `reach`."""

    parts: Mixture
    """What each is made of, in its frame."""
    share: Float[Tensor, "batch anchor"]
    """The logarithm of its part of all points."""
    middle: Float[Tensor, "batch anchor 3"]
    """Where its frame is, from the latent point."""
    form: Float[Tensor, "batch anchor 3 3"]
    """S, symmetric: exp(S) turns offsets from there into its frame."""


class Decoder(nn.Module):
    """From latents to what guides points."""

    def __init__(self, width: int, heads: int, depth: int, globals_: int, features: int, parts: int):
        super().__init__()
        self.place, self.enter = CoordinateEmbedding(3, width), nn.Linear(features, width)
        self.modulate = zeroed(nn.Linear(globals_, PARTS * width))
        self.blocks = nn.ModuleList(Mixing(width, heads, 2) for _ in range(depth))
        self.norm, self.tell = nn.LayerNorm(width), zeroed(nn.Linear(width, 10))
        self.parts = MixtureHead(width, width, parts, 0.8, 0.6)

    def forward(self, z: Float[Tensor, "batch global"], h: Float[Tensor, "batch anchor channel"]) -> Guide:
        """The guides of all latent points."""
        tokens = self.place(h[..., :3]) + self.enter(h[..., 3:])
        modulation = self.modulate(z)[:, None].unflatten(-1, (PARTS, -1)).movedim(-2, 0)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        tokens = self.norm(tokens)
        share, middle, form = self.tell(tokens).float().split([1, 3, 6], -1)
        share = torch.log_softmax(share[..., 0], 1)
        return Guide(self.parts(tokens), share, middle, symmetric(h[..., 3 : 3 + FORM].float() + form))
