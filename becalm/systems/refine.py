"""Refinement of solutions: rounds in which the variables that fit the others least are resampled given the rest.

What SRM settles early it settles knowing little. Of hard Sudokus `sudoku9` solves 52 % by certainty and 75 % after ten rounds
(`benchmarks/README.md`).
"""

from collections.abc import Iterator

import torch

from becalm.core import objective
from becalm.core.process import noise_like
from becalm.core.sampler import Sampler
from becalm.core.typing import Bool, Float, Tensor
from becalm.systems.srm import SRM, last_state


def refine(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    unknown: Bool[Tensor, "batch variable"],
    rounds: int,
    share: float = 0.25,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Float[Tensor, "batch variable channel"]]:
    """Resample, `rounds` times, the share of the unknown variables of greatest pseudo-NLL; yields x after each round."""
    for _ in range(rounds):
        worst = worst_variables(pseudo_nll(model, x, unknown, generator), unknown, share)
        x = resample(model, x, worst, sampler, generator)
        yield x


def worst_variables(
    nll: Float[Tensor, "batch variable"], unknown: Bool[Tensor, "batch variable"], share: float = 0.25
) -> Bool[Tensor, "batch variable"]:
    """The share, rounded up, of the unknown variables whose negative log-likelihood is greatest."""
    count = torch.ceil(share * unknown.sum(1, keepdim=True))
    rank = nll.masked_fill(~unknown, -torch.inf).argsort(1, descending=True).argsort(1)
    return unknown & (rank < count)


def resample(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    chosen: Bool[Tensor, "batch variable"],
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch variable channel"]:
    """x with the chosen variables sampled anew given the others."""
    return last_state(model.solve(x, chosen, sampler, generator), x)


def pseudo_nll(
    model: SRM,
    x: Float[Tensor, "batch variable channel"],
    unknown: Bool[Tensor, "batch variable"],
    generator: torch.Generator | None = None,
    parts: int = 4,
) -> Float[Tensor, "batch variable"]:
    """−log p(x_i | the others) a channel or feature, in nats, of each unknown variable, as the model predicts it; 0 elsewhere.

    A term of the pseudo-likelihood (Besag 1975), but a random part of the variables is set to noise at a time (t = 1), and
    predicted from the rest, so `parts` calls of the network serve all.
    """
    batch, variables = x.shape[:2]
    part = torch.rand(batch, variables, generator=generator).argsort(1).argsort(1).to(x.device) % parts
    result = torch.zeros(batch, variables, device=x.device)
    for i in range(parts):
        hidden = unknown & (part == i)
        z = torch.where(hidden[..., None], noise_like(x, generator), x)
        prediction = model.predict(z, hidden[..., None].double())
        assert prediction.log_var is not None, "an SRM predicts its error"
        nll = objective.gaussian_nll(model.feature_error(prediction.x, x), prediction.log_var)[..., 0]
        result = torch.where(hidden, nll.float(), result)
    return result
