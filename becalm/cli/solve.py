"""becalm solve: a puzzle as an image and a mask in, the solved image out."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

READER = "reader14"
"""The packaged reader of digits."""


@dataclass(frozen=True)
class Solve:
    """Solve a puzzle drawn in square cells: the surest cell first, each one informing the next."""

    image: Annotated[Path, tyro.conf.Positional]
    """The puzzle, a square grey image; what is drawn in cells to be solved does not matter."""
    mask: Path
    """Its mask, of the same size: white cells are to be solved, black ones are given."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """The solved image, a PNG; left out, IMAGE.solved.png beside the puzzle."""
    model: str = "sudoku4"
    """A packaged model (see `becalm models`) or a file of weights."""
    walk: Literal["certainty", "graph", "random", "order", "together"] = "certainty"
    """Which cell when: the surest first, best known neighbours first, at random, as they are numbered, or all at once."""
    steps_per_variable: int = 12
    """Steps for each cell."""
    eta: float = 1.0
    """Noise put back in each step: 0 none, 1 as much as ancestral sampling does."""
    refine: int = 0
    """Rounds in which the quarter of the cells that fits the others least is solved again."""
    record: Path | None = None
    """Write every state of the walk, without the rounds of `--refine`, to this .safetensors file."""
    picture: Path | None = None
    """Write a picture to this .png file: cells numbered as they were settled, tinted by how sure they were."""
    reader: str | None = None
    """What reads digits, to check what is given and what was solved: a packaged model, a file, or `none`; left out, reader14."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same result."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, solve, write, report."""
        import torch
        from tqdm import tqdm

        from becalm.core import trajectory
        from becalm.core.files import InputError, check_outputs, check_png_name
        from becalm.images import puzzle_picture, sudoku
        from becalm.systems import puzzles
        from becalm.systems.refine import refine
        from becalm.systems.solver import Pace
        from becalm.systems.srm import SRM
        from becalm.weights.store import load, located

        started = time.time()
        output = self.output or self.image.with_name(f"{self.image.stem}.solved.png")
        check_png_name(output)
        readers = [] if self.reader == "none" else [located(self.reader or READER)]
        inputs = (self.image, self.mask, located(self.model), *readers)
        check_outputs((output, self.record, self.picture), inputs)
        if self.steps_per_variable < 1 or not 0 <= self.eta <= 1 or self.refine < 0:
            raise InputError("--steps-per-variable must be at least 1, --eta from 0 to 1, --refine at least 0")
        model = load(self.model, SRM)
        side = puzzles.sudoku_side(model, self.model)
        image, mask = puzzle_picture.read(self.image), puzzle_picture.read(self.mask)
        puzzle = puzzles.parse_puzzle(image, mask, model, str(self.image), str(self.mask))
        read = self.reading(puzzle)
        if read:
            puzzles.given_digits(puzzle, read, str(self.image))

        generator = torch.Generator().manual_seed(self.seed)
        dependency = sudoku.peers(side).double()
        sampler = Pace(self.steps_per_variable, eta=self.eta).sampler(self.walk, 1, side**2, self.seed, dependency)
        walk, kept, steps = model.solve(puzzle.cells, puzzle.unknown, sampler, generator), [], 0
        total = self.steps_per_variable * (side**2 if self.walk == "together" else int(puzzle.unknown.sum()))
        for step, answer in puzzles.track_solution(
            iter(tqdm(walk, "solving", total, disable=None)), puzzle, model.data_variance
        ):
            steps += 1
            if self.record:
                kept.append(step)
        for cells in refine(model, answer.cells, puzzle.unknown, self.refine, sampler=sampler, generator=generator):
            answer = answer._replace(cells=cells)

        solved = puzzles.render_solution(answer, puzzle, image, mask)
        puzzle_picture.write(solved, output)
        if self.record:
            trajectory.write(trajectory.record_steps(kept, {"model": self.model, "seed": self.seed}), self.record)
        if self.picture:
            puzzle_picture.numbered(solved, answer.order, answer.certainty, self.picture)
        sure = [None if x != x else round(x, 4) for x in answer.certainty.tolist()]
        summary = {"cells": len(sure), "solved": int(puzzle.unknown.sum()), "steps": steps}
        summary |= {"seconds": round(time.time() - started, 2), "output": str(output), **checked(answer.cells, read)}
        summary |= {"certainty": sure, "order": answer.order.tolist()}
        print(json.dumps(summary) if self.json else told(summary))

    def reading(self, puzzle):
        """The function that reads cells; None where none is wanted, or, with a note, where ours reads cells of another size."""
        from becalm.core.files import InputError
        from becalm.nets.digit_classifier import DigitClassifier
        from becalm.weights.store import load

        if self.reader == "none":
            return None
        name = self.reader or READER
        classifier, pixels = load(name, DigitClassifier), round(puzzle.cells.shape[-1] ** 0.5)
        if classifier.side == pixels:
            return classifier.read
        said = f"reads cells of {classifier.side} pixels, and those of this model have {pixels}"
        if self.reader:
            raise InputError(f"{self.reader}: {said}; give a reader of that size, or --reader none")
        print(f"{name}: {said}, so no digit is checked", file=sys.stderr)
        return None


def checked(cells, read) -> dict:
    """What the reader finds in the solved grid: its digits, whether it is valid, and the cells that are wrong."""
    from becalm.systems import puzzles

    if read is None:
        return {}
    grid = read(cells)[0]
    side, wrong = puzzles.isqrt(len(grid)), sorted({*puzzles.repeated_digits(grid), *puzzles.invalid_digits(grid)})
    return {"valid": not wrong, "conflicts": wrong, "digits": grid.reshape(side, side).tolist()}


def told(summary: dict) -> str:
    """The summary for people: a line, what is wrong, and tables of the grid."""
    side = round(summary["cells"] ** 0.5)
    tables = ("certainty", "order", "digits", "conflicts")
    lines = ["  ".join(f"{k} {str(v).lower() if k == 'valid' else v}" for k, v in summary.items() if k not in tables)]
    if summary.get("conflicts"):
        lines.append("in conflict: " + ", ".join(f"row {r} column {c}" for r, c in summary["conflicts"]))
    lines += [" ".join(map(str, row)) for row in summary.get("digits", [])]
    for name, width, form in (("order", 3, "{:3d}"), ("certainty", 4, "{:.2f}")):
        given = "·".rjust(width)
        shown = [
            form.format(x) if order and x is not None else given
            for x, order in zip(summary[name], summary["order"], strict=True)
        ]
        lines.append(f"{name} (· given)")
        lines += [" ".join(shown[row * side : (row + 1) * side]) for row in range(side)]
    return "\n".join(lines)
