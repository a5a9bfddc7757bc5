"""Points as lines of numbers: XYZ, TXT, ASC, CSV and PTS; any columns, comments and header lines.

x, y, z are the columns of that name where a line names them, else the first three. PTS puts a count before each block.
The characters of every unchanged number are written again as they were.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import attributes, lines, packed, scan_files

_COMMENTS = (b"#", b"//")
_MAX_PREAMBLE = 100
"""The greatest number of lines before the first point."""
_SAMPLE_LINES = 500
"""The number of lines from which the type of each column is inferred."""
_MAX_WORD = 64
_MAX_COLUMNS = 1024
_NUMBERS = {np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
_PTS_COLUMNS = ("intensity", "red", "green", "blue")
"""Names of the columns after x, y, z in PTS; six columns are colours without intensity."""


@dataclass(frozen=True)
class Layout:
    """How a text file stores its points."""

    body: bytes
    count: int
    """Lines of points."""
    separator: str | None
    """None: any white space."""
    named: tuple[int, int] | None
    """Start and end of the line that names the columns."""
    counted: bool
    """Whether each block of points follows a line with its count."""


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of a text file. Raises ScanError."""
    body = scan_files.read_bytes(path)
    line_spans = lines.find_lines(body, 3 if body.startswith(b"\xef\xbb\xbf") else 0, _COMMENTS)
    first, named, counted = _parse_preamble(body, line_spans, path)
    points = _point_lines_of_blocks(body, line_spans, first, path) if counted else line_spans[first:]
    if int((points[:, 1] - points[:, 0]).max()) > lines.MAX_LINE_BYTES:
        raise ScanError(f"{path}: a line is longer than {lines.MAX_LINE_BYTES:,} bytes, this is no table of points")
    sample = [body[a:b].decode("latin1") for a, b in points[:: max(1, len(points) // _SAMPLE_LINES)].tolist()]
    separator = next((mark for mark in ",;" if mark in sample[0]), None)
    layout = Layout(body, len(points), separator, named, counted)
    words = [_split_fields(line, separator) for line in sample]
    names = _column_names(layout, len(words[0]), path)
    kinds = [_column_type([line[column : column + 1] for line in words]) for column in range(len(names))]
    kinds = [("f8" if name in packed.AXES else kind) for name, kind in zip(names, kinds, strict=True)]
    values = _parse_points(layout, points, names, kinds, path)
    rows = np.zeros(len(points), [("line", np.int64, (2,)), ("values", values.dtype)])
    rows["line"], rows["values"] = points, values
    return packed.cloud_from_rows(rows["values"], Source("text", path, layout, rows))


def _split_fields(line: str, separator: str | None) -> list[str]:
    return [word.strip() for word in line.split(separator)]


def _is_number(word: str) -> bool:
    return (
        re.fullmatch(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf|infinity)", word, re.I) is not None
    )


def _parse_preamble(body: bytes, line_spans: np.ndarray, path: Path) -> tuple[int, tuple[int, int] | None, bool]:
    """The index of the first line of points, the span of the line that names the columns, and whether there is a count."""
    named, counted = _header_in_comment(body, line_spans), path.suffix.lower() == ".pts"
    for index, (start, end) in enumerate(line_spans[:_MAX_PREAMBLE].tolist()):
        words = re.split(r"[,;\s]+", body[start : min(end, start + lines.MAX_LINE_BYTES)].decode("latin1").strip())
        if not _is_number(words[0]):
            named = (start, end)
        elif len(words) == 1 and words[0].isdecimal() and index + 1 < len(line_spans):
            return index + 1, named, True
        elif len(words) < 3:
            raise ScanError(f"{path}: line {words} has {len(words)} columns, a point needs x, y and z (2-D points?)")
        else:
            return index, named, False
    missing = "count line" if counted else "line of numbers"
    raise ScanError(f"{path}: no {missing} among the first {_MAX_PREAMBLE} lines")


def _header_in_comment(body: bytes, line_spans: np.ndarray) -> tuple[int, int] | None:
    """The span of the last comment line before the points that has x, y and z among its words."""
    before = body[: int(line_spans[0, 0])] if len(line_spans) else b""
    for match in reversed(list(re.finditer(rb"(?m)^[ \t]*(#|//)+[ \t]*(\S[^\n]*)$", before[-(1 << 16) :]))):
        words = re.split(rb"[,;\s]+", match[2].lower())
        if {b"x", b"y", b"z"} <= set(words):
            offset = max(0, len(before) - (1 << 16))
            return match.start(2) + offset, match.end(2) + offset
    return None


def _point_lines_of_blocks(body: bytes, line_spans: np.ndarray, first: int, path: Path) -> np.ndarray:
    """The lines of points of all blocks, without the count before each."""
    blocks, index = [], first - 1
    while index < len(line_spans):
        text = body[int(line_spans[index, 0]) : int(line_spans[index, 1])][:80].decode("latin1").strip()
        if not re.fullmatch(r"\d{1,18}", text):
            raise ScanError(f"{path}: {text!r} stands where a count of points should be")
        left = len(line_spans) - index - 1
        if int(text) > left:
            raise ScanError(f"{path}: promises {int(text):,} points, the file holds {left:,} (truncated?)")
        blocks.append(line_spans[index + 1 : index + 1 + int(text)])
        index += 1 + int(text)
    points = np.concatenate(blocks)
    if len(points) == 0:
        raise ScanError(f"{path}: holds no points")
    return points


def _column_names(layout: Layout, columns: int, path: Path) -> list[str]:
    """A name for each column, x, y and z among them."""
    if columns < 3:
        raise ScanError(f"{path}: has {columns} columns, a point needs x, y and z (2-D points?)")
    if columns > _MAX_COLUMNS:
        raise ScanError(f"{path}: has {columns:,} columns, this is no table of points")
    words: list[str] = []
    if layout.named is not None:
        line = layout.body[slice(*layout.named)].decode("utf-8", "replace")
        words = [word.strip("\"'") for word in _split_fields(line.strip().lstrip("#/").strip(), layout.separator)]
    if len(words) != columns or len(set(words)) < columns:
        known = _PTS_COLUMNS[1:] if columns == 6 else _PTS_COLUMNS[: columns - 3]
        extra = [f"column_{index}" for index in range(4, columns + 1)]
        known = known if path.suffix.lower() == ".pts" else ()
        return [*packed.AXES, *known, *extra[len(known) :]]
    lower = [word.lower() for word in words]
    if all(lower.count(axis) == 1 for axis in packed.AXES):
        return [low if low in packed.AXES else word for word, low in zip(words, lower, strict=True)]
    rest = [f"{word}_" if word in packed.AXES else word or f"column_{i + 4}" for i, word in enumerate(words[3:])]
    return [*packed.AXES, *rest]


def _column_type(words: list[list[str]]) -> str:
    texts = [word[0] for word in words if word]
    if all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in texts):
        return "i8"
    return "f8" if all(_is_number(text) or not text for text in texts) else "U"


def _parse_points(layout: Layout, points: np.ndarray, names: list[str], kinds: list[str], path: Path) -> np.ndarray:
    """The columns as structured rows; where parsing fails, it is repeated with integers as floats and empty fields as NaN."""
    if "U" in kinds:
        kinds = _with_text_widths(layout, points, kinds, path)
    try:
        return lines.parse_rows(
            layout.body, points, np.dtype(list(zip(names, kinds, strict=True))), layout.separator, path
        )
    except ScanError:
        if "i8" not in kinds and layout.separator is None:
            raise
    body = b"\n".join([layout.body[a:b].strip() for a, b in points.tolist()])
    if layout.separator:
        mark = layout.separator.encode()
        body = re.sub(rb"(?m)(?:^|(?<=%s))[ \t]*(?=%s|$)" % (mark, mark), b"nan", body)
    dtype = np.dtype([(name, "f8" if kind == "i8" else kind) for name, kind in zip(names, kinds, strict=True)])
    return lines.parse_rows(body, lines.find_lines(body, 0), dtype, layout.separator, path)


def _with_text_widths(layout: Layout, points: np.ndarray, kinds: list[str], path: Path) -> list[str]:
    begin, end = int(points[0, 0]), int(points[-1, 1])
    try:
        where = lines.token_spans(layout.body[begin:end], points - begin, len(kinds), layout.separator)
    except ScanError:
        raise ScanError(f"{path}: its lines do not all have {len(kinds)} columns") from None
    widths = (where[:, :, 1] - where[:, :, 0]).max(axis=0).tolist()
    if max(width for width, kind in zip(widths, kinds, strict=True) if kind == "U") > _MAX_WORD:
        raise ScanError(f"{path}: a column of words is wider than {_MAX_WORD} characters, this is no table of points")
    return [f"U{max(width, 1)}" if kind == "U" else kind for width, kind in zip(widths, kinds, strict=True)]


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """Write the cloud as text: in the layout of a text source with its unchanged characters, else one line for each point."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "text" else None
    if source is not None and source.path is not None and _flavour(source.path) != _flavour(target):
        source = None
    old = source.rows["values"] if source else None
    words = {values.dtype for values in cloud.attributes.values() if _is_writable_text(values)}
    convert_attributes = attributes.convert_attributes(cloud, _NUMBERS | words, warn, str(target), original=old)
    rows = packed.rows_from_cloud(convert_attributes, old, warn, str(target))
    exact = [(name, "f8" if name in packed.AXES else rows.dtype[name]) for name in rows.dtype.names or ()]
    rows = rows.astype(exact, copy=False)
    kept = source is not None and old is not None and lines.extends_fields(rows.dtype, old.dtype)
    with open(temporary, "wb") as file:
        for block in _rewrite_source(rows, source) if kept and source else _format_new(rows, _flavour(target)):
            file.write(block)


def _flavour(path: Path) -> str:
    return path.suffix.lower() if path.suffix.lower() in (".csv", ".pts") else ".xyz"


def _is_writable_text(values: np.ndarray) -> bool:
    if values.dtype.kind != "U" or values.ndim != 1:
        return False
    return not any(re.search(r"[\s,;\"]|^$|^#|^//", word) for word in np.unique(values).tolist())


def _rewrite_source(rows: np.ndarray, source: Source) -> Iterator[bytes]:
    layout: Layout = source.header
    spans, old = source.rows["line"], source.rows["values"]
    whole = len(rows) == layout.count
    added = (rows.dtype.names or ())[len(old.dtype.names or ()) :]
    if layout.counted and not whole:
        yield b"%d\n" % len(rows)
    else:
        yield _text_before_points(
            layout, int(spans[0, 0]) if whole and len(rows) else _first_point_offset(layout), added
        )
    yield from lines.rewrite_lines(layout.body, spans, old, rows, layout.separator, whole)
    yield layout.body[int(spans[-1, 1]) :] if whole and len(rows) else b"\n"


def _first_point_offset(layout: Layout) -> int:
    return layout.body.find(b"\n", layout.named[1]) + 1 if layout.named else 0


def _text_before_points(layout: Layout, start: int, added: tuple[str, ...]) -> bytes:
    text = layout.body[:start]
    if not added or layout.named is None:
        return text
    end = layout.named[0] + len(layout.body[slice(*layout.named)].rstrip())
    joint = layout.separator or " "
    return text[:end] + "".join(joint + name for name in added).encode() + text[end:]


def _format_new(rows: np.ndarray, family: str) -> Iterator[bytes]:
    names = list(rows.dtype.names or ())
    if family == ".pts":
        yield b"%d\n" % len(rows)
    elif family == ".csv":
        yield (",".join(names) + "\n").encode()
    elif len(names) > 3:
        yield ("# " + " ".join(names) + "\n").encode()
    yield from lines.format_rows(rows, "," if family == ".csv" else " ")
