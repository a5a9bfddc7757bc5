"""Points: clouds, their files, and everything that is measured or done on them."""

from becalm.points.cloud import Cloud, ScanError
from becalm.points.formats import read, write

__all__ = ["Cloud", "ScanError", "read", "write"]
