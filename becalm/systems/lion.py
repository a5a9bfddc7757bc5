"""LION: latent point diffusion (Zeng et al., NeurIPS 2022, § 3), a latent point for each point.

Stage 1 is a hierarchical autoencoder q(z₀ | x) q(h₀ | x, z₀) p(x | h₀, z₀) with z₀ ∈ ℝ¹²⁸ and h₀ ∈ ℝ^{N×(3+D)}: a smoothed noisy
copy of the points, for encoder and decoder begin near the identity (μ_h = x + 0.01 · out, x̂ = h + 0.01 · out, log σ_h = −6 +
out). The likelihood is Laplace's, an L1 distance of corresponding points. Stage 2 freezes it and learns two denoisers in DDPM's
chain of β₁ … β_T: ε_θ(z_t, t), and ε_ψ(h_t, z₀, t) of the latent points. The networks are two-stream transformers in place of
the paper's point-voxel convolutions. `lion_sparse` is our variant on few latent points.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import nn

from becalm.core import objective, times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import eps as eps_kind
from becalm.core.process import corrupt, noise_like
from becalm.core.sample import reverse, sample
from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas
from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import CoordinateEmbedding
from becalm.nets.latent import MAX_LOG_SIGMA, MIN_LOG_SIGMA, Gaussian, GlobalDenoiser, zero_init
from becalm.nets.precision import fast_matmul
from becalm.nets.streams import TwoStream

SKIP = 0.01
"""Weight of the networks' outputs beside the identity."""

CLASS_DROPOUT = 0.1
"""Share of training shapes whose class is hidden, for classifier-free guidance."""

SCHEDULE = Betas()
"""β₁ = 10⁻⁴ to β_T = 0.02 in T = 1000 steps, linear (Ho et al. 2020)."""

Weight = Literal["simple", "elbo"]
"""Weight of |ε − ε̂|² at step t: 1, or the variational bound's w(t)."""

Variance = Literal["large", "small"]
"""ρ_t² of the reverse steps: β_t, or β̃_t = β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t)."""

Times = Literal["uniform", "importance"]
"""Distribution of training steps t: uniform over 1 … T, or proportional to the weight."""


class Latent(NamedTuple):
    """The latents of a batch of shapes."""

    z: Float[Tensor, "batch global"]
    """Global latents z₀."""
    h: Float[Tensor, "batch anchor channel"]
    """Latent points h₀: positions in the data's units, then features."""


class Posterior(NamedTuple):
    """The distributions of an encoded shape's latents."""

    z: Gaussian
    h: Gaussian


class Size(NamedTuple):
    """Sizes of a LION."""

    globals_: int = 128
    """Dimensions of z₀."""
    point_width: int = 96
    """Width of the stream of points."""
    token_width: int = 160
    """Width of the tokens."""
    heads: int = 4
    """Attention heads."""
    blocks: int = 3
    """Blocks of each two-stream network."""
    features: int = 1
    """D: numbers of a latent point beside its position."""

    @property
    def streams(self) -> tuple[int, int, int, int]:
        """The shape of the two-stream networks."""
        return self.point_width, self.token_width, self.heads, self.blocks


class GlobalEncoder(nn.Module):
    """q(z₀ | x): an MLP of each point, then of their mean and maximum. The last layer begins at zero: N(0, e⁻⁶) for every x."""

    def __init__(self, width: int, globals_: int):
        super().__init__()
        self.point_mlp = nn.Sequential(CoordinateEmbedding(3, width), nn.SiLU(), nn.Linear(width, 2 * width), nn.SiLU())
        self.pooled_mlp = nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width), nn.SiLU())
        self.head = zero_init(nn.Linear(2 * width, 2 * globals_))

    def forward(self, points: Float[Tensor, "batch point 3"]) -> Gaussian:
        """The posterior of z₀; log σ is clamped, so that no sample of z₀ can blow up what it modulates."""
        features = self.point_mlp(points)
        pooled = self.pooled_mlp(torch.cat([features.mean(1), features.amax(1)], -1))
        mean, log_sigma = self.head(pooled).float().chunk(2, -1)
        return Gaussian(mean, (log_sigma - 3).clamp(MIN_LOG_SIGMA, MAX_LOG_SIGMA))


