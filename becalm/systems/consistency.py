"""How well a solved Sudoku agrees with itself: the pseudo-likelihood of every cell given the others, by model and reader."""

from collections.abc import Callable
from math import isqrt
from typing import NamedTuple

import torch

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.images import sudoku
from becalm.systems.refine import pseudo_nll
from becalm.systems.srm import SRM

ReadProbabilities = Callable[[Float[Tensor, "run cell channel"]], Float[Tensor, "run cell 9"]]
"""A digit classifier's function: the probabilities of the digits 1 to 9 in each cell."""

MIN_CHANCE = 1e-6
"""Least probability of a digit that is reckoned with."""


class Consistency(NamedTuple):
    """How well solved grids agree with themselves."""

    fit: Float[Tensor, "run cell"]
    """log p of each unknown cell given the others, in nats; 0 where given."""
    score: Float[Tensor, " run"]
    """Its mean over the unknown cells: the pseudo-likelihood (Besag 1975) by which runs are compared."""
    valid: Bool[Tensor, " run"]
    """Whether the grid as it is read breaks no rule; false where nothing reads it."""


def measure_consistency(
    model: SRM,
    cells: Float[Tensor, "run cell channel"],
    unknown: Bool[Tensor, "run cell"],
    read: ReadProbabilities | None = None,
    given: Int[Tensor, " cell"] | None = None,
    generator: torch.Generator | None = None,
) -> Consistency:
    """The consistency of solved grids; `given` are the digits of the given cells, 0 elsewhere.

    The model's part is the negative of `pseudo_nll`. The reader's part is log p(d | the others) of the digit d read in a cell,
    p(d | the others) ∝ p_i(d) Π (1 − p_j(d)) over the cells j of its row, column and box; and log of the probability that it
    is a digit of the grid at all.
    """
    fit = -pseudo_nll(model, cells, unknown, generator)
    valid = torch.zeros(len(cells), dtype=torch.bool)
    if read is not None:
        chance = read(cells)
        if given is not None:
            certain = torch.nn.functional.one_hot((given - 1).clamp_min(0), chance.shape[-1]).to(chance)
            chance = torch.where(unknown[..., None], chance, certain)
        of_grid = chance[..., : isqrt(cells.shape[1])]
        digit = of_grid.argmax(-1, keepdim=True)
        fit = fit + peer_log_likelihood(of_grid).gather(-1, digit)[..., 0] + of_grid.sum(-1).clamp_min(MIN_CHANCE).log()
        valid = sudoku.is_valid(chance.argmax(-1) + 1).cpu()
    fit = torch.where(unknown, fit, 0.0)
    return Consistency(fit, fit.sum(1) / unknown.sum(1).clamp_min(1), valid)


def peer_log_likelihood(chance: Float[Tensor, "run cell digit"]) -> Float[Tensor, "run cell digit"]:
    """log p(d | the others) of every digit of every cell, from the probabilities by which each is read alone."""
    peers = sudoku.peers(isqrt(chance.shape[1])).to(chance)
    absent = torch.log((1 - chance).clamp_min(MIN_CHANCE))
    together = torch.log(chance.clamp_min(MIN_CHANCE)) + torch.einsum("ij,rjd->rid", peers, absent)
    return together.log_softmax(-1)
