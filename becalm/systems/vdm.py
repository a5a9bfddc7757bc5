"""VDM: variational diffusion models (Kingma et al. 2021), a likelihood in bits for data on K evenly spaced levels.

The network's output is read as ε, v or x, or, by default, by the level-aware head: logits over the K levels of each number, to
which Bayes' rule adds the likelihood of the noisy number itself, so that x̂ is the mean of a posterior over the levels. Before
training its bound is log₂ K bits; where there is next to no noise x̂ is exact whatever the network puts out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from becalm.core import kinds, likelihood
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError
from becalm.core.learned import FewSteps, InteriorGradient, Learned, LearnedLinear, LearnedSchedule, LeastVariance
from becalm.core.process import noise_like
from becalm.core.sample import Step, sample
from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas, Linear, Schedule
from becalm.core.times import stratified
from becalm.core.typing import Float, Int, Shaped, Tensor
from becalm.nets.fourier import fourier_features, fourier_frequencies
from becalm.nets.unet import FlatUNet, Perceptron, UNet
from becalm.systems.level_head import posterior_means, sample_levels

NETWORKS = {"unet": UNet, "flat": FlatUNet, "mlp": Perceptron}
"""Networks by name: an ordinary U-Net, VDM's U-Net without down-sampling, and a perceptron of all numbers of a vector."""

SCHEDULES = {
    "linear": Linear,
    "learned linear": LearnedLinear,
    "learned": Learned,
    "least variance": LeastVariance,
    "few steps": FewSteps,
    "betas": lambda gamma_min, gamma_max: Betas(),
}
"""Schedules by name: γ fixed and linear; its ends learned; its ends and its course between them learned; its course fitted in
closed form to the least variance, or to the least bound of a few steps; DDPM's linear betas."""

KINDS = {"levels": kinds.clean, "eps": kinds.eps, "v": kinds.v, "x": kinds.clean}
"""What the output of each head is."""

ANCESTRAL = Sampler(steps=250, update="ancestral")
"""How the model is defined to be sampled: by its own reverse transitions."""


@dataclass(frozen=True)
class NetworkConfig:
    """The network and its inputs."""

    name: str = "unet"
    """Of NETWORKS."""
    arguments: dict = field(default_factory=dict)
    """Further arguments of its constructor."""
    octaves: int = 2
    """Fourier features of z, from the finest frequency, that of the K levels, downwards by octaves; 0 for none."""


@dataclass(frozen=True)
class NoiseConfig:
    """The noise schedule."""

    name: str = "linear"
    """Of SCHEDULES."""
    gamma_min: float = -13.3
    """γ(0), where it is learned its initial value; also the unit of the network's noise embedding."""
    gamma_max: float = 5.0
    """γ(1), likewise."""


