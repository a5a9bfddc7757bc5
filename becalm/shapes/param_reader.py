"""A parameter vector read as quantities and choices."""

from collections.abc import Mapping

import numpy as np

Number = float | int


class ParamReader:
    """Reads the entries of a vector u in [0, 1)^d, one after the other, each as what it means."""

    def __init__(self, u: np.ndarray):
        self.values = iter(u.tolist())

    def uniform(self, low: Number, high: Number) -> float:
        """A number of low … high."""
        return low + (high - low) * next(self.values)

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int((high - low + 1) * next(self.values))

    def boolean(self, share: Number) -> bool:
        """True for a share of the vectors."""
        return next(self.values) < share

    def choice(self, weights: Mapping[str, Number]) -> str:
        """A name, each with the weight it has in the table."""
        return choose(weights, next(self.values))


def choose(weights: Mapping[str, Number], u: float) -> str:
    """The name at u ∈ [0, 1) of the unit interval, cut in proportion to the weights."""
    left = u * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return name
