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
    """Solve a puzzle in square cells: the most certain cell first, each known to those after it."""

    image: Annotated[Path, tyro.conf.Positional]
    """The puzzle: with a mask a square grey image of cells alone, without one a photograph or scan of a 9×9 grid."""
    mask: Path | None = None
    """Its mask, of the same size: white cells are to be solved, black ones are given. Left out, the grid is found in the image,
    straightened, and its empty cells are solved."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """The solved image, a PNG; left out, IMAGE.solved.png beside the puzzle."""
    model: str | None = None
    """A packaged model (see `becalm models`) or a file of weights; left out, the packaged one for the grid."""
    walk: Literal["digits", "certainty", "graph", "random", "order", "together"] = "digits"
    """digits: decide the digit of one cell a step, the most certain one, and keep the likeliest grids; without a reader, or with
    a model that tells no digits, as certainty. The others denoise the cells: the most certain one first, most known neighbours
    first, at random, as numbered, or all at once."""
    beam: int = 16
    """Grids that `digits` keeps at most: first one, then four times as many, until one breaks no rule."""
    steps_per_variable: int = 12
    """Steps for each cell; this and what follows to --backtrack is for walks that denoise."""
    group: int = 1
    """Cells that are started together."""
    overlap: float = 0.0
    """Share of its steps that a cell runs along with the next, from 0 to below 1."""
    eta: float = 1.0
    """Noise put back in each step: 0 none, 1 as much as ancestral sampling does."""
    variance: Literal["small", "large", "learned"] = "small"
    """Variance of that noise: the lower bound, the upper bound, or where between the network learned it to be."""
    tries: int = 1
    """Runs at most, four at a time: the most consistent one is kept, and the first that breaks no rule ends the search."""
    refine: int = 10
    """Rounds for each run in which the quarter of the cells that fits the others least is solved again."""
    backtrack: int = 0
    """Rounds for each run, after those of refine, in which an uncertain decision is undone with all that came after it."""
    digits: tuple[str, ...] = ()
    """What given cells show, where they are misread: ROW,COLUMN=DIGIT, each from 1, such as 8,8=1."""
    rewrite: bool = True
    """Show the model every given digit, as the reader reads it, in its own handwriting, whose digits it knows best; with
    --no-rewrite in that of the image. The solved image keeps the given cells as they are."""
    record: Path | None = None
    """Write every state to this .safetensors file: of the first run without rounds, or of all searches of `digits`."""
    picture: Path | None = None
    """Write a picture to this .png file: cells numbered in the order they were started, tinted by how certain they were."""
    reader: str | None = None
    """What reads digits, to check what is given and what was solved: a packaged model, a file, or `none`; left out, reader14."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same result."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Solve, write, report."""
        from tqdm import tqdm

        from becalm.core import trajectory
        from becalm.tasks.solve import steps
        from becalm.weights.packaged import weights_sha256

        started = time.time()
        output = self.output or self.image.with_name(f"{self.image.stem}.solved.png")
        self.check(output)
        options = {name: getattr(self, name) for name in OPTIONS}
        kept, bar = [], tqdm(desc="solving", total=100, disable=None, bar_format="{desc}: {n:.0f}%|{bar}| [{elapsed}]")
        for report in steps(self.image, self.mask, self.model, **options):
            bar.update(100 * report.done - bar.n)
            if self.record and report.state:
                kept.append(report.state.step)
        bar.close()
        result = report.result
        for note in result.notes:
            print(note, file=sys.stderr)
        result.save(output)
        if self.record:
            facts = {"model": result.model, "model_sha256": weights_sha256(result.model), "seed": self.seed}
            trajectory.write(trajectory.record_steps(kept, facts), self.record)
        if self.picture:
            result.save_picture(self.picture)
        summary = result.summary()
        summary |= {"model": result.model, "seconds": round(time.time() - started, 2), "output": str(output)}
        print(json.dumps(summary) if self.json else format_summary(summary))

    def check(self, output: Path) -> None:
        """Raise InputError, before any work, for outputs that cannot be written or would replace an input."""
        from becalm.core.files import check_outputs, check_png_name
        from becalm.tasks.solve import READER, SOLVERS
        from becalm.weights.packaged import find_weights

        check_png_name(output)
        readers = [] if self.reader == "none" else [find_weights(self.reader or READER)]
        models = [find_weights(self.model)] if self.model else [find_weights(name) for name in SOLVERS.values()]
        inputs = (self.image, *([self.mask] if self.mask else []), *models, *readers)
        check_outputs((output, self.record, self.picture), inputs, self.force)


OPTIONS = (
    "walk",
    "beam",
    "steps_per_variable",
    "group",
    "overlap",
    "eta",
    "variance",
    "tries",
    "refine",
    "backtrack",
    "digits",
    "rewrite",
    "reader",
    "seed",
    "device",
)
"""Fields that are options of `becalm.tasks.solve`."""


def format_summary(summary: dict) -> str:
    """The summary for people: a line, the cells in conflict, and tables of the grid."""
    side = round(summary["cells"] ** 0.5)
    tables = ("certainty", "order", "digits", "conflicts")
    lines = ["  ".join(f"{k} {str(v).lower() if k == 'valid' else v}" for k, v in summary.items() if k not in tables)]
    if summary.get("conflicts"):
        lines.append("in conflict: " + ", ".join(f"row {r} column {c}" for r, c in summary["conflicts"]))
    lines += [" ".join(map(str, row)) for row in summary.get("digits", [])]
    for name, width, form in (("order", 3, "{:3d}"), ("certainty", 4, "{:.2f}")):
        given = "·".rjust(width)
        entries = [
            form.format(x) if order and x is not None else given
            for x, order in zip(summary[name], summary["order"], strict=True)
        ]
        lines.append(f"{name} (· given)")
        lines += [" ".join(entries[row * side : (row + 1) * side]) for row in range(side)]
    return "\n".join(lines)
