"""Solving puzzles: `becalm.solve(image, mask)` fills in the cells of a Sudoku in an image, the most certain one first."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from becalm.core.device import device_of
from becalm.core.files import InputError
from becalm.core.typing import Tensor
from becalm.images import photograph, puzzle_picture, sudoku
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems import puzzles
from becalm.systems.beam import DigitTemplates, beam_widths, first_of, fit_templates, rewrite_cells, search_digits
from becalm.systems.consistency import Consistency, measure_consistency
from becalm.systems.givens import Givens, read_givens, rewrite_givens, sample_handwriting
from becalm.systems.puzzles import Puzzle, Solution
from becalm.systems.search import Attempt, search
from becalm.systems.srm import SRM
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.solve_options import Options
from becalm.tasks.solve_result import SolveResult, State
from becalm.weights.store import load

SOLVERS = {4: "sudoku4", 9: "sudoku9"}
"""Packaged models by the cells in a row of their puzzles."""

READER = "reader14"
"""The packaged classifier of digits."""


def solve(image: Any, mask: Any = None, model: SRM | Path | str | None = None, **options: Any) -> SolveResult:
    """Solve the puzzle in an image: fill in the cells that are white in the mask, or that are empty where there is no mask.

    `image` is a path or an array [height, width], grey values in [0, 1] or bytes. With a `mask`, likewise and of the same size,
    or with an entry a cell, it must be a square of cells. Without one it is a photograph or scan, grey or [height, width, 3], in
    which the grid is found and straightened (`images.photograph`); the result shows the grid alone. `model` is a packaged name, a
    file or an SRM; left out, the packaged model for the grid. Further keyword arguments are the fields of `Options`. Raises
    InputError for what does not fit.
    """
    return final_result(steps(image, mask, model, **options))


def steps(image: Any, mask: Any = None, model: SRM | Path | str | None = None, **options: Any) -> Iterator[Progress]:
    """`solve` as a generator: a report with a `State` after each step of the first runs, one a round, then the result."""
    chosen, device = Options(**options), device_of(options.get("device", "cpu"))
    pixels, name = read_grey(image, "image", colour=mask is None)
    if mask is None:
        solver, model_name = load_solver(model or SOLVERS[9], pixels, pixels, (name, name))
        mask_name = name
        pixels, cover = photograph.extract_grid(pixels, puzzles.sudoku_side(solver, model_name), name)
    else:
        cover, mask_name = read_grey(mask, "mask")
        cover = expand_mask(cover, pixels)
        solver, model_name = load_solver(model, pixels, cover, (name, mask_name))
    puzzle = puzzles.parse_puzzle(pixels, cover, solver, name, mask_name)
    reader, notes = load_reader(chosen.reader, puzzle)
    solver, shown, given, templates = solver.to(device), puzzle, None, None
    if reader:
        given = read_givens(puzzle, reader.probabilities(puzzle.cells)[0], name, chosen.known_digits)
        notes = (*notes, *given.notes)
        if chosen.rewrite or chosen.walk == "digits":
            generator = torch.Generator().manual_seed(chosen.seed)
            hand = sample_handwriting(solver, reader.probabilities, generator)
            templates = fit_templates(solver, hand) if chosen.walk == "digits" else None
            if chosen.rewrite:
                shown = (
                    rewrite_givens(puzzle, given, hand, generator)
                    if templates is None
                    else rewrite_cells(puzzle, given.digits, templates)
                )
    if chosen.walk == "digits" and templates is None:
        reason = "the model tells no digits" if reader else "nothing reads digits"
        notes = (*notes, f"{reason}, so the cells are denoised, as by --walk certainty")
    solution, count = None, 0
    for report in solve_puzzle(solver, shown, chosen, (reader, given), templates):
        solution = report.result or solution
        count += report.state is not None
        yield report._replace(result=None)
    yield Progress(1.0, None, as_result(solution, puzzle, (pixels, cover), (reader, given), (model_name, count, notes)))


def solve_puzzle(
    model: SRM,
    puzzle: Puzzle,
    options: Options,
    reading: tuple[DigitClassifier | None, Givens | None] = (None, None),
    templates: DigitTemplates | None = None,
) -> Iterator[Progress]:
    """Reports of solving a puzzle: by decisions where there are templates, else by runs of a walk and rounds that mend them.

    Each result is the Solution so far; states are those of the likeliest grid, or of the first run.
    """
    generator, device = torch.Generator().manual_seed(options.seed), next(model.parameters()).device
    cells, unknown = puzzle.cells.to(device), puzzle.unknown.to(device)
    side, number, given = math.isqrt(cells.shape[1]), int(unknown.sum()), reading[1]
    walked, effort = options.total_steps(number, side**2), options.effort
    total = effort.reports(walked)
    if templates is not None and given is not None:
        attempts = search_digits(model, cells, given.digits, templates, effort.beam, generator)
        walked = total = number * len(beam_widths(effort.beam))
    else:
        attempts = search_by_walks(model, cells, unknown, options, reading, generator)
    for attempt in attempts:
        step, solution, k = attempt
        state = State(first_of(step), solution.only(0)) if step is not None and k <= walked else None
        yield Progress(min(k / total, 1.0), state, solution.only(0))


def search_by_walks(
    model: SRM,
    cells: Tensor,
    unknown: Tensor,
    options: Options,
    reading: tuple[DigitClassifier | None, Givens | None],
    generator: torch.Generator,
) -> Iterator[Attempt]:
    """`systems.search.search` with the options' walk and effort, judged by the model and, where there is one, the reader."""
    reader, given = reading
    side = math.isqrt(cells.shape[1])
    dependency = sudoku.peers(side).double().to(cells.device)
    sampler = options.pace.sampler(options.order, 1, side**2, options.seed, dependency)

    def measure(cells: Tensor, unknown: Tensor) -> Consistency:
        read = reader and reader.probabilities
        digits = None if given is None else given.digits.to(cells.device)
        return measure_consistency(model, cells, unknown, read, digits, generator)

    return search(model, cells, unknown, sampler, options.effort, measure, generator)


