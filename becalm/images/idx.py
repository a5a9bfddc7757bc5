"""IDX files, the format of MNIST: two zeros, a type, the number of axes, each axis as a big-endian 32-bit count, the numbers."""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from becalm.core.files import InputError
from becalm.core.limits import check_unpacked

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""numpy types by the code of IDX, big-endian."""


def read(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not. Raises InputError naming the file."""
    packed = Path(path).read_bytes()
    zipped = packed[:2] == b"\x1f\x8b"
    data = gunzip(packed, 4 + 4 * 255, path) if zipped else packed
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES or len(data) < 4 + 4 * data[3]:
        raise InputError(f"{path}: is no folder, .npy, .npz or IDX file; give one of these")
    start, dtype = 4 + 4 * data[3], np.dtype(TYPES[data[2]])
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    promised = math.prod(shape) * dtype.itemsize
    if not promised:
        raise InputError(f"{path}: header promises an array of shape {list(shape)}, which holds nothing")
    if zipped:
        check_unpacked(path, len(packed), promised)
        data = gunzip(packed, start + promised + 1, path)
    held = len(data) - start
    if held != promised:
        raise InputError(f"{path}: header promises {promised:,} bytes, the file holds {held:,} (truncated?)")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def gunzip(data: bytes, most: int, path: Path) -> bytes:
    """The first `most` bytes, at most, of what gzipped data unpack to. Raises InputError naming the file."""
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(data)).read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is a damaged gzip file ({error}); fetch it again") from error


def encode(values: np.ndarray, zipped: bool) -> bytes:
    """The bytes of an IDX file, gzipped or not, of an array of uint8, or of uint16 as 32-bit numbers (IDX has no uint16)."""
    code, values = (8, values) if values.dtype == np.uint8 else (12, values.astype(">i4"))
    data = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    return gzip.compress(data, mtime=0) if zipped else data
