"""Scans read and written part by part, for files that are larger than memory: LAS, LAZ and PLY in binary.

A part is a `Cloud` with the file's own records, so that, as when whole files are written, only what changed is written anew.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import las, las_header, packed, ply, scan_files

CHUNK = 1_000_000
"""Points in a part."""


@dataclass(frozen=True)
class LasStream:
    """A LAS or LAZ file in parts."""

    path: Path
    count: int
    """Points in the file."""

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in the order of the file. Raises ScanError where the file holds fewer points than its header promises."""
        import laspy

        with las.open_reader(self.path) as reader:
            for first in range(0, self.count, CHUNK):
                length = min(CHUNK, self.count - first)
                points = laspy.LasData(reader.header, reader.read_points(length))
                yield las.cloud_from_las(points, self.path, length)

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` points in all, to a temporary file; `target` is named in errors."""
        import laspy

        writer, packed_file = None, target.suffix.lower() == ".laz"
        with las.writing_errors(target), open(temporary, "wb+") as file:
            for part in parts:
                data = las.las_from_cloud(laspy, part, target, warn if writer is None else _ignore)
                if writer is None:
                    writer = las.las_writer(laspy, file, data.header, packed_file)
                    evlrs = data.evlrs if data.header.version.minor >= 4 else None
                if len(data.points):
                    writer.write_points(data.points)
            if writer is not None:
                if evlrs is not None:
                    writer.write_evlrs(evlrs)
                writer.close()
        las_header.restore_details(temporary, las_header.read_head(self.path))


@dataclass(frozen=True)
class PlyStream:
    """A binary PLY file in parts: one whose vertices have no lists, and come before any element that has."""

    path: Path
    count: int
    """Vertices in the file."""
    header: ply.Header
    start: int
    """Offset of the first vertex."""

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in the order of the file."""
        kind = self.header.vertex.scalar_dtype
        for first in range(0, self.count, CHUNK):
            length = min(CHUNK, self.count - first)
            rows = np.fromfile(self.path, kind, length, offset=self.start + first * kind.itemsize)
            if len(rows) != length:
                raise ScanError(f"{self.path}: has become shorter while it was read")
            yield packed.cloud_from_rows(rows, Source("ply", self.path, self.header, rows))

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` vertices in all, to a temporary file; `target` is named in warnings."""
        whole, kind = count == self.count, None
        end = self.start + self.count * self.header.vertex.scalar_dtype.itemsize
        if not whole and len(self.header.elements) > 1:
            warn(f"{target}: other elements dropped, the vertices they name are no longer all there")
        with open(temporary, "wb") as file, open(self.path, "rb") as old:
            for part in parts:
                if kind is None:
                    kind = self._row_dtype(part)
                    file.write(ply.header_for_rows(self.header, np.broadcast_to(np.zeros((), kind), count), whole))
                    file.write(_between(old, len(self.header.text), self.start) if whole else b"")
                assert part.source is not None
                file.write(_rows(part, part.source.rows, kind).tobytes())
            old.seek(end)
            while whole and (block := old.read(1 << 24)):
                file.write(block)

    def _row_dtype(self, part: Cloud) -> np.dtype:
        """The file's record with the attributes that were added; coordinates become double where their type is too coarse."""
        old = self.header.vertex.scalar_dtype
        fields = {name: old[name] for name in old.names or ()}
        for name, values in part.attributes.items():
            if name not in fields or fields[name].newbyteorder("=") != values.dtype:
                fields[name] = values.dtype
        assert part.source is not None
        keep = part.source.keep_types and all(old[axis].kind == "f" for axis in packed.AXES)
        low, high = self.bounds()
        if not keep and not all(_holds_moved(fields[axis], low, high) for axis in packed.AXES):
            order = ">" if old["x"].byteorder == ">" else "="
            fields |= dict.fromkeys(packed.AXES, np.dtype(np.float64).newbyteorder(order))
        return np.dtype(list(fields.items()))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper corner [3] of the box of all vertices with coordinates."""
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for part in self:
            xyz = part.xyz[part.measured]
            if len(xyz):
                low, high = np.minimum(low, xyz.min(axis=0)), np.maximum(high, xyz.max(axis=0))
        return low, high


def open_stream(path: Path) -> LasStream | PlyStream | None:
    """The scan in a file as a stream of parts, None where its format cannot be read so. Raises ScanError as `read` does."""
    suffix = path.suffix.lower()
    if suffix in (".las", ".laz"):
        return LasStream(path, las.point_count(path))
    if suffix != ".ply":
        return None
    size = scan_files.file_size(path)
    with open(path, "rb") as file:
        header = ply.parse_header(file.read(ply.HEADER_LIMIT), path)
    names = [element.name for element in header.elements]
    upto = header.elements[: names.index("vertex") + 1]
    if header.format == "ascii" or any(element.has_lists for element in upto):
        return None
    start = len(header.text) + sum(element.count * element.min_row_bytes for element in upto[:-1])
    if start + header.vertex.count * header.vertex.min_row_bytes > size:
        return None  # the reader of whole files says what is missing
    return PlyStream(path, header.vertex.count, header, start)


def _rows(part: Cloud, old: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Records [n] of a part, whose coordinates that did not change keep their bits."""
    rows = np.zeros(len(part), kind)
    for name in kind.names or ():
        if name not in packed.AXES:
            rows[name] = part.attributes[name]
    for axis, values in zip(packed.AXES, part.xyz.T, strict=True):
        packed.set_axis(rows, axis, values, old)
    return rows


def _holds_moved(kind: np.dtype, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a type rounds coordinates between two corners [3] by little enough, as in `packed.is_accurate_enough`."""
    if kind.kind != "f":
        return False
    largest = np.maximum(np.abs(low), np.abs(high)).max().astype(kind)
    return bool(np.spacing(largest) / 2 <= packed.FLOAT32_ROUNDING * (high - low).max())


def _between(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _ignore(line: str) -> None:
    """Warnings of all parts but the first, which are the same."""
