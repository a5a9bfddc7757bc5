"""VDM: variational diffusion (Kingma et al. 2021). A likelihood in bits, for data whose numbers take K evenly spaced levels.

The network tells ε, or by default the level-aware head: logits over the K levels of each number, to which Bayes' rule adds what
the noisy number itself says, so that x̂ is the mean of a posterior over the levels. It begins at the bound of log₂ K bits, and
where there is next to no noise it is exact whatever the network says.
"""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from becalm.core import kinds, likelihood
from becalm.core.denoiser import Denoiser
from becalm.core.learned import FewSteps, InteriorGradient, Learned, LearnedLinear, LearnedSchedule, LeastVariance
from becalm.core.process import noise_like
from becalm.core.sample import Step, sample
from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas, Linear, Schedule
from becalm.core.times import stratified
from becalm.core.typing import Float, Int, Shaped, Tensor
from becalm.nets.fourier import fourier_features, fourier_frequencies
from becalm.nets.unet import FlatUNet, Perceptron, UNet

NETWORKS = {"unet": UNet, "flat": FlatUNet, "mlp": Perceptron}
"""Networks by name: an ordinary U-Net, VDM's without down-sampling, and layers that see all numbers at once."""

SCHEDULES = {
    "linear": Linear,
    "learned linear": LearnedLinear,
    "learned": Learned,
    "least variance": LeastVariance,
    "few steps": FewSteps,
    "betas": lambda low, high: Betas(),
}
"""Schedules by name: γ fixed and linear, its ends learned, all of it learned, its course fitted in closed form
for the least variance or the least cost of a few steps; DDPM's chain."""

ANCESTRAL = Sampler(steps=250, update="ancestral")
"""How the model is defined to be sampled: by its own reverse transitions."""

ROWS = 2**20
"""Logits formed at a time: what a processor keeps close to itself."""


