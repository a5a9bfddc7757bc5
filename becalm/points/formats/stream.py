"""Scans read and written part by part, for files that are larger than memory: LAS, LAZ, PLY, PCD, E57, PTX and text.

A part is a `Cloud` with the file's own records, so that, as when whole files are written, only what changed is written anew.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import las, las_header, packed, pcd, ply, scan_files
from becalm.points.formats.e57_stream import E57Stream, open_e57
from becalm.points.formats.ptx_stream import PtxStream, open_ptx
from becalm.points.formats.records import kept_rows, written_dtype
from becalm.points.formats.text_stream import TextStream, open_text
from becalm.points.rays import grid_bands, grid_fits, unfit_grid_warning, unfit_viewpoint_error

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
        source = Source("ply", self.path, self.header, np.zeros(0))
        return record_parts(source, self.header.vertex.scalar_dtype, self.start, self.count)

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` vertices in all, to a temporary file; `target` is named in warnings."""
        whole, kind = count == self.count, None
        end = self.start + self.count * self.header.vertex.scalar_dtype.itemsize
        if not whole and len(self.header.elements) > 1:
            warn(f"{target}: other elements dropped, the vertices they name are no longer all there")
        with open(temporary, "wb") as file, open(self.path, "rb") as old:
            for part in parts:
                if kind is None:
                    kind = written_dtype(part, self.header.vertex.scalar_dtype, self)
                    file.write(ply.header_for_rows(self.header, np.broadcast_to(np.zeros((), kind), count), whole))
                    file.write(_read_between(old, len(self.header.text), self.start) if whole else b"")
                assert part.source is not None
                file.write(kept_rows(part, part.source.rows, kind).tobytes())
            old.seek(end)
            while whole and (block := old.read(1 << 24)):
                file.write(block)


@dataclass(frozen=True)
class PcdStream:
    """A binary PCD file in parts."""

    path: Path
    count: int
    """Points in the file."""
    header: pcd.Header

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in the order of the file."""
        source = Source("pcd", self.path, self.header, np.zeros(0))
        return record_parts(source, self.header.dtype, len(self.header.text), self.count)

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` points in all, to a temporary file."""
        whole, kind = count == self.count, None
        with open(temporary, "wb") as file, open(self.path, "rb") as old:
            for part in parts:
                if kind is None:
                    kind = written_dtype(part, self.header.dtype, self)
                    rows = np.broadcast_to(np.zeros((), kind), count)
                    same = whole and kind == self.header.dtype
                    file.write(self.header.text if same else pcd.new_header(self.header, rows))
                assert part.source is not None
                file.write(kept_rows(part, part.source.rows, kind).tobytes())
            old.seek(len(self.header.text) + self.count * self.header.dtype.itemsize)
            while whole and (block := old.read(1 << 24)):
                file.write(block)


Stream = LasStream | PlyStream | PcdStream | E57Stream | PtxStream | TextStream
"""A scan in parts."""


def record_parts(source: Source, kind: np.dtype, start: int, count: int) -> Iterator[Cloud]:
    """The parts of a file of `count` records that begin at an offset. Raises ScanError where it is too short."""
    assert source.path is not None
    for first in range(0, count, CHUNK):
        length = min(CHUNK, count - first)
        rows = np.fromfile(source.path, kind, length, offset=start + first * kind.itemsize)
        if len(rows) != length:
            raise ScanError(f"{source.path}: has become shorter while it was read")
        yield packed.cloud_from_rows(rows, replace(source, rows=rows))


def open_stream(path: Path, least: int = 0) -> Stream | None:
    """The scan in a file as a stream of parts, None where its format cannot be read so, or it has no more than `least` points.

    Raises ScanError as `read` does.
    """
    suffix = path.suffix.lower()
    stream: Stream | None = OPENERS[suffix](path) if suffix in OPENERS else None
    if stream is None and suffix in TEXTS and scan_files.file_size(path) > LEAST_LINE * least:
        stream = open_ptx(path) if suffix == ".ptx" else open_text(path)
    if stream is None or stream.count <= least:
        return None
    return with_grid_place(stream)


TEXTS = (".ply", ".pcd", ".xyz", ".txt", ".asc", ".csv", ".pts", ".ptx")
"""Formats that may be text."""

LEAST_LINE = 6
"""Bytes of the shortest line of three numbers."""


def open_las(path: Path) -> LasStream:
    """A LAS or LAZ file."""
    return LasStream(path, las.point_count(path))


def open_pcd(path: Path) -> PcdStream | None:
    """A binary PCD file that is whole."""
    size = scan_files.file_size(path)
    with open(path, "rb") as file:
        header = pcd.parse_header(file.read(pcd.HEADER_LIMIT), path)
    if header.data != "binary" or len(header.text) + header.points * header.dtype.itemsize > size:
        return None
    return PcdStream(path, header.points, header)


def open_ply(path: Path) -> PlyStream | None:
    """A binary PLY file that is whole, and has no lists up to its vertices."""
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


OPENERS = {".las": open_las, ".laz": open_las, ".ply": open_ply, ".pcd": open_pcd, ".e57": open_e57}


def organised_header(stream: Stream) -> pcd.Header | None:
    """The header of an organised PCD, None for other streams."""
    header = stream.source.header if isinstance(stream, TextStream) else getattr(stream, "header", None)
    if not isinstance(header, pcd.Header) or min(header.width, header.height) <= 1:
        return None
    return header if header.width * header.height == stream.count else None


def with_grid_place(stream: Stream) -> Stream:
    """The stream, of an organised PCD with the sensor's place in its header where some rows of the grid fit rays from there."""
    header = organised_header(stream)
    if header is None or not fits_rays(stream, header.width, header.viewpoint):
        return stream
    header = replace(header, place=header.viewpoint)
    if isinstance(stream, TextStream):
        return replace(stream, source=replace(stream.source, header=header))
    return replace(stream, header=header)


def fits_rays(stream: Stream, width: int, place: np.ndarray) -> bool:
    """Whether some rows of an organised cloud fit rays from a place [3]."""
    grid = (np.where(part.measured[:, None], part.xyz, np.nan) for part in stream)
    return grid_fits(grid_bands(grid, width), place)


def check_grid_viewpoint(stream: Stream, viewpoint: np.ndarray | None, warn: Callable[[str], object]) -> None:
    """Call `warn` where the grid of an organised PCD does not fit rays from its VIEWPOINT; raise ScanError where it does not
    fit those from a given `viewpoint` [3]."""
    header = organised_header(stream)
    if header is None:
        return
    if viewpoint is None and header.place is None:
        warn(unfit_grid_warning(stream.path, header.viewpoint))
    elif viewpoint is not None and not fits_rays(stream, header.width, viewpoint):
        raise unfit_viewpoint_error(viewpoint)


def _read_between(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _ignore(line: str) -> None:
    """Warnings of all parts but the first, which are the same."""
