"""Tables of numbers in text: parsing, and rewriting that keeps the characters of every unchanged number."""

import io
import itertools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from becalm.points.cloud import ScanError
from becalm.points.decimals import round_moved

BLOCK = 50_000
"""Lines edited or formatted at a time."""
_CHUNK = 1 << 22
"""Bytes searched for lines at a time."""
MAX_LINE_BYTES = 1 << 20
"""The longest line of a table, in bytes; longer ones are refused."""


def find_lines(buffer: bytes, start: int, comments: tuple[bytes, ...] = ()) -> np.ndarray:
    """int64 [n, 2]: start and end of the lines from `start` on, without surrounding spaces, blank lines and comments."""
    parts = [np.zeros((0, 2), np.int64)]
    while start < len(buffer):
        stop = buffer.find(b"\n", start + _CHUNK) + 1 or len(buffer)
        parts.append(_find_lines_in(np.frombuffer(buffer, np.uint8)[start:stop], comments) + start)
        start = stop
    return np.concatenate(parts)


def _find_lines_in(text: np.ndarray, comments: tuple[bytes, ...]) -> np.ndarray:
    breaks = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate([[0], breaks + 1])
    ends = np.concatenate([breaks, [len(text)]])
    inked = np.flatnonzero(text > ord(" "))
    first = np.append(inked, len(text))[np.searchsorted(inked, starts)]
    last = np.append(inked, -1)[np.searchsorted(inked, ends) - 1]
    keep = first < ends
    for mark in comments:
        marked = keep.copy()
        for offset, byte in enumerate(mark):
            marked &= (first + offset < ends) & (text[np.minimum(first + offset, len(text) - 1)] == byte)
        keep &= ~marked
    return np.stack([first[keep], last[keep] + 1], axis=1)


@dataclass(frozen=True)
class TableText:
    """A table in text, and how its fields are written."""

    body: bytes
    """The text as it is written again."""
    table: bytes
    """Text of the same length in which the fields are found: plain numbers, no quotes."""
    separator: str | None = None
    """None: any white space."""
    decimal_comma: bool = False
    step: float | None = None
    """The step to which coordinates that changed are rounded; None writes all digits."""


def parse_rows(buffer: bytes, lines: np.ndarray, dtype: np.dtype, separator: str | None, path: Path) -> np.ndarray:
    """Structured rows [n] of dtype from lines [n, 2], columns in the order of the fields (sub-arrays take several).

    Raises ScanError where a line has another number of columns or a field is no number of its type.
    """
    if len(lines) == 0:
        return np.zeros(0, dtype)
    if int((lines[:, 1] - lines[:, 0]).max()) > MAX_LINE_BYTES:
        raise ScanError(f"{path}: a line is longer than {MAX_LINE_BYTES:,} bytes, this is no table of points")
    flat = flat_dtype(dtype)
    body = buffer[int(lines[0, 0]) : int(lines[-1, 1])] if _are_adjacent(lines) else _join_lines(buffer, lines)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = np.loadtxt(
                io.BytesIO(body), dtype=flat, comments=None, delimiter=separator, encoding="latin1", ndmin=1
            )
    except (ValueError, OverflowError, TypeError) as error:
        check_fields(buffer, lines, flat, separator, path)
        raise ScanError(f"{path}: {_first_line(error)} (counting the lines of points)") from error
    if len(rows) != len(lines):
        raise ScanError(f"{path}: {len(lines):,} lines hold {len(rows):,} points (stray control characters?)")
    return rows.view(dtype)


def flat_dtype(dtype: np.dtype) -> np.dtype:
    """The record type with every sub-array field split into scalar fields."""
    fields = []
    for name in dtype.names or ():
        for index in range(int(np.prod(dtype[name].shape, dtype=np.int64))):
            fields.append((f"{name} {index}", dtype[name].base))
    return np.dtype(fields)


def count_fields(text: bytes, lines: np.ndarray, separator: str | None) -> np.ndarray:
    """int64 [n]: the number of fields of each line [n, 2]."""
    letters = np.frombuffer(text, np.uint8)
    if separator:
        return _count_within(letters == ord(separator), lines) + 1
    ink = letters > ord(" ")
    return _count_within(ink & ~np.append(False, ink[:-1]), lines)


def _count_within(mask: np.ndarray, lines: np.ndarray) -> np.ndarray:
    total = np.append(0, np.cumsum(mask, dtype=np.int64))
    return total[lines[:, 1]] - total[lines[:, 0]]


