"""PLY elements with list properties: rows differ in length, so they are parsed one by one."""

import struct
from pathlib import Path

import numpy as np

from becalm.core import limits
from becalm.points.cloud import ScanError

MAX_LISTED = 2_000_000
"""Rows of elements with lists that are parsed, as each is on its own."""

Properties = tuple[tuple[str, np.dtype, np.dtype | None], ...]
"""(name, type, None), or (name, item type, count type) for a list."""


def read_scalar_properties(
    data: bytes, start: int, count: int, properties: Properties, path: Path
) -> tuple[np.ndarray, int]:
    """Structured rows [count] of the properties that are no lists, from binary data, and the offset of the element's end."""
    fields = [(name, kind) for name, kind, length in properties if length is None]
    starts, end = _value_offsets(data, start, count, properties, path)
    rows = np.zeros(count, fields)
    letters = np.frombuffer(data, np.uint8)
    for column, (name, kind) in enumerate(fields):
        bytes_of = letters[starts[:, column, None] + np.arange(kind.itemsize)]
        rows[name] = np.ascontiguousarray(bytes_of).view(kind)[:, 0] if count else 0
    return rows, end


def _value_offsets(data: bytes, start: int, count: int, properties: Properties, path: Path) -> tuple[np.ndarray, int]:
    """int64 [count, scalar properties]: the offset of each value, and that of the end. A loop over rows, as lengths vary."""
    steps = [
        (
            kind.itemsize,
            None if length is None else struct.Struct((">" if length.byteorder == ">" else "<") + length.char),
        )
        for _, kind, length in properties
    ]
    if count > MAX_LISTED:
        raise ScanError(
            f"{path}: {count:,} rows with lists stand before the last vertex; at most {MAX_LISTED:,} are read (write the "
            "vertices first, without lists)"
        )
    starts, here, size = [], start, len(data)
    try:
        for row in range(count):
            if row % 65_536 == 0:
                limits.check_time(path)
            for width, length in steps:
                if length is None:
                    starts.append(here)
                    here += width
                    continue
                (items,) = length.unpack_from(data, here)
                here += length.size + int(items) * width
                if items < 0 or here > size:
                    raise struct.error
    except (struct.error, OverflowError, ValueError):
        raise ScanError(f"{path}: a list runs past the end of the file (truncated?)") from None
    if here > size:
        raise ScanError(f"{path}: an element with lists runs past the end of the file (truncated?)")
    return np.array(starts, np.int64).reshape(count, -1), here


def drop_lists(data: bytes, lines: np.ndarray, properties: Properties, path: Path) -> bytes:
    """The lines (int64 [n, 2], spans of ascii data) without their lists."""
    out = []
    for begin, end in lines.tolist():
        words, kept, index = data[begin:end].split(), [], 0
        try:
            for _, _, length in properties:
                if length is None:
                    kept.append(words[index])
                else:
                    index += int(words[index])
                index += 1
        except (IndexError, ValueError):
            raise ScanError(f"{path}: line {data[begin:end][:60]!r} does not hold the lists it promises") from None
        out.append(b" ".join(kept))
    return b"\n".join(out)
