"""What a LAS or LAZ header promises, held against the file before laspy allocates for it.

Layouts: ASPRS LAS 1.4-R15; the LAZ record 22204 and its layered chunks: M. Isenburg, LASzip.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

from becalm.points.cloud import ScanError
from becalm.points.formats import scan_files

_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""LAZ item type -> compressed layers of a chunk; type 14 (extra bytes) has one a byte."""
_LAYERED_COMPRESSOR = 3
_MODEL_TYPE_KEY, _GEOGRAPHIC = 1024, 2
"""GeoTIFF's key for the kind of a coordinate system, and its value for longitude and latitude."""


def is_geographic(header: Any) -> bool:
    """Whether the coordinate system of a laspy header is a longitude and a latitude in degrees."""
    records = [*header.vlrs, *(header.evlrs or ())]
    texts = [str(record.string) for record in records if type(record).__name__ == "WktCoordinateSystemVlr"]
    if any(texts):
        whole = " ".join(texts)
        return "GEOG" in whole and "PROJCS" not in whole and "PROJCRS" not in whole
    keys = [record.geo_keys for record in records if type(record).__name__ == "GeoKeyDirectoryVlr"]
    return any(key.id == _MODEL_TYPE_KEY and key.value_offset == _GEOGRAPHIC for part in keys for key in part)


def check_header(path: Path) -> None:
    """ScanError where a count, an offset or a size of the header does not fit the file."""
    size = scan_files.file_size(path)
    with open(path, "rb") as file:
        head = file.read(375)
        if head[:4] != b"LASF" or len(head) < 227:
            raise ScanError(f"{path}: has no LAS header ('LASF' and at least 227 bytes)")
        major, minor = head[24:26]
        if major != 1 or minor > 4:
            raise ScanError(f"{path}: is LAS version {major}.{minor}, known are 1.0 to 1.4")
        header_size, start, vlrs, form, length, points = struct.unpack_from("<HIIBHI", head, 94)
        evlr_start, evlrs = 0, 0
        if minor >= 4 and len(head) == 375:
            evlr_start, evlrs, points = struct.unpack_from("<QIQ", head, 235)
        if not 227 <= header_size <= start <= size:
            raise ScanError(f"{path}: header of {header_size:,} bytes, points from {start:,}, in a file of {size:,}")
        laszip = _check_records(file, path, "VLR", header_size, vlrs, start, "<2x16sHH32x")
        if evlrs:
            _check_records(file, path, "EVLR", evlr_start, evlrs, size, "<2x16sHQ32x")
        if form & 0xC0:
            _check_compressed(file, path, start, size, points * length, laszip, length)
        elif start + points * length > size:
            held = (size - start) // max(length, 1)
            raise ScanError(f"{path}: header promises {points:,} points, the file holds {held:,} (truncated?)")


def _check_records(file: BinaryIO, path: Path, what: str, start: int, count: int, end: int, layout: str) -> bytes:
    """Checks that `count` variable-length records lie between start and end; gives the LAZ record, if there."""
    head, laszip = struct.calcsize(layout), b""
    if start + count * head > end:
        raise ScanError(f"{path}: header promises {count:,} {what}s, there is room for {max(end - start, 0) // head:,}")
    for index in range(count):
        file.seek(start)
        data = file.read(head)
        user, record, length = struct.unpack(layout, data) if len(data) == head else (b"", 0, end)
        start += head + length
        if start > end:
            raise ScanError(f"{path}: {what} {index} runs past its place in the file (damaged?)")
        if user.rstrip(b"\0") == b"laszip encoded" and record == 22204:
            laszip = file.read(length)
    return laszip


def _check_compressed(
    file: BinaryIO, path: Path, start: int, size: int, unpacked: int, laszip: bytes, length: int
) -> None:
    """Believable expansion, items that make up a record, and chunks and their table inside the file."""
    allowed = max(scan_files.MAX_UNPACKED_BYTES, scan_files.MAX_EXPANSION * size)
    if unpacked > allowed:
        raise ScanError(f"{path}: {size:,} bytes promise to unpack to {unpacked:,}, more than the {allowed:,} believed")
    if len(laszip) < 34:
        raise ScanError(f"{path}: is compressed and has no LAZ record (VLR 22204)")
    compressor, count = struct.unpack_from("<H", laszip)[0], struct.unpack_from("<H", laszip, 32)[0]
    items = list(struct.iter_unpack("<HHH", laszip[34 : 34 + 6 * count].ljust(6 * count, b"\0")))
    if sum(width for _, width, _ in items) != length:
        raise ScanError(f"{path}: the LAZ record's items do not make up a point of {length} bytes")
    file.seek(start)
    (table,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
    if table == -1:
        file.seek(size - 8)
        (table,) = struct.unpack("<q", file.read(8))
    if not start + 8 <= table <= size - 8:
        raise ScanError(f"{path}: the chunk table is not inside the file (truncated?)")
    file.seek(table)
    _, chunks = struct.unpack("<II", file.read(8))
    if chunks > size:
        raise ScanError(f"{path}: the chunk table promises {chunks:,} chunks in {size:,} bytes")
    if compressor == _LAYERED_COMPRESSOR:
        layers = sum(width if kind == 14 else _LAYERS.get(kind, 1) for kind, width, _ in items)
        _check_layers(file, path, start + 8, table, length, layers)


def _check_layers(file: BinaryIO, path: Path, start: int, end: int, length: int, layers: int) -> None:
    """Walks the chunks: a point, a count, the size of each layer, the layers."""
    head = length + 4 + 4 * layers
    while start < end:
        file.seek(start)
        data = file.read(head)
        if len(data) < head:
            raise ScanError(f"{path}: a chunk of points runs past the end of the file (truncated?)")
        start += head + sum(struct.unpack_from(f"<{layers}I", data, length + 4))
        if start > end:
            raise ScanError(f"{path}: a chunk of points runs past its place in the file (damaged?)")