def check_count_of_fields(text: bytes, lines: np.ndarray, columns: int, separator: str | None, path: Path) -> None:
    """Raise ScanError, with the number of the line, where a line has another number of fields."""
    counts = count_fields(text, lines, separator)
    odd = np.flatnonzero(counts != columns)
    if len(odd):
        start, own = int(lines[odd[0], 0]), int(counts[odd[0]])
        number = text.count(b"\n", 0, start) + 1
        what = f"{own} value{'s' if own != 1 else ''}, the others {columns}"
        where = "the last line is cut off" if odd[0] == len(lines) - 1 else "mend or delete the line"
        raise ScanError(f"{path}: line {number:,} has {what} ({where}?)")


def check_fields(text: bytes, lines: np.ndarray, dtype: np.dtype, separator: str | None, path: Path) -> None:
    """Raise ScanError, with the number of the line, for the first line that is no row of the dtype."""
    kinds = [flat[1] for flat in flat_dtype(dtype).descr]
    check_count_of_fields(text, lines, len(kinds), separator, path)
    for start, end in lines.tolist():
        words = text[start:end].decode("latin1").split(separator)
        for column, (word, kind) in enumerate(zip(words, kinds, strict=True)):
            if kind[1] in "iuf" and not _fits(word.strip(), kind):
                number = text.count(b"\n", 0, start) + 1
                raise ScanError(
                    f"{path}: line {number:,}, column {column + 1}: {word.strip()[:40]!r} is no number there"
                )


def _fits(word: str, kind: str) -> bool:
    """Whether a field is a number of the type."""
    try:
        np.array([float(word)] if kind[1] == "f" else [int(word)]).astype(kind, casting="unsafe")
        return kind[1] == "f" or np.iinfo(kind).min <= int(word) <= np.iinfo(kind).max
    except (ValueError, OverflowError):
        return False


def rewrite_lines(text: TableText, lines: np.ndarray, old: np.ndarray, new: np.ndarray, whole: bool) -> Iterator[bytes]:
    """The text of the rows `new` without a last line break: the old text edited where the fields of `new` start with those of
    `old`, else formatted anew.

    `whole`: no line was left out, so that text between lines stays; otherwise only the lines themselves do.
    """
    if not extends_fields(new.dtype, old.dtype) or len(new) == 0:
        yield b"".join(format_rows(new, text.separator or " "))[:-1]
        return
    if not whole:
        text = replace(text, body=_join_lines(text.body, lines), table=_join_lines(text.table, lines))
        ends = np.cumsum(lines[:, 1] - lines[:, 0] + 1) - 1
        lines = np.stack([ends - (lines[:, 1] - lines[:, 0]), ends], axis=1)
    yield from edit_lines(text, lines, _flat(old), _flat(new))


def extends_fields(new: np.dtype, old: np.dtype) -> bool:
    """Whether the first fields of `new` are those of `old`, in order."""
    names = old.names or ()
    return (new.names or ())[: len(names)] == names


def edit_lines(text: TableText, lines: np.ndarray, old: np.ndarray, new: np.ndarray) -> Iterator[bytes]:
    """The text of `new` (structured [n]) in blocks: lines as they were but for the columns that differ from `old`.

    lines: int64 [n, 2]. Text between two lines (comments, blank lines) stays; columns of `new` that `old` lacks are
    added at the end. The fields of `old` must be the first of `new`.
    """
    names, separator = old.dtype.names or (), text.separator
    new, decimals = round_moved(old, new, text.step)
    changed = np.stack([_differs(old[name], new[name]) for name in names], axis=1)
    extra = list(new.dtype.names or ())[len(names) :]
    for begin in range(0, len(lines), BLOCK):
        block = slice(begin, begin + BLOCK)
        start = int(lines[begin, 0])
        end = int(lines[begin + BLOCK, 0]) if begin + BLOCK < len(lines) else int(lines[-1, 1])
        where = token_spans(text.table[start:end], lines[block] - start, len(names), separator)
        spans = [where[changed[block]]]
        texts = [_field_texts(new[block], names, changed[block], decimals)]
        if extra:
            spans.append(np.repeat(lines[block, 1:] - start, 2, axis=1))
            joint = separator or " "
            texts.append([joint + field for field in _rows(new[extra][block], joint)])
        written = itertools.chain(*texts)
        fields = [field.replace(".", ",") for field in written] if text.decimal_comma else list(written)
        yield replace_spans(text.body[start:end], np.concatenate(spans), fields)


