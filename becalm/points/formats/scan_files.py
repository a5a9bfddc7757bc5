"""Reading of whole scan files and atomic writing: nothing half-written ever has the final name, no input is overwritten."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from becalm.core import files as whole
from becalm.points.cloud import ScanError


def file_size(path: Path) -> int:
    """The size in bytes of a regular, non-empty file; ScanError for anything else."""
    try:
        if path.is_dir():
            raise ScanError(f"{path}: is a directory, name one scan in it")
        if not path.exists():
            raise ScanError(f"{path}: no such file")
        if not path.is_file():
            raise ScanError(f"{path}: is not a regular file")
        size = path.stat().st_size
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise ScanError(f"{path}: the file is empty")
    return size


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular, non-empty file."""
    file_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror})") from error


def check_output_path(path: Path, source: Path | None) -> None:
    """Raise ScanError unless `path` can be written: in an existing folder, no directory, not the same file as the input."""
    if path.is_dir():
        raise ScanError(f"{path}: is a directory, name the output file")
    if not path.parent.is_dir():
        raise ScanError(f"{path}: the folder {path.parent} does not exist, create it first")
    if path.exists() and not path.is_file():
        raise ScanError(f"{path}: is not a regular file")
    if source is not None and path.exists() and source.exists() and os.path.samefile(path, source):
        raise ScanError(f"{path}: is the input itself, choose another output")


@contextmanager
def discarded_scan_file(path: Path, source: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path`, which is removed when the block ends. Raises ScanError as `atomic_scan_file` does."""
    try:
        with atomic_scan_file(path, source) as temporary:
            yield temporary
            raise _DiscardError
    except _DiscardError:
        pass


class _DiscardError(Exception):
    """Ends a block whose file is not wanted."""


@contextmanager
def atomic_scan_file(path: Path, source: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends it is synced and renamed to `path`, on any error it is removed.

    `source` is the input, which must not be the same file. Raises ScanError where the system refuses (disk full, no permission);
    then a file at `path` is unchanged.
    """
    try:
        check_output_path(path, source)
        with whole.atomic_file(path) as temporary:
            yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScanError(f"{path}: cannot be written ({reason}); nothing was changed") from error


SIGNATURES: dict[bytes, str] = {
    b"ply": "a PLY scan: name it .ply",
    b"LASF": "a LAS or LAZ scan: name it .las or .laz",
    b"ASTM-E57": "an E57 scan: name it .e57",
    b"# .PCD": "a PCD scan: name it .pcd",
    b"VERSION .7": "a PCD scan: name it .pcd",
    b"\x93NUMPY": "a NumPy array: name it .npy",
    b"glTF": "a GLB mesh: name it .glb",
    b"PK\x03\x04": "a ZIP archive: unpack it, or name it .npz if NumPy wrote it",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"<": "a web page or XML: download the scan itself",
    b"{": "JSON: export the points as PLY or text",
    b"%PDF": "a PDF document: export the points as PLY or text",
    b"\x89PNG": "a picture: name a scan",
    b"\xff\xd8\xff": "a picture: name a scan",
    b"\x89HDF": "an HDF5 file: export the points as PLY or LAS",
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
}
"""The first bytes of files that are often given a wrong suffix -> what they are, and what to do."""


def wrong_kind(path: Path, fault: str) -> ScanError:
    """The error for a file that is not what its suffix says: the fault, what its first bytes look like, and what to do."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf\r\n\t ")
    looks = next((what for start, what in SIGNATURES.items() if head.startswith(start)), "")
    if looks and f"name it {path.suffix.lower()}" not in looks:
        return ScanError(f"{path}: {fault}; it looks like {looks}")
    damaged = "damaged or cut off: get the file anew" if looks else "export it anew, or name it by its true format"
    return ScanError(f"{path}: {fault}; {damaged}")
