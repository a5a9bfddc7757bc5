"""Kinds: what a network puts out, turned once into the pair (x, ε); each a function (output, z, t, schedule) → Prediction.

All follow from z = αx + σε and one more linear relation. A network's `log_var` is of the error of its own target and comes out as
that of x. At the ends: where σ = 0, x is z/α and ε is 0 for the kinds that cannot know it; `eps` and `score` cannot tell x
where α = 0, and sampling from there is refused.
"""

from collections.abc import Callable

import torch

from becalm.core.process import Output, Prediction
from becalm.core.typing import Tensor

Kind = Callable[[Tensor | Output, Tensor, Tensor, Callable], Prediction]


def as_output(output: Tensor | Output) -> Output:
    """A bare tensor as an output without more."""
    return output if isinstance(output, Output) else Output(output)


def scale_log_var(log_var: Tensor | None, factor: Tensor) -> Tensor | None:
    """The log-variance of an error that is `factor` times as large."""
    return None if log_var is None else log_var + 2 * torch.log(factor.abs()).to(log_var)


def eps(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network tells ε: x = (z − σε)/α."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = schedule(t)
    x = ((z - sigma.to(z) * value) / alpha.to(z)).to(z)
    return Prediction(x, value, scale_log_var(log_var, sigma / alpha), spread)


def clean(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network tells x: ε = (z − αx)/σ; where σ = 0, x is z/α whatever the network says."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = (part.to(z) for part in schedule(t))
    exact = sigma == 0
    noise = (z - alpha * value) / torch.where(exact, 1.0, sigma)
    x = torch.where(exact, z / torch.where(exact, alpha, 1.0), value)
    return Prediction(x, torch.where(exact, 0.0, noise), log_var, spread)


def score(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network tells ∇ log q(z) = −ε/σ."""
    value, log_var, spread = as_output(output)
    sigma = schedule(t).sigma
    return eps(Output(-sigma.to(z) * value, scale_log_var(log_var, sigma), spread), z, t, schedule)


def v(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network tells v = αε − σx (Salimans & Ho 2022): x = (αz − σv)/(α² + σ²), ε = (σz + αv)/(α² + σ²)."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = schedule(t)
    power = alpha**2 + sigma**2
    x = (alpha / power).to(z) * z - (sigma / power).to(z) * value
    noise = (sigma / power).to(z) * z + (alpha / power).to(z) * value
    return Prediction(x, noise, scale_log_var(log_var, sigma / power), spread)


def velocity(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network tells u = ε − x, in any scaling: x = (z − σu)/(α + σ), ε = (z + αu)/(α + σ); never singular."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = schedule(t)
    whole = (alpha + sigma).to(z)
    x = (z - sigma.to(z) * value) / whole
    noise = (z + alpha.to(z) * value) / whole
    return Prediction(x, noise, scale_log_var(log_var, sigma / (alpha + sigma)), spread)


def levels(values: Tensor) -> Kind:
    """The network tells logits over the values [k] each channel can take, [..., channels, k]; x is their posterior mean.

    The weights are softmax(logits − ((z − α value)/σ)²/2): Bayes' rule with the network's logits as prior.
    """

    def kind(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
        value, log_var, spread = as_output(output)
        _, alpha, sigma = (part.to(z) for part in schedule(t))
        likely = ((z - 0.0)[..., None] - alpha[..., None] * values.to(z)) / sigma.clamp_min(1e-13)[..., None]
        weights = torch.softmax(value - likely.square() / 2, -1)
        return clean(Output((weights * values.to(z)).sum(-1), log_var, spread), z, t, schedule)

    return kind
