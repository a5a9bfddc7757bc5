"""Sets of shapes as points: the LDraw parts, folders of meshes or clouds, ShapeNet as PointFlow lays it out, the families.

Two ways to normalise are in use, and results of one say nothing beside results of the other:

* `box`: every shape by itself, the middle of its bounding box to 0, the longest side to −1 … 1;
* `global`: one mean and one standard deviation over all points of the training set, for every shape (PointFlow).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from becalm.core.files import InputError
from becalm.core.numpy_files import array_names, load_array, load_arrays
from becalm.points import formats
from becalm.points.formats import FORMATS
from becalm.points.mesh import sample
from becalm.shapes import families, meshfiles
from becalm.shapes.meshfiles import READERS

Protocol = Literal["raw", "box", "global"]
Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ShapeSet:
    """Shapes of equally many points; raises InputError where the fields do not fit each other."""

    points: np.ndarray
    """[shape, n, 3] float32."""
    labels: np.ndarray
    """[shape] int64: places in `classes`."""
    classes: tuple[str, ...]
    """Names."""
    protocol: Protocol
    """How the points are normalised; every result names it."""
    names: tuple[str, ...] = ()
    """Where each shape comes from, or nothing."""

    def __post_init__(self):
        if self.points.ndim != 3 or self.points.shape[2] != 3 or 0 in self.points.shape:
            raise InputError(f"shapes: points of shape {self.points.shape} must be [shape, n, 3], none of them 0")
        if len(self.labels) != len(self.points) or not (
            0 <= self.labels.min() <= self.labels.max() < len(self.classes)
        ):
            raise InputError(f"shapes: labels must be {len(self.points)} numbers from 0 to {len(self.classes) - 1}")
        if not np.isfinite(self.points).all():
            raise InputError("shapes: a coordinate is not finite; remove such points")

    def __len__(self) -> int:
        return len(self.points)


def select_classes(shapes: ShapeSet, classes: Sequence[str]) -> ShapeSet:
    """The shapes of the named classes, relabelled in that order. Raises InputError for an unknown name, listing all."""
    for name in classes:
        if name not in shapes.classes:
            raise InputError(f"class: {name!r} is unknown; choose from {', '.join(shapes.classes)}")
    place = np.full(len(shapes.classes), -1)
    place[[shapes.classes.index(name) for name in classes]] = np.arange(len(classes))
    labels = place[shapes.labels]
    kept = np.flatnonzero(labels >= 0)
    if not len(kept):
        raise InputError(f"class: no shape of {', '.join(classes)} in this part of the set; take another part")
    return replace(select_rows(shapes, kept), labels=labels[kept], classes=tuple(classes))


def select_rows(shapes: ShapeSet, rows: np.ndarray) -> ShapeSet:
    """The shapes at these places, in this order."""
    names = tuple(shapes.names[row] for row in rows) if shapes.names else ()
    return replace(shapes, points=shapes.points[rows], labels=shapes.labels[rows], names=names)


def subsample(shapes: ShapeSet, most: int, seed: int) -> ShapeSet:
    """At most so many of the shapes, in random order."""
    return select_rows(shapes, np.random.default_rng(seed).permutation(len(shapes))[:most])


def thin_points(points: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n points of each shape, without replacement: [shape, m, 3] -> [shape, n, 3], another choice for every shape."""
    if not 0 < n <= points.shape[1]:
        raise InputError(f"n: {n} points asked for, the shapes have {points.shape[1]}; give 1 to {points.shape[1]}")
    keys = rng.random(points.shape[:2], dtype=np.float32)
    chosen = keys.argsort(axis=1)[:, :n]
    return np.take_along_axis(points, chosen[:, :, None], axis=1)


def normalize_boxes(shapes: ShapeSet) -> ShapeSet:
    """The protocol `box`: x ↦ (x − (min + max)/2) · 2 / longest side, shape by shape."""
    low, high = shapes.points.min(axis=1, keepdims=True), shapes.points.max(axis=1, keepdims=True)
    side = np.maximum((high - low).max(axis=2, keepdims=True), 1e-12)
    return replace(shapes, points=((shapes.points - (low + high) / 2) * (2 / side)).astype(np.float32), protocol="box")


