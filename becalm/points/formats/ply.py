"""PLY, the polygon file format (Greg Turk, Stanford 1994): ascii and both binary orders, any properties.

Elements other than the vertices (faces, edges, cameras) are not interpreted; their bytes are written again unchanged.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from becalm.core import limits
from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import attributes, lines, packed, ply_lists, scan_files

_TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2"},
    **{"ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
_NAMES = {np.dtype(code): name for name, code in reversed(_TYPES.items())}
_ORDERS: dict[str, Literal["<", ">"]] = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
HEADER_LIMIT = 1 << 20


@dataclass(frozen=True)
class Element:
    """One block of rows of a PLY file."""

    name: str
    count: int
    properties: tuple[tuple[str, np.dtype, np.dtype | None], ...]
    """(name, type, None), or (name, item type, count type) for a list."""

    @property
    def scalar_dtype(self) -> np.dtype:
        """The record type of the properties that are no lists."""
        names = [name for name, _, length in self.properties if length is None]
        if len(set(names)) < len(names):
            raise ScanError(f"element {self.name} names a property twice")
        return np.dtype([(name, kind) for name, kind, length in self.properties if length is None])

    @property
    def min_row_bytes(self) -> int:
        """Size in bytes of a row whose lists are empty."""
        return sum((kind if length is None else length).itemsize for _, kind, length in self.properties)

    @property
    def has_lists(self) -> bool:
        return any(length is not None for _, _, length in self.properties)


@dataclass(frozen=True)
class Header:
    """A PLY header, and the bytes of the elements before and after the vertices."""

    text: bytes
    format: str
    elements: tuple[Element, ...]
    before: bytes = b""
    after: bytes = b""
    body: bytes = b""
    """ascii: the whole file, to which the spans of the lines refer."""
    axes: dict[str, str] = field(default_factory=dict)
    """x, y, z -> their names in the file, where these are others: X, Y, Z."""
    complete: bool = True
    """False where the vertices had lists, which are not written again."""

    @property
    def vertex(self) -> Element:
        return next(element for element in self.elements if element.name == "vertex")


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The vertices of a PLY file. Raises ScanError."""
    data = scan_files.read_bytes(path)
    header = parse_header(data, path)
    for element in header.elements:
        for name, _, length in element.properties:
            if length is not None:
                fate = "is dropped" if element.name == "vertex" else "is kept as it is, and not used"
                warn(f"{path}: list property {name!r} of element {element.name!r} {fate}")
    rows, start, end = (_read_text if header.format == "ascii" else _read_binary)(data, header, path)
    header = replace(
        header,
        before=data[len(header.text) : start],
        after=data[end:],
        body=data if "values" in (rows.dtype.names or ()) else b"",
        complete=not header.vertex.has_lists,
    )
    return packed.cloud_from_rows(_value_rows(rows, header), Source("ply", path, header, rows))


def _value_rows(rows: np.ndarray, header: Header) -> np.ndarray:
    return rows["values"] if header.body else rows


