"""A puzzle being solved, as the page watches it: two orders of the cells at the same time, a frame of each every few steps."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import InputError
from becalm.core.typing import Bool, Tensor
from becalm.systems.srm import SRM
from becalm.tasks.progress import Progress
from becalm.tasks.solve_result import SolveResult, State
from becalm.weights.store import load

WALKS = ("digits", "together")
"""The walks that are compared: one decision after the other, the most certain first, and all cells at once."""

MAX_FRAMES = 256
"""Frames of one order, at most, without the last."""


def solve_puzzle(folder: Path, path: Path, task: dict, say: Callable[..., None], warn: Callable[[str], object]) -> None:
    """`compare_walks`, whose complaints are put in the words of the page, which has no options to write."""
    try:
        compare_walks(folder, path, task, say, warn)
    except InputError as error:
        text = re.sub(r"; mend the puzzle, give .*", "; change the puzzle", str(error))
        for part, name in ((folder / "image", task["name"]), (folder / "mask", "the mask")):
            text = text.replace(str(part), name)
        raise InputError(text.replace("and --mask", "and its mask")) from error


def compare_walks(
    folder: Path, path: Path, task: dict, say: Callable[..., None], warn: Callable[[str], object]
) -> None:
    """Solve the puzzle of an image in both orders; write its frames as they come, the facts, and the solved image."""
    from becalm.systems.puzzles import sudoku_side
    from becalm.tasks.solve import steps

    options = dict(task["options"])
    digits = tuple(options.pop("digits"))
    image, mask = read_upload(folder, path, options.pop("mask"), options.pop("mask_from", 0))
    model, name = solver_of(image, mask, options.pop("side", 9))
    runs = {walk: steps(image, mask, model, walk=walk, digits=digits, **options) for walk in WALKS}
    side = sudoku_side(model, name)
    facts: dict[str, Any] = {"side": side, "pixels": math.isqrt(model.channels), "model": name, "runs": {}}
    facts |= {"walks": WALKS, "frame": frame_size(side, facts["pixels"])}
    results: dict[str, SolveResult] = {}
    with open(folder / "frames.bin", "wb", buffering=0) as frames:
        for walk, report, done in interleave(runs):
            if report.state is not None:
                frames.write(encode_frame(WALKS.index(walk), report.done, report.state, model.data_variance))
                if "unknown" not in facts:
                    facts["unknown"] = unknown_cells(report.state).int().tolist()
                    write_facts(folder, facts)
                    say(scan=True)
            if report.result is not None:
                results[walk] = report.result
                facts["runs"][walk] = run_facts(report.result)
                write_facts(folder, facts)
            say(done=done)
    for note in results[WALKS[0]].notes:
        warn(note.partition("; --digits")[0])
    output = folder / task["output"]
    results[WALKS[0]].save(output)
    say(run=True, bytes=output.stat().st_size)


def read_upload(folder: Path, path: Path, mask: str, mask_from: int) -> tuple[Path, np.ndarray | Path | None]:
    """The puzzle's image and its mask: cells, an image that begins at a byte of the file, or None for a photograph."""
    if not mask_from:
        return path, decode_mask(mask)
    content = path.read_bytes()
    parts = folder / "image", folder / "mask"
    for part, some in zip(parts, (content[:mask_from], content[mask_from:]), strict=True):
        part.write_bytes(some)
    return parts


def solver_of(image: Path, mask: np.ndarray | Path | None, side: int) -> tuple[SRM, str]:
    """The model of the grid, and its name: of what the mask fits, or of `side` cells in a photograph."""
    from becalm.tasks.solve import SOLVERS, load_solver, read_grey

    if isinstance(mask, Path):
        return load_solver(None, read_grey(image, "image")[0], read_grey(mask, "mask")[0], (str(image), str(mask)))
    name = SOLVERS[side if mask is None else len(mask)]
    return load(name, SRM), name


def decode_mask(text: str) -> np.ndarray | None:
    """An entry a cell [side, side], 1 for each to be solved, from as many signs; None where there are none."""
    if not text:
        return None
    side = math.isqrt(len(text))
    return np.array([float(sign) for sign in text], np.float32).reshape(side, side)


def interleave(runs: dict[str, Iterator[Progress]]) -> Iterator[tuple[str, Progress, float]]:
    """Name, report and mean progress of several tasks, always of the one that is behind; few reports with a state of each."""
    done, shown = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, -1)
    while runs:
        name = min(runs, key=lambda key: done[key])
        report = next(runs[name], None)
        if report is None:
            del runs[name]
            continue
        done[name], frame = report.done, int(report.done * MAX_FRAMES)
        if report.state is not None and frame == shown[name] and report.done < 1:
            report = report._replace(state=None)
        elif report.state is not None:
            shown[name] = frame
        yield name, report, sum(done.values()) / len(done)


def unknown_cells(state: State) -> Bool[Tensor, " cell"]:
    """The cells that are being solved, in any state of a walk."""
    return (state.step.t[0, :, 0].cpu() > 0) | (state.solution.order[0] > 0)


def frame_size(side: int, pixels: int) -> int:
    """Bytes of a frame."""
    return 4 + side**2 * (pixels**2 + 3)


def encode_frame(lane: int, done: float, state: State, data_variance: float) -> bytes:
    """A frame: lane, 0, progress in 65535ths (2 bytes), then of each cell its image, certainty, order and noise level, bytes.

    The certainty is that at this moment, 1 − expected squared error over the data's mean square, in 255ths.
    """
    t, log_var = state.step.t[0, :, 0].cpu(), state.step.prediction.log_var
    sure = np.zeros(len(t)) if log_var is None else 1 - log_var[0, :, 0].double().cpu().exp().numpy() / data_variance
    pixels = to_bytes((state.step.z[0].double().cpu().numpy() + 1) / 2)
    order = state.solution.order[0].numpy().astype(np.uint8)
    head = bytes([lane, 0]) + round(65535 * min(done, 1)).to_bytes(2, "little")
    return head + pixels.tobytes() + to_bytes(sure).tobytes() + order.tobytes() + to_bytes(t.numpy()).tobytes()


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Shares of 1 as 255ths."""
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)


def run_facts(result: SolveResult) -> dict[str, Any]:
    """What the page says about a solution."""
    digits = None if result.digits is None else result.digits.flatten().tolist()
    conflicts = [list(cell) for cell in result.conflicts]
    return {"valid": result.valid, "conflicts": conflicts, "digits": digits, "steps": result.steps}


def write_facts(folder: Path, facts: dict) -> None:
    """Write what is known of a job for the page."""
    from becalm.core.files import atomic_file

    with atomic_file(folder / "facts.json") as temporary:
        temporary.write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")
