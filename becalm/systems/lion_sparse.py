"""LION (Zeng et al., NeurIPS 2022) on few latent points, our variant: a shape is 64 of them and a global vector.

Stage 1, the autoencoder, is `lion_sparse_autoencoder`. Stage 2, here, learns two diffusions on its frozen latents: ε_θ(z_t, t)
of the global vector and ε_ψ(h_t, z₀, t) of the latent points. The second sees z₀ as further variables, and each variable has its
own noise level (Wewer et al. 2025): known ones have t = 0. So one network generates shapes given z₀, and completes or edits them,
where z₀ is sampled along with what is missing. Both are rectified flows, trained on |u − û|² with w(t) = 1; `loss_weight` has
others.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
from torch import nn

from becalm.core import objective, times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import velocity
from becalm.core.process import corrupt, noise_like
from becalm.core.sampler import Sampler
from becalm.core.schedule import Rectified
from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.nets.latent import GlobalDenoiser, LatentDenoiser
from becalm.systems.lion import CLASS_DROPOUT, Latent, run_sampler, with_guidance
from becalm.systems.lion_sparse_autoencoder import ROWS, Autoencoder, Sizes, decode

PURE_NOISE = 0.99
"""Training levels above this are set to 1, pure noise, where sampling begins."""

LossWeight = Literal["flow", "simple", "bound", "min_snr"]


class Prior(nn.Module):
    """The two denoisers, and the mean and standard deviation by which latents are normalised."""

    former_names: ClassVar = {"mean": "middle", "std": "spread", "global_denoiser": "whole", "point_denoiser": "points"}
    mean: Tensor
    std: Tensor

    def __init__(self, sizes: Sizes, classes: int):
        super().__init__()
        channels = 3 + sizes.features
        self.global_denoiser = GlobalDenoiser(ROWS * channels, classes)
        shape = (sizes.prior_width, sizes.heads, sizes.prior_depth)
        self.point_denoiser = LatentDenoiser(ROWS, channels, classes, shape)
        self.register_buffer("mean", torch.zeros(ROWS + 1, channels))
        self.register_buffer("std", torch.ones(ROWS + 1, channels))

    def fit_normalization(self, latent: Latent) -> None:
        """Measure mean and deviation over many latents: of each number of z₀, and of each channel of the latent points."""
        rows = latent.z.unflatten(1, (ROWS, -1))
        self.mean.copy_(torch.cat([rows.mean(0), latent.h.mean((0, 1))[None]]))
        self.std.copy_(torch.cat([rows.std(0), latent.h.std((0, 1))[None]]).clamp_min(1e-3))

    def pack(self, latent: Latent) -> Float[Tensor, "batch variable channel"]:
        """z₀ and h₀ as variables of mean 0 and variance 1."""
        x = torch.cat([latent.z.unflatten(1, (ROWS, -1)), latent.h], 1)
        return (x - self.per_variable(self.mean, x)) / self.per_variable(self.std, x)

    def unpack(self, x: Float[Tensor, "batch variable channel"]) -> Latent:
        """The inverse of `pack`."""
        x = x * self.per_variable(self.std, x) + self.per_variable(self.mean, x)
        return Latent(x[:, :ROWS].flatten(1), x[:, ROWS:])

    def per_variable(self, rows: Float[Tensor, "row channel"], x: Tensor) -> Float[Tensor, "variable channel"]:
        """The statistics of each variable of x: z₀'s own rows, and the last one for all latent points."""
        return torch.cat([rows[:-1], rows[-1:].expand(x.shape[1] - ROWS, -1)])