class VDM(nn.Module):
    """A network, a schedule and a head for images of one shape, or for vectors."""

    def __init__(
        self,
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
    ):
        """`shape` is height, width and colours, or the length of a vector; `low` and `high` are γ(0) and γ(1), to begin with.

        `size` holds further arguments of the network, `features` what the level-aware head is told of a number; `octaves` the
        Fourier features of z, of the finest frequencies and downwards. Raises ValueError where a name is not known.
        """
        super().__init__()
        self.config = {"shape": shape, "levels": levels, "network": network, "head": head, "schedule": schedule}
        self.config |= {"low": low, "high": high, "size": size or {}, "features": features, "octaves": octaves}
        for name, known in (("network", NETWORKS), ("schedule", SCHEDULES), ("head", ("levels", "eps"))):
            if self.config[name] not in known:
                raise ValueError(f"{name}: {self.config[name]!r} is not known; there is {', '.join(known)}")
        height, width, colours = (1, shape, 1) if isinstance(shape, int) else shape
        self.shape, self.levels = (height, width, colours), levels
        self.schedule: Schedule = SCHEDULES[schedule](low, high)
        # DDPM's chain has no noise at all at t = 0; its first step ends at β₁
        self.start = 1 / self.schedule.steps if isinstance(self.schedule, Betas) else 0.0
        self.multiples = tuple(fourier_frequencies(levels)[1] / 2**i for i in reversed(range(octaves)))
        self.kind, self.per_number = (kinds.clean, features) if head == "levels" else (kinds.eps, 1)
        inputs = colours * (1 + 2 * len(self.multiples))
        self.network = NETWORKS[network](self.shape[:2], inputs, colours * self.per_number, **(size or {}))
        if head == "levels":
            self.logits = nn.Linear(features, levels)
            nn.init.zeros_(self.logits.weight)
            nn.init.zeros_(self.logits.bias)

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict | None = None, schedule=None
    ) -> Float[Tensor, "batch variable channel"]:
        """x̂ of the level-aware head, or ε̂ = z + what the network adds; z is asked at one level a datum, t [batch or 1, …]."""
        level = (schedule or self.schedule)(t[:, :1])
        told = self.told(z, level.gamma.expand(len(z), 1, 1))
        if self.config["head"] == "eps":
            return z + told[..., 0].to(z)
        y, precision = z / level.alpha.to(z), torch.exp(-level.gamma).to(z)
        parts = told.flatten(0, 2), y.flatten(), precision.expand_as(z).flatten()
        return torch.cat([self.means(*rows) for rows in split(parts, ROWS // self.levels)]).view_as(z)

    def told(self, z: Tensor, gamma: Float[Tensor, "batch 1 1"]) -> Float[Tensor, "batch variable channel number"]:
        """What the network says of each number."""
        place = (gamma.flatten() - self.config["low"]) / (self.config["high"] - self.config["low"])
        seen = torch.cat([z.float(), fourier_features(z.float(), self.multiples)], -1) if self.multiples else z.float()
        told = self.network(seen.unflatten(1, self.shape[:2]), place)
        return told.flatten(1, 2).unflatten(-1, (self.shape[2], self.per_number))

    def means(self, told: Tensor, y: Tensor, precision: Tensor) -> Float[Tensor, " row"]:
        """Posterior means; in training their logits are formed again in the backward pass rather than kept."""
        asked = told, y, precision, self.logits.weight, self.logits.bias
        if not (self.training and torch.is_grad_enabled()):
            return posterior_mean(*asked)
        return checkpoint(posterior_mean, *asked, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]


def split(parts: tuple[Tensor, ...], rows: int) -> Iterator[tuple[Tensor, ...]]:
    """The tensors cut alike into pieces of so many rows."""
    return zip(*(part.split(rows) for part in parts), strict=True)


def posterior_mean(
    told: Float[Tensor, "row feature"],
    y: Float[Tensor, " row"],
    precision: Float[Tensor, " row"],
    weight: Float[Tensor, "level feature"],
    bias: Float[Tensor, " level"],
) -> Float[Tensor, " row"]:
    """Σ_k v_k w_k, w = softmax(logits − ½e^{−γ}(y − v)²) over the K levels v, y = z/α; in float32 whatever autocast says."""
    with torch.autocast(y.device.type, enabled=False):
        k = torch.arange(len(bias), device=y.device)
        values = likelihood.encode_levels(k, len(bias), y.dtype)
        logits = nn.functional.linear(told.to(weight), weight, bias).to(y)
        away = (y[:, None] - values).square()
        return (logits - precision[:, None] * away / 2).softmax(-1) @ values


def denoiser_of(model: VDM) -> Denoiser:
    """The model with its schedule and its kind."""
    return Denoiser(model, model.schedule, model.kind)


def variables(model: VDM, images: Shaped[Tensor, "batch height width colour"]) -> Int[Tensor, "batch variable channel"]:
    """Whole values of images as variables: one a pixel, one channel a colour. Raises ValueError at another shape."""
    if tuple(images.shape[1:]) != model.shape:
        raise ValueError(
            f"images of {list(images.shape[1:])}; the model takes {list(model.shape)}, height, width, colours"
        )
    return images.long().flatten(1, 2)


def images_of(model: VDM, v: Shaped[Tensor, "batch variable channel"]) -> Shaped[Tensor, "batch height width colour"]:
    """The inverse of `variables`."""
    return v.unflatten(1, model.shape[:2])


def bound(
    model: VDM,
    v: Int[Tensor, "batch variable channel"],
    steps: int | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> likelihood.Bound:
    """The bound of each datum, for T `steps` or, where None, infinitely many."""
    x = encoded(model, v)
    return likelihood.variational_bound(
        denoiser_of(model), x, model.levels, steps, draws, model.start, generator=generator
    )


def encoded(model: VDM, v: Int[Tensor, "batch variable channel"]) -> Float[Tensor, "batch variable channel"]:
    """Levels as numbers of [−1, 1], where the model is."""
    return likelihood.encode_levels(v, model.levels).to(next(model.parameters()).device)


def losses(
    model: VDM, v: Int[Tensor, "batch variable channel"], generator: torch.Generator | None, steps: int | None = None
) -> dict[str, Tensor]:
    """The terms of the bound in bits a dimension and their sum, "loss"; times are stratified over the batch.

    In continuous time the course of a learned schedule gets the gradient of the variance of the diffusion term, in place of its
    own, which is zero on average; where T `steps` are given, it gets that of the bound like everything else.
    """
    x, schedule = encoded(model, v), model.schedule
    if isinstance(schedule, LearnedSchedule) and steps is None:
        schedule = InteriorGradient(schedule)
    u = stratified(len(x), 1, generator).to(x.device)
    decoding = likelihood.reconstruction_nats(x, schedule, model.levels, model.start, generator)
    weighted = (
        likelihood.continuous_time_weight if steps is None else partial(likelihood.discrete_time_weight, steps=steps)
    )
    t, weight = weighted(schedule, u, start=model.start)
    denoiser = Denoiser(partial(model, schedule=schedule), schedule, model.kind)
    error = likelihood.noise_error(denoiser, x, t, noise_like(x, generator))
    between = weight * error
    if isinstance(schedule, InteriorGradient):
        cost = between.detach()
        schedule.factor = (2 * cost / cost.mean())[:, None, None]
    if isinstance(model.schedule, LeastVariance):
        model.schedule.observe(schedule(t).gamma[:, 0, 0], error)
    found = likelihood.Bound(likelihood.prior_kl(x, schedule), decoding, between, x[0].numel())
    parts = {"prior": found.prior, "reconstruction": found.reconstruction, "diffusion": between, "loss": found.total}
    return {name: nats.mean() / (found.dimensions * math.log(2)) for name, nats in parts.items()}


def generate(
    model: VDM, count: int, sampler: Sampler = ANCESTRAL, generator: torch.Generator | None = None
) -> Iterator[Step]:
    """Sample `count` latents z₀ from noise. Yields the state after every step; the last state's z is z₀: see `decode_images`."""
    height, width, colours = model.shape
    z = noise_like(next(model.parameters()).new_empty(count, height * width, colours), generator)
    t = torch.ones(1, 1, 1, device=z.device)
    return sample(denoiser_of(model), z, t, sampler.walk, sampler.stepper, None, generator)


def decode_images(
    model: VDM, z: Float[Tensor, "batch variable channel"], generator: torch.Generator | None = None
) -> Int[Tensor, "batch height width colour"]:
    """Images sampled from the decoder p(x | z₀); its mode where no generator is given or where γ(0) is infinite."""
    level = model.schedule(z.new_zeros((), dtype=torch.float64))
    y = z.double() / level.alpha
    if generator is None or not torch.isfinite(level.gamma):
        return images_of(model, likelihood.nearest_level(y, model.levels))
    values = likelihood.encode_levels(torch.arange(model.levels, device=z.device), model.levels, torch.float64)
    u = torch.rand(y.shape, generator=generator, dtype=torch.float64).to(z.device)
    rows = split((y.flatten(), u.flatten()), ROWS // model.levels)
    drawn = [inverted((-torch.exp(-level.gamma) * (y[:, None] - values).square() / 2).softmax(-1), u) for y, u in rows]
    return images_of(model, torch.cat(drawn).view(y.shape))


def inverted(weights: Float[Tensor, "row level"], u: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """The level at which the weights add up to u."""
    return (weights.cumsum(-1) < u[:, None]).sum(-1).clamp_max(weights.shape[-1] - 1)
