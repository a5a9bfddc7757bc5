"""Kinds of network output (ε, x, score, v, velocity, logits), each a function (output, z, t, schedule) → Prediction(x, ε).

All solve z = αx + σε together with one more linear relation. A network's `log_var` is that of the error of its own target; a
kind converts it to that of x. At the ends: where σ = 0, `clean` and `levels` give x = z/α and ε = 0; `eps` and `score` do not
determine x where α = 0, and `sample` refuses to start there.
"""

from collections.abc import Callable

import torch

from becalm.core.process import Output, Prediction
from becalm.core.typing import Tensor

Kind = Callable[[Tensor | Output, Tensor, Tensor, Callable], Prediction]


def as_output(output: Tensor | Output) -> Output:
    """The output as an `Output`; a bare tensor is its value."""
    return output if isinstance(output, Output) else Output(output)


def scale_log_var(log_var: Tensor | None, factor: Tensor) -> Tensor | None:
    """Log-variance of an error multiplied by `factor`; None stays None."""
    return None if log_var is None else log_var + 2 * torch.log(factor.abs()).to(log_var)


def eps(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network predicts ε: x = (z − σε)/α."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = schedule(t)
    x = ((z - sigma.to(z) * value) / alpha.to(z)).to(z)
    return Prediction(x, value, scale_log_var(log_var, sigma / alpha), spread)


def clean(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network predicts x: ε = (z − αx)/σ; where σ = 0, x = z/α whatever the network's output."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = (part.to(z) for part in schedule(t))
    exact = sigma == 0
    noise = (z - alpha * value) / torch.where(exact, 1.0, sigma)
    x = torch.where(exact, z / torch.where(exact, alpha, 1.0), value)
    return Prediction(x, torch.where(exact, 0.0, noise), log_var, spread)


def score(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network predicts the score ∇ log q(z) = −ε/σ."""
    value, log_var, spread = as_output(output)
    sigma = schedule(t).sigma
    return eps(Output(-sigma.to(z) * value, scale_log_var(log_var, sigma), spread), z, t, schedule)


def v(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network predicts v = αε − σx (Salimans & Ho 2022): x = (αz − σv)/(α² + σ²), ε = (σz + αv)/(α² + σ²)."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = schedule(t)
    power = alpha**2 + sigma**2
    x = (alpha / power).to(z) * z - (sigma / power).to(z) * value
    noise = (sigma / power).to(z) * z + (alpha / power).to(z) * value
    return Prediction(x, noise, scale_log_var(log_var, sigma / power), spread)


def velocity(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
    """The network predicts the velocity u = ε − x, in any scaling: x = (z − σu)/(α + σ), ε = (z + αu)/(α + σ); never singular."""
    value, log_var, spread = as_output(output)
    _, alpha, sigma = schedule(t)
    whole = (alpha + sigma).to(z)
    x = (z - sigma.to(z) * value) / whole
    noise = (z + alpha.to(z) * value) / whole
    return Prediction(x, noise, scale_log_var(log_var, sigma / (alpha + sigma)), spread)


def levels(values: Tensor) -> Kind:
    """The network predicts logits [..., channels, k] over the k `values` that a channel can take; x is the posterior mean.

    Posterior probabilities are softmax(logits − ((z − α value)/σ)²/2): Bayes' rule with the logits as log-prior.
    """

    def kind(output: Tensor | Output, z: Tensor, t: Tensor, schedule) -> Prediction:
        value, log_var, spread = as_output(output)
        _, alpha, sigma = (part.to(z) for part in schedule(t))
        residual = (z[..., None] - alpha[..., None] * values.to(z)) / sigma.clamp_min(1e-13)[..., None]
        weights = torch.softmax(value - residual.square() / 2, -1)
        return clean(Output((weights * values.to(z)).sum(-1), log_var, spread), z, t, schedule)

    return kind
