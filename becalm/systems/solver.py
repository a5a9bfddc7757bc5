"""What models that solve have in common: unknown variables are sampled given the others, in an order and at a pace to choose."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from becalm.core import walk
from becalm.core.process import Variance
from becalm.core.sample import Step
from becalm.core.sampler import Sampler
from becalm.core.typing import Bool, Float, Tensor

Order = Literal["certainty", "graph", "random", "order", "together"]
"""Which variable next: the most certain one; the one with most known neighbours; at random; as numbered; all at once."""


class Solver(Protocol):
    """A model over a fixed number of variables that samples some of them given the others (`systems.srm.SRM` is one)."""

    channels: int
    """Numbers of a variable."""

    def solve(
        self,
        x: Float[Tensor, "batch variable channel"],
        unknown: Bool[Tensor, "batch variable"],
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Step]:
        """Sample the unknown variables of x given the others; yields every state, the last of which holds the solution in z."""
        ...


@dataclass(frozen=True)
class Pace:
    """How fast variables are denoised, and how much noise is put back; any order may go with it."""

    steps_per_variable: int = 12
    """Steps of each block of variables, from noise to data."""
    group: int = 1
    """Variables in a block, which are started together."""
    overlap: float = 0.0
    """Share of a block's steps that the next block runs along with it, from 0 to below 1."""
    joint_steps: int | None = None
    """Steps where all variables are denoised together; None: `steps_per_variable` for each of them."""
    eta: float = 1.0
    """Noise put back in each step, from 0 (none) to 1 (ancestral sampling)."""
    variance: Variance = "small"
    """Variance of that noise: the lower bound, the upper bound, or where between the network learned it to be."""

    def sampler(
        self, order: Order, batch: int, variables: int, seed: int, dependency: Float[Tensor, "v v"] | None = None
    ) -> Sampler:
        """The sampler of an order for a batch; `seed` decides the random one, `dependency` [variable, variable] the graph."""
        budget = self.group, self.overlap, None, self.steps_per_variable
        if order == "certainty":
            chosen = walk.by_certainty(*budget)
        elif order == "graph" and dependency is not None:
            chosen = walk.by_graph(dependency, *budget)
        elif order == "random":
            rank = torch.rand(batch, variables, generator=torch.Generator().manual_seed(seed))
            chosen = walk.in_order(rank, *budget)
        elif order == "order":
            chosen = walk.in_order(None, *budget)
        elif order == "together":
            chosen = walk.together(self.joint_steps or self.steps_per_variable * variables)
        else:
            raise ValueError(f"order: {order!r} is unknown, or a graph without its dependencies")
        return Sampler(update="ancestral", eta=self.eta, variance=self.variance, order=chosen)
