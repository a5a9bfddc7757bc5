"""LION: latent point diffusion (Zeng et al., NeurIPS 2022), on few latent points: a shape is 64 of them and a global vector.

Stage 1, the autoencoder, is `lion_autoencoder`. Stage 2, here, learns two diffusions on its frozen latents: ε_θ(z_t, t) of the
global vector and ε_ψ(h_t, z₀, t) of the latent points. The second sees the parts of z₀ as further variables, and each variable
has its own noise level (Wewer et al. 2025): what is known has t = 0. So one network draws shapes given z₀, and
completes or edits them, z₀ being drawn along with what lacks. Both are rectified flows, learned by |u − û|² with
w(t) = 1; `weight` has others.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import nn

from becalm.core import objective, times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import velocity
from becalm.core.process import corrupt, noise_like
from becalm.core.sample import Stepper, dpm_solver_pp_2m, sample
from becalm.core.schedule import Rectified
from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.core.walk import together
from becalm.nets.latent import GlobalDenoiser, LatentDenoiser
from becalm.nets.precision import fast_matmul
from becalm.systems.lion_sparse_autoencoder import ROWS, Autoencoder, Latent, Sizes

NOISE = 0.99
"""Levels above this are taken as 1, nothing but noise, where walks begin."""

Weight = Literal["flow", "simple", "bound", "min_snr"]


class Way(NamedTuple):
    """How latents are sampled."""

    steps: int = 25
    """Steps of each of the two diffusions."""
    step: Stepper = dpm_solver_pp_2m()
    """How a level falls: `reverse(eta=1.0)` is ancestral, `reverse(eta=0.0)` DDIM."""
    guidance: float = 0.0
    """What of the difference that the class makes is added once more: 0 samples the model as it is."""


class Prior(nn.Module):
    """The two denoisers, and the statistics by which latents become variables of mean 0 and deviation 1."""

    middle: Tensor
    spread: Tensor

    def __init__(self, sizes: Sizes, classes: int):
        super().__init__()
        channels = 3 + sizes.features
        self.whole = GlobalDenoiser(ROWS * channels, classes)
        self.points = LatentDenoiser(ROWS, channels, classes, (sizes.prior_width, sizes.heads, sizes.prior_depth))
        self.register_buffer("middle", torch.zeros(ROWS + 1, channels))
        self.register_buffer("spread", torch.ones(ROWS + 1, channels))

    def measure(self, latent: Latent) -> None:
        """Take mean and deviation from many latents: of each number of z₀, and of each channel of the latent points."""
        rows = latent.z.unflatten(1, (ROWS, -1))
        self.middle.copy_(torch.cat([rows.mean(0), latent.h.mean((0, 1))[None]]))
        self.spread.copy_(torch.cat([rows.std(0), latent.h.std((0, 1))[None]]).clamp_min(1e-3))

    def packed(self, latent: Latent) -> Float[Tensor, "batch variable channel"]:
        """z₀ and h₀ as variables."""
        x = torch.cat([latent.z.unflatten(1, (ROWS, -1)), latent.h], 1)
        return (x - self.each(self.middle, x)) / self.each(self.spread, x)

    def unpacked(self, x: Float[Tensor, "batch variable channel"]) -> Latent:
        """The inverse of `packed`."""
        x = x * self.each(self.spread, x) + self.each(self.middle, x)
        return Latent(x[:, :ROWS].flatten(1), x[:, ROWS:])

    def each(self, rows: Float[Tensor, "row channel"], x: Tensor) -> Float[Tensor, "variable channel"]:
        """The row of each variable: z₀'s own, and the last one for all latent points."""
        return torch.cat([rows[:-1], rows[-1:].expand(x.shape[1] - ROWS, -1)])


class Lion(nn.Module):
    """Both stages, and the names of the classes."""

    def __init__(self, classes: list[str], sizes: list[int] | None = None, reach: float = 0.1):
        super().__init__()
        made = Sizes(*(sizes or Sizes()))
        self.config = {"classes": classes, "sizes": list(made), "reach": reach}
        self.classes = classes
        self.autoencoder = Autoencoder(made, reach)
        self.prior = Prior(made, len(classes))


