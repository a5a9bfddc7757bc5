"""The options --tile, --buffer, --workers, --memory and --cluster."""

import re
from typing import Any

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""What the letter after a number of bytes stands for."""


def parse_tiling(tile: int | None, buffer: str, workers: int | None, memory: str | None, cluster: str | None) -> Any:
    """The `Tiling` of these options. Raises InputError."""
    from becalm.core.files import InputError
    from becalm.tasks.tiling import Tiling
    from becalm.tasks.workers import usable_cores

    try:
        width = None if buffer == "auto" else float(buffer)
    except ValueError:
        raise InputError(f"--buffer {buffer}: give a width in the scan's units, or auto") from None
    return Tiling(tile, width, usable_cores() if workers is None else workers, parse_memory(memory), cluster)


def parse_memory(text: str | None) -> int | None:
    """The bytes of a text such as 4GB, 500M or 2 GiB. Raises InputError."""
    from becalm.core.files import InputError

    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise InputError(f"--memory {text}: give a number of bytes, such as 4GB")
    return int(float(match[1]) * UNITS[match[2].upper()])
