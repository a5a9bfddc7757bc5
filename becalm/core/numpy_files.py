"""NPY and NPZ files from strangers: sizes are held against the file before memory is taken, and objects are never loaded."""

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.core.files import InputError
from becalm.core.limits import check_attributes, check_unpacked

BLOCK = 1 << 20
"""Bytes that are inflated at once: an entry may hold more than it says."""


HEADER = 1 << 17
"""Bytes in which the header of an array is sought; NumPy refuses headers of more than 10 000."""


class NpyArray(NamedTuple):
    """The array in the bytes of an NPY file, with which it shares the memory."""

    array: np.ndarray
    fortran: bool
    """Whether the file has it in Fortran order."""
    start: int
    """Where in the file its data begins."""


def read_npy(data: bytes | bytearray, name: str) -> NpyArray:
    """The array in the bytes of an NPY file, and how it lies there. Raises InputError, which calls it `name`."""
    file = io.BytesIO(data[:HEADER])
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version}")
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
    except Exception as error:  # NumPy lets the errors of Python's own parser and tokenizer through
        raise InputError(f"{name}: is no NPY array ({one_line(error)}); write it with numpy.save") from None
    start, size = file.tell(), math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise InputError(f"{name}: holds Python objects, which are never loaded; save plain numbers")
    if min(shape, default=0) < 0 or size > len(data) - start:
        raise InputError(f"{name}: header promises {size:,} bytes, the file holds {len(data) - start:,} (truncated?)")
    if dtype.itemsize == 0 or len(shape) > 8:
        raise InputError(f"{name}: type {dtype} or shape {shape} holds no numbers")
    flat = np.frombuffer(data, dtype, math.prod(shape), start)
    return NpyArray(flat.reshape(shape, order="F" if fortran else "C"), fortran, start)


def parse_npy(data: bytes | bytearray, name: str) -> np.ndarray:
    """The array of `read_npy` alone."""
    return read_npy(data, name).array


def load_array(path: Path) -> np.ndarray:
    """The array of an NPY file. Raises InputError, OSError."""
    with open(path, "rb") as file:
        data = bytearray(Path(path).stat().st_size)
        file.readinto(data)
    return parse_npy(data, str(path))


def load_arrays(path: Path, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file by name, or those of them that are `wanted`. Raises InputError, OSError."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            check_attributes(path, len(entries))
            chosen = {name: entry for name, entry in entries.items() if wanted is None or name in wanted}
            check_unpacked(path, path.stat().st_size, sum(entry.file_size for entry in chosen.values()))
            return {name: parse_npy(inflate_entry(archive, entry), f"{path}: {name}") for name, entry in chosen.items()}
    except (InputError, OSError):
        raise
    except Exception as error:  # zipfile lets zlib, struct, encoding and its own errors through
        raise InputError(f"{path}: is no whole .npz archive ({one_line(error)}); write it with numpy.savez") from None


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an NPZ file. Raises InputError, OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"{path}: is no whole .npz archive ({one_line(error)}); write it with numpy.savez") from None


def inflate_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytearray:
    """The bytes of an entry, no more than it promises; a few at a time, as more may be packed there than it says."""
    data = bytearray()
    with archive.open(entry) as file:
        while (left := entry.file_size - len(data)) > 0 and (block := file.read(min(BLOCK, left))):
            data += block
    return data


def one_line(error: Exception) -> str:
    """The message of an error in at most 120 characters, or its type."""
    return " ".join(str(error).split())[:120] or type(error).__name__