class PointDenoiser(nn.Module):
    """ε_ψ(h_t, z₀, t) of latent points [batch, point, 3 + D], conditioned on z₀ and the class."""

    def __init__(self, size: Size, classes: int):
        super().__init__()
        self.label = nn.Embedding(1 + classes, size.globals_)
        self.network = TwoStream(3 + size.features, 3 + size.features, 2 * size.globals_, size.streams)

    def given_global(self, z: Float[Tensor, "batch global"]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The network for fixed z₀, as a function of (h_t, t, label)."""
        return lambda h, t, label: self.network(h, t[:, :1], torch.cat([z, self.label(label)], -1))


class Lion(nn.Module):
    """Both stages. `latent_std` holds the standard deviations of h₀'s channels and, last, of z₀: priors see unit variance."""

    latent_std: Tensor
    makes = "shapes"
    default_sampler = Sampler(steps=1000, update="ancestral")

    def __init__(self, classes: list[str], size: list[int] | None = None, variance: Variance = "large"):
        super().__init__()
        made = Size(*(size or Size()))
        self.config = {"classes": classes, "size": list(made), "variance": variance}
        self.classes, self.size = classes, made
        self.variance: Variance = variance
        channels = 3 + made.features
        self.global_encoder = GlobalEncoder(made.point_width, made.globals_)
        self.point_encoder = TwoStream(3, 2 * channels, made.globals_, made.streams)
        self.decoder = TwoStream(channels, 3, made.globals_, made.streams)
        self.global_denoiser = GlobalDenoiser(made.globals_, len(classes))
        self.point_denoiser = PointDenoiser(made, len(classes))
        self.register_buffer("latent_std", torch.ones(channels + 1))

    def encode(
        self, points: Float[Tensor, "batch point 3"], generator: torch.Generator | None
    ) -> tuple[Posterior, Latent]:
        """q(z₀ | x) and q(h₀ | x, z₀), and a sample of them; latent point i is that of point i."""
        q_z = self.global_encoder(points)
        z = q_z.sample(noise_like(q_z.mean, generator))
        mean, log_sigma = self.point_encoder(points, points.new_zeros(len(points), 1, 1), z).chunk(2, -1)
        mean = torch.cat([points + SKIP * mean[..., :3], SKIP * mean[..., 3:]], -1)
        q_h = Gaussian(mean, (log_sigma - 6).clamp(MIN_LOG_SIGMA, MAX_LOG_SIGMA))
        return Posterior(q_z, q_h), Latent(z, q_h.sample(noise_like(mean, generator)))

    def decode(self, latent: Latent) -> Float[Tensor, "batch point 3"]:
        """The mode of p(x | h₀, z₀): as many points as latent points."""
        return latent.h[..., :3] + SKIP * self.decoder(latent.h, latent.h.new_zeros(len(latent.h), 1, 1), latent.z)

    def fit_latent_std(self, latent: Latent) -> None:
        """Measure the standard deviations of latents, by which the priors divide them."""
        self.latent_std.copy_(torch.cat([latent.h.std((0, 1)), latent.z.std()[None]]).clamp_min(1e-3))

    def generate(
        self,
        label: Int[Tensor, " batch"],
        points: int,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield new shapes [batch, points, 3] of the classes `label` (see `tasks.generate.Generator`)."""
        yield generate(self, label, points, sampler, generator)


class KLWeights(NamedTuple):
    """λ_z and λ_h of the two KL terms."""

    z: float
    h: float


def autoencoder_losses(
    model: Lion, points: Float[Tensor, "batch point 3"], weights: KLWeights, generator: torch.Generator
) -> dict[str, Tensor]:
    """Stage 1 (§ 3.1): Σ|x − x̂| + λ_z KL(q(z₀ | x) ‖ N(0, I)) + λ_h KL(q(h₀ | x, z₀) ‖ N(0, I)).

    Sums over the dimensions of a shape as in the paper, means over the batch; "loss" is that divided by the 3N coordinates, the
    other terms are means over their own dimensions.
    """
    posterior, latent = model.encode(points, generator)
    absolute = (points - model.decode(latent)).abs().sum((1, 2)).mean()
    kl_z, kl_h = (part.kl().flatten(1).sum(1).mean() for part in posterior)
    count = points[0].numel()
    terms = {"l1": absolute / count, "kl_z": kl_z / latent.z[0].numel(), "kl_h": kl_h / latent.h[0].numel()}
    return terms | {"loss": (absolute + weights.z * kl_z + weights.h * kl_h) / count}


def elbo_weight(step: Int[Tensor, "*shape"], variance: Variance, schedule: Betas = SCHEDULE) -> Float[Tensor, "*shape"]:
    """w(t) = β_t²/(2ρ_t² (1 − β_t)(1 − ᾱ_t)) of steps t = 1 … T (§ 2), ρ_t² = β_t ("large") or β̃_t ("small").

    β̃_1 is 0; as in LSGM, β̃_2 stands in for it.
    """

    def betas(step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        now, before = (schedule((step - k).double() / schedule.steps) for k in (0, 1))
        beta = 1 - (now.alpha / before.alpha).square()
        return beta, beta * (before.sigma / now.sigma).square(), now.sigma.square()

    beta, _, noise = betas(step)
    rho2 = beta if variance == "large" else betas(step.clamp_min(2))[1]
    return beta.square() / (2 * rho2 * (1 - beta) * noise)


def draw_steps(
    u: Float[Tensor, "batch 1 1"], weight: Weight, variance: Variance, distribution: Times
) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, "batch 1 1"]]:
    """Training times t/T for u uniform in [0, 1), and the factors of their errors: E[factor · error] is the mean of w(t) · error.

    The factor is w(t) for `uniform` steps, and the mean weight for those of `importance`, drawn in proportion to w(t).
    """
    steps = torch.arange(1, SCHEDULE.steps + 1)
    w = elbo_weight(steps, variance) if weight == "elbo" else torch.ones(len(steps), dtype=torch.float64)
    if distribution == "uniform":
        index = (u * len(steps)).long()
        return steps[index].double() / len(steps), w[index]
    index = torch.searchsorted(w.cumsum(0) / w.sum(), u).clamp_max(len(steps) - 1)
    return steps[index].double() / len(steps), w.mean().expand_as(u)


def prior_losses(
    model: Lion,
    latent: Latent,
    label: Int[Tensor, " batch"],
    generator: torch.Generator,
    weight: Weight = "simple",
    distribution: Times = "uniform",
    u: Float[Tensor, "batch 1 1"] | None = None,
) -> dict[str, Tensor]:
    """Stage 2 (§ 3.1): E w(t)|ε − ε_θ(z_t, t)|² + E w(t)|ε − ε_ψ(h_t, z₀, t)|², means over dimensions, one t a shape for both.

    `label` counts classes from 1; 0, and a tenth of all, is without one. `u` in [0, 1) decides the time of each shape; None:
    stratified over the batch.
    """
    label = torch.where(torch.rand(len(label), generator=generator).to(label.device) < CLASS_DROPOUT, 0, label)
    u = times.stratified(len(label), 1, generator) if u is None else u
    t, factor = (part.to(label.device) for part in draw_steps(u, weight, model.variance, distribution))
    networks = {
        "global": (model.global_denoiser, (latent.z / model.latent_std[-1])[:, None]),
        "points": (model.point_denoiser.given_global(latent.z), latent.h / model.latent_std[:-1]),
    }
    terms = {}
    for name, (network, x) in networks.items():
        noisy, eps = corrupt(x, t, SCHEDULE, generator)
        terms[name] = (factor * objective.squared_error(network(noisy, t.float(), label), eps)).mean()
    return terms | {"loss": terms["global"] + terms["points"]}


def with_guidance(network: Callable, label: Int[Tensor, " batch"], guidance: float) -> Callable:
    """The network's output f for a class, as a function (z, t, given): f + w (f − f without a class) (Ho & Salimans 2022)."""

    def guided_output(z: Tensor, t: Tensor, given: dict[str, Tensor] | None = None) -> Tensor:
        level = t.float().expand(len(z), -1, -1)
        output = network(z, level, label)
        return output + guidance * (output - network(z, level, torch.zeros_like(label))) if guidance else output

    return guided_output


def run_sampler(
    denoiser: Denoiser, z: Tensor, t: Tensor, sampler: Sampler, generator: torch.Generator | None
) -> Tensor:
    """The clean variables that the sampler reaches from z at levels t."""
    with torch.inference_mode(), fast_matmul(z.device.type):
        for state in sample(denoiser, z, t.to(z.device), sampler.walk, sampler.stepper, None, generator):
            z = state.z
    return z


def generate(
    model: Lion,
    label: Int[Tensor, " batch"],
    points: int,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch point 3"]:
    """New shapes of the classes `label` (from 1; 0 is any): z₀ (1000 steps), h₀ given z₀ (1000 more), then one decoding.

    x_{t−1} = (x_t − β_t/√(1 − ᾱ_t) ε̂)/√(1 − β_t) + ρ_t η with the model's ρ_t; or by another update in fewer steps.
    """
    sampler, batch = sampler or model.default_sampler, len(label)
    if sampler.update == "ancestral" and not sampler.custom:
        sampler = replace(sampler, custom=reverse(sampler.eta, model.variance))
    t = torch.ones(1, 1, 1, dtype=torch.float64)

    def sample_latents(network: Callable, points: int, channels: int) -> Tensor:
        start = noise_like(torch.empty(batch, points, channels, device=label.device), generator)
        denoiser = Denoiser(with_guidance(network, label, sampler.guidance), SCHEDULE, eps_kind)
        return run_sampler(denoiser, start, t, sampler, generator)

    z = sample_latents(model.global_denoiser, 1, model.size.globals_)[:, 0] * model.latent_std[-1]
    h = sample_latents(model.point_denoiser.given_global(z), points, 3 + model.size.features) * model.latent_std[:-1]
    with torch.inference_mode(), fast_matmul(h.device.type):
        return model.decode(Latent(z, h))
