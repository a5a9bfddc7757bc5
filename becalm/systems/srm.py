"""SRM: spatial reasoning with denoising models (Wewer et al., ICML 2025, arXiv 2502.21075).

Every variable x_i has a noise level t_i of its own: z_i = α(t_i) x_i + σ(t_i) ε_i. One network sees all z_i and t_i and predicts
for each variable its x (or ε, or the velocity u = ε − x), the variance of that estimate's error, and where between its bounds
the reverse variance lies. To solve, given variables have t = 0 and unknown ones t = 1; next is always denoised the variable
whose predicted error is least (`walk.by_certainty`), so that each is conditioned on those before it. `systems/refine.py`
resamples what fits the rest worst.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn

from becalm.core import objective, process
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean
from becalm.core.process import Output, Prediction, corrupt, noise_like
from becalm.core.sample import Step, sample
from becalm.core.sampler import Sampler
from becalm.core.schedule import Rectified
from becalm.core.typing import Bool, Float, Tensor
from becalm.core.walk import by_certainty
from becalm.nets.precision import inference_iter
from becalm.nets.transformer import Shape, Transformer

Head = Literal["clean", "eps", "velocity", "residual"]
"""What the network puts out: x, ε, u = ε − x, or the scaled residual of the best linear estimate of x from z."""

UNCERTAINTY_WEIGHT = 0.01
"""Weight of the uncertainty's loss (SRM, § 4)."""

SIGMA_MIN = 0.2
"""Least σ by which the error of x is divided in the loss: below, z itself shows x."""

ALPHA_MIN = 0.02
"""Least α by which the ε head divides, so that x is finite at α = 0."""

SAMPLER = Sampler(update="ancestral", order=by_certainty(steps_per_variable=12))
"""How puzzles are solved where nothing else is asked for."""


@dataclass(frozen=True)
class SRMConfig:
    """What an SRM is built from, as files of weights store it."""

    channels: int
    """Numbers of a variable."""
    places: list[list[int]] | list[list[float]] | None = None
    """Where each variable is: indices into tables (row, column, box) if they are whole, else coordinates; None for nowhere."""
    shape: list[int] = field(default_factory=lambda: list(Shape()))
    """Size of the network (`nets.transformer.Shape`)."""
    head: Head = "clean"
    """What the network puts out. A variable of more channels than the network is wide needs `clean` (Li & He 2025)."""
    shift: float = 1.0
    """Shift of the schedule, rectified flow."""
    features: int = 0
    """Number of linear functions of a variable that the uncertainty is about; 0: all its channels."""
    data_variance: float = 1.0
    """Mean square of the data, and of what the uncertainty is about."""


