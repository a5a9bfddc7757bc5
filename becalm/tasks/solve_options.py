"""The options of `becalm.solve`, checked."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from becalm.core.files import InputError
from becalm.core.process import Variance
from becalm.systems.search import Effort
from becalm.systems.solver import Order, Pace


@dataclass(frozen=True)
class Options:
    """How a puzzle is solved; `solve` takes these as keyword arguments."""

    walk: Literal["digits"] | Order = "digits"
    """`digits`: decide the digit of one cell a step, the most certain one, and keep the likeliest grids. The others denoise: the
    most certain cell first, most known neighbours first, at random, as numbered, or all at once. Without a reader, or for a model
    that tells no digits, `digits` is `certainty`."""
    beam: int = 16
    """Grids that `digits` keeps at most: first one, then four times as many, until one breaks no rule."""
    steps_per_variable: int = 12
    """Steps of each block of cells, from noise to data; this and what follows to `backtrack` is for walks that denoise."""
    group: int = 1
    """Cells in a block, which are started together."""
    overlap: float = 0.0
    """Share of a block's steps that the next block runs along with it, from 0 to below 1."""
    eta: float = 1.0
    """Noise put back in each step: 0 none, 1 as much as ancestral sampling does."""
    variance: Variance = "small"
    """Variance of that noise: the lower bound, the upper bound, or where between the network learned it to be."""
    tries: int = 1
    """Runs at most, four at a time: the most consistent one is kept, and the first that breaks no rule ends the search."""
    refine: int = 10
    """Rounds for each run in which the quarter of the cells that fits the others least is solved again."""
    backtrack: int = 0
    """Rounds for each run, after those of `refine`, in which an uncertain decision is undone with all that came after it."""
    digits: tuple[str, ...] = ()
    """What given cells show, where they are misread: ROW,COLUMN=DIGIT, each from 1."""
    rewrite: bool = True
    """Show the model every given digit, as the reader reads it, in its own handwriting, whose digits it knows best; otherwise in
    that of the image. Needs a reader."""
    reader: str | None = None
    """What reads digits, to check what is given and what was solved: a packaged model, a file, or `none`; None: reader14."""
    seed: int = 0
    """Decides every random draw."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""

    def __post_init__(self):
        if self.steps_per_variable < 1 or not 0 <= self.eta <= 1:
            raise InputError("--steps-per-variable must be at least 1, --eta from 0 to 1")
        if self.refine < 0 or self.backtrack < 0 or self.tries < 1:
            raise InputError("--refine and --backtrack must be at least 0, --tries at least 1")
        if self.beam < 1:
            raise InputError("--beam must be at least 1")
        if self.walk == "digits" and (self.tries > 1 or self.backtrack):
            raise InputError(
                "--tries and --backtrack are for walks that denoise: add --walk certainty, or leave them out"
            )
        _ = self.known_digits
        if self.group < 1 or not 0 <= self.overlap < 1:
            raise InputError("--group must be at least 1, --overlap from 0 to below 1")

    @property
    def pace(self) -> Pace:
        """Steps, groups, overlap and noise."""
        return Pace(self.steps_per_variable, self.group, self.overlap, None, self.eta, self.variance)

    @property
    def effort(self) -> Effort:
        """Runs and rounds."""
        return Effort(self.tries, self.refine, self.backtrack, beam=self.beam)

    @property
    def known_digits(self) -> dict[tuple[int, int], int]:
        """`digits` as numbers: digits by row and column. Raises InputError where one is not written so."""
        found = {}
        for text in self.digits:
            parts = re.fullmatch(r"(\d),(\d)=(\d)", text.replace(" ", ""))
            if parts is None:
                raise InputError(f"--digits {text}: write ROW,COLUMN=DIGIT, such as 8,8=1")
            row, column, digit = map(int, parts.groups())
            found[row, column] = digit
        return found

    @property
    def order(self) -> Order:
        """The order in which walks denoise."""
        return "certainty" if self.walk == "digits" else self.walk

    def total_steps(self, unknown: int, cells: int) -> int:
        """Steps of a walk that denoises, ⌈L((B − 1)(1 − overlap) + 1)⌉ for B blocks of L steps."""
        if self.walk == "together":
            return self.steps_per_variable * cells
        blocks = math.ceil(unknown / self.group)
        return math.ceil(self.steps_per_variable * ((blocks - 1) * (1 - self.overlap) + 1) - 1e-9)
