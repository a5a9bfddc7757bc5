"""What a LAS or LAZ header promises, held against the file before laspy allocates for it.

Layouts: ASPRS LAS 1.4-R15; the LAZ record 22204 and its layered chunks: M. Isenburg, LASzip.
"""

import struct
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, BinaryIO

from becalm.core import limits
from becalm.points.cloud import ScanError
from becalm.points.formats import scan_files

_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""LAZ item type -> compressed layers of a chunk; type 14 (extra bytes) has one a byte."""
_POINTWISE_COMPRESSOR, _LAYERED_COMPRESSOR = 1, 3
_EXTRA_BYTES, _EXTRA_BYTES_SIZE = 4, 192
"""Number of the record that describes extra bytes, and bytes of one description."""
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


def read_head(path: Path) -> bytes:
    """A file up to its points."""
    with open(path, "rb") as file:
        (start,) = struct.unpack_from("<I", file.read(100), 96)
        file.seek(0)
        return file.read(start)


def check_header(path: Path) -> None:
    """ScanError where a count, an offset or a size of the header does not fit the file."""
    size = scan_files.file_size(path)
    with open(path, "rb") as file:
        head = file.read(375)
        if head[:4] != b"LASF" or len(head) < 227:
            raise scan_files.wrong_kind(path, "has no LAS header ('LASF' and at least 227 bytes)")
        major, minor = head[24:26]
        if major != 1 or minor > 4:
            hint = "; save it as 1.4 (LAStools: las2las -set_version 1.4)" if major == 1 else ""
            raise ScanError(f"{path}: is LAS version {major}.{minor}, known are 1.0 to 1.4{hint}")
        header_size, start, vlrs, form, length, points = struct.unpack_from("<HIIBHI", head, 94)
        evlr_start, evlrs = 0, 0
        if minor >= 4 and len(head) == 375:
            evlr_start, evlrs, points = struct.unpack_from("<QIQ", head, 235)
        limits.check_points(path, points)
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


def writable_header(header: Any, warn: Callable[[str], object], target: Path) -> Any:
    """A copy of a laspy header that laspy can write: LAS 1.0 as 1.2, COPC as plain LAZ, each said in one line."""
    header = deepcopy(header)
    if header.version.minor == 0:
        header.version = type(header.version)(1, 2)
        warn(f"{target}: LAS 1.0 is written as LAS 1.2, which has the same points")
    if any(record.user_id == "copc" for record in header.vlrs):
        warn(f"{target}: COPC is written as plain LAZ, without its index (pdal translate makes COPC of it)")
        for records in (header.vlrs, header.evlrs or []):
            records[:] = [record for record in records if record.user_id != "copc"]
    return header


def restore_details(path: Path, raw: bytes) -> None:
    """Put back in a file that laspy wrote what it does not keep of the file that began with `raw`.

    These are the creation date, descriptions of variable-length records that fill their 32 characters, and the ranges of extra
    bytes.
    """
    head = bytearray(read_head(path))
    records = _record_offsets(head)
    head[90:94] = raw[90:94]
    for key, (old, length) in _record_offsets(raw).items():
        if key not in records:
            continue
        new, size = records[key]
        head[new + 22 : new + 54] = raw[old + 22 : old + 54]
        if key[:2] == (b"LASF_Spec", _EXTRA_BYTES):
            now = bytes(head[new + 54 : new + 54 + size])
            head[new + 54 : new + 54 + size] = _with_ranges(now, raw[old + 54 : old + 54 + length])
    with open(path, "rb+") as file:
        file.write(head)


def _record_offsets(head: bytes | bytearray) -> dict[tuple[bytes, int, int], tuple[int, int]]:
    """User, number and occurrence of each variable-length record of a file's beginning -> its offset and length."""
    here, count = struct.unpack_from("<H", head, 94)[0], struct.unpack_from("<I", head, 100)[0]
    found: dict[tuple[bytes, int, int], tuple[int, int]] = {}
    for _ in range(count):
        if here + 54 > len(head):
            break
        user, number, length = struct.unpack_from("<2x16sHH", head, here)
        user = user.rstrip(b"\0")
        found[user, number, sum(key[:2] == (user, number) for key in found)] = (here, length)
        here += 54 + length
    return found


def _with_ranges(now: bytes, old: bytes) -> bytes:
    """The descriptions of extra bytes `now`, with the no-data values, minima and maxima that `old` has under the same names."""
    size = _EXTRA_BYTES_SIZE
    known = {old[i + 4 : i + 36]: old[i : i + size] for i in range(0, len(old) - size + 1, size)}
    out = bytearray(now)
    for i in range(0, len(now) - size + 1, size):
        before = known.get(now[i + 4 : i + 36])
        if before is not None and before[2] == now[i + 2]:
            out[i + 3], out[i + 40 : i + 112] = before[3], before[40:112]
    return bytes(out)


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
    limits.check_unpacked(path, size, unpacked)
    if len(laszip) < 34:
        raise ScanError(f"{path}: is compressed and has no LAZ record (VLR 22204)")
    compressor, count = struct.unpack_from("<H", laszip)[0], struct.unpack_from("<H", laszip, 32)[0]
    if compressor == _POINTWISE_COMPRESSOR:
        raise ScanError(
            f"{path}: is LAZ of the first compressor (pointwise, without chunks), which lazrs does not read; "
            "write it anew with LASzip (laszip -i old.laz -o new.laz)"
        )
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
