"""SRM: spatial reasoning with denoising models (Wewer et al., ICML 2025). A noise level for every variable, the surest first.

One network sees all variables with their own noise levels and tells for each its velocity u = ε − x, how far that may be off,
and where the reverse variance lies in its range. Given variables have t = 0; sampling settles the others one by one, always
next the one the network is most certain of, so that what is settled informs what is not. `refine` takes back what
contradicts the rest.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from becalm.core import objective
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import velocity
from becalm.core.process import Output, corrupt, noise_like
from becalm.core.sample import Step, Stepper, reverse, sample
from becalm.core.schedule import Rectified
from becalm.core.typing import Bool, Float, Tensor
from becalm.core.walk import Walk, by_certainty
from becalm.nets.precision import inferred
from becalm.nets.transformer import Shape, Transformer

UNCERTAINTY = 0.01
"""Weight of the uncertainty's loss beside that of the mean."""


class SRM(nn.Module):
    """A transformer over variables of `channels` numbers at fixed places.

    `places` has a row for each variable: numbers from tables where they are whole (row, column, box), coordinates otherwise.
    `power` is the mean square of the data.
    """

    places: Tensor

    def __init__(
        self,
        channels: int,
        places: list[list[int]] | list[list[float]],
        shape: list[int] | None = None,
        power: float = 0.5,
    ):
        super().__init__()
        self.config = {"channels": channels, "places": places, "shape": list(shape or Shape()), "power": power}
        self.power = power
        whole = isinstance(places[0][0], int)
        sizes = tuple(1 + int(max(column)) for column in zip(*places, strict=True)) if whole else ()
        axes = 0 if whole else len(places[0])
        self.register_buffer("places", torch.tensor(places))
        self.network = Transformer(channels, 2 * channels + 1, sizes, axes, Shape(*self.config["shape"]))

    def answers(self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]) -> list[Output]:
        """What the network says after each run of its stack: it tells what the linear guess of u leaves over."""
        width = z.shape[-1]
        guess, rest = linear_guess(t.float(), self.power)
        said = self.network(z.float(), t, self.places).float()
        value, spread, log_var = said.split([width, width, 1], -1)
        value, log_var = guess * z + rest * value, 2 * rest.log() + log_var.clamp(-12, 12)
        return [Output(*parts) for parts in zip(value, log_var, (spread + 1) / 2, strict=True)]

    def forward(self, z: Tensor, t: Tensor, given: dict[str, Tensor] | None = None) -> Output:
        """The last of `answers`: what a `Denoiser` asks for."""
        return self.answers(z, t.expand(*z.shape[:2], 1))[-1]


def linear_guess(t: Float[Tensor, "*shape"], power: float) -> tuple[Tensor, Tensor]:
    """u = ε − x from z = (1 − t) x + t ε alone, x having mean square p: the factor of z, and the root of what is left over.

    (t − (1 − t) p)/(t² + (1 − t)² p) and √(p/(t² + (1 − t)² p)): the preconditioning of Karras et al. (2022, § 5) for this flow.
    """
    total = t.square() + (1 - t).square() * power
    return (t - (1 - t) * power) / total, (power / total).sqrt()


def denoiser_of(model: SRM) -> Denoiser:
    """The model with its schedule, rectified flow, and its kind, velocity."""
    return Denoiser(model, Rectified(), velocity)


def losses(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    t: Float[Tensor, "batch variable 1"],
    weight: Float[Tensor, "batch variable 1"],
    generator: torch.Generator | None,
) -> dict[str, Tensor]:
    """Velocity error, variational term and uncertainty, averaged over all variables and over the runs of the stack.

    L = mean w |u − u_θ|² + mean w L_vlb + 0.01 mean w L_σ (SRM, § 4); known variables, t = 0, have no weight and count in the
    mean.
    """
    schedule = Rectified()
    z, eps = corrupt(x, t, schedule, generator)
    weight, target = (weight * (t > 0)).float(), eps - x
    terms: dict[str, list[Tensor]] = {"velocity": [], "variance": [], "uncertainty": []}
    answers = model.answers(z, t)
    for answer in answers:
        error = objective.squared(answer.value, target)
        terms["velocity"].append((weight * error).mean())
        terms["uncertainty"].append((weight * objective.doubt(error, answer.log_var)).mean())  # type: ignore[arg-type]
    prediction = velocity(answers[-1], z, t, schedule)
    terms["variance"].append((weight * objective.variational(prediction, z, x, t, schedule)).mean())
    mean = {name: torch.stack(values).mean() for name, values in terms.items()}
    last = {"last": terms["velocity"][-1].detach()}
    return mean | last | {"loss": mean["velocity"] + mean["variance"] + UNCERTAINTY * mean["uncertainty"]}


class Way(NamedTuple):
    """How a puzzle is solved."""

    walk: Walk = by_certainty(steps_per_variable=3)
    """Which variable when."""
    step: Stepper = reverse(eta=0.5)
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
    return inferred(steps)


def solved(
    steps: Iterator[Step], x: Float[Tensor, "batch variable channel"]
) -> Float[Tensor, "batch variable channel"]:
    """Where a walk ends; x where it has no step to take."""
    for step in steps:
        x = step.z
    return x


def refine(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    unknown: Bool[Tensor, "batch variable"],
    rounds: int,
    share: float = 0.25,
    way: Way | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Float[Tensor, "batch variable channel"]]:
    """Solve again, `rounds` times, the share of the unknown variables that fits the others least; yields x after each round."""
    way = way or Way()
    for _ in range(rounds):
        strange = strangeness(model, x, unknown, generator).masked_fill(~unknown, -torch.inf)
        count = torch.ceil(share * unknown.sum(1, keepdim=True))
        again = unknown & (strange.argsort(1, descending=True).argsort(1) < count)
        x = solved(solve(model, x, again, way, generator), x)
        yield x


def strangeness(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    unknown: Bool[Tensor, "batch variable"],
    generator: torch.Generator | None = None,
    parts: int = 4,
) -> Float[Tensor, "batch variable"]:
    """−log p(x_i | the others) a channel, up to a constant, as the network tells it of each unknown variable.

    The variables are hidden a random part at a time, and guessed from the rest.
    """
    denoiser, batch, variables = denoiser_of(model), *x.shape[:2]
    part = torch.rand(batch, variables, generator=generator).argsort(1).argsort(1).to(x.device) % parts
    found = torch.zeros(batch, variables, device=x.device)
    for i in range(parts):
        hidden = unknown & (part == i)
        z = torch.where(hidden[..., None], noise_like(x, generator), x)
        answer = next(inferred(denoiser(z, h, None) for h in (hidden[..., None].double(),)))
        cost = objective.doubt(objective.squared(answer.x, x), answer.log_var)[..., 0]
        found = torch.where(hidden, cost.float(), found)
    return found