def _read_binary(data: bytes, header: Header, path: Path) -> tuple[np.ndarray, int, int]:
    """The vertices, and where their bytes start and end."""
    start = len(header.text)
    for element in header.elements:
        left = len(data) - start
        if element.count * element.min_row_bytes > left:
            raise _truncated_error(path, element, left // max(element.min_row_bytes, 1))
        if element.has_lists:
            rows, end = ply_lists.read_scalar_properties(data, start, element.count, element.properties, path)
        else:
            end = start + element.count * element.min_row_bytes
            rows = np.frombuffer(data[start:end], element.scalar_dtype) if element.min_row_bytes else np.zeros(0)
        if element.name == "vertex":
            return rows, start, end
        start = end
    raise AssertionError("a header has one element 'vertex'")


def _read_text(data: bytes, header: Header, path: Path) -> tuple[np.ndarray, int, int]:
    line_spans, begin = lines.find_lines(data, len(header.text)), 0
    for element in header.elements:
        if element.count > len(line_spans) - begin:
            raise _truncated_error(path, element, len(line_spans) - begin)
        if element.name == "vertex":
            break
        begin += element.count
    vertex = header.vertex
    block = line_spans[begin : begin + vertex.count]
    start, end = (int(block[0, 0]), int(block[-1, 1])) if len(block) else (len(header.text), len(header.text))
    if vertex.has_lists:
        body = ply_lists.drop_lists(data, block, vertex.properties, path)
        return lines.parse_rows(body, lines.find_lines(body, 0), vertex.scalar_dtype, None, path), start, end
    rows = np.zeros(vertex.count, [("line", np.int64, (2,)), ("values", vertex.scalar_dtype)])
    rows["line"] = block
    rows["values"] = lines.parse_rows(data, block, vertex.scalar_dtype, None, path)
    return rows, start, end


def _truncated_error(path: Path, element: Element, room: int) -> ScanError:
    return ScanError(
        f"{path}: header promises {element.count:,} of element {element.name!r}, "
        f"the file has room for {room:,} (truncated?)"
    )


def parse_header(data: bytes, path: Path) -> Header:
    """The header of a PLY file, not yet checked against the file's size."""
    match = re.match(rb"ply\s*?\n.*?(?<=\n)end_header[ \t\r]*(\n|$)", data[:HEADER_LIMIT], re.DOTALL)
    if match is None:
        raise scan_files.wrong_kind(path, "has no PLY header ('ply' … 'end_header' within the first MiB)")
    form, elements = "", []
    order: Literal["<", ">"] = "<"
    limits.check_attributes(path, match[0].count(b"\nproperty "))
    for line in match[0].decode("latin1").split("\n")[1:]:
        try:
            match line.split():
                case ["format", name, _]:
                    form, order = name, _ORDERS[name]
                case ["element", name, count]:
                    elements.append(Element(name, int(count), ()))
                case ["property", "list", length, kind, name]:
                    _add_property(elements, (name, _dtype(kind, order), _dtype(length, order)))
                case ["property", kind, name]:
                    _add_property(elements, (name, _dtype(kind, order), None))
                case ["comment" | "obj_info", *_] | [] | ["end_header"]:
                    pass
                case _:
                    raise ValueError
        except (ValueError, KeyError, IndexError, UnboundLocalError, OverflowError):
            raise ScanError(f"{path}: header line {line.strip()[:80]!r} is not PLY") from None
    names = [element.name for element in elements]
    if not form or names.count("vertex") != 1 or min(element.count for element in elements) < 0:
        raise ScanError(f"{path}: header needs one format and one element 'vertex', and counts from 0")
    limits.check_points(path, max(element.count for element in elements))
    return _with_plain_axes(Header(match[0], form, tuple(elements)))


def _with_plain_axes(header: Header) -> Header:
    """The header with the coordinates of its vertices named x, y and z."""
    axes = packed.written_axes([name for name, _, _ in header.vertex.properties])
    plain = {written: axis for axis, written in axes.items()}
    named = tuple((plain.get(name, name), kind, length) for name, kind, length in header.vertex.properties)
    elements = tuple(replace(e, properties=named) if e.name == "vertex" else e for e in header.elements)
    return replace(header, elements=elements, axes=axes)


def _dtype(name: str, order: Literal["<", ">"]) -> np.dtype:
    return np.dtype(_TYPES[name]).newbyteorder(order)


def _add_property(elements: list[Element], entry: tuple[str, np.dtype, np.dtype | None]) -> None:
    elements[-1] = replace(elements[-1], properties=(*elements[-1].properties, entry))


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as PLY: a PLY source's format, comments and other elements kept; else binary_little_endian."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "ply" else None
    header: Header | None = source.header if source else None
    old = _value_rows(source.rows, source.header) if source else None
    name = str(target)
    rows = packed.rows_from_cloud(
        attributes.convert_attributes(cloud, set(_NAMES), warn, name, original=old), old, warn, name
    )
    with open(temporary, "wb") as file:
        for block in _encode(rows, old, source, header, warn, name):
            file.write(block)


def _encode(
    rows: np.ndarray,
    old: np.ndarray | None,
    source: Source | None,
    header: Header | None,
    warn: Callable[[str], object],
    name: str,
) -> Iterator[bytes]:
    if header is None or source is None or old is None:
        yield header_for_rows(Header(b"", "binary_little_endian", ()), rows, False)
        yield rows.tobytes()
        return
    whole = len(rows) == header.vertex.count
    if not whole and len(header.elements) > 1:
        dropped = ", ".join(element.name for element in header.elements if element.name != "vertex")
        warn(f"{name}: {dropped} dropped, the vertices they name are no longer all there")
    same = whole and header.complete and rows.dtype == header.vertex.scalar_dtype
    yield header.text if same else header_for_rows(header, rows, whole)
    yield header.before if whole else b""
    if header.format != "ascii":
        yield rows.tobytes()
    elif header.body:
        yield from lines.rewrite_lines(
            lines.TableText(header.body, header.body, step=source.step), source.rows["line"], old, rows, whole
        )
    else:
        yield b"".join(lines.format_rows(rows, " "))[:-1]
    yield header.after if whole else (b"\n" if header.format == "ascii" else b"")


def header_for_rows(header: Header, rows: np.ndarray, others: bool) -> bytes:
    """The header for other vertices, its other lines unchanged; `others`: the other elements are written too."""
    vertex = [f"element vertex {len(rows)}"]
    for name in rows.dtype.names or ():
        vertex.append(f"property {_NAMES[rows.dtype[name].newbyteorder('=')]} {header.axes.get(name, name)}")
    if not header.text:
        return "\n".join(["ply", f"format {header.format} 1.0", *vertex, "end_header", ""]).encode("latin1")
    out, element = [], ""
    for line in header.text.decode("latin1").rstrip("\n").split("\n"):
        words = line.split()
        if words[:1] == ["element"]:
            element = words[1]
            out += vertex if element == "vertex" else []
        own = words[:1] in (["element"], ["property"])
        if not own or (element != "vertex" and others):
            out.append(line.rstrip("\r"))
    return "\n".join([*out, ""]).encode("latin1")
