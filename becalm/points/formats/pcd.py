"""PCD, the Point Cloud Library's format (version 0.7): ascii, binary and binary_compressed, any fields."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core import limits
from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import attributes, lines, packed, scan_files

HEADER_LIMIT = 1 << 20
_CODES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
_TYPES = {(code[0].upper(), code[1]): np.dtype(f"<{code}") for code in _CODES}
_KINDS = {kind.newbyteorder("=") for kind in _TYPES.values()}
_MAX_LZF_EXPANSION = 88
"""Three bytes of LZF decompress to at most 264; a file that promises more is damaged."""
_WORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


@dataclass(frozen=True)
class Header:
    """A PCD header; `dtype` is the record type of a point, in which padding fields have names of their own."""

    text: bytes
    dtype: np.dtype
    width: int
    height: int
    points: int
    data: str
    after: bytes = b""
    """The bytes after the points."""
    body: bytes = b""
    """ascii: the whole file; binary_compressed: the compressed points."""
    axes: dict[str, str] = field(default_factory=dict)
    """x, y, z -> their names in the file, where these are others: X, Y, Z."""
    booleans: frozenset[str] = frozenset()
    """Fields of TYPE B, PCL's bool, which are bytes here."""
    place: np.ndarray | None = None
    """Of a file that is read in parts: [3] where the sensor stood, if its grid fits rays from there."""

    @property
    def viewpoint(self) -> np.ndarray:
        """[3] the place that VIEWPOINT names; the origin where there is none."""
        found = [line.split() for line in self.text.decode("latin1").splitlines() if line.startswith("VIEWPOINT")]
        return np.array(found[0][1:4], np.float64) if found and len(found[0]) >= 4 else np.zeros(3)


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of a PCD file. Raises ScanError."""
    data = scan_files.read_bytes(path)
    header = parse_header(data, path)
    readers = {"ascii": _read_text, "binary": _read_binary, "binary_compressed": _read_compressed}
    rows, header = readers[header.data](data, header, path)
    return packed.cloud_from_rows(_value_rows(rows, header), Source("pcd", path, header, rows))


def parse_header(data: bytes, path: Path) -> Header:
    """The header of a PCD file, not yet checked against the file's size."""
    words: dict[str, list[str]] = {}
    end = 0
    while "DATA" not in words:
        stop = data.find(b"\n", end, HEADER_LIMIT)
        if stop < 0:
            raise scan_files.wrong_kind(path, "has no PCD header (no line 'DATA …' within the first MiB)")
        name, *values = data[end:stop].decode("latin1").split() or ["#"]
        end = stop + 1
        if name.startswith("#"):
            continue
        name = "FIELDS" if name == "COLUMNS" else name
        if name not in _WORDS:
            raise scan_files.wrong_kind(path, f"header line {name[:40]!r} is not PCD")
        words[name] = values
    limits.check_attributes(path, len(words.get("FIELDS", ())))
    try:
        header = _header(data[:end], words)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise ScanError(f"{path}: the PCD header does not hold together ({error})") from None
    limits.check_points(path, header.points)
    return header


def _header(text: bytes, words: dict[str, list[str]]) -> Header:
    fields: list[tuple] = []
    axes = packed.written_axes(words["FIELDS"])
    names = [next((axis for axis, written in axes.items() if written == name), name) for name in words["FIELDS"]]
    counts = [int(count) for count in words.get("COUNT", ["1"] * len(names))]
    for name, size, kind, count in zip(names, words["SIZE"], words["TYPE"], counts, strict=True):
        dtype = _TYPES.get((kind.upper().replace("B", "U"), size))
        if dtype is None or not 0 < count <= 1 << 16:
            raise ValueError(f"field {name[:40]} has type {kind[:20]}{size[:20]} × {count}")
        name = f"{packed.PADDING_PREFIX}{len(fields)}" if name == "_" else name
        fields.append((name, dtype) if count == 1 else (name, dtype, (count,)))
    width, height = int(words["WIDTH"][0]), int(words.get("HEIGHT", ["1"])[0])
    points = int(words["POINTS"][0]) if "POINTS" in words else width * height
    if points < 0 or words["DATA"][0] not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"POINTS {points}, DATA {words['DATA'][0]}")
    booleans = frozenset(name for name, kind in zip(names, words["TYPE"], strict=True) if kind.upper() == "B")
    return Header(text, np.dtype(fields), width, height, points, words["DATA"][0], axes=axes, booleans=booleans)