def token_spans(text: bytes, lines: np.ndarray, columns: int, separator: str | None) -> np.ndarray:
    """int64 [n, columns, 2]: start and end of each column of each line in the text, without surrounding white space.

    separator None is any white space.
    """
    letters = np.frombuffer(text, np.uint8)
    inside = np.zeros(len(letters) + 1, np.int8)
    np.add.at(inside, lines[:, 0], 1)
    np.add.at(inside, lines[:, 1], -1)
    within = np.cumsum(inside[:-1], dtype=np.int8) > 0
    if separator is None:
        edges = np.diff((within & (letters > ord(" "))).astype(np.int8), prepend=0, append=0)
        spans = np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)
    else:
        marks = np.flatnonzero(within & (letters == ord(separator)))
        stops = np.sort(np.concatenate([marks, lines[:, 1]]))
        spans = _without_space(letters, np.sort(np.concatenate([lines[:, 0], marks + 1])), stops)
    if len(spans) != len(lines) * columns:
        raise ScanError("the columns of the text that was read cannot be found again; write to another format")
    return spans.reshape(len(lines), columns, 2)


def _without_space(letters: np.ndarray, begins: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """int64 [k, 2]: the spans without white space at their ends; empty at their beginning where there is nothing else."""
    inked = np.flatnonzero(letters > ord(" "))
    first = np.append(inked, len(letters))[np.searchsorted(inked, begins)]
    last = np.append(inked, -1)[np.searchsorted(inked, stops) - 1] + 1
    empty = first >= stops
    return np.stack([np.where(empty, begins, first), np.where(empty, begins, last)], axis=1)


def replace_spans(text: bytes, spans: np.ndarray, texts: list[str]) -> bytes:
    """The text with each span (int64 [k, 2], disjoint, in any order) replaced by one of `texts`."""
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    letters = text.decode("latin1")
    begins = [0, *spans[order, 1].tolist()]
    ends = [*spans[order, 0].tolist(), len(letters)]
    pieces = [""] * (2 * len(texts) + 1)
    pieces[::2] = [letters[a:b] for a, b in zip(begins, ends, strict=True)]
    pieces[1::2] = [texts[index] for index in order.tolist()]
    return "".join(pieces).encode("latin1")


def format_rows(rows: np.ndarray, separator: str) -> Iterator[bytes]:
    """Structured rows as lines of text, in blocks; floats with enough digits to be read back exactly."""
    flat = _flat(rows)
    for begin in range(0, len(flat), BLOCK):
        block = flat[begin : begin + BLOCK]
        yield "".join(text + "\n" for text in _rows(block, separator)).encode("latin1")


def _rows(rows: np.ndarray, separator: str, decimals: dict[str, int] | None = None) -> list[str]:
    kinds = {name: (rows.dtype[name].kind, rows.dtype[name].itemsize) for name in rows.dtype.names or ()}
    fixed = {name: f"%.{number}f" for name, number in (decimals or {}).items()}
    line = separator.join(fixed.get(name) or _FORMATS.get(kind, "%s") for name, kind in kinds.items())
    values = itertools.chain.from_iterable(rows.tolist())
    if len(rows) == 0:
        return []
    text = "\n".join([line] * len(rows)) % tuple(values)
    return text.encode("utf-8").decode("latin1").split("\n")


_FORMATS = {("f", 2): "%.5g", ("f", 4): "%.9g", ("f", 8): "%r", ("b", 1): "%d"} | {
    (kind, size): "%d" for kind in "iu" for size in (1, 2, 4, 8)
}


def _field_texts(rows: np.ndarray, names: tuple[str, ...], changed: np.ndarray, decimals: dict[str, int]) -> list[str]:
    """The texts of the changed fields, row after row, some with a number of decimals."""
    columns = np.empty(changed.shape, dtype=object)
    for index, name in enumerate(names):
        which = changed[:, index]
        columns[which, index] = _rows(rows[[name]][which], " ", decimals)
    return columns[changed].tolist()


def _flat(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).view(flat_dtype(rows.dtype))


def _differs(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    same = old == new
    if old.dtype.kind == "f" and new.dtype.kind == "f":
        same |= np.isnan(old) & np.isnan(new)
    return ~same


def _are_adjacent(lines: np.ndarray) -> bool:
    """Whether no text is between the lines: a gap of two characters has room for a line break and a space only."""
    gaps = lines[1:, 0] - lines[:-1, 1]
    return not len(gaps) or int(gaps.max()) <= 2


def _join_lines(buffer: bytes, lines: np.ndarray) -> bytes:
    return b"\n".join([buffer[a:b] for a, b in lines.tolist()])


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:200]