class LionSparse(nn.Module):
    """Both stages, and the names of the classes. `patch_radius` is that of `Autoencoder`."""

    former_arguments: ClassVar = {"patch_radius": "reach"}
    makes = "shapes"
    default_sampler = Sampler(steps=25, update="dpm")

    def __init__(self, classes: list[str], sizes: list[int] | None = None, patch_radius: float = 0.1):
        super().__init__()
        made = Sizes(*(sizes or Sizes()))
        self.config = {"classes": classes, "sizes": list(made), "patch_radius": patch_radius}
        self.classes = classes
        self.autoencoder = Autoencoder(made, patch_radius)
        self.prior = Prior(made, len(classes))

    def generate(
        self,
        label: Int[Tensor, " batch"],
        points: int,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield new shapes [batch, points, 3] of the classes `label` (see `tasks.generate.Generator`)."""
        latent = generate(self.prior, label, self.autoencoder.sizes.anchors, sampler, generator)
        yield decode(self.autoencoder, latent, points, generator)


def velocity_preconditioning(t: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The best linear estimate of u = ε − x from z = (1 − t)x + tε for x of unit variance: its factor of z, and its RMS error.

    (2t − 1)/p and √(1/p), p = t² + (1 − t)²: the preconditioning c_skip, c_out of Karras et al. (2022, § 5) for this flow.
    """
    power = t.square() + (1 - t).square()
    return (2 * t - 1) / power, power.rsqrt()


def loss_weight(t: Float[Tensor, "*shape"], name: LossWeight) -> Float[Tensor, "*shape"]:
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


def training_levels(
    positions: Float[Tensor, "batch anchor 3"], generator: torch.Generator
) -> Float[Tensor, "batch variable 1"]:
    """Noise levels of a batch, those of z₀'s rows first: half of it as in generation, half as in completion."""
    half = len(positions) - len(positions) // 2
    first = generation_levels(half, positions.shape[1], generator)
    return torch.cat([first, completion_levels(positions[half:], generator)])


def generation_levels(batch: int, anchors: int, generator: torch.Generator) -> Float[Tensor, "batch variable 1"]:
    """One t for all latent points; z₀ is known, but for a tenth, where it is unknown."""
    t = times.uniform(batch, anchors, generator)
    unknown = torch.rand(batch, 1, 1, generator=generator) < 0.1
    return torch.cat([unknown.to(t).expand(-1, ROWS, -1), torch.where(t > PURE_NOISE, 1.0, t)], 1)


def completion_levels(
    positions: Float[Tensor, "batch anchor 3"], generator: torch.Generator
) -> Float[Tensor, "batch variable 1"]:
    """With even odds, levels of uniform mean, or t = 0 on one side of a random plane and one t for the others.

    z₀ is known, or as noisy as the noisiest latent point, again with even odds.
    """
    batch, anchors = positions.shape[:2]
    mixed, common = (draw(batch, anchors, generator) for draw in (times.uniform_mean, times.uniform))
    normal = torch.randn(batch, 1, 3, generator=generator)
    side = (positions.cpu() * normal).sum(-1).argsort(1).argsort(1) / anchors
    known = side < torch.rand(batch, 1, generator=generator)
    cut, unknown = torch.rand(2, batch, 1, 1, generator=generator) < 0.5
    t = torch.where(cut, torch.where(known[..., None], 0.0, common), mixed)
    t = torch.where(t > PURE_NOISE, 1.0, t)
    return torch.cat([torch.where(unknown, t.amax(1, keepdim=True), 0.0).expand(-1, ROWS, -1), t], 1)


def losses(
    prior: Prior,
    latent: Latent,
    label: Int[Tensor, " batch"],
    generator: torch.Generator,
    weight: LossWeight = "flow",
    t_global: Float[Tensor, "batch 1 1"] | None = None,
) -> dict[str, Tensor]:
    """Weighted velocity errors of both diffusions; a tenth of the classes is hidden. `label` counts from 1.

    Times of z₀ where None: stratified over the batch.
    """
    x = prior.pack(latent)
    label = torch.where(torch.rand(len(label), generator=generator).to(label.device) < CLASS_DROPOUT, 0, label)
    t = training_levels(latent.h[..., :3], generator).to(x.device)
    t_global = (times.stratified(len(x), 1, generator) if t_global is None else t_global).to(x.device)
    point_error = velocity_error(prior.point_denoiser, x, t, label, generator)
    global_error = velocity_error(prior.global_denoiser, x[:, :ROWS].flatten(1)[:, None], t_global, label, generator)
    points = (point_error * loss_weight(t.float(), weight) * (t > 0)).mean()
    whole = (global_error * loss_weight(t_global.float(), weight)).mean()
    return {"points": points, "global": whole, "loss": points + whole}


def velocity_error(network: nn.Module, x: Tensor, t: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
    """|u − û|² of each variable [batch, variable, 1]."""
    z, eps = corrupt(x, t, Rectified(), generator)
    skip, scale = velocity_preconditioning(t.float())
    return objective.squared_error(skip * z + scale * network(z, t.float(), label), eps - x)


def guided_denoiser(network: Callable, label: Int[Tensor, " batch"], guidance: float) -> Denoiser:
    """A denoiser of latents given a class, with classifier-free guidance of weight `guidance`."""
    guided = with_guidance(network, label, guidance)

    def velocity_of(z: Tensor, t: Tensor, given: dict[str, Tensor] | None) -> Tensor:
        skip, scale = velocity_preconditioning(t.float())
        return skip * z + scale * guided(z, t)

    return Denoiser(velocity_of, Rectified(), velocity)


def generate(
    prior: Prior, label: Int[Tensor, " batch"], anchors: int, sampler: Sampler | None = None, generator=None
) -> Latent:
    """New latents of the classes `label` (from 1; 0 is any): z₀ first, then the latent points given it."""
    sampler, (batch, channels) = sampler or LionSparse.default_sampler, (len(label), prior.mean.shape[1])
    empty = torch.zeros(batch, ROWS + anchors, channels, device=label.device)
    noise = noise_like(empty[:, :1].repeat(1, 1, ROWS), generator)
    denoiser = guided_denoiser(prior.global_denoiser, label, sampler.guidance)
    z = run_sampler(denoiser, noise, torch.ones_like(noise[..., :1]), sampler, generator)
    known = torch.arange(ROWS + anchors, device=label.device) < ROWS
    x = torch.cat([z.reshape(batch, ROWS, channels), noise_like(empty[:, ROWS:], generator)], 1)
    return inpaint(prior, x, known.expand(batch, -1), label, sampler, generator)


def inpaint(
    prior: Prior,
    x: Float[Tensor, "batch variable channel"],
    known: Bool[Tensor, "batch variable"],
    label: Int[Tensor, " batch"],
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Latents whose `known` variables are those of x, the others sampled given them: completion, and editing of parts."""
    sampler = sampler or LionSparse.default_sampler
    z = torch.where(known[..., None], x, noise_like(x, generator))
    t = (~known[..., None]).double()
    denoiser = guided_denoiser(prior.point_denoiser, label, sampler.guidance)
    return prior.unpack(run_sampler(denoiser, z, t, sampler, generator))
