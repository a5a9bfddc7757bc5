"""Atomic output: files and folders are written under a temporary name, synced, then renamed."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path


class InputError(ValueError):
    """Invalid input: a one-line message that names the file, the field and the fix."""


_written: ContextVar[list[Path] | None] = ContextVar("_written", default=None)
"""The list that files and folders are added to while `list_written` is open."""


@contextmanager
def list_written() -> Iterator[list[Path]]:
    """A list to which `atomic_file` and `atomic_folder` add each path that has its new content, while the block runs."""
    paths: list[Path] = []
    token = _written.set(paths)
    try:
        yield paths
    finally:
        _written.reset(token)


def _note_written(path: Path) -> None:
    """Add a path to the list of the innermost `list_written`, if one is open."""
    paths = _written.get()
    if paths is not None:
        paths.append(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Context of an empty temporary file in the same folder, which replaces `path` when the block ends without error.

    On any error it is removed and `path` stays unchanged. Raises OSError as the file system does.
    """
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".becalm-{secrets.token_hex(6)}.part")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        fsync_path(temporary, os.O_RDWR)
        os.replace(temporary, final)
        _note_written(path)
        fsync_path(final.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Context of an empty temporary folder, renamed to `path` when the block ends without error.

    `path` must not exist or be an empty folder. On any error the temporary folder is removed with its contents. Raises OSError as
    the file system does.
    """
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".becalm-{secrets.token_hex(6)}.part")
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, final)
        _note_written(path)
        fsync_path(final.parent, os.O_RDONLY)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


OTHER_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg", ".pdf")
"""Suffixes of other image formats."""


def check_png_name(path: Path | None) -> None:
    """Raise InputError for a picture's name with the suffix of another format: only PNG is written."""
    if path and path.suffix.lower() in OTHER_IMAGE_SUFFIXES:
        raise InputError(f"{path}: pictures are written as PNG; give a name that ends in .png")


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Raise InputError for outputs that would overwrite an input or one another, or whose folder does not exist."""
    given, taken = {path.resolve() for path in inputs}, set()
    for path in outputs:
        if path is None:
            continue
        place = path.resolve()
        if place in given:
            raise InputError(f"{path}: is an input, and inputs are never overwritten; give another name")
        if place in taken:
            raise InputError(f"{path}: is the name of two outputs; give one of them another")
        if place.is_dir():
            raise InputError(f"{path}: is a folder; give the name of a file")
        if not place.parent.is_dir():
            raise InputError(f"{path}: its folder does not exist; make it first")
        taken.add(place)


def fsync_path(path: Path, flags: int) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
