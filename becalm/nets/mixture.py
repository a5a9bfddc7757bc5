"""From latent points back to points: each is decoded into a mixture of Gaussians, the density of its part of the surface.

A thin Gaussian is a piece of surface. The mixture of a latent point lives in a frame that is decoded first, in which the points
assigned to it have about unit variance, so that a thin sheet is as easy to describe as a ball. All is a density, learned by
maximum likelihood, and any number of points can be sampled from it at once.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import CoordinateEmbedding
from becalm.nets.latent import MODULATIONS, SHAPE_FEATURES, AttentionBlock, zero_init

OUTLIER_SHARE = 0.01
"""Weight of a broad component that keeps the log-density of a single far point from outweighing all others."""

OUTLIER_STD = 3.0
"""Standard deviation of the broad component, in the mixture's units."""


ROBERTS_ROOT = 1.2207440846057596
"""The root of g⁴ = g + 1."""


def quasi_normal(rows: int, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "row count 3"]:
    """Quasi-random samples of N(0, I): each is normal, and those of a row are more evenly spaced than independent ones.

    A low-discrepancy sequence, i/g + u, i/g² + u′, i/g³ + u″ modulo 1 with a random shift u for each row (Roberts 2018),
    through the normal's inverse distribution function.
    """
    steps = torch.tensor([1 / ROBERTS_ROOT, 1 / ROBERTS_ROOT**2, 1 / ROBERTS_ROOT**3], dtype=torch.float64)
    first = torch.rand(rows, 1, 3, generator=generator, dtype=torch.float64)
    uniform = (first + torch.arange(count, dtype=torch.float64)[:, None] * steps) % 1
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).float()


def symmetric_matrix(six: Float[Tensor, "*row 6"], max_norm: float = 4.5) -> Float[Tensor, "*row 3 3"]:
    """The symmetric matrix of six numbers (xx yy zz xy xz yz), scaled down to a Frobenius norm of at most `max_norm`."""
    power = (six.square() * six.new_tensor([1.0, 1, 1, 2, 2, 2])).sum(-1, keepdim=True)
    six = six * (max_norm / power.clamp_min(max_norm**2).sqrt())
    return six[..., [0, 3, 4, 3, 1, 5, 4, 5, 2]].unflatten(-1, (3, 3))


class Mixture(NamedTuple):
    """A mixture of Gaussians, whose precision matrices are LᵀL for lower triangular L."""

    log_share: Float[Tensor, "*row component"]
    """Logarithms of the components' weights."""
    mean: Float[Tensor, "*row component 3"]
    """Their means."""
    log_scale: Float[Tensor, "*row component 3"]
    """Logarithms of L's diagonal."""
    lower: Float[Tensor, "*row component 3"]
    """L₂₁, L₃₁ and L₃₂."""

    def log_density(self, x: Float[Tensor, "*row point 3"]) -> Float[Tensor, "*row point"]:
        """ln of the density at some points of each mixture, to which a broad N(0, OUTLIER_STD² I) is added."""
        first, second, third = (x[..., None, :] - self.mean[..., None, :, :]).unbind(-1)
        scale, lower = self.log_scale.exp()[..., None, :, :].unbind(-1), self.lower[..., None, :, :].unbind(-1)
        distance = (scale[0] * first).square() + (lower[0] * first + scale[1] * second).square()
        distance = distance + (lower[1] * first + lower[2] * second + scale[2] * third).square()
        normal = (self.log_share + self.log_scale.sum(-1))[..., None, :] - distance / 2
        outlier = -x.square().sum(-1) / (2 * OUTLIER_STD**2) - 3 * math.log(OUTLIER_STD) + math.log(OUTLIER_SHARE)
        inlier = normal.logsumexp(-1) + math.log1p(-OUTLIER_SHARE)
        return torch.logaddexp(inlier, outlier) - 1.5 * math.log(2 * math.pi)

    def sample(self, component: Int[Tensor, "*row 1"], eps: Float[Tensor, "*row 3"]) -> Float[Tensor, "*row 3"]:
        """μ + L⁻¹ε of the named component of each mixture, for standard normal noise ε: one point each."""
        mean, log_scale, lower = (
            each.gather(-2, component[..., None].expand(*component.shape, 3))[..., 0, :] for each in self[1:]
        )
        scale = log_scale.exp()
        first = eps[..., 0] / scale[..., 0]
        second = (eps[..., 1] - lower[..., 0] * first) / scale[..., 1]
        third = (eps[..., 2] - lower[..., 1] * first - lower[..., 2] * second) / scale[..., 2]
        return mean + torch.stack([first, second, third], -1)


