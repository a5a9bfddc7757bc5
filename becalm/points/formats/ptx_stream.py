"""PTX scans read and written part by part: blocks of lines of one scan, written again with their own text."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import lines, ptx
from becalm.points.formats.text_stream import TextStream
from becalm.points.rays import grid_bands

HEAD = 1 << 16
"""Bytes in which the header of a scan has to end."""


class ScanText(NamedTuple):
    """Where one scan of a file is."""

    head: tuple[int, int]
    """Start and end of the text before its points, from the end of the scan before on."""
    scan: ptx.PtxScan
    """Its pose and grid, without points."""
    lines: TextStream
    """Its points."""


@dataclass(frozen=True)
class PtxStream:
    """A PTX file in parts."""

    path: Path
    count: int
    """Points in the file, with missing returns."""
    scans: tuple[ScanText, ...]
    end: int
    """Offset of what follows the last point."""

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in the order of the file; none has points of two scans. Raises ScanError for a line that is no point."""
        for head, scan, points in self.scans:
            before = _text(self.path, *head)
            for block, spans in points.blocks():
                body, own = before + block, spans + len(before)
                values = lines.parse_rows(body, own, points.dtype, None, self.path)
                layout = ptx.Layout((replace(scan, spans=own, values=values),), body)
                yield ptx.cloud_from_scans(layout, self.path)
                before = b""

    def write(self, parts: Iterable[Cloud], count: int, temporary: Path, target: Path, warn: Callable) -> None:
        """Write changed parts of this file, `count` points in all, to a temporary file; `target` is named in warnings."""
        with open(temporary, "wb") as file, open(self.path, "rb") as old:
            for number, part in enumerate(parts):
                if number == 0:
                    ptx.warn_omitted(part, target, warn)
                assert part.source is not None
                file.writelines(ptx.rewrite(part, part.source))
            old.seek(self.end)
            shutil.copyfileobj(old, file)
        ptx.warn_removed(self.count - count, target, warn)


def open_ptx(path: Path) -> PtxStream | None:
    """A PTX file as a stream; None where it cannot be read so, or is no scan: the reader of whole files decides.

    All of the file is read once, to find its scans and to see that every line is a point.
    """
    scans: list[ScanText] = []
    here = start = 0
    has_places = True
    try:
        while (found := find_scan(path, here)) is not None:
            scan, points, here = found
            has_places &= scan.place is not None
            if points.most:  # the header of a scan without points goes before the next one
                scans.append(ScanText((start, points.start), scan, points))
                start = here
    except (ScanError, ValueError, OSError):
        return None
    if not has_places:  # as in one piece: then no scan's place is used
        scans = [text._replace(scan=replace(text.scan, place=None)) for text in scans]
    return PtxStream(path, sum(text.lines.most or 0 for text in scans), tuple(scans), start) if scans else None


def find_scan(path: Path, start: int) -> tuple[ptx.PtxScan, TextStream, int] | None:
    """The scan whose header begins at an offset: its pose, its points, and where they end; None where the file is at its end.

    Raises ScanError where there is no whole scan.
    """
    head = _text(path, start, start + HEAD)
    spans = lines.find_lines(head, 0)
    if not len(spans):
        return None
    words = [head[a:b].split() for a, b in spans[: ptx.HEADER_LINES].tolist()]
    scan = ptx.read_pose(words, 0, path)
    count, first = scan.shape[0] * scan.shape[1], spans[ptx.HEADER_LINES : ptx.HEADER_LINES + 1].tolist()
    if count and not first:
        raise ScanError(f"{path}: a scan has no points")
    kind = ptx.point_record(head[slice(*first[0])], 0, path) if count else scan.values.dtype
    source = Source("ptx", path, None, np.zeros(0))
    points = TextStream(path, source, kind, start + int(spans[ptx.HEADER_LINES - 1, 1]), count)
    sizes = np.zeros(2, np.int64)

    def grid_columns() -> Iterator[np.ndarray]:
        for block, own in points.blocks():
            sizes[:] += len(block), len(own)
            yield ptx.local_coordinates(lines.parse_rows(block, own, kind, None, path))

    parts = grid_columns()
    scan = ptx.with_checked_place(scan, grid_bands(parts, max(scan.shape[1], 1)))
    for _ in parts:  # those that were not needed for its place
        pass
    if sizes[1] != count:
        raise ScanError(f"{path}: a scan promises {count:,} points, the file holds {sizes[1]:,} (truncated?)")
    return scan, points, points.start + int(sizes[0])


def _text(path: Path, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)
