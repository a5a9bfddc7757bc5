"""A solved puzzle: its image, what is read in it, and how it is shown and written."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from becalm.core.files import atomic_file
from becalm.core.sample import Step
from becalm.core.typing import Tensor
from becalm.images import puzzle_picture
from becalm.systems.puzzles import Solution
from becalm.tasks.html import summary_html


class State(NamedTuple):
    """A puzzle while it is being solved."""

    step: Step
    """Cells, noise levels and prediction."""
    solution: Solution
    """The solution as it stands."""


@dataclass(frozen=True, eq=False, repr=False)
class SolveResult:
    """A solved puzzle; arrays [row, column] have an entry a cell."""

    image: np.ndarray
    """The solved image, grey values in [0, 1], float32 [height, width]; given cells are those of the puzzle."""
    order: np.ndarray
    """When each cell was decided, or its denoising started, from 1; cells started together share a number, given ones have 0."""
    certainty: np.ndarray
    """Of each cell the probability of its digit when it was decided; in walks that denoise, when it was started, 1 − expected
    squared error over the data's mean square. NaN where given."""
    digits: np.ndarray | None
    """The digit read in each cell; None where nothing read them."""
    valid: bool | None
    """Whether every row, column and box has every digit once; None where nothing read them."""
    conflicts: list[tuple[int, int]]
    """Row and column, from 1, of every cell whose digit is repeated or is not one of the grid."""
    model: str
    """The model that solved it."""
    steps: int
    """Decisions of all searches, or steps of the walk without refinement."""
    notes: tuple[str, ...] = ()
    """What could not be done, such as reading cells of another size."""

    def save(self, path: Path | str) -> Path:
        """Write the solved image as a PNG."""
        puzzle_picture.write_image(torch.from_numpy(self.image), Path(path))
        return Path(path)

    def save_picture(self, path: Path | str) -> Path:
        """Write a PNG in which cells carry the number of their turn and are tinted by their certainty."""
        with atomic_file(Path(path)) as temporary:
            temporary.write_bytes(puzzle_picture.order_png(*self._cells()))
        return Path(path)

    def summary(self) -> dict:
        """Counts, and the result's arrays as lists, as `becalm solve --json` prints them."""
        sure = [None if math.isnan(x) else round(x, 4) for x in self.certainty.flatten().tolist()]
        counts = {"cells": self.order.size, "solved": int((self.order > 0).sum()), "steps": self.steps}
        read = {}
        if self.digits is not None:
            read = {"valid": self.valid, "conflicts": self.conflicts, "digits": self.digits.tolist()}
        return counts | read | {"certainty": sure, "order": self.order.flatten().tolist()}

    def _cells(self) -> tuple[Tensor, Tensor, Tensor]:
        order, certainty = torch.from_numpy(self.order).flatten(), torch.from_numpy(self.certainty).flatten()
        return torch.from_numpy(self.image), order, certainty

    def _facts(self) -> dict[str, object]:
        valid = {None: "not checked", True: "valid", False: f"{len(self.conflicts)} cells in conflict"}[self.valid]
        solved = f"{int((self.order > 0).sum())} of {self.order.size} cells"
        return {"solved": solved, "result": valid, "steps": self.steps, "model": self.model}

    def __repr__(self) -> str:
        lines = ["SolveResult(" + ", ".join(f"{name}: {value}" for name, value in self._facts().items()) + ")"]
        lines += [" ".join(map(str, row)) for row in ([] if self.digits is None else self.digits)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return summary_html("Solved puzzle", self._facts(), puzzle_picture.order_png(*self._cells()))