def unit_guess(t: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The best linear guess of u = ε − x from z = (1 − t)x + tε for x of unit power: its factor of z, and the deviation left.

    (2t − 1)/p and √(1/p), p = t² + (1 − t)²: the preconditioning of Karras et al. (2022, § 5) for this flow.
    """
    power = t.square() + (1 - t).square()
    return (2 * t - 1) / power, power.rsqrt()


def weight(t: Float[Tensor, "*shape"], name: Weight) -> Float[Tensor, "*shape"]:
    """The weight of |u − û|² at t of a rectified flow, where |ε − ε̂| = (1 − t)|u − û| for the same z.

    `flow` 1; `simple` (1 − t)², plain ε of DDPM; `bound` γ′(t)/2 (1 − t)² = (1 − t)/t, the continuous bound, up to 100;
    `min_snr` min(SNR, 5)/SNR (1 − t)² (Hang et al. 2023). ρ_t² does not enter: the chain is continuous.
    """
    eps, snr = (1 - t).square(), ((1 - t) / t.clamp_min(1e-9)).square()
    choices = {
        "flow": torch.ones_like(t),
        "simple": eps,
        "bound": ((1 - t) / t.clamp_min(1e-9)).clamp_max(100.0),
        "min_snr": eps * (5 / snr.clamp_min(1e-9)).clamp_max(1.0),
    }
    return choices[name]


def levels(places: Float[Tensor, "batch anchor 3"], generator: torch.Generator) -> Float[Tensor, "batch variable 1"]:
    """Noise levels of a batch, those of z₀'s parts first: half of it as when all is drawn, half as when a part is given."""
    half = len(places) - len(places) // 2
    return torch.cat([drawn_levels(half, places.shape[1], generator), given_levels(places[half:], generator)])


def drawn_levels(batch: int, anchors: int, generator: torch.Generator) -> Float[Tensor, "batch variable 1"]:
    """One t for all latent points; z₀ known, and in a tenth not at all."""
    t = times.uniform(batch, anchors, generator)
    unknown = torch.rand(batch, 1, 1, generator=generator) < 0.1
    return torch.cat([unknown.to(t).expand(-1, ROWS, -1), torch.where(t > NOISE, 1.0, t)], 1)


def given_levels(
    places: Float[Tensor, "batch anchor 3"], generator: torch.Generator
) -> Float[Tensor, "batch variable 1"]:
    """Of the latent points a uniform mean of t, or those on one side of a plane known and one t for the others; z₀ known, or as
    noisy as the noisiest. The odds are even."""
    batch, anchors = places.shape[:2]
    mixed, common = (draw(batch, anchors, generator) for draw in (times.uniform_mean, times.uniform))
    normal = torch.randn(batch, 1, 3, generator=generator)
    side = (places.cpu() * normal).sum(-1).argsort(1).argsort(1) / anchors
    known = side < torch.rand(batch, 1, generator=generator)
    cut, unknown = torch.rand(2, batch, 1, 1, generator=generator) < 0.5
    t = torch.where(cut, torch.where(known[..., None], 0.0, common), mixed)
    t = torch.where(t > NOISE, 1.0, t)
    return torch.cat([torch.where(unknown, t.amax(1, keepdim=True), 0.0).expand(-1, ROWS, -1), t], 1)


def losses(
    prior: Prior, latent: Latent, label: Int[Tensor, " batch"], generator: torch.Generator, name: Weight = "flow"
) -> dict[str, Tensor]:
    """Velocity errors of both diffusions; a tenth of the classes is hidden. `label` counts from 1."""
    x = prior.packed(latent)
    shown = torch.where(torch.rand(len(label), generator=generator).to(label.device) < 0.1, 0, label)
    t = levels(latent.h[..., :3], generator).to(x.device)
    one = times.stratified(len(x), 1, generator).to(x.device)
    parts = {
        "points": error(prior.points, x, t, shown, generator),
        "whole": error(prior.whole, x[:, :ROWS].flatten(1)[:, None], one, shown, generator),
    }
    points = (parts["points"] * weight(t.float(), name) * (t > 0)).mean()
    whole = (parts["whole"] * weight(one.float(), name)).mean()
    return {"points": points, "whole": whole, "loss": points + whole}


def error(network: nn.Module, x: Tensor, t: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
    """|u − û|² of each variable [batch, variable, 1]."""
    z, eps = corrupt(x, t, Rectified(), generator)
    guess, rest = unit_guess(t.float())
    return objective.squared_error(guess * z + rest * network(z, t.float(), label), eps - x)


def denoiser_of(network: Callable, label: Int[Tensor, " batch"], guidance: float) -> Denoiser:
    """A denoiser of latents given a class, with classifier-free guidance (Ho & Salimans 2022): û + w(û − û without it)."""

    def asked(z: Tensor, t: Tensor, given: dict[str, Tensor] | None) -> Tensor:
        guess, rest = unit_guess(t.float())
        said = network(z, t.float().expand(len(z), -1, -1), label)
        if guidance:
            said = said + guidance * (said - network(z, t.float().expand(len(z), -1, -1), torch.zeros_like(label)))
        return guess * z + rest * said

    return Denoiser(asked, Rectified(), velocity)


def walked(denoiser: Denoiser, z: Tensor, t: Tensor, way: Way, generator: torch.Generator | None) -> Tensor:
    """Where the walk from z at levels t ends."""
    with torch.inference_mode(), fast_matmul(z.device.type):
        for state in sample(denoiser, z, t, together(way.steps), way.step, None, generator):
            z = state.z
    return z


def generate(
    prior: Prior, label: Int[Tensor, " batch"], anchors: int, way: Way | None = None, generator=None
) -> Latent:
    """New latents of the classes `label` (from 1; 0 is any): z₀ first, then the latent points given it."""
    way, (batch, channels) = way or Way(), (len(label), prior.middle.shape[1])
    empty = torch.zeros(batch, ROWS + anchors, channels, device=label.device)
    first = noise_like(empty[:, :1].repeat(1, 1, ROWS), generator)
    whole = walked(
        denoiser_of(prior.whole, label, way.guidance), first, torch.ones_like(first[..., :1]), way, generator
    )
    known = torch.arange(ROWS + anchors, device=label.device) < ROWS
    start = torch.cat([whole.reshape(batch, ROWS, channels), noise_like(empty[:, ROWS:], generator)], 1)
    return fill(prior, start, known.expand(batch, -1), label, way, generator)


def fill(
    prior: Prior,
    x: Float[Tensor, "batch variable channel"],
    known: Bool[Tensor, "batch variable"],
    label: Int[Tensor, " batch"],
    way: Way | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Latents whose `known` variables are those of x, the others new: the whole of completion and of part editing."""
    way = way or Way()
    z = torch.where(known[..., None], x, noise_like(x, generator))
    t = (~known[..., None]).double()
    return prior.unpacked(walked(denoiser_of(prior.points, label, way.guidance), z, t, way, generator))