@dataclass(frozen=True)
class GlobalNormalization:
    """The mean and the standard deviation of a training set."""

    mean: np.ndarray
    """[3]."""
    std: float
    """Of all coordinates about the mean."""

    def apply(self, shapes: ShapeSet) -> ShapeSet:
        """x ↦ (x − mean) / std."""
        return replace(shapes, points=((shapes.points - self.mean) / self.std).astype(np.float32), protocol="global")

    def undo(self, shapes: ShapeSet) -> ShapeSet:
        """Back to the units of the data, in which published tables of this protocol measure; the protocol is `raw` again."""
        return replace(shapes, points=(shapes.points * self.std + self.mean).astype(np.float32), protocol="raw")


def fit_global(train: ShapeSet) -> GlobalNormalization:
    """Mean and standard deviation over all training points: apply the same to train and test."""
    mean = train.points.mean(axis=(0, 1), dtype=np.float64)
    return GlobalNormalization(mean, float(np.sqrt(((train.points - mean) ** 2).mean(dtype=np.float64))))


def load_ldraw(path: Path, part: Part = "train", seed: int = 0) -> ShapeSet:
    """LDraw's parts: 31 classes, 4096 points each, protocol `box`, split by mould into train, val and test.

    The file holds, per shape and axis, differences of 11-bit coordinates, zig-zag coded, the points in Morton order;
    here they are shuffled by `seed`, so that the first n of a shape are a sample of it. Raises InputError.
    """
    if part not in get_args(Part):
        raise InputError(f"part: {part!r} is none of {', '.join(get_args(Part))}")
    try:
        file = load_arrays(path)
        chosen = np.flatnonzero(file["split"] == get_args(Part).index(part))
        code = file["lo"][chosen].astype("u2") | (file["hi"][chosen].astype("u2") << 8)
        labels, classes = file["label"][chosen].astype(np.int64), tuple(map(str, file["classes"]))
        names = tuple(map(str, file["ids"][chosen]))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; name ldraw_parts_4096.npz") from error
    except (ValueError, KeyError, OSError, TypeError, IndexError) as error:
        raise InputError(f"{path}: is no archive of LDraw parts ({error}); name ldraw_parts_4096.npz") from error
    steps = ((code >> 1).astype("i2") ^ -(code & 1).astype("i2")).astype("u2")
    places = np.cumsum(steps, axis=2, dtype="u2").transpose(0, 2, 1)
    points = places.astype(np.float32) / np.float32(1023.5) - 1
    return ShapeSet(thin_points(points, points.shape[1], np.random.default_rng(seed)), labels, classes, "box", names)


def generate_families(
    count: int, n: int, seed: int, classes: Sequence[str] = families.CLASSES, split: families.Split = "train"
) -> ShapeSet:
    """`count` members of the families as a set, protocol `box`. Raises InputError: unknown class, n or count ≤ 0."""
    if count <= 0:
        raise InputError(f"count: {count} shapes asked for; give 1 or more")
    points, labels = families.sample_batch(np.random.default_rng(seed), count, n, classes, split)
    return ShapeSet(points, labels, tuple(classes), "box")


