"""SRM: spatial reasoning with denoising models (Wewer et al., ICML 2025). A noise level for every variable, the surest first.

One network sees all variables with their own noise levels and tells for each what it is, how far that may be off, and where
the reverse variance lies in its range. It learns from the error of the velocity u = ε − x, and may tell that velocity. Unless
asked to, it tells x: a variable has more channels than the network is wide, and its noise would not pass through, while what it
shows does (Li & He 2025).
Given variables have t = 0; sampling settles the others one by one, always next the one the network is most certain of, so that
what is settled informs what is not. What contradicts the rest can be taken back (`systems/refine.py`).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import nn

from becalm.core import objective, process
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean
from becalm.core.process import Output, Prediction, corrupt, noise_like
from becalm.core.sample import Step, Stepper, reverse, sample
from becalm.core.schedule import Rectified
from becalm.core.typing import Bool, Float, Tensor
from becalm.core.walk import Walk, by_certainty
from becalm.images.counting_polygons import categorical
from becalm.images.counting_polygons.nearest_circles import TOLD, Circle, beside
from becalm.nets.mosaic import Mosaic
from becalm.nets.precision import inference_iter
from becalm.nets.transformer import Shape, Transformer

Head = Literal["clean", "velocity", "residual"]
"""What a network tells: x, ε − x, or what the best linear guess of x leaves over."""

UNCERTAINTY = 0.01
"""Weight of the uncertainty's loss beside that of the mean."""

SIGMA_LEAST = 0.2
"""σ below which an error of x weighs no more than there, since z itself shows x."""

STEEP = 5.0
"""How steeply values are bounded, x ↦ tanh(5 x), before they are added up."""


