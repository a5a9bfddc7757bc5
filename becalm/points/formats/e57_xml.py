"""The XML part of an E57 file, looked through before libE57 builds a tree of it: that tree is deep where the XML is."""

from pathlib import Path
from xml.parsers import expat

import numpy as np

from becalm.points.cloud import ScanError

PAGE, CHECKSUM = 1024, 4
"""Bytes of a page of the file, and of the checksum at its end (ASTM E2807)."""
MAX_DEPTH, MAX_ELEMENTS = 64, 1_000_000
"""Elements within one another, and elements in all; the standard's own trees are six deep."""


def check_xml(path: Path, start: int, length: int) -> None:
    """Raise ScanError where the XML of `length` bytes, from byte `start` of the file, is too deep or has too many elements."""
    depth = count = 0

    def begin(name: str, attributes: dict) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise ScanError(
                f"{path}: its XML has more than {MAX_DEPTH} elements within one another, or {MAX_ELEMENTS:,} in all"
            )

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    try:
        parser.Parse(xml_bytes(path, start, length), True)
    except expat.ExpatError as error:
        raise ScanError(f"{path}: its XML is damaged ({error})") from None


def xml_bytes(path: Path, start: int, length: int) -> bytes:
    """`length` bytes of the file's content from byte `start` of the file on, without the checksums of the pages."""
    first, offset = divmod(start, PAGE)
    pages = -(-(offset + length) // (PAGE - CHECKSUM)) + 1
    with open(path, "rb") as file:
        file.seek(first * PAGE)
        data = file.read(pages * PAGE)
    whole = np.frombuffer(data[: len(data) // PAGE * PAGE], np.uint8).reshape(-1, PAGE)[:, : PAGE - CHECKSUM]
    return whole.tobytes()[offset : offset + length]
