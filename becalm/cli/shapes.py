"""What the commands for shapes share: checks before the work, files and the summary."""

import json
from pathlib import Path
from typing import Any


def check_request(request: Any, output: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Raise InputError for a place where nothing can be written, or an input that would be overwritten, before the work is done.

    `request` is a command with model, number, points, mesh, picture and force.
    """
    from becalm.core.files import check_outputs
    from becalm.tasks.shape_files import check_counts, check_target
    from becalm.weights.packaged import find_weights

    check_outputs(
        (request.picture, output if output.suffix == ".npz" else None),
        [find_weights(request.model), *inputs],
        request.force,
    )
    check_target(output, request.mesh, request.points)
    check_counts(request.number, request.points)


def sampler_of(steps: int) -> Any:
    """A sampler of so many steps. Raises InputError where there is none."""
    from becalm.core.files import InputError
    from becalm.core.sampler import Sampler

    if steps < 1:
        raise InputError(f"--steps {steps}: must be at least 1")
    return Sampler(steps)


def write_result(result: Any, request: Any, output: Path, columns: int = 8) -> None:
    """Write shapes and their picture, and print the summary."""
    result.save(output, request.mesh)
    if request.picture:
        result.draw(request.picture, columns)
    summary = {"shapes": len(result), "points": request.points, **result.facts, "output": str(output)}
    print_summary(summary, request.json)


def print_summary(summary: dict, as_json: bool) -> None:
    """Print the facts of a result, in words or as one JSON object."""
    print(json.dumps(summary) if as_json else "  ".join(f"{name} {value}" for name, value in summary.items()))