class VDM(nn.Module):
    """A denoising network for images of one shape, or for vectors, with its noise schedule."""

    makes = "images"
    classes: ClassVar[tuple[str, ...]] = ()
    default_sampler = ANCESTRAL

    def __init__(
        self,
        shape: list[int] | int,
        levels: int = 256,
        head: str = "levels",
        network: NetworkConfig | None = None,
        noise: NoiseConfig | None = None,
        features: int = 32,
    ):
        """`shape` is height, width and colours, or the length of a vector; `levels` is K, how many values a number can take.

        `head` is "levels", "eps", "v" or "x"; `features` is how many numbers, for each number of z, the level-aware head forms
        its logits from. Raises ValueError for an unknown name.
        """
        super().__init__()
        network, noise = network or NetworkConfig(), noise or NoiseConfig()
        for what, name, known in (
            ("network", network.name, NETWORKS),
            ("schedule", noise.name, SCHEDULES),
            ("head", head, KINDS),
        ):
            if name not in known:
                raise ValueError(f"{what}: {name!r} is not known; there is {', '.join(known)}")
        self.config = {"shape": shape, "levels": levels, "network": network.name, "head": head, "schedule": noise.name}
        self.config |= {"low": noise.gamma_min, "high": noise.gamma_max, "size": network.arguments}
        self.config |= {"features": features, "octaves": network.octaves}
        height, width, colours = (1, shape, 1) if isinstance(shape, int) else shape
        self.shape = height, width, colours
        self.levels, self.head, self.noise, self.kind = levels, head, noise, KINDS[head]
        self.schedule: Schedule = SCHEDULES[noise.name](noise.gamma_min, noise.gamma_max)
        # DDPM's schedule has γ(0) = −∞: its z₀ is that of the first step, t = 1/T
        self.start = 1 / self.schedule.steps if isinstance(self.schedule, Betas) else 0.0
        self.fourier_multiples = tuple(fourier_frequencies(levels)[1] / 2**i for i in reversed(range(network.octaves)))
        self.n_features = features if head == "levels" else 1
        inputs, outputs = colours * (1 + 2 * len(self.fourier_multiples)), colours * self.n_features
        self.network = NETWORKS[network.name]((height, width), inputs, outputs, **network.arguments)
        if head == "levels":
            self.logits = nn.Linear(features, levels)
            nn.init.zeros_(self.logits.weight)
            nn.init.zeros_(self.logits.bias)

    @classmethod
    def build(
        cls,
        shape: list[int] | int,
        levels: int = 256,
        network: str = "unet",
        head: str = "levels",
        schedule: str = "linear",
        low: float = -13.3,
        high: float = 5.0,
        size: dict | None = None,
        features: int = 32,
        octaves: int = 2,
    ) -> "VDM":
        """The model of a `config` as weight files store it: flat, under the field names of the file format."""
        parts = NetworkConfig(network, size or {}, octaves), NoiseConfig(schedule, low, high)
        return cls(shape, levels, head, *parts, features)

    @property
    def denoiser(self) -> Denoiser:
        """The model as every sampler, loss and likelihood takes it."""
        return Denoiser(self, self.schedule, self.kind)

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict | None = None, schedule=None
    ) -> Float[Tensor, "batch variable channel"]:
        """ε̂ = z + F, v̂ = F or x̂ = αz + F, with F the network's output; or x̂ of the level-aware head.

        All variables of a datum have one noise level: the first of t [batch or 1, …] is taken. `schedule` replaces the model's.
        """
        level = (schedule or self.schedule)(t[:, :1])
        features = self.network_features(z, level.gamma.expand(z.shape[0], 1, 1))
        output = features[..., 0].to(z)
        if self.head == "eps":
            return z + output
        if self.head == "v":
            return output
        if self.head == "x":
            return level.alpha.to(z) * z + output
        y, precision = z / level.alpha.to(z), torch.exp(-level.gamma).to(z)
        rows = features.flatten(0, 2), y.flatten(), precision.expand_as(z).flatten()
        recompute = self.training and torch.is_grad_enabled()
        return posterior_means(*rows, self.logits, recompute).view_as(z)

    def network_features(
        self, z: Tensor, gamma: Float[Tensor, "batch 1 1"]
    ) -> Float[Tensor, "batch variable channel feature"]:
        """The network's output for each number of z; its inputs are z and Fourier features of z, in float32."""
        noise = (gamma.flatten() - self.noise.gamma_min) / (self.noise.gamma_max - self.noise.gamma_min)
        inputs = z.float()
        if self.fourier_multiples:
            inputs = torch.cat([inputs, fourier_features(inputs, self.fourier_multiples)], -1)
        output = self.network(inputs.unflatten(1, self.shape[:2]), noise)
        return output.flatten(1, 2).unflatten(-1, (self.shape[2], self.n_features))

    def generate(
        self,
        label: Int[Tensor, " batch"],
        points: int = 0,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield z after each step, and last the images, one for each entry of `label` (see `tasks.generate.Generator`).

        There are no classes, and no points. Raises InputError where z₀ is not finite.
        """
        for step in generate(self, len(label), sampler or self.default_sampler, generator):
            yield step.z
        if not torch.isfinite(step.z).all():
            raise InputError("generate: the model gives numbers that are not finite: damaged weights? take others")
        with torch.no_grad():
            images = decode_images(self, step.z, generator)
        yield images


def images_to_variables(
    model: VDM, images: Shaped[Tensor, "batch height width colour"]
) -> Int[Tensor, "batch variable channel"]:
    """Images of levels 0 … K − 1 as one variable a pixel, one channel a colour. Raises ValueError for another shape."""
    if tuple(images.shape[1:]) != model.shape:
        raise ValueError(
            f"images of {list(images.shape[1:])}; the model takes {list(model.shape)}, height, width, colours"
        )
    return images.long().flatten(1, 2)


def variables_to_images(
    model: VDM, v: Shaped[Tensor, "batch variable channel"]
) -> Shaped[Tensor, "batch height width colour"]:
    """The inverse of `images_to_variables`."""
    return v.unflatten(1, model.shape[:2])


def encode_levels(model: VDM, v: Int[Tensor, "batch variable channel"]) -> Float[Tensor, "batch variable channel"]:
    """x = 2(v + ½)/K − 1 of levels v, on the model's device."""
    return likelihood.encode_levels(v, model.levels).to(next(model.parameters()).device)


def bound(
    model: VDM,
    v: Int[Tensor, "batch variable channel"],
    steps: int | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> likelihood.Bound:
    """The variational bound of each datum, of T = `steps` equal steps or, where None, of continuous time."""
    x, denoiser = encode_levels(model, v), model.denoiser
    return likelihood.variational_bound(denoiser, x, model.levels, steps, draws, model.start, generator=generator)


def losses(
    model: VDM,
    v: Int[Tensor, "batch variable channel"],
    generator: torch.Generator | None,
    steps: int | None = None,
    u: Float[Tensor, "batch 1 1"] | None = None,
) -> dict[str, Tensor]:
    """Means over the batch of the bound's terms and, as "loss", of their sum, in bits a dimension.

    `u` in [0, 1) decides the time of each datum; None: stratified over the batch.

    In continuous time the course of a learned schedule gets the gradient of the diffusion term's second moment in place of the
    term's own, whose expectation is zero (appendix H); with T = `steps` it gets the gradient of the bound, as all else does.
    """
    x, schedule = encode_levels(model, v), model.schedule
    if isinstance(schedule, LearnedSchedule) and steps is None:
        schedule = InteriorGradient(schedule)
    u = (stratified(len(x), 1, generator) if u is None else u).to(x.device)
    reconstruction = likelihood.reconstruction_nats(x, schedule, model.levels, model.start, generator)
    time_and_weight = (
        likelihood.continuous_time_weight if steps is None else partial(likelihood.discrete_time_weight, steps=steps)
    )
    t, weight = time_and_weight(schedule, u, start=model.start)
    denoiser = Denoiser(partial(model, schedule=schedule), schedule, model.kind)
    error = likelihood.noise_error(denoiser, x, t, noise_like(x, generator))
    diffusion = weight * error
    if isinstance(schedule, InteriorGradient):
        cost = diffusion.detach()
        schedule.factor = (2 * cost / cost.mean())[:, None, None]
    if isinstance(model.schedule, LeastVariance):
        model.schedule.observe(schedule(t).gamma[:, 0, 0], error)
    nats = likelihood.Bound(likelihood.prior_kl(x, schedule), reconstruction, diffusion, x[0].numel())
    terms = {"prior": nats.prior, "reconstruction": reconstruction, "diffusion": diffusion, "loss": nats.total}
    return {name: term.mean() / (nats.dimensions * math.log(2)) for name, term in terms.items()}


def generate(
    model: VDM, count: int, sampler: Sampler = ANCESTRAL, generator: torch.Generator | None = None
) -> Iterator[Step]:
    """Sample `count` latents z₀ from noise. Yields the state after every step; the last state's z is z₀: see `decode_images`."""
    height, width, colours = model.shape
    z = noise_like(next(model.parameters()).new_empty(count, height * width, colours), generator)
    t = torch.ones(1, 1, 1, device=z.device)
    return sample(model.denoiser, z, t, sampler.walk, sampler.stepper, None, generator)


def decode_images(
    model: VDM, z: Float[Tensor, "batch variable channel"], generator: torch.Generator | None = None
) -> Int[Tensor, "batch height width colour"]:
    """Images sampled from the decoder p(x | z₀); its mode where no generator is given or where γ(0) is infinite."""
    level = model.schedule(z.new_zeros((), dtype=torch.float64))
    y = z.double() / level.alpha
    if generator is None or not torch.isfinite(level.gamma):
        return variables_to_images(model, likelihood.nearest_level(y, model.levels))
    return variables_to_images(model, sample_levels(y, level.gamma, model.levels, generator))
