"""E57 scans read and written part by part: each scan in blocks of points, with the pose and the description of its file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, Source, freeze_array
from becalm.points.formats import e57, e57_scans

CHUNK = 1_000_000
"""Points in a part."""


@dataclass(frozen=True)
class E57Stream:
    """An E57 file in parts."""

    path: Path
    count: int
    """Points in all scans."""
    header: e57_scans.Header

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in the order of the file; none has points of two scans. Raises ScanError."""
        with e57_scans.open_image(self.path) as (libe57, image):
            for index in range(len(self.header.scans)):
                for rows, named in e57_scans.iter_scan(libe57, image, self.path, self.header, index, CHUNK):
                    columns = {name: freeze_array(column) for name, column in named.items()}
                    source = Source("e57", self.path, self.header, rows)
                    yield Cloud(freeze_array(rows)["global"], columns, source=source)

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` points in all, to a temporary file; `target` is named in errors."""
        how, left = self.how_written(), self.with_local(parts, target, warn)
        with e57.create_image(temporary, target, self.header) as file:
            for scan, written in zip(self.header.scans, how, strict=True):
                e57.write_scan(file, scan, islice(left, max(1, -(-scan.count // CHUNK))), written)

    def with_local(self, parts: Iterable[Cloud], target: Path, warn: Callable) -> Iterator[tuple[Cloud, np.ndarray]]:
        """Parts with the local coordinates of their points. Of each scan there are as many as this stream has."""
        numbers = (index for index, scan in enumerate(self.header.scans) for _ in range(0, max(scan.count, 1), CHUNK))
        for position, (index, part) in enumerate(zip(numbers, parts, strict=True)):
            converted = e57.convert_attributes(part, target, warn if position == 0 else lambda line: None)
            assert part.source is not None
            yield converted, e57.local_coordinates(part, self.header.scans[index], part.source.rows)

    def how_written(self) -> list[e57.Written]:
        """How each scan is written: as the points of all its parts need it."""
        found = [[np.full(3, np.inf), np.full(3, -np.inf), False] for _ in self.header.scans]
        numbers = (index for index, scan in enumerate(self.header.scans) for _ in range(0, max(scan.count, 1), CHUNK))
        for index, part in zip(numbers, self, strict=True):
            assert part.source is not None
            measured = np.isfinite(part.xyz).all(axis=1)
            local = part.source.rows["local"][measured]
            low, high, missing = found[index]
            if len(local):
                low, high = np.minimum(low, local.min(axis=0)), np.maximum(high, local.max(axis=0))
            found[index] = [low, high, missing or not measured.all()]
        return [
            e57.Written(e57.fits_single(scan, np.array(box)), bool(missing), True, min(CHUNK, scan.count))
            for scan, (*box, missing) in zip(self.header.scans, found, strict=True)
        ]


def open_e57(path: Path) -> E57Stream:
    """An E57 file. Raises ScanError as the reader of whole files does."""
    with e57_scans.open_image(path) as (libe57, image):
        header = e57_scans.read_header(libe57, image, path, lambda line: None)
    return E57Stream(path, sum(scan.count for scan in header.scans), header)
