"""Stage 1 of LION (Zeng et al., NeurIPS 2022) on few latent points: q(z₀ | x) q(h₀ | x, z₀) p(x | h₀, z₀).

A Laplace likelihood needs a latent point for each point. With 64 of them p is a mixture instead: each latent point is decoded
into a few Gaussians, pieces of the surface around it, and its share of all points. Both are learned by likelihood, after
ln p(x) ≥ Σ_a q(a | x) (ln p(a) + ln p(x | a)) + H(q), where q(a | x) is the soft assignment of a point x to the latent point a;
but ln p(x | a) is averaged over latent points with equal weights, so that a thin leg is reconstructed as well as a seat. Any
number of points can be decoded.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.process import noise_like
from becalm.core.typing import Float, Tensor
from becalm.nets.latent import ASSIGNMENT_WIDTH, Encoder, assignment_weights, gather_rows
from becalm.nets.mixture import Decoder, Mixture, MixtureHead, PatchDensity, quasi_normal
from becalm.nets.precision import fast_matmul
from becalm.systems.lion import Latent, Posterior
from becalm.systems.lion_sparse_surface import move_to_ridge, smoothed_gaussians

ROWS = 6
"""Variables that z₀ is cut into beside the latent points, each with as many numbers as a latent point."""

PATCH_SAMPLES = 12
"""Target points of each latent point in a training step."""

COARSE_COMPONENTS = 64
"""Gaussians of the coarse mixture that is decoded from z₀ alone."""

TEMPERATURE = 0.9
"""Factor of the Gaussians' standard deviations in decoding, as their tails lie off the surface."""


class Sizes(NamedTuple):
    """Sizes of a LION on few latent points."""

    anchors: int = 64
    """Latent points."""
    features: int = 8
    """Numbers of a latent point beside its position."""
    width: int = 128
    """Of the autoencoder."""
    heads: int = 4
    """Attention heads, everywhere."""
    depth: int = 4
    """Attention blocks of the encoder, and of the decoder one less."""
    components: int = 16
    """Gaussians of a latent point."""
    prior_width: int = 160
    """Of the denoiser of latent points."""
    prior_depth: int = 6
    """Its blocks."""


