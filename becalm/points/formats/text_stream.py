"""Scans in text, read and written part by part: tables of numbers, PLY and PCD in ascii.

Each part is a block of whole lines with its own text, so that the characters of every unchanged number are written again.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import lines, packed, pcd, ply, text
from becalm.points.formats.records import kept_rows, written_dtype

BLOCK = 1 << 25
"""Bytes of a part."""

SAMPLE, SAMPLES = 1 << 16, 64
"""Bytes of a place at which a table is looked at, and their number; the first is sixteen times as long."""


@dataclass(frozen=True)
class TextStream:
    """A scan in text, in parts of about BLOCK bytes."""

    path: Path
    source: Source
    """The format and its header."""
    dtype: np.dtype
    """The record of a point."""
    start: int
    """Offset of the first line of points."""
    most: int | None
    """Points that the header promises; None: every line from there on is one."""
    separator: str | None = None
    comments: tuple[bytes, ...] = ()
    count: int = 0
    """Points of the scan."""

    def blocks(self) -> Iterator[tuple[bytes, np.ndarray]]:
        """Whole lines of text and the lines of points [n, 2] in them; none is without points."""
        left, rest = self.most, b""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while left is None or left > 0:
                data = file.read(BLOCK)
                cut = data.rfind(b"\n") + 1 if len(data) == BLOCK else len(data)
                block, rest = rest + data[:cut], data[cut:]
                spans = lines.find_lines(block, 0, self.comments)
                if left is not None and len(spans) >= left:
                    spans, block = spans[:left], block[: int(spans[left - 1, 1])]
                if len(spans) and cut:
                    left = None if left is None else left - len(spans)
                    yield block, spans
                elif data:
                    rest = block + rest
                if not data:
                    return

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in the order of the file. Raises ScanError for a line that is no point."""
        for block, spans in self.blocks():
            rows = np.zeros(len(spans), [("line", np.int64, (2,)), ("values", self.dtype)])
            rows["line"] = spans
            rows["values"] = lines.parse_rows(block, spans, self.dtype, self.separator, self.path)
            own = {"table": block, "count": len(spans)} if self.source.format == "text" else {}
            source = replace(self.source, header=replace(self.source.header, body=block, **own), rows=rows)
            yield packed.cloud_from_rows(rows["values"], source)

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` points in all, to a temporary file; `target` is named in warnings."""
        whole, kind, end = count == self.count, None, self.start
        if not whole and len(getattr(self.source.header, "elements", ())) > 1:
            warn(f"{target}: other elements dropped, the vertices they name are no longer all there")
        with open(temporary, "wb") as file:
            for part in parts:
                assert part.source is not None
                old, spans, block = part.source.rows["values"], part.source.rows["line"], part.source.header.body
                kind = written_dtype(part, self.dtype, self, self.source.format == "text") if kind is None else kind
                if end == self.start:
                    file.write(self.head(kind, count, whole))
                end += len(block)
                if len(part):
                    table = lines.TableText(block, block, self.separator, step=part.source.step)
                    file.write(block[: int(spans[0, 0])] if whole else b"")
                    file.writelines(lines.rewrite_lines(table, spans, old, kept_rows(part, old, kind), whole))
                    file.write(block[int(spans[-1, 1]) :] if whole else b"\n")
            with open(self.path, "rb") as old_file:
                old_file.seek(end)
                if whole:
                    shutil.copyfileobj(old_file, file)

    def head(self, kind: np.dtype, count: int, whole: bool) -> bytes:
        """The text before the points, for so many points of a record type."""
        header: Any = self.source.header
        with open(self.path, "rb") as file:
            before = file.read(self.start)
        added = (kind.names or ())[len(self.dtype.names or ()) :]
        if self.source.format == "text":
            layout = replace(header, body=before)
            return text.text_before_points(layout, self.start if whole else text.first_point_offset(layout), added)
        rows = np.broadcast_to(np.zeros((), kind), count)
        if whole and kind == self.dtype:
            return before
        new = ply.header_for_rows(header, rows, whole) if self.source.format == "ply" else pcd.new_header(header, rows)
        return new + (before[len(header.text) :] if whole else b"")


def open_text(path: Path) -> TextStream | None:
    """The scan in a text file as a stream; None where it cannot be read so, or is no scan: the reader of whole files decides.

    All of the file is read once, to count the points and to see that every line is one.
    """
    openers = {".ply": ply_stream, ".pcd": pcd_stream}
    try:
        stream = openers.get(path.suffix.lower(), table_stream)(path)
        return None if stream is None else replace(stream, count=sum(len(part) for part in stream))
    except (ScanError, ValueError, OSError):
        return None


def ply_stream(path: Path) -> TextStream | None:
    """An ascii PLY whose first element is the vertices, without lists."""
    with open(path, "rb") as file:
        header = ply.parse_header(file.read(ply.HEADER_LIMIT), path)
    if header.format != "ascii" or header.elements[0].name != "vertex" or header.vertex.has_lists:
        return None
    source = Source("ply", path, header, np.zeros(0))
    return TextStream(path, source, header.vertex.scalar_dtype, len(header.text), header.vertex.count)


def pcd_stream(path: Path) -> TextStream | None:
    """An ascii PCD."""
    with open(path, "rb") as file:
        header = pcd.parse_header(file.read(pcd.HEADER_LIMIT), path)
    if header.data != "ascii":
        return None
    source = Source("pcd", path, header, np.zeros(0))
    return TextStream(path, source, header.dtype, len(header.text), header.points, comments=(b"#",))


def table_stream(path: Path) -> TextStream | None:
    """A table of plain numbers. How it is written and what its columns are is read off its beginning and places all over it."""
    with tempfile.NamedTemporaryFile(suffix=path.suffix) as sample:
        sample.write(sampled_lines(path))
        sample.flush()
        cloud = text.read(Path(sample.name), lambda line: None)
    assert cloud.source is not None
    layout, rows = cloud.source.header, cloud.source.rows
    values, dialect = rows.dtype["values"], layout.dialect
    plain = not (dialect.decimal_comma or dialect.fortran or dialect.quoted or layout.encoding.utf16)
    if (
        not plain
        or layout.encoding.mac
        or layout.counted
        or any(values[name].kind == "U" for name in values.names or ())
    ):
        return None
    source = replace(cloud.source, path=path, rows=np.zeros(0), header=replace(layout, body=b"", table=b""))
    start = int(rows["line"][0, 0])
    return TextStream(path, source, values, start, None, dialect.separator, text.COMMENTS)


def sampled_lines(path: Path) -> bytes:
    """The beginning of a text file, and whole lines from places all over it."""
    size, parts = path.stat().st_size, []
    with open(path, "rb") as file:
        for place in range(SAMPLES):
            at = place * size // SAMPLES
            if place and at < 16 * SAMPLE:
                continue
            file.seek(at)
            data = file.read(SAMPLE if place else 16 * SAMPLE)
            first = data.find(b"\n") + 1 if place else 0
            last = data.rfind(b"\n") + 1 if at + len(data) < size else len(data)
            parts.append(data[first:last])
    return b"".join(parts)
