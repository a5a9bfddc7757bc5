"""Atomic output: files and folders are written under a temporary name, synced, then renamed."""

import os
import secrets
import shutil
import time
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

    A file at `path` hands its permissions on. On any error the temporary one is removed and `path` stays unchanged; one that a
    killed process has left is removed by the next that writes there. Raises OSError as the file system does.
    """
    final = Path(os.path.realpath(path))
    remove_stale_parts(final.parent)
    temporary = final.with_name(f".becalm-{secrets.token_hex(6)}.part")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        try_lock(handle)
        if final.exists():
            os.chmod(temporary, final.stat().st_mode & 0o777)
        yield temporary
        fsync_path(temporary, os.O_RDWR)
        os.replace(temporary, final)
        _note_written(path)
        fsync_path(final.parent, os.O_RDONLY)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say which file
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Context of an empty temporary folder, renamed to `path` when the block ends without error.

    `path` must not exist or be an empty folder. On any error the temporary folder is removed with its contents. Raises OSError as
    the file system does.
    """
    final = Path(os.path.realpath(path))
    remove_stale_parts(final.parent)
    temporary = final.with_name(f".becalm-{secrets.token_hex(6)}.part")
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY)
    try:
        try_lock(handle)
        yield temporary
        os.replace(temporary, final)
        _note_written(path)
        fsync_path(final.parent, os.O_RDONLY)
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


STALE_SECONDS = 10
"""A temporary file or folder of a younger age may belong to a process that is about to lock it."""


def remove_stale_parts(folder: Path) -> None:
    """Remove the temporary files and folders in a folder that no living process holds."""
    for path in folder.glob(".becalm-*.part"):
        try:
            if time.time() - path.stat().st_mtime < STALE_SECONDS:
                continue
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            if not try_lock(handle):
                continue
        finally:
            os.close(handle)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def try_lock(handle: int) -> bool:
    """Lock an open file or folder until it is closed, or its process ends; whether that was possible. Locked is nothing where the
    system has no such locks, which then counts as held."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


OTHER_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg", ".pdf")
"""Suffixes of other image formats."""


def check_png_name(path: Path | None) -> None:
    """Raise InputError for a picture's name with the suffix of another format: only PNG is written."""
    if path and path.suffix.lower() in OTHER_IMAGE_SUFFIXES:
        raise InputError(f"{path}: pictures are written as PNG; give a name that ends in .png")


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path], force: bool = False) -> None:
    """Raise InputError for outputs that would overwrite an input or one another, whose folder does not exist, or which exist and
    are not to be replaced by `force`."""
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
        if place.exists() and not place.is_file():
            raise InputError(f"{path}: is not a regular file; give the name of a file")
        if place.exists() and not force:
            raise InputError(f"{path}: exists already; give another name, or --force to replace it")
        taken.add(place)


def fsync_path(path: Path, flags: int) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