def load_folder(
    path: Path,
    n: int,
    seed: int = 0,
    protocol: Literal["raw", "box"] = "box",
    part: Literal["train", "test"] | None = None,
) -> ShapeSet:
    """Meshes or clouds below a folder, n points each; a sub-folder is a class, files beside them are the class `shape`.

    Meshes (OBJ, OFF, STL, a PLY with faces, npz with vertices and faces) are sampled by area; clouds (the suffixes of
    `becalm.points.read`) are thinned, or drawn with replacement where they have fewer points. All of them, or one `part`:
    test has of each class one in ten, of two or more at least one. Raises InputError: no such folder, no shape in it, none
    that could be held back for test, n ≤ 0, a file that cannot be read or holds what is not finite.
    """
    if n <= 0:
        raise InputError(f"n: {n} points asked for; give 1 or more")
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    known = {*READERS, *FORMATS}
    paths = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in known)
    if not paths:
        raise InputError(f"{path}: holds no shape; expected files with suffixes {' '.join(sorted(known))}")
    owner = [p.relative_to(path).parts[0] if p.parent != path else "shape" for p in paths]
    classes = tuple(sorted(set(owner)))
    rng = np.random.default_rng(seed)
    points = np.stack([read_shape_points(p, n, rng) for p in paths]).astype(np.float32)
    names = tuple(str(p.relative_to(path)) for p in paths)
    shapes = ShapeSet(points, np.array([classes.index(o) for o in owner], np.int64), classes, "raw", names)
    if part:
        test = held_out_mask(shapes.labels, np.random.default_rng(seed))
        if not test.any():
            raise InputError(f"{path}: no class has two shapes, of which one could be held back; add shapes")
        shapes = select_rows(shapes, np.flatnonzero(test == (part == "test")))
    return normalize_boxes(shapes) if protocol == "box" else shapes


def held_out_mask(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which shapes are for measuring: of each class one in ten, of two or more at least one."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        test[rows] = rng.permutation(len(rows)) % 10 == 1
    return test


def read_shape_points(path: Path, n: int, rng: np.random.Generator) -> np.ndarray:
    """n points [n, 3] of the mesh or the cloud in a file, out of those with coordinates. Raises InputError."""
    if is_mesh(path):
        try:
            return sample(meshfiles.read(path), n, rng).points
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    cloud = formats.read(path, lambda _: None)
    return resample(cloud.xyz[cloud.measured], n, rng)


def resample(xyz: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n of the points [m, 3] at random, with replacement where there are fewer."""
    return xyz[rng.choice(len(xyz), n, replace=len(xyz) < n)]


def is_mesh(path: Path) -> bool:
    """Whether a file is to be read as a mesh: of the suffixes that hold both, one with faces in it."""
    suffix = path.suffix.lower()
    if suffix == ".ply":
        with open(path, "rb") as file:
            return bool(re.search(rb"element face +0*[1-9]", file.read(1 << 16).split(b"end_header")[0]))
    if suffix == ".npz":
        try:
            return "faces" in array_names(path)
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: is no NumPy archive ({error})") from error
    return suffix in READERS


def load_pointflow(path: Path, part: Part, synsets: Sequence[str] = ()) -> ShapeSet:
    """ShapeNet as PointFlow distributes it, `synset/part/*.npy` of [15000, 3] each, as it is (protocol `raw`).

    The first 10 000 points of a shape are for training, the last 5 000 for measuring: that part is returned. All
    synsets where none is named. Raises InputError.
    """
    known = sorted({p.parent.name for each in get_args(Part) for p in path.glob(f"*/{each}") if p.is_dir()})
    for name in synsets:
        if name not in known:
            raise InputError(f"class: {name!r} is not in {path}; there are {', '.join(known) or 'none'}")
    classes = tuple(synsets or known)
    paths = [p for name in classes for p in sorted((path / name / part).glob("*.npy"))]
    if not paths:
        raise InputError(f"{path}: holds no shape; expected synset/{part}/*.npy")
    rows = slice(0, 10_000) if part == "train" else slice(10_000, 15_000)
    points = np.stack([_array(p)[rows] for p in paths])
    labels = np.array([classes.index(p.parent.parent.name) for p in paths], np.int64)
    return ShapeSet(points, labels, classes, "raw", tuple(f"{p.parent.parent.name}/{p.stem}" for p in paths))


def _array(path: Path) -> np.ndarray:
    try:
        points = load_array(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is no NumPy array ({error})") from error
    if points.shape != (15_000, 3) or not np.isfinite(points).all():
        raise InputError(f"{path}: is {points.shape}; a shape of this layout is [15000, 3] and finite")
    return points.astype(np.float32)
