"""Stage 1 of LION (Zeng et al., NeurIPS 2022) on few latent points: q(z₀ | x) q(h₀ | x, z₀) p(x | h₀, z₀).

A Laplace likelihood needs a latent point for each point. With 64 of them p is a mixture instead: each latent point tells the
Gaussian of the points that belong to it, and a flow (Lipman et al. 2023) from that Gaussian to what they are in truth. The
Gaussians are learned by likelihood, at once; the flow in their whitened coordinates, where its errors are
small across a surface because a surface is thin. Any number of points can be drawn.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from becalm.core import times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import velocity
from becalm.core.process import corrupt, noise_like
from becalm.core.sample import Stepper, heun, sample
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Tensor
from becalm.core.walk import together
from becalm.nets.latent import BLUR, Encoder, Gaussian, belonging, picked
from becalm.nets.pointflow import Decoder, Guide, PointFlow
from becalm.nets.precision import fast_products

ROWS = 6
"""Variables that z₀ makes beside the latent points, each with as many numbers as a latent point."""

DRAWS = 6
"""Points a latent point learns from at a time."""


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
        self.decoder = Decoder(*args, sizes.depth - 1, numbers, sizes.features)
        self.coarse = PointFlow(sizes.width, numbers, 2)

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


def unit_guess(t: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The best linear guess of u = ε − x from z = (1 − t)x + tε for x of unit power: its factor of z, and the deviation left.

    (2t − 1)/p and √(1/p), p = t² + (1 − t)²: the preconditioning of Karras et al. (2022, § 5) for this flow.
    """
    power = t.square() + (1 - t).square()
    return (2 * t - 1) / power, power.rsqrt()


def flow_error(
    flow: PointFlow, x: Float[Tensor, "row point 3"], modulation: Tensor, generator: torch.Generator
) -> Float[Tensor, "row point"]:
    """|u − û|² a coordinate of points of about unit power at uniform levels, relative to what a linear guess of u leaves over."""
    t = times.independent(x.shape[0], x.shape[1], generator).to(x.device)
    z, eps = corrupt(x, t, Rectified(), generator)
    guess, rest = unit_guess(t.float())
    return ((eps - x - guess * z) / rest - flow(z, t.float(), modulation)).square().mean(-1)


def losses(
    model: Autoencoder,
    seen: Float[Tensor, "batch point 3"],
    target: Float[Tensor, "batch other 3"],
    weight: float,
    anchors: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Gaussian likelihood, flow, shares, z₀'s coarse flow, and `weight` times the mean KL of z₀ and h₀, in nats a number.

    `target` samples the surface that `seen` does.
    """
    posterior, (z, h) = model.encode(seen, generator, anchors)
    guide = model.decoder(z, h)
    with torch.no_grad():
        near, share = around(target, h[..., :3], BLUR * model.reach, generator)
        held = (share > 1e-4).float()
    white = whitened((near - h[..., None, :3]) / model.reach, guide)
    likely = white.square().mean((2, 3)) / 2 - guide.form.diagonal(0, 2, 3).mean(-1)
    rows = white.detach().clamp(-6, 6).flatten(0, 1)
    flow = flow_error(model.decoder.flow, rows, guide.modulation.flatten(0, 1)[:, None], generator)
    some = 2 * target[:, :: max(1, target.shape[1] // 64)]
    terms = {
        "gauss": (held * likely).mean(),
        "flow": (held.flatten()[:, None] * flow).mean(),
        "coarse": flow_error(model.coarse, some, model.coarse.conditions(z[:, None]), generator).mean(),
        "shares": (share * (share.clamp_min(1e-9).log() - guide.share)).sum(1).mean(),
        "kl_z": posterior.z.divergence().mean(),
        "kl_h": posterior.h.divergence().mean(),
    }
    fit = terms["gauss"] + terms["flow"] + 0.1 * (terms["coarse"] + terms["shares"])
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
    model: Autoencoder,
    latent: Latent,
    points: int,
    generator: torch.Generator | None = None,
    steps: int = 8,
    step: Stepper | None = None,
) -> Float[Tensor, "batch point 3"]:
    """`points` points of each shape: a latent point has its share of them, which flow from its Gaussian in `steps` steps."""
    with torch.inference_mode(), fast_products(latent.h.device.type):
        guide = model.decoder(*latent)
        place = (torch.rand(len(latent.h), 1, generator=generator) + torch.arange(points)) / points
        bounds = guide.share.exp().cumsum(1)
        owner = torch.searchsorted(bounds / bounds[:, -1:], place.to(bounds)).clamp_max(bounds.shape[1] - 1)
        given = {"modulation": picked(guide.modulation, owner)}
        z = noise_like(picked(guide.middle, owner), generator)
        for state in sample(
            local_flow(model), z, z.new_ones(1, 1, 1), together(steps), step or heun(), given, generator
        ):
            z = state.z
    back = picked(torch.matrix_exp(-guide.form).flatten(2), owner).unflatten(-1, (3, 3))
    offset = picked(guide.middle, owner) + (back * z[..., None, :]).sum(-1)
    return picked(latent.h[..., :3], owner) + model.reach * offset


def local_flow(model: Autoencoder) -> Denoiser:
    """The flow of points in the whitened coordinates of their latent points."""

    def network(z: Tensor, t: Tensor, given: dict[str, Tensor] | None) -> Tensor:
        guess, rest = unit_guess(t.float())
        return guess * z + rest * model.decoder.flow(z, t.float(), given["modulation"])  # type: ignore[index]

    return Denoiser(network, Rectified(), velocity)
