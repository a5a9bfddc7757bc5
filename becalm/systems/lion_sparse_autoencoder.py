"""Stage 1 of LION (Zeng et al., NeurIPS 2022) on few latent points: q(z₀ | x) q(h₀ | x, z₀) p(x | h₀, z₀).

A Laplace likelihood needs a latent point for each point. With 64 of them p is a mixture instead: each latent point tells a
handful of Gaussians, pieces of the surface about it, and its share of all points. Both are learned by likelihood, after
ln p(x) ≥ Σ q(a | x) (ln p(a) + ln p(x | a)) + H(q), where a point x belongs to the latent point a with probability q(a | x); but
ln p(x | a) is a mean over latent points, each counting alike, so that a thin leg is as well drawn as a seat. Any number of points
can be drawn.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.process import noise_like
from becalm.core.typing import Float, Tensor
from becalm.nets.latent import BLUR, Encoder, Gaussian, belonging, picked
from becalm.nets.mixture import Decoder, Guide, Mixture, MixtureHead, spread_normal
from becalm.nets.precision import fast_matmul

ROWS = 6
"""Variables that z₀ makes beside the latent points, each with as many numbers as a latent point."""

DRAWS = 12
"""Points a latent point learns from at a time."""

WHOLE = 64
"""Gaussians that z₀ alone makes of a shape."""

TEMPERATURE = 0.9
"""Of decoded points: share of their Gaussians' deviations, whose tails lie off the surface."""


class Sizes(NamedTuple):
    """How large a LION on few latent points is."""

    anchors: int = 64
    """Latent points."""
    features: int = 8
    """Numbers of a latent point beside its place."""
    width: int = 128
    """Of the autoencoder."""
    heads: int = 4
    """Attention heads, everywhere."""
    depth: int = 4
    """Attention blocks of the encoder, and of the decoder one less."""
    parts: int = 16
    """Gaussians of a latent point."""
    prior_width: int = 160
    """Of the denoiser of latent points."""
    prior_depth: int = 6
    """Its blocks."""


class Latent(NamedTuple):
    """A shape as LION sees it."""

    z: Float[Tensor, "batch global"]
    """The global latent."""
    h: Float[Tensor, "batch anchor channel"]
    """Latent points: places in the data's units, then features."""


class Posterior(NamedTuple):
    """The two distributions of an encoded shape."""

    z: Gaussian
    h: Gaussian