def as_result(
    solution: Solution | None,
    puzzle: Puzzle,
    images: tuple[Tensor, Tensor],
    reading: tuple[DigitClassifier | None, Givens | None],
    facts: tuple,
) -> SolveResult:
    """The solved image and what is read in it; `facts` are the model's name, the steps and the notes."""
    if solution is None:
        raise InputError("mask: nothing is to be solved; paint some cells white")
    side = math.isqrt(solution.order.shape[1])
    image = puzzles.render_solution(solution, puzzle, *images).float().numpy()
    order, certainty = (part[0].reshape(side, side).numpy() for part in (solution.order, solution.certainty))
    reader, given = reading
    if reader is None or given is None:
        return SolveResult(image, order, certainty, None, None, [], *facts)
    grid = torch.where(puzzle.unknown[0].cpu(), reader.read(solution.cells.cpu())[0], given.digits)
    wrong = sorted({*puzzles.repeated_digits(grid), *puzzles.invalid_digits(grid)})
    return SolveResult(image, order, certainty, grid.reshape(side, side).numpy(), not wrong, wrong, *facts)


def read_grey(source: Any, name: str, colour: bool = False) -> tuple[Tensor, str]:
    """Grey values in [0, 1], float32 [height, width], from a path or an array, and the name for messages.

    With `colour` a coloured image is taken as well, its grey being the mean of its colours.
    """
    if isinstance(source, str | Path):
        return puzzle_picture.read_image(Path(source), colour), str(source)
    array = np.asarray(source)
    scale = 255 if array.dtype == np.uint8 else 1
    if colour and array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[..., :3].astype(np.float32).mean(2)
    if array.ndim != 2:
        raise InputError(f"{name}: has shape {list(array.shape)}; a grey image [height, width] is needed")
    return torch.from_numpy(array.astype(np.float32) / np.float32(scale)), name


def expand_mask(mask: Tensor, image: Tensor) -> Tensor:
    """The mask in pixels of the image, where it has an entry a cell; else as it is."""
    side, height = mask.shape[0], image.shape[0]
    if mask.shape == (side, side) and side in SOLVERS and side < height and height % side == 0:
        return mask.repeat_interleave(height // side, 0).repeat_interleave(height // side, 1)
    return mask


def load_solver(model: SRM | Path | str | None, image: Tensor, mask: Tensor, names: tuple[str, str]) -> tuple[SRM, str]:
    """The model asked for, or the packaged one for the grid that the mask fits, and its name."""
    if isinstance(model, SRM):
        return model, "model"
    if model is None and image.shape == mask.shape:
        model = find_solver(mask, names[1])
    chosen = model or SOLVERS[4]  # where the sizes differ, which is the puzzle's fault with any model
    solver = load(chosen, SRM)
    puzzles.sudoku_side(solver, str(chosen))
    return solver, str(chosen)


def find_solver(mask: Tensor, name: str) -> str:
    """The packaged model of the grid whose cells the mask leaves whole, the smaller one if it fits both (all is white).

    Raises InputError where it fits none.
    """
    faults = []
    for side, solver in SOLVERS.items():
        fault = puzzles.mask_fault(mask, side)
        if fault is None:
            return solver
        faults.append(f"{side} × {side} cells: {fault}")
    raise InputError(f"{name}: fits no grid ({'; '.join(faults)}); make every cell all white or all black")


def load_reader(reader: str | None, puzzle: Puzzle) -> tuple[DigitClassifier | None, tuple[str, ...]]:
    """The digit classifier, None where there is none, and a note where the packaged one reads cells of another size."""
    if reader == "none":
        return None, ()
    name = reader or READER
    classifier, pixels = load(name, DigitClassifier), math.isqrt(puzzle.cells.shape[-1])
    if classifier.side == pixels:
        return classifier, ()
    fault = f"reads cells of {classifier.side} pixels, and those of this model have {pixels}"
    if reader:
        raise InputError(f"{reader}: {fault}; give a reader of that size, or --reader none")
    return None, (f"{name}: {fault}, so no digit is checked",)
