"""The level-aware head of VDM: numbers that take one of K levels, inferred from noisy numbers and the network's logits.

For each number y = z/α = x + e^{γ/2}ε the network gives a few features, and these give logits over the K levels. The logits of an
image would be the largest tensor of a training step, so they are formed for some rows at a time.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from becalm.core import likelihood
from becalm.core.typing import Float, Int, Tensor

CHUNK_LOGITS = 2**20
"""Logits formed at a time: about what a processor keeps in its cache."""


def split_rows(tensors: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Chunks of `size` rows, taken from every tensor alike."""
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def posterior_means(
    features: Float[Tensor, "row feature"],
    y: Float[Tensor, " row"],
    precision: Float[Tensor, " row"],
    logits: nn.Linear,
    recompute: bool,
) -> Float[Tensor, " row"]:
    """`posterior_mean` of all rows, chunk by chunk; `recompute` forms the logits again in the backward pass, to store none."""
    if torch.compiler.is_compiling():  # an exported network is given any number of rows, all at once
        return posterior_mean(features, y, precision, logits.weight, logits.bias)
    mean: Callable = posterior_mean
    if recompute:
        mean = partial(checkpoint, posterior_mean, use_reentrant=False, preserve_rng_state=False)
    chunks = split_rows((features, y, precision), CHUNK_LOGITS // logits.out_features)
    return torch.cat([mean(*chunk, logits.weight, logits.bias) for chunk in chunks])


def posterior_mean(
    features: Float[Tensor, "row feature"],
    y: Float[Tensor, " row"],
    precision: Float[Tensor, " row"],
    weight: Float[Tensor, "level feature"],
    bias: Float[Tensor, " level"],
) -> Float[Tensor, " row"]:
    """Σ_k v_k w_k, w = softmax(logits − ½e^{−γ}(y − v)²) over the K levels v, with y = z/α and precision e^{−γ}.

    logits = weight · features + bias; all in float32, also under autocast.
    """
    with torch.autocast(y.device.type, enabled=False):
        values = likelihood.level_values(len(bias), y)
        logits = nn.functional.linear(features.to(weight), weight, bias).to(y)
        squared_distance = (y[:, None] - values).square()
        return (logits - precision[:, None] * squared_distance / 2).softmax(-1) @ values


def sample_levels(
    y: Float[Tensor, "*data"], gamma: Float[Tensor, ""], levels: int, generator: torch.Generator
) -> Int[Tensor, "*data"]:
    """A sample of the decoder p(x|z₀) ∝ exp(−½e^{−γ₀}(y − x)²) over the K levels, y = z₀/α₀, for each number of float64."""
    values = likelihood.encode_levels(torch.arange(levels, device=y.device), levels, torch.float64)
    u = torch.rand(y.shape, generator=generator, dtype=torch.float64).to(y.device)
    rows = split_rows((y.flatten(), u.flatten()), CHUNK_LOGITS // levels)
    log_p = ((-torch.exp(-gamma) * (y[:, None] - values).square() / 2, u) for y, u in rows)
    return torch.cat([inverse_cdf(logits.softmax(-1), u) for logits, u in log_p]).view(y.shape)


def inverse_cdf(probabilities: Float[Tensor, "row level"], u: Float[Tensor, " row"]) -> Int[Tensor, " row"]:
    """The first level whose cumulative probability reaches u: a sample of the levels for u uniform on [0, 1)."""
    return (probabilities.cumsum(-1) < u[:, None]).sum(-1).clamp_max(probabilities.shape[-1] - 1)
