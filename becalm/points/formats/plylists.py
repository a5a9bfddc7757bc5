"""PLY elements with list properties: each row has its own length, so the rows are walked one by one."""

import struct
from pathlib import Path

import numpy as np

from becalm.points.cloud import ScanError

Properties = tuple[tuple[str, np.dtype, np.dtype | None], ...]
"""(name, type, None), or (name, item type, count type) for a list."""


def gather(data: bytes, start: int, count: int, properties: Properties, path: Path) -> tuple[np.ndarray, int]:
    """Structured rows [count] of the properties that are no lists, from binary data, and where the element ends."""
    fields = [(name, kind) for name, kind, length in properties if length is None]
    starts, end = _walk(data, start, count, properties, path)
    rows = np.zeros(count, fields)
    letters = np.frombuffer(data, np.uint8)
    for column, (name, kind) in enumerate(fields):
        bytes_of = letters[starts[:, column, None] + np.arange(kind.itemsize)]
        rows[name] = np.ascontiguousarray(bytes_of).view(kind)[:, 0] if count else 0
    return rows, end


def _walk(data: bytes, start: int, count: int, properties: Properties, path: Path) -> tuple[np.ndarray, int]:
    """int64 [count, plain properties]: where each value starts. A loop over rows: nothing else knows their lengths."""
    steps = [
        (
            kind.itemsize,
            None if length is None else struct.Struct((">" if length.byteorder == ">" else "<") + length.char),
        )
        for _, kind, length in properties
    ]
    starts, here, size = [], start, len(data)
    try:
        for _ in range(count):
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


def without_lists(data: bytes, lines: np.ndarray, properties: Properties, path: Path) -> bytes:
    """The lines (int64 [n, 2] into ascii data) with their lists left out."""
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
