"""Points as lines of numbers: XYZ, TXT, ASC, CSV and PTS; any columns, comments and header lines.

x, y, z are the columns of that name where a line names them, else the first three. PTS puts a count before each block.
Every character that stands for an unchanged number goes back into the file.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import attributes, files, lines, packed

_COMMENTS = (b"#", b"//")
_PREAMBLE = 100
"""Lines that may come before the first point."""
_SAMPLE = 500
"""Lines that say what kind of column each is."""
_WIDEST_WORD = 64
_COLUMNS = 1024
_NUMBERS = {np.dtype(code) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
_PTS = ("intensity", "red", "green", "blue")
"""What the columns after x, y, z mean in PTS; six columns are colours without intensity."""


@dataclass(frozen=True)
class Layout:
    """How a text holds its points."""

    body: bytes
    count: int
    """Lines of points."""
    separator: str | None
    """None: any white space."""
    named: tuple[int, int] | None
    """Where the line that names the columns stands."""
    counted: bool
    """Whether lines say how many points follow."""


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of a text file. Raises ScanError."""
    body = files.load(path)
    found = lines.find(body, 3 if body.startswith(b"\xef\xbb\xbf") else 0, _COMMENTS)
    first, named, counted = _preamble(body, found, path)
    points = _without_counts(body, found, first, path) if counted else found[first:]
    if int((points[:, 1] - points[:, 0]).max()) > lines.WIDEST:
        raise ScanError(f"{path}: a line is longer than {lines.WIDEST:,} bytes, this is no table of points")
    sample = [body[a:b].decode("latin1") for a, b in points[:: max(1, len(points) // _SAMPLE)].tolist()]
    separator = next((mark for mark in ",;" if mark in sample[0]), None)
    layout = Layout(body, len(points), separator, named, counted)
    words = [_split(line, separator) for line in sample]
    names = _names(layout, len(words[0]), path)
    kinds = [_kind([line[column : column + 1] for line in words]) for column in range(len(names))]
    kinds = [("f8" if name in packed.AXES else kind) for name, kind in zip(names, kinds, strict=True)]
    values = _parse(layout, points, names, kinds, path)
    rows = np.zeros(len(points), [("line", np.int64, (2,)), ("values", values.dtype)])
    rows["line"], rows["values"] = points, values
    return packed.cloud_from(rows["values"], Source("text", path, layout, rows))


def _split(line: str, separator: str | None) -> list[str]:
    return [word.strip() for word in line.split(separator)]


def _number(word: str) -> bool:
    return (
        re.fullmatch(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf|infinity)", word, re.I) is not None
    )


def _preamble(body: bytes, found: np.ndarray, path: Path) -> tuple[int, tuple[int, int] | None, bool]:
    """The index of the first line of points, the line that names the columns, and whether there is a count."""
    named, counted = _named_in_comment(body, found), path.suffix.lower() == ".pts"
    for index, (start, end) in enumerate(found[:_PREAMBLE].tolist()):
        words = re.split(r"[,;\s]+", body[start : min(end, start + lines.WIDEST)].decode("latin1").strip())
        if not _number(words[0]):
            named = (start, end)
        elif len(words) == 1 and words[0].isdecimal() and index + 1 < len(found):
            return index + 1, named, True
        elif len(words) < 3:
            raise ScanError(f"{path}: line {words} has {len(words)} columns, a point needs x, y and z (2-D points?)")
        else:
            return index, named, False
    missing = "count line" if counted else "line of numbers"
    raise ScanError(f"{path}: no {missing} among the first {_PREAMBLE} lines")


def _named_in_comment(body: bytes, found: np.ndarray) -> tuple[int, int] | None:
    """The last comment line before the points, if x is among its words."""
    before = body[: int(found[0, 0])] if len(found) else b""
    for match in reversed(list(re.finditer(rb"(?m)^[ \t]*(#|//)+[ \t]*(\S[^\n]*)$", before[-(1 << 16) :]))):
        words = re.split(rb"[,;\s]+", match[2].lower())
        if {b"x", b"y", b"z"} <= set(words):
            offset = max(0, len(before) - (1 << 16))
            return match.start(2) + offset, match.end(2) + offset
    return None


def _without_counts(body: bytes, found: np.ndarray, first: int, path: Path) -> np.ndarray:
    """The lines of points of all blocks, each of which follows its count."""
    blocks, index = [], first - 1
    while index < len(found):
        text = body[int(found[index, 0]) : int(found[index, 1])][:80].decode("latin1").strip()
        if not re.fullmatch(r"\d{1,18}", text):
            raise ScanError(f"{path}: {text!r} stands where a count of points should be")
        left = len(found) - index - 1
        if int(text) > left:
            raise ScanError(f"{path}: promises {int(text):,} points, the file holds {left:,} (truncated?)")
        blocks.append(found[index + 1 : index + 1 + int(text)])
        index += 1 + int(text)
    points = np.concatenate(blocks)
    if len(points) == 0:
        raise ScanError(f"{path}: holds no points")
    return points


def _names(layout: Layout, columns: int, path: Path) -> list[str]:
    """A name for each column, x, y and z among them."""
    if columns < 3:
        raise ScanError(f"{path}: has {columns} columns, a point needs x, y and z (2-D points?)")
    if columns > _COLUMNS:
        raise ScanError(f"{path}: has {columns:,} columns, this is no table of points")
    words: list[str] = []
    if layout.named is not None:
        line = layout.body[slice(*layout.named)].decode("utf-8", "replace")
        words = [word.strip("\"'") for word in _split(line.strip().lstrip("#/").strip(), layout.separator)]
    if len(words) != columns or len(set(words)) < columns:
        known = _PTS[1:] if columns == 6 else _PTS[: columns - 3]
        extra = [f"column_{index}" for index in range(4, columns + 1)]
        known = known if path.suffix.lower() == ".pts" else ()
        return [*packed.AXES, *known, *extra[len(known) :]]
    lower = [word.lower() for word in words]
    if all(lower.count(axis) == 1 for axis in packed.AXES):
        return [low if low in packed.AXES else word for word, low in zip(words, lower, strict=True)]
    rest = [f"{word}_" if word in packed.AXES else word or f"column_{i + 4}" for i, word in enumerate(words[3:])]
    return [*packed.AXES, *rest]


def _kind(words: list[list[str]]) -> str:
    texts = [word[0] for word in words if word]
    if all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in texts):
        return "i8"
    return "f8" if all(_number(text) or not text for text in texts) else "U"


def _parse(layout: Layout, points: np.ndarray, names: list[str], kinds: list[str], path: Path) -> np.ndarray:
    """The columns; where that fails, once more with whole numbers as floats and empty fields as NaN."""
    if "U" in kinds:
        kinds = _with_widths(layout, points, kinds, path)
    try:
        return lines.parse(layout.body, points, np.dtype(list(zip(names, kinds, strict=True))), layout.separator, path)
    except ScanError:
        if "i8" not in kinds and layout.separator is None:
            raise
    body = b"\n".join([layout.body[a:b].strip() for a, b in points.tolist()])
    if layout.separator:
        mark = layout.separator.encode()
        body = re.sub(rb"(?m)(?:^|(?<=%s))[ \t]*(?=%s|$)" % (mark, mark), b"nan", body)
    dtype = np.dtype([(name, "f8" if kind == "i8" else kind) for name, kind in zip(names, kinds, strict=True)])
    return lines.parse(body, lines.find(body, 0), dtype, layout.separator, path)


def _with_widths(layout: Layout, points: np.ndarray, kinds: list[str], path: Path) -> list[str]:
    begin, end = int(points[0, 0]), int(points[-1, 1])
    try:
        where = lines.tokens(layout.body[begin:end], points - begin, len(kinds), layout.separator)
    except ScanError:
        raise ScanError(f"{path}: its lines do not all have {len(kinds)} columns") from None
    widths = (where[:, :, 1] - where[:, :, 0]).max(axis=0).tolist()
    if max(width for width, kind in zip(widths, kinds, strict=True) if kind == "U") > _WIDEST_WORD:
        raise ScanError(
            f"{path}: a column of words is wider than {_WIDEST_WORD} characters, this is no table of points"
        )
    return [f"U{max(width, 1)}" if kind == "U" else kind for width, kind in zip(widths, kinds, strict=True)]


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as text: a text source's layout and unchanged characters kept; else one line a point, exact digits."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "text" else None
    if source is not None and _family(source.path) != _family(target):
        source = None
    old = source.rows["values"] if source else None
    words = {values.dtype for values in cloud.attributes.values() if _plain_words(values)}
    fitted = attributes.fitted(cloud, _NUMBERS | words, warn, str(target), own=old)
    rows = packed.rows_from(fitted, old, warn, str(target))
    exact = [(name, "f8" if name in packed.AXES else rows.dtype[name]) for name in rows.dtype.names or ()]
    rows = rows.astype(exact, copy=False)
    kept = source is not None and old is not None and lines.extends(rows.dtype, old.dtype)
    with open(temporary, "wb") as file:
        for block in _kept(rows, source) if kept and source else _fresh(rows, _family(target)):
            file.write(block)


def _family(path: Path) -> str:
    return path.suffix.lower() if path.suffix.lower() in (".csv", ".pts") else ".xyz"


def _plain_words(values: np.ndarray) -> bool:
    if values.dtype.kind != "U" or values.ndim != 1:
        return False
    return not any(re.search(r"[\s,;\"]|^$|^#|^//", word) for word in np.unique(values).tolist())


def _kept(rows: np.ndarray, source: Source) -> Iterator[bytes]:
    layout: Layout = source.header
    spans, old = source.rows["line"], source.rows["values"]
    whole = len(rows) == layout.count
    added = (rows.dtype.names or ())[len(old.dtype.names or ()) :]
    if layout.counted and not whole:
        yield b"%d\n" % len(rows)
    else:
        yield _before(layout, int(spans[0, 0]) if whole and len(rows) else _first(layout), added)
    yield from lines.rewritten(layout.body, spans, old, rows, layout.separator, whole)
    yield layout.body[int(spans[-1, 1]) :] if whole and len(rows) else b"\n"


def _first(layout: Layout) -> int:
    return layout.body.find(b"\n", layout.named[1]) + 1 if layout.named else 0


def _before(layout: Layout, start: int, added: tuple[str, ...]) -> bytes:
    text = layout.body[:start]
    if not added or layout.named is None:
        return text
    end = layout.named[0] + len(layout.body[slice(*layout.named)].rstrip())
    joint = layout.separator or " "
    return text[:end] + "".join(joint + name for name in added).encode() + text[end:]


def _fresh(rows: np.ndarray, family: str) -> Iterator[bytes]:
    names = list(rows.dtype.names or ())
    if family == ".pts":
        yield b"%d\n" % len(rows)
    elif family == ".csv":
        yield (",".join(names) + "\n").encode()
    elif len(names) > 3:
        yield ("# " + " ".join(names) + "\n").encode()
    yield from lines.formatted(rows, "," if family == ".csv" else " ")