class Autoencoder(nn.Module):
    """Encoder, decoder, and a coarse decoder of z₀ alone, which makes z₀ tell the whole of a shape.

    `reach` is the root mean square offset, a coordinate, of a point from the nearest latent point.
    """

    def __init__(self, sizes: Sizes, reach: float):
        super().__init__()
        self.sizes, self.reach = sizes, reach
        numbers, args = ROWS * (3 + sizes.features), (sizes.width, sizes.heads)
        self.encoder = Encoder(*args, sizes.depth, numbers, sizes.features, reach)
        self.decoder = Decoder(*args, sizes.depth - 1, numbers, sizes.features, sizes.parts)
        self.coarse = MixtureHead(sizes.width, numbers, WHOLE, 0.5, 0.3)

    def encode(
        self,
        points: Float[Tensor, "batch point 3"],
        generator: torch.Generator | None,
        count: int | None = None,
        revise: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> tuple[Posterior, Latent]:
        """The posterior of clouds with `count` latent points each, and a draw of it; h₀ is that of the revised z₀."""
        seen, z_given = self.encoder.summary(points, count or self.sizes.anchors)
        z = revise(z_given.draw(noise_like(z_given.mean, generator)))
        h_given = self.encoder.points_given(seen, z)
        return Posterior(z_given, h_given), Latent(z, h_given.draw(noise_like(h_given.mean, generator)))


def around(
    points: Float[Tensor, "batch point 3"], places: Float[Tensor, "batch anchor 3"], blur: float, generator
) -> tuple[Float[Tensor, "batch anchor draw 3"], Float[Tensor, "batch anchor"]]:
    """Draws, with repetition, of the points that belong to each latent point, and its share of all points."""
    weight = belonging(places, points, blur)
    share = weight.mean(2)
    rows = weight.clamp_min(1e-12).flatten(0, 1).cpu()
    chosen = torch.multinomial(rows, DRAWS, replacement=True, generator=generator).to(points.device)
    return picked(points, chosen.unflatten(0, share.shape)), share


def whitened(offset: Float[Tensor, "batch anchor draw 3"], guide: Guide) -> Float[Tensor, "batch anchor draw 3"]:
    """exp(S)(offset − middle): standard normal where a latent point's own points are normal."""
    with torch.autocast(offset.device.type, enabled=False):
        turn = torch.matrix_exp(guide.form)[:, :, None]
        return (turn * (offset - guide.middle[:, :, None])[..., None, :]).sum(-1)


def log_density(offset: Float[Tensor, "batch anchor draw 3"], guide: Guide) -> Float[Tensor, "batch anchor draw"]:
    """ln p(x | a) of points at offsets, in reaches, from the latent points a that they belong to."""
    return guide.parts.log_density(whitened(offset, guide)) + guide.form.diagonal(0, 2, 3).sum(-1)[..., None]


def losses(
    model: Autoencoder,
    seen: Float[Tensor, "batch point 3"],
    target: Float[Tensor, "batch other 3"],
    weight: float,
    anchors: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """−ln p(x | h₀, z₀) a coordinate, in units of `reach`; the like of z₀ alone, and `weight` times the mean KL of z₀ and h₀.

    All in nats a number. `target` samples the surface that `seen` does.
    """
    posterior, (z, h) = model.encode(seen, generator, anchors)
    guide = model.decoder(z, h)
    with torch.no_grad():
        near, share = around(target, h[..., :3], BLUR * model.reach, generator)
        held = (share > 1e-4).float()
    density = log_density((near - h[..., None, :3]) / model.reach, guide).mean(-1)
    some = target[:, :: max(1, target.shape[1] // 128)]
    terms = {
        "points": -(held * density).sum() / held.sum() / 3,
        "shares": (share * (share.clamp_min(1e-9).log() - guide.share)).sum(1).mean() / 3,
        "coarse": -model.coarse(z).log_density(some).mean() / 3,
        "kl_z": posterior.z.divergence().mean(),
        "kl_h": posterior.h.divergence().mean(),
    }
    fit = terms["points"] + terms["shares"] + 0.1 * terms["coarse"]
    return terms | statistics(posterior) | {"loss": fit + weight * (terms["kl_z"] + terms["kl_h"])}


def statistics(posterior: Posterior) -> dict[str, Tensor]:
    """Mean deviations of the posterior and the spread of its means: what tells whether a latent is used."""
    z, h = posterior
    sigma = h.log_sigma.detach().exp()
    return {
        "sigma_z": z.log_sigma.detach().exp().mean(),
        "sigma_place": sigma[..., :3].mean(),
        "sigma_feature": sigma[..., 3:].mean(),
        "std_z": z.mean.detach().std(),
        "std_feature": h.mean[..., 3:].detach().std(),
    }


def decode(
    model: Autoencoder, latent: Latent, points: int, generator: torch.Generator | None = None
) -> Float[Tensor, "batch point 3"]:
    """`points` points of each shape. Each is a draw from the mixture at TEMPERATURE, and together they are more even than draws
    would be: every Gaussian gets its share of them, and they lie in it without clumps.
    """
    with torch.inference_mode(), fast_matmul(latent.h.device.type):
        guide = model.decoder(*latent)
    start = torch.rand(len(latent.h), 1, generator=generator, dtype=torch.float64).to(latent.h.device)
    place = (start + torch.arange(points, device=latent.h.device)) / points
    bounds = (guide.share[..., None] + guide.parts.share).flatten(1).double().exp().cumsum(1)
    chosen = torch.searchsorted(bounds / bounds[:, -1:], place).clamp_max(bounds.shape[1] - 1)
    owner, part = chosen // guide.parts.share.shape[-1], chosen % guide.parts.share.shape[-1]
    parts = Mixture(*(picked(each.flatten(2), owner).unflatten(-1, each.shape[2:]) for each in guide.parts))
    eps = TEMPERATURE * spread_normal(len(latent.h), points, generator).to(latent.h)
    white = parts.place(part[..., None], eps)
    back = picked(torch.matrix_exp(-guide.form).flatten(2), owner).unflatten(-1, (3, 3))
    offset = picked(guide.middle, owner) + (back * white[..., None, :]).sum(-1)
    return picked(latent.h[..., :3], owner) + model.reach * offset
