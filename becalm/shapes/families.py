"""Six parametric families of things: chairs, tables, aeroplanes, mugs, lamps and cars, without end and without a file.

A shape is a point u of the unit cube [0, 1)^96. Its first two entries choose the structure (a chair's legs and back),
the others measures and details. Train and test never share a place of that cube:

* cut entries 2 … 7 into eight levels l each; where Σ l ≡ 0 (mod 8) lies the test set, an eighth of the cube. Any five of
  the six levels are distributed there as everywhere (an orthogonal array of strength 5), so both sets follow one law,
  yet no test shape has a neighbour in training that agrees in all six cells.
* each family also names a few pairs of structures that neither set contains: the split `novel`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from becalm.core.files import InputError
from becalm.points.mesh import Mesh, sample
from becalm.shapes import aeroplanes, cars, chairs, furniture_tables, mugs_lamps
from becalm.shapes.param_reader import Number, ParamReader, choose

Split = Literal["train", "test", "novel"]
PARAMETERS = 96
LEVELS = 8
CELLS = slice(2, 8)


@dataclass(frozen=True)
class Family:
    """A class of shapes and how they are made."""

    build: Callable[[str, str, ParamReader], Mesh]
    """(first choice, second choice, the reader of the other parameters) -> a mesh, y up."""
    first: Mapping[str, Number]
    """Names of the first structural choice and their weights."""
    second: Mapping[str, Number]
    """Names of the second."""
    novel: frozenset[tuple[str, str]]
    """Pairs that neither train nor test contain."""


FAMILIES: dict[str, Family] = {
    "aeroplane": Family(
        aeroplanes.aeroplane,
        {"swept": 3, "straight": 2, "delta": 1.5, "biplane": 1.5, "braced": 1.5},
        {"plain": 4, "tee": 1.5, "vee": 1, "twin": 1.5},
        frozenset({("delta", "tee"), ("biplane", "twin"), ("swept", "vee")}),
    ),
    "car": Family(
        cars.car,
        {
            "sedan": 3,
            "hatchback": 2,
            "estate": 2,
            "coupe": 2,
            "van": 1,
            "pickup": 1.5,
            "offroad": 2,
            "roadster": 1,
            "minibus": 1,
        },
        {"blunt": 2, "wedge": 1.5, "round": 2, "bumper": 2},
        frozenset({("van", "wedge"), ("coupe", "bumper"), ("pickup", "round")}),
    ),
    "chair": Family(
        chairs.chair,
        {"four": 5, "pedestal": 2, "sled": 1.2, "cantilever": 1, "panels": 1, "crossed": 1},
        {"stool": 0.6, "panel": 3, "ladder": 2, "spindle": 2, "hoop": 2, "oval": 1.2},
        frozenset({("pedestal", "ladder"), ("sled", "spindle"), ("crossed", "hoop"), ("panels", "oval")}),
    ),
    "lamp": Family(
        mugs_lamps.lamp,
        {"vase": 4, "pole": 2, "tripod": 1.3, "desk": 1.5, "arc": 1, "hanging": 1.8},
        {"cone": 3, "drum": 2, "dome": 2, "globe": 1.5},
        frozenset({("tripod", "dome"), ("vase", "globe"), ("desk", "drum")}),
    ),
    "mug": Family(
        mugs_lamps.mug,
        {"conical": 3, "barrel": 2, "bowl": 1.3, "stepped": 1.3},
        {"round": 4, "square": 2, "ear": 2, "hook": 1.5, "pair": 0.8, "none": 0.5},
        frozenset({("bowl", "square"), ("barrel", "hook"), ("conical", "pair")}),
    ),
    "table": Family(
        furniture_tables.table,
        {"four": 4, "pedestal": 2, "trestle": 1.3, "panels": 1.2, "crossed": 1.2, "desk": 1.5, "bent": 1.2},
        {"board": 4, "round": 1.5, "oval": 1.5, "corners": 1},
        frozenset({("desk", "round"), ("trestle", "oval"), ("pedestal", "corners")}),
    ),
}
CLASSES = tuple(FAMILIES)


def split_of(u: np.ndarray, name: str) -> Split:
    """Which set the shape at u [96] of a family belongs to."""
    family = FAMILIES[name]
    if (choose(family.first, float(u[0])), choose(family.second, float(u[1]))) in family.novel:
        return "novel"
    return "test" if int((LEVELS * u[CELLS]).astype(int).sum()) % LEVELS == 0 else "train"


def draw_parameters(rng: np.random.Generator, name: str, split: Split = "train") -> np.ndarray:
    """A vector u [96] of a split, uniform in its part of the cube. Raises InputError for an unknown name, listing all."""
    check_family(name)
    if split not in get_args(Split):
        raise InputError(f"split: {split!r} is none of {', '.join(get_args(Split))}")
    while True:
        u = rng.random(PARAMETERS)
        if split_of(u, name) == split:
            return u


def check_family(name: str) -> None:
    """InputError unless a family has this name."""
    if name not in FAMILIES:
        raise InputError(f"class: {name!r} is no family; choose from {', '.join(FAMILIES)}")


def build_mesh(u: np.ndarray, name: str) -> Mesh:
    """The shape at u [96] of a family: standing, y up, its box centred at 0 with the longest side from −1 to 1."""
    check_family(name)
    family, reader = FAMILIES[name], ParamReader(u[2:])
    shape = family.build(choose(family.first, float(u[0])), choose(family.second, float(u[1])), reader)
    low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
    return Mesh((shape.vertices - (low + high) / 2) * (2 / float((high - low).max())), shape.faces)


def sample_family(rng: np.random.Generator, name: str, n: int, split: Split = "train") -> np.ndarray:
    """n points [n, 3] float32 on a random member of a family, uniform by area, within [−1, 1]³.

    Raises InputError for an unknown name (it lists them) and n ≤ 0.
    """
    if n <= 0:
        raise InputError(f"n: {n} points asked for; give 1 or more")
    return sample(build_mesh(draw_parameters(rng, name, split), name), n, rng).points.astype(np.float32)


def sample_batch(
    rng: np.random.Generator, count: int, n: int, classes: Sequence[str] = CLASSES, split: Split = "train"
) -> tuple[np.ndarray, np.ndarray]:
    """`count` fresh shapes: points [count, n, 3] float32 and labels [count] int64, places in `classes`, each as likely."""
    if not classes:
        raise InputError(f"classes: none given; choose from {', '.join(FAMILIES)}")
    labels = rng.integers(len(classes), size=count)
    points = np.empty((count, n, 3), np.float32)
    for row, name in enumerate(
        classes[int(label)] for label in labels
    ):  # a shape is a mesh of its own: nothing to share between them
        points[row] = sample_family(rng, name, n, split)
    return points, labels
