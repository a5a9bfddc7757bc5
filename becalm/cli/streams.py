"""Standard input and output in place of files: the name `-`."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STREAM = Path("-")
"""The name that stands for standard input or output."""


@contextmanager
def read_stream(path: Path, suffix: str | None) -> Iterator[Path]:
    """The path itself; for `-` that of a temporary file of a format that holds standard input. Errors name standard input."""
    from becalm.core.files import InputError

    if path != STREAM:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"stdin.{suffix}"
        with open(copy, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield copy
        except InputError as error:
            raise InputError(str(error).replace(str(copy), "standard input")) from error


@contextmanager
def write_stream(path: Path, suffix: str | None) -> Iterator[Path]:
    """The path itself; for `-` that of a temporary file of a format, copied to standard output when the block ends well."""
    if path != STREAM:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"stdout.{suffix}"
        yield copy
        with open(copy, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
