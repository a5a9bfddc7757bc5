"""What the commands for shapes share: reading one, writing many, and generating new ones."""

from pathlib import Path
from typing import Literal

MOST = 100_000_000
"""Points that are made in one call, at most."""

MOST_EACH = 4_000_000
"""Points of one shape, at most: some 4 GB of memory."""

TOGETHER, AT_ONCE = 16, 1_000_000
"""Shapes, and points, that are made at a time, at most."""

Meshes = Literal["none", "obj", "ply", "stl"]


def generate_shapes(model, asked, output: Path) -> dict:
    """New shapes, for `becalm generate`: PLY files in a folder, or one .npz; the summary.

    `asked` has number, label, points, mesh, sampler, steps, guidance, seed and picture. Raises InputError.
    """
    import torch

    from becalm.core.sample import dpm_solver_pp_2m, reverse
    from becalm.evaluation.shapes import drawn
    from becalm.systems.lion_sparse import Way

    checked(asked, output)
    label = label_of(model.classes, asked.label)
    sampler, steps = asked.sampler or "dpm", asked.steps or 25
    steppers = {"ancestral": reverse(eta=1.0), "ddim": reverse(eta=0.0), "dpm": dpm_solver_pp_2m()}
    way, generator = Way(steps, steppers[sampler], asked.guidance), torch.Generator().manual_seed(asked.seed)

    def some(rows: range):
        return drawn(model, torch.full((len(rows),), label), asked.points, way, generator)

    shapes = together(some, asked.number, asked.points)
    write_shapes(shapes, output, asked.mesh)
    if asked.picture:
        draw(shapes, asked.picture)
    told = {"shapes": len(shapes), "points": asked.points, "label": asked.label or "any"}
    return told | {"sampler": sampler, "steps": steps}


def together(some, number: int, points: int):
    """Shapes [number, points, 3], as many at a time as memory has room for; `some(rows)` makes those of the named rows."""
    import torch
    from tqdm import tqdm

    made, count = [], max(1, min(TOGETHER, AT_ONCE // points))
    for start in tqdm(range(0, number, count), "generating", disable=None):
        made.append(some(range(start, min(start + count, number))))
    return torch.cat(made).double().numpy()


def label_of(classes: list[str], name: str | None) -> int:
    """The number of a class, from 1; 0 for none. Raises InputError for an unknown one, listing all."""
    from becalm.core.files import InputError

    if name is None:
        return 0
    if name not in classes:
        raise InputError(f"--label: {name!r} is unknown; choose from {', '.join(classes)}")
    return 1 + classes.index(name)


def checked(asked, output: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Raise InputError for numbers that cannot be, and for a place where nothing can be written, before the work is done.

    `asked` has model, number, points and picture, and `mesh` where the command makes meshes; `inputs` are never overwritten.
    """
    from becalm.core.files import InputError, check_outputs
    from becalm.points.formats import FORMATS
    from becalm.shapes.meshfiles import READERS
    from becalm.weights.store import located

    number, points = asked.number, asked.points
    check_outputs((asked.picture, output if output.suffix == ".npz" else None), [located(asked.model), *inputs])
    check_meshes(getattr(asked, "mesh", "none"), points, output)
    if number < 1 or points < 1:
        raise InputError(f"-n {number}, --points {points}: both must be at least 1")
    if number * points > MOST or points > MOST_EACH:
        raise InputError(
            f"-n {number}, --points {points}: more than {MOST_EACH:,} points a shape, or {MOST:,} in all; ask for fewer"
        )
    if output.suffix.lower() in {*FORMATS, *READERS} - {".npz"}:
        raise InputError(f"{output}: shapes are written into a folder or an .npz; give a name without {output.suffix}")
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output}: the folder is not empty; give a new one")
    if output.is_file() and output.suffix != ".npz":
        raise InputError(f"{output}: is a file; give a new folder, or a name that ends in .npz")
    if not output.resolve().parent.is_dir():
        raise InputError(f"{output}: its folder does not exist; make it first")


def check_meshes(mesh: Meshes, points: int, output: Path) -> None:
    """Raise InputError where meshes cannot be made, before the work is done."""
    from importlib.util import find_spec

    from becalm.core.files import InputError

    if mesh == "none":
        return
    if output.suffix == ".npz":
        raise InputError(f"{output}: an .npz holds no meshes; give a folder")
    if points < 100:
        raise InputError(f"--points {points}: too few for --mesh {mesh}; give 100 or more")
    if find_spec("skimage") is None:
        raise InputError(f"--mesh {mesh}: needs scikit-image; pip install 'becalm[mesh]'")


def write_shapes(shapes, output: Path, mesh: Meshes = "none") -> None:
    """Shapes [s, n, 3] as `points` of one .npz, or as 0000.ply … in a folder; with `mesh` a surface of each beside it."""
    import numpy as np
    from tqdm import tqdm

    from becalm.core.files import atomic_file, atomic_folder
    from becalm.points import Cloud, write
    from becalm.shapes import meshfiles
    from becalm.shapes.reconstruct import wrapped

    if output.suffix == ".npz":
        with atomic_file(output) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, points=shapes.astype(np.float32))
        return
    with atomic_folder(output) as folder:
        for i, points in enumerate(tqdm(shapes, "meshing", disable=None if mesh != "none" else True)):
            write(Cloud(points), folder / f"{i:04d}.ply")
            if mesh != "none":
                meshfiles.write(wrapped(points), folder / f"{i:04d}{'.mesh' * (mesh == 'ply')}.{mesh}")


def draw(shapes, path: Path, given=None, columns: int = 8) -> None:
    """A picture of shapes, made to fit the box."""
    from becalm.shapes import plot

    plot.draw(shapes.clip(-1.2, 1.2), path, columns, given=given)


def read_shape(path: Path, points: int, seed: int):
    """`points` points [1, n, 3] of a cloud or a mesh, its bounding box brought to [−1, 1]; how to bring it back.

    That is (middle [3], half of the longest side). Raises InputError.
    """
    import numpy as np
    import torch

    xyz = raw_shape(path, points, seed)
    low, high = xyz.min(0), xyz.max(0)
    middle, half = (low + high) / 2, float((high - low).max() / 2) or 1.0
    return torch.from_numpy(((xyz - middle) / half).astype(np.float32))[None], (middle, half)


def part_of_shape(path: Path, points: int, seed: int):
    """`points` points [1, n, 3] of a part of a shape that lies in the unit box already. Raises InputError where it does not."""
    import numpy as np
    import torch

    from becalm.core.files import InputError

    xyz = raw_shape(path, points, seed)
    if np.abs(xyz).max() > 1.05:
        raise InputError(
            f"{path}: reaches {np.abs(xyz).max():.3g}; a part must lie where it belongs in its shape's box from −1 to 1"
        )
    return torch.from_numpy(xyz.astype(np.float32))[None]


def raw_shape(path: Path, points: int, seed: int):
    """`points` points [n, 3] of a file as they are. Raises InputError."""
    import numpy as np

    from becalm.core.files import InputError
    from becalm.shapes.sets import shape_points

    xyz = shape_points(path, points, np.random.default_rng(seed))
    if not np.isfinite(xyz).all():
        raise InputError(f"{path}: a coordinate is not finite; remove such points")
    return xyz
