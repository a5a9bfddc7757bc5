"""Refinement: what fits the others least is taken back and solved again, since what SRM settles early it settles knowing little.

Of hard Sudokus `sudoku9` solves 52 % by certainty and 75 % after ten rounds (`benchmarks/README.md`).
"""

from collections.abc import Iterator

import torch

from becalm.core import objective
from becalm.core.process import noise_like
from becalm.core.typing import Bool, Float, Tensor
from becalm.nets.precision import inference_iter
from becalm.systems.srm import SRM, Way, denoiser_of, solve, solved


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
    """−log p(x_i | the others) a channel or feature, up to a constant, as the network tells it of each unknown variable.

    The variables are hidden a random part at a time, and guessed from the rest.
    """
    denoiser, batch, variables = denoiser_of(model), *x.shape[:2]
    part = torch.rand(batch, variables, generator=generator).argsort(1).argsort(1).to(x.device) % parts
    found = torch.zeros(batch, variables, device=x.device)
    for i in range(parts):
        hidden = unknown & (part == i)
        z = torch.where(hidden[..., None], noise_like(x, generator), x)
        answer = next(inference_iter(denoiser(z, h, None) for h in (hidden[..., None].double(),)))
        cost = objective.gaussian_nll(model.error(answer.x, x), answer.log_var)[..., 0]
        found = torch.where(hidden, cost.float(), found)
    return found
