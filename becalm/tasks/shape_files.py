"""Shapes in and out of the tasks: a path, a mesh or an array becomes points, and new shapes become files."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from becalm.core.files import InputError

MAX_POINTS = 4_000_000
"""Points of one shape, at most: some 4 GB of memory."""

MAX_TOTAL_POINTS = 100_000_000
"""Points of all shapes of one call, at most."""

MeshFormat = Literal["none", "obj", "ply", "stl"]
"""Format of the surfaces that are written beside the points of shapes."""


class Frame(NamedTuple):
    """Where a shape lay before its box was brought to [−1, 1]³."""

    centre: np.ndarray
    """Centre of its bounding box [3]."""
    scale: float
    """Half of the box's longest side."""


def check_counts(number: int, points: int, least: int = 1) -> None:
    """Raise InputError for numbers of shapes or points that cannot be generated."""
    if number < least or points < 1:
        raise InputError(f"number {number}, points {points}: must be at least {least} and at least 1")
    if number * points > MAX_TOTAL_POINTS or points > MAX_POINTS:
        raise InputError(
            f"number {number}, points {points}: more than {MAX_POINTS:,} points a shape, or {MAX_TOTAL_POINTS:,} in all; "
            "ask for fewer"
        )


def check_target(output: Path, mesh: MeshFormat = "none", points: int | None = None) -> None:
    """Raise InputError where shapes, or their meshes, cannot be written to `output`."""
    from importlib.util import find_spec

    from becalm.points.formats import FORMATS
    from becalm.shapes.meshfiles import READERS

    if output.suffix.lower() in {*FORMATS, *READERS} - {".npz"}:
        raise InputError(f"{output}: shapes are written into a folder or an .npz; give a name without {output.suffix}")
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output}: the folder is not empty; give a new one")
    if output.is_file() and output.suffix != ".npz":
        raise InputError(f"{output}: is a file; give a new folder, or a name that ends in .npz")
    if not output.resolve().parent.is_dir():
        raise InputError(f"{output}: its folder does not exist; make it first")
    if mesh == "none":
        return
    if output.suffix == ".npz":
        raise InputError(f"{output}: an .npz holds no meshes; give a folder")
    if points is not None and points < 100:
        raise InputError(f"points {points}: too few for a mesh ({mesh}); give 100 or more")
    if find_spec("skimage") is None:
        raise InputError(f"mesh {mesh}: needs scikit-image; pip install 'becalm[mesh]'")


def write_shapes(shapes: np.ndarray, output: Path, mesh: MeshFormat = "none") -> None:
    """Shapes [s, n, 3] as `points` of one .npz, or as 0000.ply … in a folder; with `mesh` a surface of each beside it.

    The file or folder is whole or absent. Raises InputError, OSError.
    """
    from tqdm import tqdm

    from becalm.core.files import atomic_file, atomic_folder
    from becalm.points import Cloud, write
    from becalm.shapes import meshfiles
    from becalm.shapes.reconstruct import wrap_points

    check_target(output, mesh, shapes.shape[1])
    if output.suffix == ".npz":
        with atomic_file(output) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, points=shapes.astype(np.float32))
        return
    with atomic_folder(output) as folder:
        for i, points in enumerate(tqdm(shapes, "meshing", disable=None if mesh != "none" else True)):
            write(Cloud(points), folder / f"{i:04d}.ply")
            if mesh != "none":
                meshfiles.write(wrap_points(points), folder / f"{i:04d}{'.mesh' * (mesh == 'ply')}.{mesh}")


def read_points(shape: Any, count: int, seed: int) -> np.ndarray:
    """`count` points [n, 3] float64 of a shape: of a mesh sampled by area, of a cloud chosen at random.

    `shape` is the path of a cloud or mesh; an object with `vertices` and `faces` (trimesh, `becalm.points.mesh.Mesh`); a
    `Cloud`, an object with `points` (Open3D, PyVista), or an array [n, 3]. Raises InputError.
    """
    from becalm.points.mesh import Mesh, sample
    from becalm.shapes import sets

    rng = np.random.default_rng(seed)
    if isinstance(shape, str | Path):
        points = sets.read_shape_points(Path(shape), count, rng)
    elif hasattr(shape, "vertices") and hasattr(shape, "faces"):
        points = sample(Mesh(np.asarray(shape.vertices), np.asarray(shape.faces)), count, rng).points
    else:
        points = sets.resample(as_positions(shape), count, rng)
    if not np.isfinite(points).all():
        raise InputError(f"{describe(shape)}: a coordinate is not finite; remove such points")
    return points


def as_positions(cloud: Any) -> np.ndarray:
    """Positions [n, 3] float64 of a `Cloud`, of an object with `points`, or of an array. Raises InputError."""
    holder = getattr(cloud, "xyz", getattr(cloud, "points", cloud))
    try:
        xyz = np.asarray(holder, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{describe(cloud)}: is no array of points [n, 3]; give one, a mesh or a path") from error
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz):
        raise InputError(f"{describe(cloud)}: has the shape {list(xyz.shape)}; points are [n, 3] with n > 0")
    return xyz


def describe(shape: Any) -> str:
    """The path of a shape, or its type, as errors name it."""
    return str(shape) if isinstance(shape, str | Path) else type(shape).__name__


def read_boxed(shape: Any, count: int, seed: int) -> tuple[np.ndarray, Frame]:
    """`count` points [n, 3] float32 of a shape whose bounding box is brought to [−1, 1], and where it lay. Raises InputError."""
    xyz = read_points(shape, count, seed)
    low, high = xyz.min(0), xyz.max(0)
    frame = Frame((low + high) / 2, float((high - low).max() / 2) or 1.0)
    return ((xyz - frame.centre) / frame.scale).astype(np.float32), frame


def read_part(part: Any, count: int, seed: int) -> np.ndarray:
    """`count` points [n, 3] float32 of a part that lies where it belongs in its shape's box from −1 to 1. Raises InputError."""
    xyz = read_points(part, count, seed)
    if np.abs(xyz).max() > 1.05:
        raise InputError(
            f"{describe(part)}: reaches {np.abs(xyz).max():.3g}; a part must lie where it belongs in its shape's box from −1 to 1"
        )
    return xyz.astype(np.float32)
