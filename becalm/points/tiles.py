"""Tiles of a scan that is too large for memory: boxes with about as many points each, their points and results in a folder.

Each tile is denoised with its surroundings, and only its own points are kept. Whatever is stored is whole or absent, so a run
that was killed goes on with the tiles that are there, and `Tiles.results` gives the results in the order of the file.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from becalm.core.files import atomic_file
from becalm.points.cloud import NO_RETURNS, Cloud
from becalm.points.neighbours import knn

SAMPLE = 1_000_000
"""Points from which space is divided, and from which the quantiles of the report are taken."""

ESTIMATES = ("noise", "error", "shared", "length", "surface")
"""What a model may estimate at each point, besides its position."""

RESULT = np.dtype([("xyz", "f8", 3), *((name, "f4") for name in ESTIMATES), ("outlier", "?")])
"""The result at one point; estimates that the model does not make are NaN."""

Tree = int | list
"""A division of space: the number of a tile, or [axis, value, tree below the value, tree from it on]."""


def divide_space(sample: np.ndarray, tiles: int, first: int = 0) -> Tree:
    """Boxes numbered from `first`, with about equally many points of a sample [m, 3] each, by cuts across the longest sides."""
    if tiles == 1 or len(sample) < 2:
        return first
    axis, left = int(np.ptp(sample, axis=0).argmax()), tiles // 2
    place = len(sample) * left // tiles
    value = float(np.partition(sample[:, axis], place)[place])
    below = sample[:, axis] < value
    return [
        axis,
        value,
        divide_space(sample[below], left, first),
        divide_space(sample[~below], tiles - left, first + left),
    ]


def tile_numbers(tree: Tree, xyz: np.ndarray) -> np.ndarray:
    """The number [n] of the tile in which each of the points [n, 3] lies."""
    numbers = np.zeros(len(xyz), np.int64)
    parts = [(tree, np.arange(len(xyz)))]
    while parts:
        node, rows = parts.pop()
        if isinstance(node, int):
            numbers[rows] = node
            continue
        below = xyz[rows, node[0]] < node[1]
        parts += [(node[2], rows[below]), (node[3], rows[~below])]
    return numbers


@runtime_checkable
class ScanParts(Protocol):
    """A scan in parts, in order; it can be gone through again and again."""

    @property
    def count(self) -> int:
        """Points of the scan."""
        ...

    def __iter__(self) -> Iterator[Cloud]:
        """The parts."""
        ...


@dataclass(frozen=True)
class Tiles:
    """The tiles of a scan, stored in a folder; arrays have a row for each tile."""

    folder: Path
    """Where the points and the results are."""
    counts: np.ndarray
    """[t] points of each tile; tiles may be empty."""
    low: np.ndarray
    """[t, 3] lower corner of the box of its points."""
    high: np.ndarray
    """[t, 3] upper corner."""
    total: int
    """Points of the scan, with those that have no coordinates and are in no tile."""
    record: np.dtype
    """What is stored of a point: `xyz`, and the attributes that are needed to denoise it."""

    @property
    def numbers(self) -> list[int]:
        """The tiles that have points."""
        return np.flatnonzero(self.counts).tolist()

    @property
    def size(self) -> float:
        """The diagonal of the box of all points, 0 where none has coordinates."""
        low, high = self.low[self.numbers], self.high[self.numbers]
        return float(np.linalg.norm(high.max(axis=0) - low.min(axis=0))) if len(low) else 0.0

    def path(self, tile: int, kind: str) -> Path:
        """The file of a tile: its `points`, their `rows` in the scan, the `result` or the `figures`."""
        return self.folder / f"{tile:06}.{kind}"

    def own_points(self, tile: int) -> np.ndarray:
        """The records [n] of a tile's own points."""
        return np.fromfile(self.path(tile, "points"), self.record)

    def surroundings(self, tile: int, width: float) -> tuple[np.ndarray, np.ndarray]:
        """Records [m] of points of other tiles within `width` of the tile's box, and their distances [m] to it.

        There are at most as many as the tile has points of its own; the nearest are taken.
        """
        low, high = self.low[tile], self.high[tile]
        near = self.counts * ((self.low <= high + width) & (self.high >= low - width)).all(axis=1)
        found, away = [np.empty(0, self.record)], [np.empty(0)]
        for other in np.flatnonzero(near).tolist():
            if other != tile:
                points = self.own_points(other)
                distance = np.linalg.norm(np.maximum(low - points["xyz"], points["xyz"] - high).clip(min=0), axis=1)
                found.append(points[distance <= width])
                away.append(distance[distance <= width])
        points, distances = np.concatenate(found), np.concatenate(away)
        if len(points) > self.counts[tile]:
            nearest = np.sort(np.argsort(distances, kind="stable")[: self.counts[tile]])
            points, distances = points[nearest], distances[nearest]
        return points, distances

    def is_done(self, tile: int) -> bool:
        """Whether the result of a tile is there."""
        return self.path(tile, "result").exists()

    def save_result(self, tile: int, result: np.ndarray, figures: dict) -> None:
        """Store the result [n] of a tile and its summary; the result comes last, and says that both are there."""
        for kind, data in (("figures", json.dumps(figures).encode()), ("result", result.tobytes())):
            with atomic_file(self.path(tile, kind)) as temporary:
                temporary.write_bytes(data)

    def figures(self, tile: int) -> dict:
        """The summary of a finished tile."""
        return json.loads(self.path(tile, "figures").read_text())

    def results(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [k] of the scan from `start` to `stop`, counted from `start`, and the results [k] there, of all tiles."""
        places, values = [np.empty(0, np.int64)], [np.empty(0, RESULT)]
        for tile in self.numbers:
            rows = np.memmap(self.path(tile, "rows"), np.int64, "r")
            first, last = np.searchsorted(rows, (start, stop)).tolist()
            if last > first:
                places.append(np.array(rows[first:last]) - start)
                values.append(
                    np.fromfile(self.path(tile, "result"), RESULT, last - first, offset=first * RESULT.itemsize)
                )
        return np.concatenate(places), np.concatenate(values)

    def sample_results(self) -> tuple[np.ndarray, np.ndarray]:
        """Records [k] before, and results [k], of about a million points spread evenly over the scan."""
        stride = -(-int(self.counts.sum()) // SAMPLE)
        before = [self.own_points(tile)[::stride] for tile in self.numbers]
        after = [np.fromfile(self.path(tile, "result"), RESULT)[::stride] for tile in self.numbers]
        return np.concatenate(before), np.concatenate(after)


def divide_scan(parts: ScanParts, tile_points: int, folder: Path, carried: Sequence[str] = ()) -> Iterator[float]:
    """Store the points of a scan, with the attributes `carried`, by tiles of about `tile_points`; yields the share that is done.

    `parts` are the parts of the scan in order, and are gone through twice. `load_tiles` gives the tiles when all is stored.
    """
    sample, seen, zeros, total = [np.empty((0, 3))], 0, 0, parts.count
    for part in parts:
        xyz = part.xyz[part.measured]
        sample.append(xyz[np.random.default_rng(seen).random(len(xyz)) * total < SAMPLE])
        seen += len(part)
        zeros += int(np.count_nonzero(~part.xyz.any(axis=1)))
        yield seen / total / 2
    tree = divide_space(np.concatenate(sample), max(1, round(total / tile_points)))
    count = number_of_leaves(tree)
    counts, low, high = np.zeros(count, int), np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    start, record = 0, np.dtype([("xyz", "f8", 3)])
    for part in parts:
        columns = {name: part.attributes[name] for name in carried}
        record = np.dtype([("xyz", "f8", 3), *((name, v.dtype, v.shape[1:]) for name, v in columns.items())])
        points = np.empty(len(part), record)
        for name, values in {"xyz": part.xyz, **columns}.items():
            points[name] = values
        for tile, rows in rows_by_tile(tree, part.xyz, zeros):
            counts[tile] += len(rows)
            low[tile] = np.minimum(low[tile], part.xyz[rows].min(axis=0))
            high[tile] = np.maximum(high[tile], part.xyz[rows].max(axis=0))
            for kind, values in (("points", points[rows]), ("rows", rows + start)):
                with open(folder / f"{tile:06}.{kind}", "ab") as file:
                    file.write(values.tobytes())
        start += len(part)
        yield 0.5 + start / total / 2
    arrays = {"counts": counts.tolist(), "low": low.tolist(), "high": high.tolist()}
    with atomic_file(folder / "plan.json") as temporary:
        temporary.write_text(json.dumps(arrays | {"total": total, "record": record.descr}))


def rows_by_tile(tree: Tree, xyz: np.ndarray, zeros: int) -> list[tuple[int, np.ndarray]]:
    """The tiles that have measured points of a part [n, 3] of a scan with `zeros` points at 0 0 0, and their rows, in order."""
    rows = np.flatnonzero(np.isfinite(xyz).all(axis=1) & (xyz.any(axis=1) | (zeros < NO_RETURNS)))
    if not len(rows):
        return []
    numbers = tile_numbers(tree, xyz[rows])
    order = np.argsort(numbers, kind="stable")
    numbers, rows = numbers[order], rows[order]
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    return list(zip(numbers[starts].tolist(), np.split(rows, starts[1:]), strict=True))


def load_tiles(folder: Path) -> Tiles | None:
    """The tiles that `divide_scan` has stored in a folder, None where it has not come to its end."""
    path = folder / "plan.json"
    if not path.exists():
        return None
    plan = json.loads(path.read_text())
    record = np.dtype(
        [tuple(field[:2]) if len(field) == 2 else (*field[:2], tuple(field[2])) for field in plan["record"]]
    )
    arrays = {name: np.array(plan[name]) for name in ("counts", "low", "high")}
    return Tiles(folder, **arrays, total=plan["total"], record=record)


def number_of_leaves(tree: Tree) -> int:
    """One more than the largest number of a tile."""
    return tree + 1 if isinstance(tree, int) else max(number_of_leaves(tree[2]), number_of_leaves(tree[3]))


def surface_spacing(xyz: np.ndarray, share: float = 0.95, sample: int = 4000) -> float:
    """The quantile `share` of the spacing at points [n, 3] of a surface: s where there is one point in every s².

    It is the distance to the 16th neighbour over √(16/π).
    """
    if len(xyz) < 2:
        return 0.0
    k = min(16, len(xyz) - 1)
    rows = np.random.default_rng(0).choice(len(xyz), min(sample, len(xyz)), replace=False)
    return float(np.quantile(knn(xyz, k + 1, xyz[rows])[0][:, -1], share)) * float(np.sqrt(np.pi / k))