class SRM(nn.Module):
    """A network over variables with their schedule: predicts x, the error's log-variance and the reverse variance of each.

    `network(inputs, t, places)` gives [loop, batch, variable, 2 channels + 1]: for each variable the head's output, the place
    of the reverse variance in its range, and log_var; one for each run of its stack, of which the last counts. Subclasses
    change what the network sees (`inputs`) or how its output is read (`decode`). The log-variance is about the linear functions
    `features` [channel, feature] of a variable, a buffer to fill before training, or about all channels: so a variable can be
    certain of what it shows, in however many ways that may be drawn.
    """

    Config: ClassVar[type[SRMConfig]] = SRMConfig
    places: Tensor | None
    features: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        schedule,
        places: list[list[int]] | list[list[float]] | None = None,
        head: Head = "clean",
        features: int = 0,
        data_variance: float = 1.0,
    ):
        super().__init__()
        self.channels, self.schedule, self.head, self.data_variance = channels, schedule, head, data_variance
        self.config: dict[str, Any] | None = None
        self.register_buffer("features", torch.eye(channels, features) if features else None)
        self.register_buffer("places", None if places is None else torch.tensor(places))
        self.network = network

    @classmethod
    def build(cls, **fields: Any) -> "SRM":
        """The model of a configuration, given by its fields (`SRMConfig`), with the network that goes with it."""
        config = cls.Config(**fields)
        schedule, network = Rectified(shift=config.shift), cls.build_network(config)
        made = cls(
            network, config.channels, schedule, config.places, config.head, config.features, config.data_variance
        )
        made.config = asdict(config)
        return made

    @classmethod
    def build_network(cls, config: Any) -> nn.Module:
        """The network of a configuration: a transformer over the variables."""
        tables, axes = place_kinds(config.places)
        return Transformer(config.channels, 2 * config.channels + 1, tables, axes, Shape(*config.shape))

    def inputs(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]
    ) -> Float[Tensor, "batch variable input"]:
        """What the network sees of noisy variables: z itself."""
        return z.float()

    def decode(
        self,
        raw: Float[Tensor, "loop batch variable output"],
        z: Float[Tensor, "batch variable channel"],
        t: Float[Tensor, "batch variable 1"],
    ) -> Output:
        """x, its log-variance and the place of the reverse variance, each with the axis of loops, from the network's output.

        eps: x = (z − σε)/α; velocity: x = (z − σu)/(α + σ); residual: x = c_skip z + c_out F with c_skip = α v/(α² v + σ²),
        c_out = σ √(v/(α² v + σ²)), v the data's variance (Karras et al. 2022, § 5).
        """
        value, place, log_var = raw.split([self.channels, self.channels, 1], -1)
        level = self.schedule(t)
        alpha, sigma = level.alpha.float(), level.sigma.float()
        z, log_var = z.float(), log_var.clamp(-12, 12)
        if self.head == "eps":
            alpha = alpha.clamp_min(ALPHA_MIN)
            value, log_var = (z - sigma * value) / alpha, log_var + 2 * (sigma.clamp_min(1e-6) / alpha).log()
        elif self.head == "velocity":
            value = (z - sigma * value) / (level.alpha + level.sigma).float()
        elif self.head == "residual":
            share = self.data_variance / (alpha.square() * self.data_variance + sigma.square())
            value = alpha * share * z + sigma * share.sqrt() * value
        return Output(value, log_var, (place + 1) / 2)

    def loop_outputs(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]
    ) -> list[Output]:
        """The decoded output after each run of the network's stack."""
        raw = self.network(self.inputs(z, t), t, self.places).float()
        return [Output(*parts) for parts in zip(*self.decode(raw, z, t), strict=True)]  # type: ignore[arg-type]

    def forward(self, z: Tensor, t: Tensor, given: dict[str, Tensor] | None = None) -> Output:
        """The last of `loop_outputs`, as a `Denoiser` asks for it."""
        return self.loop_outputs(z, t.expand(*z.shape[:2], 1))[-1]

    def denoiser(self) -> Denoiser:
        """The model with its schedule and its kind: decoded outputs are x."""
        return Denoiser(self, self.schedule, clean)

    def predict(self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"]) -> Prediction:
        """The prediction for noisy variables at their levels, without gradients and in the precision of sampling."""
        return next(inference_iter(self.denoiser()(z, level, None) for level in (t,)))

    def feature_error(self, value: Tensor, target: Tensor) -> Float[Tensor, "batch variable 1"]:
        """Mean squared error of the features, or of all channels where there are none: what log_var is about."""
        if self.features is None:
            return objective.squared_error(value, target)
        return ((target - value).float() @ self.features).square().mean(-1, keepdim=True)

    def feature_loss(self, value: Tensor, target: Tensor) -> Float[Tensor, "batch variable 1"]:
        """The loss of the features that training may add: here their error."""
        return self.feature_error(value, target)

    def solve(
        self,
        x: Float[Tensor, "batch variable channel"],
        unknown: Bool[Tensor, "batch variable"],
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """Sample the unknown variables of x given the others; yields every state, the last of which holds the solution in z."""
        sampler = sampler or SAMPLER
        z = torch.where(unknown[..., None], noise_like(x, generator), x)
        t = unknown[..., None].double()
        return inference_iter(sample(self.denoiser(), z, t, sampler.walk, sampler.stepper, None, generator))


def place_kinds(places: list[list[int]] | list[list[float]] | None) -> tuple[tuple[int, ...], int]:
    """Sizes of the tables that places are indices into, and the number of coordinate axes; one of the two is empty or zero."""
    if places is None:
        return (), 0
    if isinstance(places[0][0], int):
        return tuple(1 + int(max(column)) for column in zip(*places, strict=True)), 0
    return (), len(places[0])


def last_state(
    steps: Iterator[Step], x: Float[Tensor, "batch variable channel"]
) -> Float[Tensor, "batch variable channel"]:
    """z of the last state; x where there is no step to take."""
    for step in steps:
        x = step.z
    return x


class NoisyPrediction(NamedTuple):
    """Noisy data and the network's predictions for it."""

    z: Tensor
    """The noisy data [batch, variable, channel]."""
    loop_outputs: list[Output]
    """The output after each run of the stack."""
    prediction: Prediction
    """The last of them as a prediction."""


def noise_and_predict(
    model: SRM, x: Tensor, t: Tensor, generator: torch.Generator | None, start: Tensor | None = None
) -> NoisyPrediction:
    """Noise the data x [batch, variable, channel] to the levels t [batch, variable, 1] and predict x from the result.

    With levels `start` ≥ t (a rollout), x is noised to these and one step of ancestral sampling, by the model's own prediction
    there, leads down to t: a state as sampling has it, with its errors. The target is still x.
    """
    z, _ = corrupt(x, t if start is None else start, model.schedule, generator)
    if start is not None:
        with torch.no_grad():
            prediction = clean(model.loop_outputs(z, start)[-1], z, start, model.schedule)
            z = process.reverse_step(prediction, z, start, t, model.schedule, generator=generator)
    outputs = model.loop_outputs(z, t)
    return NoisyPrediction(z, outputs, clean(outputs[-1], z, t, model.schedule))


def losses(
    model: SRM,
    predicted: NoisyPrediction,
    x: Float[Tensor, "batch variable channel"],
    t: Float[Tensor, "batch variable 1"],
    weight: Float[Tensor, "batch variable 1"],
    feature_loss_weight: float = 0.0,
) -> dict[str, Tensor]:
    """Velocity error, variational term and uncertainty, averaged over all variables and over the runs of the stack.

    L = mean w |u − u_θ|² + mean w L_vlb + 0.01 mean w L_σ (SRM, § 4), where u − u_θ = (α + σ)(x_θ − x)/σ; below σ = 0.2 it is
    divided by 0.2, and L_vlb weighs w (σ/0.2)². The ε head learns from |ε − ε_θ|², (α/σ)(x_θ − x), in place of the first term.
    Given variables, t = 0, have no weight and count in the mean. `feature_loss_weight` times the features' loss is added to the
    error of x.
    """
    weight = (weight * (t > 0)).float()
    level = model.schedule(t)
    sigma, scale = level.sigma.float(), (level.alpha + level.sigma).float()
    if model.head == "eps":
        scale = level.alpha.float().clamp_min(ALPHA_MIN)
    velocity_weight = weight * scale.square() / sigma.clamp_min(SIGMA_MIN).square()
    variance_weight = weight * (sigma / SIGMA_MIN).clamp_max(1).square()
    terms: dict[str, list[Tensor]] = {"velocity": [], "uncertainty": []}
    for output in predicted.loop_outputs:
        error = objective.squared_error(output.value, x)
        if feature_loss_weight:
            error = error + feature_loss_weight * model.feature_loss(output.value, x)
        terms["velocity"].append((velocity_weight * error).mean())
        nll = objective.gaussian_nll(model.feature_error(output.value, x), output.log_var)  # type: ignore[arg-type]
        terms["uncertainty"].append((weight * nll).mean())
    variance = objective.variance_kl(predicted.prediction, predicted.z, x, t, model.schedule)
    mean = {name: torch.stack(values).mean() for name, values in terms.items()}
    mean["variance"] = (variance_weight * variance).mean()
    last = {"last": terms["velocity"][-1].detach()}
    return mean | last | {"loss": mean["velocity"] + mean["variance"] + UNCERTAINTY_WEIGHT * mean["uncertainty"]}
