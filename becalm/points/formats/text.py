"""Points as lines of numbers: XYZ, TXT, ASC, CSV and PTS; any columns, comments and header lines.

x, y, z are the columns named so (or easting, northing, height, …), else the first three of numbers after point numbers or times.
PTS puts a count before each block. The characters of every unchanged number are written again as they were.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import attributes, lines, packed, scan_files, text_columns
from becalm.points.formats.text_columns import Columns
from becalm.points.formats.text_dialect import (
    Dialect,
    Encoding,
    decode_text,
    detect_dialect,
    is_number,
    plain_table,
)

COMMENTS = (b"#", b"//", b"%")
_MAX_PREAMBLE = 100
"""The greatest number of lines before the first point."""
_SAMPLE_LINES = 500
"""The number of lines from which the separator and the type of each column are inferred."""
_MAX_WORD = 64
_MAX_COLUMNS = 1024
_NUMBERS = {np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}


@dataclass(frozen=True)
class Layout:
    """How a text file stores its points."""

    body: bytes
    """The text, decoded."""
    table: bytes
    """The same with plain numbers, every field where it is in `body`."""
    encoding: Encoding
    dialect: Dialect
    count: int
    """Lines of points."""
    named: tuple[int, int] | None
    """Start and end of the line that names the columns."""
    counted: bool
    """Whether each block of points follows a line with its count."""


def read(path: Path, warn: Callable[[str], object], columns: Columns | None = None) -> Cloud:
    """The points of a text file; `columns` says which of its columns are x, y and z. Raises ScanError."""
    body, encoding = decode_text(scan_files.read_bytes(path))
    spans = lines.find_lines(body, 3 if body.startswith(b"\xef\xbb\xbf") else 0, COMMENTS)
    if len(spans) == 0:
        raise scan_files.wrong_kind(path, "holds no line of numbers")
    if int((spans[:, 1] - spans[:, 0]).max()) > lines.MAX_LINE_BYTES:
        raise ScanError(f"{path}: a line is longer than {lines.MAX_LINE_BYTES:,} bytes, this is no table of points")
    dialect = detect_dialect(_decode_lines(body, spans[:: _stride(spans)]))
    table = plain_table(body, dialect)
    first, counted = _find_first_point(table, spans, dialect, path)
    points = _point_lines_of_blocks(table, spans, first, path, warn) if counted else spans[first:]
    layout = Layout(body, table, encoding, dialect, len(points), None, counted)
    some = np.arange(0, len(points), _stride(points))
    words = [dialect.split(line) for line in _decode_lines(table, points[some])]
    names, layout = _name_columns(layout, int(spans[first - counted, 0]), len(words[0]), path)
    kinds = [_column_type([line[column : column + 1] for line in words]) for column in range(len(words[0]))]
    axes = text_columns.find_axes(columns, names, kinds, words, some, path)
    if axes.note:
        warn(f"{path}: {axes.note}")
    fields = text_columns.field_names(names, axes, len(kinds), path)
    kinds = [("f8" if name in packed.AXES else kind) for name, kind in zip(fields, kinds, strict=True)]
    values = _parse_points(layout, points, fields, kinds, path)
    rows = np.zeros(len(points), [("line", np.int64, (2,)), ("values", values.dtype)])
    rows["line"], rows["values"] = points, values
    return packed.cloud_from_rows(rows["values"], Source("text", path, layout, rows, degrees=axes.degrees))


def _stride(spans: np.ndarray) -> int:
    return max(1, len(spans) // _SAMPLE_LINES)


def _decode_lines(body: bytes, spans: np.ndarray) -> list[str]:
    return [body[a:b].decode("latin1") for a, b in spans.tolist()]


def _find_first_point(table: bytes, spans: np.ndarray, dialect: Dialect, path: Path) -> tuple[int, bool]:
    """The index of the first line of points, and whether the line before it is a count."""
    rows = [dialect.split(line) for line in _decode_lines(table, spans[: _MAX_PREAMBLE + 1])]
    if rows[0][0].lower().split()[:1] == ["ncols"]:
        raise ScanError(f"{path}: is a raster (ESRI ASCII grid), no points; gdal_translate -of XYZ makes points of it")
    numbers = [sum(is_number(word) for word in words) for words in rows]
    usual = len(dialect.split(_decode_lines(table, spans[-1 - len(spans) // 3 :][:1])[0]))
    whole = [index for index, words in enumerate(rows) if numbers[index] >= 3 and len(words) == usual]
    for index in whole or [index for index, number in enumerate(numbers) if number >= 3]:
        before = rows[index - 1] if index else []
        return index, len(before) == 1 and before[0].isdecimal()
    if max(numbers) == 2:
        words = rows[numbers.index(2)]
        raise ScanError(f"{path}: line {words} has {len(words)} columns, a point needs x, y and z (2-D points?)")
    raise scan_files.wrong_kind(path, f"no line of x, y and z among the first {_MAX_PREAMBLE} lines")


def _point_lines_of_blocks(
    table: bytes, spans: np.ndarray, first: int, path: Path, warn: Callable[[str], object]
) -> np.ndarray:
    """The lines of points of all blocks, without the count before each; counts that are wrong are passed over."""
    blocks, index, wrong = [], first - 1, ""
    while index < len(spans) and not wrong:
        text = _decode_lines(table, spans[index : index + 1])[0][:80]
        left = len(spans) - index - 1
        if not re.fullmatch(r"\d{1,18}", text):
            wrong = f"after {index - first:,} points {text[:40]!r} stands where a count should be"
        elif int(text) > left:
            wrong = f"promises {int(text):,} points, the file holds {left:,} (cut off?)"
        else:
            blocks.append(spans[index + 1 : index + 1 + int(text)])
            index += 1 + int(text)
    if wrong:
        warn(f"{path}: {wrong}; counts are passed over, and all points read")
        after = spans[first:]
        blocks = [after[lines.count_fields(table, after, None) > 1]]
    points = np.concatenate(blocks)
    if len(points) == 0:
        raise ScanError(f"{path}: holds no points")
    return points


def _name_columns(layout: Layout, start: int, columns: int, path: Path) -> tuple[list[str] | None, Layout]:
    """The names of the columns, if one of the lines before `start` has them, and the layout with that line.

    The last line that names x, y and z, else the last one that is no comment and has as many words as there are columns.
    """
    if columns < 3:
        raise ScanError(f"{path}: has {columns} columns, a point needs x, y and z (2-D points?)")
    if columns > _MAX_COLUMNS:
        raise ScanError(f"{path}: has {columns:,} columns, this is no table of points")
    begin = max(0, start - (1 << 16))
    found: list[tuple[bool, list[str], tuple[int, int]]] = []
    for match in list(re.finditer(rb"(?m)^[ \t]*(\S[^\n]*)$", layout.body[begin:start]))[-_MAX_PREAMBLE:]:
        words = text_columns.header_words(_decode_header(match[1]), layout.dialect.separator, columns)
        if words is None or any(is_number(word) for word in words):
            continue
        named = text_columns.named_axes(words, str(path)) is not None
        if named or not match[1].startswith(COMMENTS):
            found.append((named, words, (match.start(1) + begin, match.end(1) + begin)))
    if not found:
        return None, layout
    _, words, span = max(found, key=lambda line: (line[0], line[2]))
    return words, replace(layout, named=span)


def _decode_header(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return line.decode("latin1")


def _column_type(words: list[list[str]]) -> str:
    texts = [word[0] for word in words if word and word[0]]
    if all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in texts):
        return "i8"
    return "f8" if all(is_number(text) for text in texts) else "U"


def _parse_points(layout: Layout, points: np.ndarray, names: list[str], kinds: list[str], path: Path) -> np.ndarray:
    """The columns as structured rows; where parsing fails, it is repeated with integers as floats and empty fields as NaN."""
    separator = layout.dialect.separator
    if "U" in kinds:
        kinds = _with_text_widths(layout, points, kinds, path)
    try:
        return lines.parse_rows(layout.table, points, np.dtype(list(zip(names, kinds, strict=True))), separator, path)
    except ScanError:
        if "i8" not in kinds and separator is None:
            raise
    body = b"\n".join([layout.table[a:b].strip(b" ") for a, b in points.tolist()])
    if separator:
        mark = re.escape(separator.encode())
        body = re.sub(rb"(?m)(?:^|(?<=%s))[ ]*(?=%s|$)" % (mark, mark), b"nan", body)
    dtype = np.dtype([(name, "f8" if kind == "i8" else kind) for name, kind in zip(names, kinds, strict=True)])
    try:
        return lines.parse_rows(body, lines.find_lines(body, 0), dtype, separator, path)
    except ScanError:
        lines.check_fields(layout.table, points, dtype, separator, path)
        raise


def _with_text_widths(layout: Layout, points: np.ndarray, kinds: list[str], path: Path) -> list[str]:
    begin, end = int(points[0, 0]), int(points[-1, 1])
    lines.check_count_of_fields(layout.table, points, len(kinds), layout.dialect.separator, path)
    where = lines.token_spans(layout.table[begin:end], points - begin, len(kinds), layout.dialect.separator)
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
    encoding = source.header.encoding if kept and source else Encoding()
    with open(temporary, "wb") as file:
        file.write(encoding.mark)
        for block in _rewrite_source(rows, source) if kept and source else _format_new(rows, _flavour(target)):
            file.write(encoding.encode(block))


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
        yield text_before_points(layout, int(spans[0, 0]) if whole and len(rows) else first_point_offset(layout), added)
    dialect = layout.dialect
    texts = lines.TableText(layout.body, layout.table, dialect.separator, dialect.decimal_comma, source.step)
    yield from lines.rewrite_lines(texts, spans, old, rows, whole)
    yield layout.body[int(spans[-1, 1]) :] if whole and len(rows) else b"\n"


def first_point_offset(layout: Layout) -> int:
    """Where the line after that with the names of the columns begins, 0 where there is none."""
    return layout.body.find(b"\n", layout.named[1]) + 1 if layout.named else 0


def text_before_points(layout: Layout, start: int, added: tuple[str, ...]) -> bytes:
    """The text before `start`, with the names of added columns where it names the columns."""
    text = layout.body[:start]
    if not added or layout.named is None:
        return text
    end = layout.named[0] + len(layout.body[slice(*layout.named)].rstrip())
    joint = layout.dialect.separator or " "
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