def _value_rows(rows: np.ndarray, header: Header) -> np.ndarray:
    return rows["values"] if header.data == "ascii" else rows


def _truncated_error(path: Path, header: Header, room: int) -> ScanError:
    return ScanError(f"{path}: POINTS promises {header.points:,} points, the file has room for {room:,} (truncated?)")


def _read_binary(data: bytes, header: Header, path: Path) -> tuple[np.ndarray, Header]:
    start, size = len(header.text), header.dtype.itemsize
    end = start + header.points * size
    if end > len(data):
        raise _truncated_error(path, header, (len(data) - start) // size)
    return np.frombuffer(data[start:end], header.dtype), replace(header, after=data[end:], body=b"")


def _read_text(data: bytes, header: Header, path: Path) -> tuple[np.ndarray, Header]:
    line_spans = lines.find_lines(data, len(header.text), comments=(b"#",))
    if header.points > len(line_spans):
        raise _truncated_error(path, header, len(line_spans))
    rows = np.zeros(header.points, [("line", np.int64, (2,)), ("values", header.dtype)])
    rows["line"] = line_spans[: header.points]
    rows["values"] = lines.parse_rows(data, rows["line"], header.dtype, None, path)
    end = int(rows["line"][-1, 1]) if len(rows) else len(header.text)
    return rows, replace(header, after=data[end:], body=data)


def _read_compressed(data: bytes, header: Header, path: Path) -> tuple[np.ndarray, Header]:
    """The points stored field by field (all x, then all y, …), as one compressed block after its two sizes."""
    start = len(header.text) + 8
    if start > len(data):
        raise _truncated_error(path, header, 0)
    length, size = struct.unpack_from("<II", data, start - 8)
    if start + length > len(data):
        raise ScanError(f"{path}: promises {length:,} compressed bytes, has {len(data) - start:,} (truncated?)")
    limits.check_unpacked(path, len(data), size)
    stored_fields = [
        (name, header.dtype[name]) for name in header.dtype.names or () if not name.startswith(packed.PADDING_PREFIX)
    ]
    stored = np.dtype(stored_fields) if size == header.points * np.dtype(stored_fields).itemsize else header.dtype
    if size != header.points * stored.itemsize:
        raise ScanError(f"{path}: POINTS promises {header.points * stored.itemsize:,} bytes, DATA holds {size:,}")
    try:
        block = _decompress(data[start : start + length], size, path)
    except ValueError as error:
        raise ScanError(f"{path}: compressed points are damaged ({error})") from None
    rows, here = np.zeros(header.points, stored), 0
    for name in stored.names or ():
        width = stored[name].itemsize * header.points
        rows[name] = np.frombuffer(block[here : here + width], stored[name])
        here += width
    rows.flags.writeable = False
    return rows, replace(header, after=data[start + length :], body=data[start : start + length])


def _lzf(path: Path | str) -> Any:
    try:
        import lzf  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise ScanError(f"{path}: binary_compressed PCD needs `pip install becalm[scan]` ({error})") from None
    return lzf


def _decompress(block: bytes, size: int, path: Path) -> bytes:
    """The bytes of a block of LZF (Marc Lehmann's liblzf). Raises ValueError where they are not `size`."""
    if size > _MAX_LZF_EXPANSION * len(block):
        raise ValueError(f"{len(block):,} bytes of LZF cannot hold {size:,}")
    plain = _lzf(path).decompress(block, size) if size else b""
    if plain is None or len(plain) != size:
        raise ValueError(f"LZF does not hold the {size:,} bytes that were promised")
    return plain


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as PCD: a PCD source's kind of DATA, width, height, viewpoint and comments kept; else binary."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "pcd" else None
    old = _value_rows(source.rows, source.header) if source else None
    name = str(target)
    rows = packed.rows_from_cloud(
        attributes.convert_attributes(cloud, _KINDS, warn, name, arrays=True, original=old), old, warn, name
    )
    rows = rows.astype([(field, _little_endian(rows.dtype[field])) for field in rows.dtype.names or ()], copy=False)
    with open(temporary, "wb") as file:
        for block in _encode(rows, old, source, target):
            file.write(block)


def _little_endian(dtype: np.dtype) -> np.dtype:
    return np.dtype((dtype.base.newbyteorder("<"), dtype.shape))


def _encode(rows: np.ndarray, old: np.ndarray | None, source: Source | None, target: Path) -> Iterator[bytes]:
    if source is None or old is None:
        yield new_header(None, rows)
        yield rows.tobytes()
        return
    header: Header = source.header
    whole = len(rows) == header.points
    yield header.text if whole and rows.dtype == header.dtype else new_header(header, rows)
    if header.data == "binary":
        yield rows.tobytes()
    elif header.data == "ascii":
        yield from lines.rewrite_lines(
            lines.TableText(header.body, header.body, step=source.step), source.rows["line"], old, rows, whole
        )
    else:
        yield from _compress_rows(rows, old, header, target)
    yield header.after if whole else (b"\n" if header.data == "ascii" else b"")


def _compress_rows(rows: np.ndarray, old: np.ndarray, header: Header, target: Path) -> Iterator[bytes]:
    size = rows.dtype.itemsize * len(rows)
    if len(rows) == header.points and rows.dtype == old.dtype and rows.tobytes() == old.tobytes():
        block = header.body
    else:
        plain = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in rows.dtype.names or ())
        block = _lzf(target).compress(plain, size + size // 16 + 64) if size else b""
    if len(block) > 0xFFFFFFFF:
        raise ScanError("binary_compressed PCD holds at most 4 GiB, write PLY or LAZ")
    yield struct.pack("<II", len(block), size)
    yield block


def new_header(header: Header | None, rows: np.ndarray) -> bytes:
    """The header for other points or fields, with its comments, version and viewpoint unchanged."""
    names = rows.dtype.names or ()
    axes, booleans = (header.axes, header.booleans) if header is not None else ({}, frozenset())
    organised = header is not None and header.width * header.height == len(rows)
    words = {
        "FIELDS": ["_" if name.startswith(packed.PADDING_PREFIX) else axes.get(name, name) for name in names],
        "SIZE": [str(rows.dtype[name].base.itemsize) for name in names],
        "TYPE": ["B" if name in booleans else rows.dtype[name].base.kind.upper() for name in names],
        "COUNT": [str(int(np.prod(rows.dtype[name].shape, dtype=np.int64))) for name in names],
        "WIDTH": [str(header.width if header is not None and organised else len(rows))],
        "HEIGHT": [str(header.height if header is not None and organised else 1)],
        "POINTS": [str(len(rows))],
    }
    plain = "VERSION 0.7\nFIELDS\nSIZE\nTYPE\nCOUNT\nWIDTH\nHEIGHT\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS\nDATA binary\n"
    out = []
    for line in (plain if header is None else header.text.decode("latin1")).splitlines():
        name = (line.split() or [""])[0].replace("COLUMNS", "FIELDS")
        out.append(" ".join([name, *words.pop(name)]) if name in words else line)
    out[-1:-1] = [" ".join([name, *values]) for name, values in words.items()]
    return "\n".join([*out, ""]).encode("latin1")