class Autoencoder(nn.Module):
    """Encoder, decoder, and a coarse decoder of z₀ alone, which forces z₀ to describe the shape as a whole.

    `patch_radius` is the root mean square offset, per coordinate, of a point from the nearest latent point.
    """

    def __init__(self, sizes: Sizes, patch_radius: float):
        super().__init__()
        self.sizes, self.patch_radius = sizes, patch_radius
        globals_, args = ROWS * (3 + sizes.features), (sizes.width, sizes.heads)
        self.encoder = Encoder(*args, sizes.depth, globals_, sizes.features, patch_radius)
        self.decoder = Decoder(*args, sizes.depth - 1, globals_, sizes.features, sizes.components)
        self.coarse = MixtureHead(sizes.width, globals_, COARSE_COMPONENTS, 0.5, 0.3)

    def encode(
        self,
        points: Float[Tensor, "batch point 3"],
        generator: torch.Generator | None,
        count: int | None = None,
        revise: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> tuple[Posterior, Latent]:
        """The posterior of clouds with `count` latent points each, and a sample of it; h₀ is encoded given revise(z₀)."""
        anchors, q_z = self.encoder.encode_global(points, count or self.sizes.anchors)
        z = revise(q_z.sample(noise_like(q_z.mean, generator)))
        q_h = self.encoder.encode_points(anchors, z)
        return Posterior(q_z, q_h), Latent(z, q_h.sample(noise_like(q_h.mean, generator)))


def sample_assigned(
    points: Float[Tensor, "batch point 3"], anchors: Float[Tensor, "batch anchor 3"], width: float, generator
) -> tuple[Float[Tensor, "batch anchor draw 3"], Float[Tensor, "batch anchor"]]:
    """PATCH_SAMPLES of the points assigned to each latent point, with replacement, and its share of all points."""
    weight = assignment_weights(anchors, points, width)
    share = weight.mean(2)
    rows = weight.clamp_min(1e-12).flatten(0, 1).cpu()
    index = torch.multinomial(rows, PATCH_SAMPLES, replacement=True, generator=generator).to(points.device)
    return gather_rows(points, index.unflatten(0, share.shape)), share


def whiten(offset: Float[Tensor, "batch anchor draw 3"], patch: PatchDensity) -> Float[Tensor, "batch anchor draw 3"]:
    """exp(S)(offset − origin): offsets from latent points in their frames."""
    with torch.autocast(offset.device.type, enabled=False):
        whitening = torch.matrix_exp(patch.log_whitening)[:, :, None]
        return (whitening * (offset - patch.offset[:, :, None])[..., None, :]).sum(-1)


def log_density(
    offset: Float[Tensor, "batch anchor draw 3"], patch: PatchDensity
) -> Float[Tensor, "batch anchor draw"]:
    """ln p(x | a) at offsets x − a, in patch radii; ln det exp(S) = tr S."""
    return patch.mixture.log_density(whiten(offset, patch)) + patch.log_whitening.diagonal(0, 2, 3).sum(-1)[..., None]


def losses(
    model: Autoencoder,
    seen: Float[Tensor, "batch point 3"],
    target: Float[Tensor, "batch other 3"],
    weight: float,
    anchors: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """−ln p(x | h₀, z₀) a coordinate, in units of the patch radius; the same of z₀ alone, and `weight` times the mean KLs.

    All in nats per dimension. `target` samples the same surfaces as `seen`.
    """
    posterior, (z, h) = model.encode(seen, generator, anchors)
    patch = model.decoder(z, h)
    with torch.no_grad():
        near, share = sample_assigned(target, h[..., :3], ASSIGNMENT_WIDTH * model.patch_radius, generator)
        used = (share > 1e-4).float()
    density = log_density((near - h[..., None, :3]) / model.patch_radius, patch).mean(-1)
    some = target[:, :: max(1, target.shape[1] // 128)]
    terms = {
        "points": -(used * density).sum() / used.sum() / 3,
        "shares": (share * (share.clamp_min(1e-9).log() - patch.log_share)).sum(1).mean() / 3,
        "coarse": -model.coarse(z).log_density(some).mean() / 3,
        "kl_z": posterior.z.kl().mean(),
        "kl_h": posterior.h.kl().mean(),
    }
    fit = terms["points"] + terms["shares"] + 0.1 * terms["coarse"]
    return terms | posterior_statistics(posterior) | {"loss": fit + weight * (terms["kl_z"] + terms["kl_h"])}


def posterior_statistics(posterior: Posterior) -> dict[str, Tensor]:
    """Mean posterior deviations, and deviations of the posterior means: a latent with σ near 1 and means near 0 is unused."""
    z, h = posterior
    sigma = h.log_sigma.detach().exp()
    return {
        "sigma_z": z.log_sigma.detach().exp().mean(),
        "sigma_position": sigma[..., :3].mean(),
        "sigma_feature": sigma[..., 3:].mean(),
        "std_z": z.mean.detach().std(),
        "std_feature": h.mean[..., 3:].detach().std(),
    }


def decode(
    model: Autoencoder, latent: Latent, points: int, generator: torch.Generator | None = None
) -> Float[Tensor, "batch point 3"]:
    """`points` points of the surface of each shape: samples of its density, moved onto its ridge (lion_sparse_surface.py)."""
    patch = decode_density(model, latent)
    sampled = sample_density(patch, latent, model.patch_radius, points, generator)
    return move_to_ridge(sampled, smoothed_gaussians(patch, latent, model.patch_radius))


def decode_density(model: Autoencoder, latent: Latent) -> PatchDensity:
    """The density of points that each shape is decoded into."""
    with torch.inference_mode(), fast_matmul(latent.h.device.type):
        return model.decoder(*latent)


def sample_density(
    patch: PatchDensity, latent: Latent, patch_radius: float, points: int, generator: torch.Generator | None = None
) -> Float[Tensor, "batch point 3"]:
    """`points` points of each shape, sampled from its density at TEMPERATURE.

    Sampling is stratified, which makes points more even than independent ones: every Gaussian gets its share of them by
    systematic resampling, and their places in it are quasi-random.
    """
    start = torch.rand(len(latent.h), 1, generator=generator, dtype=torch.float64).to(latent.h.device)
    u = (start + torch.arange(points, device=latent.h.device)) / points
    bounds = (patch.log_share[..., None] + patch.mixture.log_share).flatten(1).double().exp().cumsum(1)
    chosen = torch.searchsorted(bounds / bounds[:, -1:], u).clamp_max(bounds.shape[1] - 1)
    components = patch.mixture.log_share.shape[-1]
    anchor, component = chosen // components, chosen % components
    mixture = Mixture(*(gather_rows(x.flatten(2), anchor).unflatten(-1, x.shape[2:]) for x in patch.mixture))
    eps = TEMPERATURE * quasi_normal(len(latent.h), points, generator).to(latent.h)
    white = mixture.sample(component[..., None], eps)
    unwhiten = gather_rows(torch.matrix_exp(-patch.log_whitening).flatten(2), anchor).unflatten(-1, (3, 3))
    offset = gather_rows(patch.offset, anchor) + (unwhiten * white[..., None, :]).sum(-1)
    return gather_rows(latent.h[..., :3], anchor) + patch_radius * offset