class MixtureHead(nn.Module):
    """A mixture density network (Bishop 1994).

    At first it gives `components` Gaussians of deviation `component_std`, their means strewn about 0 with `mean_std`, whatever
    the condition.
    """

    former_names: ClassVar = {"mlp": "tell", "bias": "start"}

    def __init__(self, width: int, condition: int, components: int, mean_std: float, component_std: float):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(condition, 2 * width), nn.SiLU(), zero_init(nn.Linear(2 * width, 10 * components))
        )
        start = torch.zeros(components, 10)
        start[:, 1:4] = mean_std * torch.randn(components, 3)
        start[:, 4:7] = -math.log(component_std)
        self.bias = nn.Parameter(start)

    def forward(self, condition: Float[Tensor, "*row condition"]) -> Mixture:
        """One mixture for each row."""
        output = self.mlp(condition).float().unflatten(-1, self.bias.shape) + self.bias
        share, mean, log_scale, lower = output.split([1, 3, 3, 3], -1)
        return Mixture(share[..., 0].log_softmax(-1), mean, log_scale.clamp(-2, 5), lower)


class PatchDensity(NamedTuple):
    """The density of the points assigned to each latent point, in units of the patch radius."""

    mixture: Mixture
    """In the latent point's frame."""
    log_share: Float[Tensor, "batch anchor"]
    """Logarithm of its share of all points."""
    offset: Float[Tensor, "batch anchor 3"]
    """The frame's origin, from the latent point."""
    log_whitening: Float[Tensor, "batch anchor 3 3"]
    """S, symmetric: exp(S) maps offsets from the origin into the frame."""


class Decoder(nn.Module):
    """From latents to the density of points."""

    former_names: ClassVar = {
        "embed_position": "place",
        "embed_features": "enter",
        "frame_head": "tell",
        "mixture_head": "parts",
    }

    def __init__(self, width: int, heads: int, depth: int, globals_: int, features: int, components: int):
        super().__init__()
        self.embed_position, self.embed_features = CoordinateEmbedding(3, width), nn.Linear(features, width)
        self.modulate = zero_init(nn.Linear(globals_, MODULATIONS * width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, 2) for _ in range(depth))
        self.norm, self.frame_head = nn.LayerNorm(width), zero_init(nn.Linear(width, 10))
        self.mixture_head = MixtureHead(width, width, components, 0.8, 0.6)

    def forward(self, z: Float[Tensor, "batch global"], h: Float[Tensor, "batch anchor channel"]) -> PatchDensity:
        """The densities of all latent points."""
        tokens = self.embed_position(h[..., :3]) + self.embed_features(h[..., 3:])
        modulation = self.modulate(z)[:, None].unflatten(-1, (MODULATIONS, -1)).movedim(-2, 0)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        tokens = self.norm(tokens)
        share, offset, log_whitening = self.frame_head(tokens).float().split([1, 3, 6], -1)
        log_share = torch.log_softmax(share[..., 0], 1)
        own = h[..., 3 : 3 + SHAPE_FEATURES].float()
        return PatchDensity(self.mixture_head(tokens), log_share, offset, symmetric_matrix(own + log_whitening))
