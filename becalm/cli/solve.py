"""becalm solve: a puzzle as an image and a mask in, the solved image out."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


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
    """Write every state of the walk to this .safetensors file."""
    picture: Path | None = None
    """Write a picture to this .png file: cells numbered as they were settled, tinted by how sure they were."""
    reader: str = "reader14"
    """What reads the digits, to check what is given and what was solved: a packaged model, a file, or `none`."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same result."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, solve, write, report."""
        import torch
        from tqdm import tqdm

        from becalm.core import record
        from becalm.core.files import InputError, check_outputs, check_picture
        from becalm.images import picture
        from becalm.systems import puzzles
        from becalm.systems.srm import SRM, solve
        from becalm.systems.store import load
        from becalm.systems.trial import way_of

        started = time.time()
        output = self.output or self.image.with_name(f"{self.image.stem}.solved.png")
        check_picture(output)
        check_outputs((output, self.record, self.picture), (self.image, self.mask))
        if self.steps_per_variable < 1 or not 0 <= self.eta <= 1 or self.refine < 0:
            raise InputError("--steps-per-variable must be at least 1, --eta from 0 to 1, --refine at least 0")
        model = load(self.model, SRM)
        side = puzzles.side_of(model, self.model)
        image, mask = picture.read(self.image), picture.read(self.mask)
        puzzle = puzzles.puzzle_of(image, mask, model, str(self.image))
        read = self.reading(puzzle)
        if read:
            puzzles.given_digits(puzzle, read, str(self.image))
        generator = torch.Generator().manual_seed(self.seed)
        way = way_of(self.walk, side, self.steps_per_variable, self.eta, 1, self.seed)
        count = int(puzzle.unknown.sum())
        if not count:
            raise InputError(f"{self.mask}: is all black, so every cell is given; paint white what is to be solved")
        steps = list(tqdm(solve(model, puzzle.cells, puzzle.unknown, way, generator), "solving", disable=None))
        *_, answer = puzzles.begun(iter(steps), puzzle, model.power)
        answer = puzzles.refined(model, puzzle, answer, self.refine, way, generator)
        if self.record:
            record.write(record.collected(steps, {"model": self.model, "seed": self.seed}), self.record)
        solved = puzzles.drawn(answer, puzzle, image, mask)
        picture.write(solved, output)
        if self.picture:
            picture.numbered(solved, answer.order, answer.certainty, self.picture)
        sure = [None if x != x else round(x, 4) for x in answer.certainty.tolist()]
        summary = {"cells": len(sure), "solved": count, "steps": len(steps), "seconds": round(time.time() - started, 2)}
        summary |= {"output": str(output), **self.checked(answer.cells, read)}
        self.tell(summary | {"certainty": sure, "order": answer.order.tolist()})

    def reading(self, puzzle):
        """The function that reads cells, or None where there is no reader for cells of that size."""
        from becalm.images.judge import Judge
        from becalm.systems.store import load

        if self.reader == "none":
            return None
        judge = load(self.reader, Judge)
        return judge.read if judge.side**2 == puzzle.cells.shape[-1] else None

    def checked(self, cells, read) -> dict:
        """What the reader finds in the solved grid: its digits, whether it is valid, and the cells in conflict."""
        from becalm.systems import puzzles

        if read is None:
            return {}
        grid = read(cells)[0]
        side, wrong = puzzles.isqrt(len(grid)), puzzles.contradictions(grid)
        whole = not wrong and int(grid.max()) <= side
        return {"valid": whole, "conflicts": wrong, "digits": grid.reshape(side, side).tolist()}

    def tell(self, summary: dict) -> None:
        """Print the summary: JSON, or a line and the two tables."""
        if self.json:
            print(json.dumps(summary))
            return
        side = round(summary["cells"] ** 0.5)
        tables = ("certainty", "order", "digits", "conflicts")
        print("  ".join(f"{k} {str(v).lower() if k == 'valid' else v}" for k, v in summary.items() if k not in tables))
        if summary.get("conflicts"):
            print("in conflict: " + ", ".join(f"row {r} column {c}" for r, c in summary["conflicts"]))
        for row in summary.get("digits", []):
            print(" ".join(str(digit) for digit in row))
        for name, form in (("order", "{:3d}"), ("certainty", "{:.2f}")):
            print(f"{name} (· given)", file=sys.stdout)
            for row in range(side):
                cells = range(row * side, (row + 1) * side)
                given = [summary["order"][i] == 0 for i in cells]
                shown = [summary[name][i] for i in cells]
                width = len(form.format(1))
                print(
                    " ".join(
                        "·".rjust(width) if g or s is None else form.format(s)
                        for g, s in zip(given, shown, strict=True)
                    )
                )