class SRM(nn.Module):
    """A transformer over variables of `channels` numbers at fixed places.

    `places` has a row for each variable: numbers from tables where they are whole (row, column, box), coordinates otherwise.
    `shift` is that of the schedule. How far a variable may be off is told of all its channels alike, or, where `features` are
    wanted, of so many linear functions of them: the buffer of that name, to be filled before training. So a variable is certain
    when it is known what it shows, in however many ways that may be drawn. With `summed` every variable is told what the features
    of all variables add up to, noise having no part in it: attention is a mean, in which what is nearly balanced vanishes. Their
    values are bounded first, since the small errors of what is settled would add up to more than the difference that counts.
    Where a variable is made of grains of `grain` numbers, as a patch of pixels, these are told one by one, by `grain_depth`
    layers that share out between them what they make up together. With `near` the variables fill a square, and see those around
    them before all others (`nets/mosaic.py`). The first `flags` channels are 0 or 4, yes or no: the features, so that their sums
    are counts; they are told by logits (`systems/flags.py`). `circle` tells which channels are a circle where a flag is set: each
    variable is then told exactly which ones are next to it (`systems/circles.py`).
    What the network tells is its `head`: x ("clean"), the velocity ε − x, or what the best linear guess of x leaves over
    ("residual", Karras et al. 2022, § 5), which is what grains alone tell where nothing is asked for. `power` is the variance of
    the data, and of what the uncertainty is about, to tell certainty as a share.
    """

    places: Tensor
    features: Tensor | None

    def __init__(
        self,
        channels: int,
        places: list[list[int]] | list[list[float]],
        shape: list[int] | None = None,
        power: float = 1.0,
        shift: float = 1.0,
        features: int = 0,
        summed: bool = False,
        grain: int = 0,
        head: Head | None = None,
        grain_depth: int = 3,
        near: bool = False,
        flags: int = 0,
        circle: list | None = None,
    ):
        super().__init__()
        self.config = {"channels": channels, "places": places, "shape": list(shape or Shape()), "power": power}
        self.config |= {"shift": shift, "features": features, "summed": summed, "grain": grain}
        self.head: Head = head or ("residual" if grain else "clean")
        self.config |= {
            "head": self.head,
            "grain_depth": grain_depth,
            "near": near,
            "flags": flags,
            "circle": circle,
        }
        self.power, self.schedule, self.summed, self.grain = power, Rectified(shift=shift), summed, grain
        self.register_buffer("features", torch.eye(channels, features) if features else None)
        whole = isinstance(places[0][0], int)
        sizes = tuple(1 + int(max(column)) for column in zip(*places, strict=True)) if whole else ()
        axes = 0 if whole else len(places[0])
        self.register_buffer("places", torch.tensor(places))
        grains = (channels // grain, grain) if grain else (0, 0)
        inputs = channels + TOLD * bool(circle) + summed * features
        outputs, form = 2 * channels + 1, Shape(*self.config["shape"])
        if near:
            self.network: Transformer | Mosaic = Mosaic(inputs, outputs, form, summed * features)
        else:
            self.network = Transformer(inputs, outputs, sizes, axes, form, grains, grain_depth)

    def answers(self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]) -> list[Output]:
        """What the network says of x after each run of its stack."""
        width, seen = z.shape[-1], z.float()
        if count := self.config["flags"]:
            seen = self.flagged(torch.cat([torch.zeros_like(seen[..., :count]), seen[..., count:]], -1), seen, t)[0]
        heard = [seen]
        if circle := self.config["circle"]:
            heard.append(self.beside(seen, t, Circle(*circle)))
        if self.summed:
            heard.append(self.sums(seen, t.float()).expand(*z.shape[:2], -1))
        said = self.network(torch.cat(heard, -1), t, self.places).float()
        value, spread, log_var = said.split([width, width, 1], -1)
        value, log_var = self.cleaned(value, z.float(), t), log_var.clamp(-12, 12)
        if self.config["flags"]:
            value, log_var = self.flagged(value, z.float(), t)
        outputs = zip(value, log_var, (spread + 1) / 2, strict=True)
        return [Output(*parts) for parts in outputs]

    def sums(self, z: Tensor, t: Tensor) -> Float[Tensor, "batch 1 feature"]:
        """What the features of all variables add up to, bounded and in so far as they are settled; flags are counted."""
        bounded = z / categorical.FLAG if self.config["flags"] else torch.tanh(STEEP * z)
        total = ((1 - t) * bounded).sum(1, keepdim=True)
        return (total[..., None] * self.features).sum(-2)  # type: ignore[operator]

    def beside(self, seen: Tensor, t: Tensor, circle: Circle) -> Float[Tensor, "batch variable told"]:
        """What stands next to each variable (`systems/circles.py`)."""
        alpha, sigma = (part[..., 0].float() for part in self.schedule(t)[1:])
        held = seen[..., : self.config["flags"]].sum(-1) / categorical.FLAG
        return beside(seen, held, alpha, sigma, circle)

    def cleaned(self, value: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """x, from what the head tells: z = x + σ (ε − x)."""
        alpha, sigma = (part.float() for part in self.schedule(t)[1:])
        if self.head == "velocity":
            return z - sigma * value
        if self.head == "residual":
            share = self.power / (alpha.square() * self.power + sigma.square())
            return alpha * share * z + sigma * share.sqrt() * value
        return value

    def flagged(self, value: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x and how far its flags may be off, from what is told of flags and what z shows of them (`systems/flags.py`)."""
        alpha, sigma = (part.float() for part in self.schedule(t)[1:])
        return categorical.expected(value, z, alpha, sigma, self.config["flags"])

    def forward(self, z: Tensor, t: Tensor, given: dict[str, Tensor] | None = None) -> Output:
        """The last of `answers`: what a `Denoiser` asks for."""
        return self.answers(z, t.expand(*z.shape[:2], 1))[-1]

    def error(self, value: Tensor, target: Tensor) -> Float[Tensor, "batch variable 1"]:
        """Mean square of what the uncertainty is about: the features, or all channels where there are none."""
        if self.features is None:
            return objective.squared_error(value, target)
        return ((target - value).float() @ self.features).square().mean(-1, keepdim=True)

    def surprise(self, value: Tensor, target: Tensor) -> Float[Tensor, "batch variable 1"]:
        """The error of the features, or how surprising the flags are."""
        if self.config["flags"]:
            return categorical.surprise(value, target, self.config["flags"])
        return self.error(value, target)


def denoiser_of(model: SRM) -> Denoiser:
    """The model with its schedule, rectified flow, and its kind, clean."""
    return Denoiser(model, model.schedule, clean)


class Shown(NamedTuple):
    """Noisy data and what the network made of it."""

    z: Tensor
    """The noisy data [batch, variable, channel]."""
    answers: list[Output]
    """What was said of it after each run of the stack."""
    prediction: Prediction
    """The last of the answers as a prediction."""


def shown(model: SRM, x: Tensor, t: Tensor, generator: torch.Generator | None, above: Tensor | None = None) -> Shown:
    """Show the network data x [batch, variable, channel] at the levels t [batch, variable, 1].

    With levels `above`, no less than t, x is noised to these, and a step of ancestral sampling, by what the network itself says
    there, leads down to t: a state as sampling has it, where what should be settled by now may not be. x is still what is to be
    told of it.
    """
    z, _ = corrupt(x, t if above is None else above, model.schedule, generator)
    if above is not None:
        with torch.no_grad():
            guess = clean(model.answers(z, above)[-1], z, above, model.schedule)
            z = process.reverse_step(guess, z, above, t, model.schedule, generator=generator)
    answers = model.answers(z, t)
    return Shown(z, answers, clean(answers[-1], z, t, model.schedule))


def losses(
    model: SRM,
    said: Shown,
    x: Float[Tensor, "batch variable channel"],
    t: Float[Tensor, "batch variable 1"],
    weight: Float[Tensor, "batch variable 1"],
    stress: float = 0.0,
) -> dict[str, Tensor]:
    """Velocity error, variational term and uncertainty, averaged over all variables and over the runs of the stack.

    L = mean w |u − u_θ|² + mean w L_vlb + 0.01 mean w L_σ (SRM, § 4), u − u_θ = (x_θ − x)/σ; below σ = 0.2 it is divided by 0.2,
    and L_vlb weighs w (σ/0.2)². Known variables, t = 0, have no weight and count in the mean. `stress` times the error of the
    features is added to that of x: the mean of x given z is still what it is least at, and what features tell is learned first.
    """
    weight = (weight * (t > 0)).float()
    sigma = model.schedule(t).sigma.float()
    velocity, trust = (
        weight / sigma.clamp_min(SIGMA_LEAST).square(),
        weight * (sigma / SIGMA_LEAST).clamp_max(1).square(),
    )
    terms: dict[str, list[Tensor]] = {"velocity": [], "variance": [], "uncertainty": []}
    for answer in said.answers:
        error = objective.squared_error(answer.value, x)
        if stress:
            error = error + stress * model.surprise(answer.value, x)
        terms["velocity"].append((velocity * error).mean())
        doubt = objective.gaussian_nll(model.error(answer.value, x), answer.log_var)  # type: ignore[arg-type]
        terms["uncertainty"].append((weight * doubt).mean())
    variance = objective.variance_kl(said.prediction, said.z, x, t, model.schedule)
    terms["variance"].append((trust * variance).mean())
    mean = {name: torch.stack(values).mean() for name, values in terms.items()}
    last = {"last": terms["velocity"][-1].detach()}
    return mean | last | {"loss": mean["velocity"] + mean["variance"] + UNCERTAINTY * mean["uncertainty"]}


class Way(NamedTuple):
    """How a puzzle is solved."""

    walk: Walk = by_certainty(steps_per_variable=12)
    """Which variable when."""
    step: Stepper = reverse(eta=1.0)
    """How a level falls."""


def solve(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    unknown: Bool[Tensor, "batch variable"],
    way: Way | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Settle the unknown variables of x, the others being given; yields every state, of which the last one's z is the answer."""
    way = way or Way()
    z = torch.where(unknown[..., None], noise_like(x, generator), x)
    steps = sample(denoiser_of(model), z, unknown[..., None].double(), way.walk, way.step, None, generator)
    return inference_iter(steps)


def solved(
    steps: Iterator[Step], x: Float[Tensor, "batch variable channel"]
) -> Float[Tensor, "batch variable channel"]:
    """Where a walk ends; x where it has no step to take."""
    for step in steps:
        x = step.z
    return x
