"""Which columns of a text file are x, y and z: by the names in its header, by number, or by what the columns hold."""

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points.cloud import ScanError
from becalm.points.formats.column_words import (
    EAST,
    HEIGHT,
    LATITUDE,
    LONGITUDE,
    NORTH,
    PLAIN_LETTERS,
    POINT_NUMBER,
    UNSPECIFIC,
)
from becalm.points.formats.packed import AXES
from becalm.points.formats.text_dialect import is_number

Columns = Mapping[str, int | str]
"""x, y and z -> the number of a column, from 1, or its name."""

_NAMES = (("x", *EAST), ("y", *NORTH), ("z", *HEIGHT))
"""Names of coordinates in surveying, best first."""
_DEGREES = (LONGITUDE, LATITUDE, ("z", *HEIGHT))
_PTS_COLUMNS = ("intensity", "red", "green", "blue")
"""Names of the columns after x, y, z in PTS; six columns are colours without intensity."""
_UNIX_TIME = (9e8, 2.3e9)
"""Seconds since 1970 of the years 1998 to 2042."""


class Axes(NamedTuple):
    """The columns, from 0, that are x, y and z."""

    columns: tuple[int, int, int]
    note: str | None = None
    """What should be said about it: one line, None where nothing is in doubt."""
    degrees: bool = False
    """Whether x and y are a longitude and a latitude."""


def header_words(line: str, separator: str | None, columns: int) -> list[str] | None:
    """The words of a line that names `columns` columns; None where it has another number of words, or one twice."""
    line = line.strip().lstrip("#/%").strip()
    for mark in dict.fromkeys((separator or "\t", ",", ";", "\t")):
        words = [word.strip().strip("\"'").strip() for word in csv_words(line, mark)]
        if len(words) == columns == len(set(words)):
            return words
    words = re.findall(r"\"[^\"]*\"|[^\s\"\[(]+(?:\s*[\[(][^\])]*[\])])?", line)
    words = [word.strip("\"'") for word in words]
    return words if len(words) == columns == len(set(words)) else None


def csv_words(line: str, mark: str) -> list[str]:
    """The fields of a line of CSV; none where it is no such line: a line break in it, or a word without end."""
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:
        return []


def find_axes(
    columns: Columns | None,
    names: list[str] | None,
    kinds: list[str],
    words: list[list[str]],
    rows: np.ndarray,
    path: Path,
) -> Axes:
    """The columns of x, y and z: chosen, named, or by their place."""
    axes = chosen_axes(columns, names, len(kinds), str(path)) if columns else None
    if axes is None and names is not None:
        axes = named_axes(names, str(path))
    if axes is None:
        numeric = [column for column, kind in enumerate(kinds) if kind != "U"]
        for column in range(len(kinds)) if len(numeric) < 3 else ():
            check_single_words(words, rows, column, str(path))
        axes = positional_axes(words, rows, numeric, names, str(path))
    for axis, column in zip(AXES, axes.columns, strict=True):
        if kinds[column] == "U":
            check_single_words(words, rows, column, str(path))
            raise ScanError(
                f"{path}: column {column + 1}, taken as {axis}, holds words; --columns x=1,y=2,z=3 chooses others"
            )
    return axes


def check_single_words(words: list[list[str]], rows: np.ndarray, column: int, name: str) -> None:
    """Raise ScanError where a column holds numbers, and words in a tenth of the lines at most."""
    fields = [line[column] if column < len(line) else "" for line in words]
    wrong = [index for index, field in enumerate(fields) if field and not is_number(field)]
    if 0 < len(wrong) <= max(1, len(fields) // 10) and len(fields) > 2:
        raise ScanError(
            f"{name}: point {rows[wrong[0]] + 1:,} has {fields[wrong[0]][:40]!r} in column {column + 1}, where the others have "
            "numbers (mend or delete the line?)"
        )


def field_names(names: list[str] | None, axes: Axes, columns: int, path: Path) -> list[str]:
    """A name for each column, x, y and z among them."""
    if names is None:
        known = _PTS_COLUMNS[1:] if columns == 6 else _PTS_COLUMNS[: columns - 3]
        known = known if path.suffix.lower() == ".pts" and axes.columns == (0, 1, 2) else ()
        names = ["x", "y", "z", *known, *(f"column_{index}" for index in range(4 + len(known), columns + 1))]
        if axes.columns != (0, 1, 2):
            names = [f"column_{index}" for index in range(1, columns + 1)]
    fields = [name or f"column_{index + 1}" for index, name in enumerate(names)]
    fields = [f"{field}_" if field in AXES else field for field in fields]
    for axis, column in zip(AXES, axes.columns, strict=True):
        fields[column] = axis
    return fields


def chosen_axes(columns: Columns, words: Sequence[str] | None, count: int, name: str) -> Axes:
    """The columns that a person chose, out of `count` with the names `words`. Raises ScanError where one is not there."""
    if set(columns) != set(AXES):
        raise ScanError(f"--columns {', '.join(columns)}: name a column for each of x, y and z, as in x=2,y=3,z=4")
    found = []
    for axis in AXES:
        wanted = str(columns[axis])
        lower = [word.lower() for word in words or ()]
        if wanted.isdecimal() and 1 <= int(wanted) <= count:
            found.append(int(wanted) - 1)
        elif words and wanted.lower() in lower:
            found.append(words.index(wanted) if wanted in words else lower.index(wanted.lower()))
        else:
            known = f", named {', '.join(words)[:200]}" if words else ""
            raise ScanError(f"{name}: has no column {wanted!r} for {axis}; it has columns 1 to {count}{known}")
    if len(set(found)) < 3:
        raise ScanError(f"{name}: --columns takes one column twice; x, y and z are three columns")
    return Axes((found[0], found[1], found[2]))


def named_axes(words: Sequence[str], name: str) -> Axes | None:
    """The columns whose names are those of coordinates; None where there is no x or no y among the names.

    Raises ScanError where there are x and y and no z.
    """
    for names, degrees in ((_NAMES, False), (_DEGREES, True)):
        found = [_best_column(words, known) for known in names]
        if found[0] is None or found[1] is None:
            continue
        if found[2] is None:
            raise ScanError(
                f"{name}: names columns {words[found[0]]!r} and {words[found[1]]!r} and none for z (2-D points?); "
                "if there is one, say --columns x=1,y=2,z=3"
            )
        columns = (found[0], found[1], found[2])
        trivial = [words[column].lower() for column in columns] == list(AXES)
        return Axes(columns, None if trivial else f"x, y, z are {_list_columns(columns, words)}", degrees)
    return None


def _best_column(words: Sequence[str], names: tuple[str, ...]) -> int | None:
    ranks = [(names.index(key), index) for index, word in enumerate(words) if (key := _key(word)) in names]
    return min(ranks)[1] if ranks else None


def _key(word: str) -> str:
    """The name of a column without case, accents, units in brackets and words that say no more."""
    word = re.sub(r"[\[(].*?[\])]", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word))
    word = unicodedata.normalize("NFKD", word.lower().translate(PLAIN_LETTERS))
    word = "".join(c for c in word if not unicodedata.combining(c))
    parts = re.split(r"[\s._:/-]+", word)
    kept = [part for part in parts if part and part not in UNSPECIFIC]
    if len(kept) == 1 and kept[0] in ("0", "1", "2") and len(parts) > 1:  # ParaView's "Points:0"
        return AXES[int(kept[0])]
    return " ".join(kept)


