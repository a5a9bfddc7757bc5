"""Shapes that the page shows: generated, varied, interpolated, completed from a part, or given a surface."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core.files import InputError, atomic_file
from becalm.page.options import SIDES
from becalm.tasks.progress import Progress

POINTS = 2048
"""Points of a shape."""


def make_shapes(folder: Path, path: Path, task: dict, say: Callable[..., None], warn: Callable[[str], object]) -> None:
    """Do with shapes what is asked; write the new ones for the page, for later jobs, and as a file to download.

    shapes.bin holds float32 [shape, point, 3]; facts.json says how many there are, and which points lie on the given part.
    """
    from becalm.page.puzzle_job import write_facts

    options, output = task["options"], folder / task["output"]
    if options["verb"] == "mesh":
        write_mesh(read_shape(*options["one"]), output)
        say(done=1.0)
    else:
        for report in shape_reports(options, warn):
            say(done=0.99 * report.done)
        shapes = report.result
        with atomic_file(folder / "shapes.npy") as temporary, temporary.open("wb") as file:
            np.save(file, shapes.points.astype(np.float32))
        (folder / "frames.bin").write_bytes(shapes.points.astype("<f4").tobytes())
        given = None if shapes.given is None else [np.flatnonzero(row).tolist() for row in shapes.given]
        facts = {"count": len(shapes), "points": shapes.points.shape[1], "given": given, "facts": shapes.facts}
        write_facts(folder, facts | {name: options[name] for name in ("verb", "model", "label")})
        shapes.save(output)
    say(run=True, done=1.0, bytes=output.stat().st_size)


def shape_reports(options: dict[str, Any], warn: Callable[[str], object]) -> Iterator[Progress]:
    """The reports of the task that is asked for."""
    from becalm.tasks import complete, generate, interpolate, vary

    model, number, common = options["model"], options["number"], {"label": options["label"], "seed": options["seed"]}
    common["points"] = POINTS
    if options["verb"] == "generate":
        return generate.steps(model, number, **common)
    one = read_shape(*options["one"])
    if options["verb"] == "vary":
        return vary.steps(model, one, options["amount"], number, warn=warn, **common)
    if options["verb"] == "interpolate":
        return interpolate.steps(model, one, read_shape(*options["other"]), max(number, 2), **common)
    part = one[kept_points(one, options["side"], options["share"])]
    return complete.steps(model, part.clip(-1, 1), number, share=options["share"], **common)


def read_shape(path: str, index: int) -> np.ndarray:
    """One of the shapes that a job has written [point, 3]. Raises InputError where there is none of that number."""
    shapes = np.load(path, mmap_mode="r", allow_pickle=False)
    if not 0 <= index < len(shapes):
        raise InputError(f"shape {index}: there are {len(shapes)}, counted from 0")
    return np.asarray(shapes[index], np.float64)


def kept_points(points: np.ndarray, side: str, share: float) -> np.ndarray:
    """Which points lie in a share of the shape at one of its sides: bool [point]."""
    axis, far = divmod(SIDES.index(side), 2)
    place = -points[:, axis] if far else points[:, axis]
    return place <= np.quantile(place, share)


def write_mesh(points: np.ndarray, output: Path) -> None:
    """Write a closed surface about points, as PLY, OBJ or STL."""
    from becalm.shapes import meshfiles
    from becalm.shapes.reconstruct import wrap_points

    meshfiles.write(wrap_points(points), output)
