"""What a file may cost: limits that hold while it is read, generous on the command line and strict where strangers send files."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from becalm.core.files import InputError


@dataclass(frozen=True)
class Limits:
    """The most that a file may hold, unpack to, and take to read."""

    points: int = 10**10
    """Points of a scan, vertices of a mesh."""
    bytes: int = 64 << 20
    """Bytes that any compressed file may unpack to; a larger file may unpack to `expansion` times its own size."""
    expansion: int = 25
    """How far a compressed file may expand beyond that; LAZ expands four to twelve times."""
    attributes: int = 4096
    """Attributes of a point, properties of an element, arrays of an archive."""
    seconds: float = float("inf")
    """Time that may be taken by what has to be read row by row."""

    def max_unpacked_bytes(self, size: int) -> int:
        """Bytes that a file of `size` bytes may unpack to."""
        return max(self.bytes, self.expansion * size)


STRICT = Limits(points=5_000_000, bytes=64 << 20, expansion=12, attributes=256, seconds=10.0)
"""Limits for files that strangers send to a server."""

_limits: ContextVar[tuple[Limits, float]] = ContextVar("_limits", default=(Limits(), float("inf")))
"""The limits in force, and the time of `time.monotonic` at which reading has to end."""


@contextmanager
def limited_to(limits: Limits) -> Iterator[None]:
    """Context in which these limits hold for every file that is read; the seconds count from its beginning."""
    token = _limits.set((limits, time.monotonic() + limits.seconds))
    try:
        yield
    finally:
        _limits.reset(token)


def current_limits() -> Limits:
    """The limits in force."""
    return _limits.get()[0]


def check_unpacked(name: object, size: int, promised: int) -> None:
    """Raise InputError where a file of `size` bytes promises to unpack to more than is believed."""
    allowed = current_limits().max_unpacked_bytes(size)
    if promised > allowed:
        raise InputError(
            f"{name}: {size:,} bytes promise to unpack to {promised:,}, more than the {allowed:,} believed"
        )


def check_points(name: object, count: int) -> None:
    """Raise InputError where a file has more points than may be read."""
    allowed = current_limits().points
    if count > allowed:
        raise InputError(f"{name}: has {count:,} points; at most {allowed:,} are taken here")


def check_attributes(name: object, count: int) -> None:
    """Raise InputError where a file has more attributes, properties or arrays than may be read."""
    allowed = current_limits().attributes
    if count > allowed:
        raise InputError(f"{name}: has {count:,} attributes; at most {allowed:,} are taken here")


def check_time(name: object) -> None:
    """Raise InputError where the time for reading is over."""
    limits, end = _limits.get()
    if time.monotonic() > end:
        raise InputError(f"{name}: takes longer to read than the {limits.seconds:g} seconds given to a file")