def _list_columns(columns: Sequence[int], words: Sequence[str] | None = None) -> str:
    numbers = ", ".join(str(column + 1) for column in columns)
    return f"{', '.join(words[column] for column in columns)} (columns {numbers})" if words else f"columns {numbers}"


def positional_axes(
    words: list[list[str]], rows: np.ndarray, numeric: list[int], names: list[str] | None, name: str
) -> Axes:
    """The first three columns of numbers, after one that holds point numbers or times.

    words: the fields of some lines, and `rows` the numbers of these; numeric: the columns of numbers.
    """
    if len(numeric) < 3:
        raise ScanError(f"{name}: has {len(numeric)} columns of numbers, a point needs x, y and z (2-D points?)")
    if names is None and _are_split_decimals(words):
        raise ScanError(
            f"{name}: its commas seem to be decimal marks and to separate columns too ('{','.join(words[0][:6])}'); write it "
            "with decimal points, or with semicolons or tabs between the columns"
        )
    what = None
    if len(numeric) > 3 and len(words) > 1:
        values = np.array([[float(line[column] or "nan") for column in numeric[:4]] for line in words])
        what = _index_kind(values, rows)
        if names is not None and _key(names[numeric[0]]) in POINT_NUMBER:
            what = "point numbers"
    first = 0 if what is None else 1
    columns = (numeric[first], numeric[first + 1], numeric[first + 2])
    note = None
    if what is not None or columns != (0, 1, 2) or names is not None:
        why = f"column {numeric[0] + 1} holds {what}; " if what else ""
        why += "no column is named x, y, z; " if names is not None else ""
        note = f"{why}x, y, z are taken to be {_list_columns(columns, names)}; --columns x=1,y=2,z=3 decides otherwise"
    return Axes(columns, note)


def _are_split_decimals(words: list[list[str]]) -> bool:
    """Whether every second column is what follows a decimal comma: whole numbers, some of which begin with a zero (451,05)."""
    columns = [[word.strip() for word in column] for column in zip(*words, strict=False)]
    if len(columns) < 6 or len(columns) % 2 or not all(word.lstrip("+-").isdigit() for c in columns for word in c):
        return False
    padded = [any(len(word) > 1 and word[0] == "0" for word in column) for column in columns]
    return sum(padded[1::2]) >= 2 and not any(padded[::2])


def _index_kind(values: np.ndarray, rows: np.ndarray) -> str | None:
    """What the first of four columns holds if it is no coordinate: point numbers or times."""
    if not np.isfinite(values).all():
        return None
    first, others = values[:, 0], values[:, 1:]
    fractional = int((np.mod(others, 1) != 0).any(axis=0).sum())
    if np.all(np.mod(first, 1) == 0):
        if np.array_equal(first - first[0], rows - rows[0]) and fractional >= 2:
            return "consecutive whole numbers"
        if len(np.unique(first)) == len(first) and fractional == 3:
            return "whole numbers, each once"
    seconds = [first / 10.0**power for power in (0, 3, 6, 9)]
    timely = any(np.all((s >= _UNIX_TIME[0]) & (s <= _UNIX_TIME[1])) for s in seconds)
    return "times" if timely and np.all(np.diff(first) >= 0) else None
