"""How a large scan is divided into tiles, and the work on them: finished tiles stay, whatever happens to the rest."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from becalm.core.files import InputError
from becalm.points.cloud import Cloud
from becalm.points.constraints import Constraints
from becalm.points.denoise import FREE, CloudDenoiser, check_noise_level
from becalm.points.progress import DenoiseProgress
from becalm.points.tile_denoise import Settings, denoise_tile, limit_names, rows_progress, tile_part, with_limits
from becalm.points.tiles import ScanParts, Tiles, divide_scan, load_tiles
from becalm.tasks.workers import submitter

TILE, LEAST_TILE = 500_000, 62_500
"""Points of a tile where memory allows it, and the least that it is halved to where it does not."""

BYTES_PER_POINT = 3500
"""Memory that a model takes for a point of a tile or of its surroundings."""

SURROUNDINGS = 1.4
"""Points of a tile with its surroundings, over those of its own, as a rule."""

PROCESS_BYTES = 500 << 20
"""Memory of a worker without any points."""

DIVIDING = 0.05
"""The share of the work that is the division into tiles."""


@dataclass(frozen=True)
class Tiling:
    """How a scan that is larger than a tile is divided, and who works on the tiles."""

    tile: int | None = None
    """Points of its own in a tile; None: 500 000, or less where `memory` is too small for that."""
    buffer: float | None = None
    """Width of a tile's surroundings in the scan's units; None: 32 spacings, or 64 where neighbouring points share the noise."""
    workers: int = 1
    """Processes with one thread each; 1: this process."""
    memory: int | None = None
    """Bytes that all processes may take together; None: a quarter of what is free."""
    cluster: str | None = None
    """Address of a Dask scheduler, whose workers then take the tiles."""

    def __post_init__(self):
        if self.tile is not None and self.tile < 1000:
            raise InputError(f"--tile {self.tile}: a tile has at least 1000 points")
        if self.buffer is not None and not 0 <= self.buffer < float("inf"):
            raise InputError(f"--buffer {self.buffer:g}: is a width in the scan's units, 0 or more; or auto")
        if self.workers < 1:
            raise InputError(f"--workers {self.workers}: must be at least 1")


DEFAULT_TILING = Tiling()
"""As memory allows, in this process."""


class Plan(NamedTuple):
    """A `Tiling` made definite."""

    tile: int
    workers: int


def plan_tiles(tiling: Tiling) -> Plan:
    """Tiles as large, then workers as many, as fit into the memory. Raises InputError where not even one small tile does."""
    memory = tiling.memory or available_memory() // 4
    tile, workers = tiling.tile or TILE, tiling.workers
    if tiling.tile is None:
        while tile > LEAST_TILE and workers * tile_bytes(tile) > memory:
            tile //= 2
    while workers > 1 and workers * tile_bytes(tile) > memory:
        workers -= 1
    if tiling.memory and tile_bytes(tile) > memory:
        raise InputError(
            f"--memory {memory / 2**30:.2g}GB: a tile of {tile:,} points takes about {tile_bytes(tile) / 2**30:.2g} GB; "
            "give more, or a smaller --tile"
        )
    return Plan(tile, workers)


def tile_bytes(points: int) -> int:
    """Memory that a worker takes with a tile of so many points of its own."""
    return PROCESS_BYTES + int(points * SURROUNDINGS * BYTES_PER_POINT)


def available_memory() -> int:
    """Bytes of memory that are free, as far as the system says so; else 4 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) << 10
    except (OSError, StopIteration, ValueError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, OSError, ValueError):
            return 4 << 30


def iter_denoise_tiles(
    parts: ScanParts,
    folder: Path,
    denoiser: CloudDenoiser,
    settings: Settings,
    tiling: Tiling,
    carried: Sequence[str] = (),
) -> Iterator[tuple[float, Tiles | None]]:
    """Divide a scan, given in parts, into tiles in a folder, and denoise those that are not there yet.

    `carried` are the attributes that are needed for that. Yields the share of the work that is done; the last report has the
    tiles, all finished.
    """
    plan = plan_tiles(tiling)
    if load_tiles(folder) is None:
        for share in divide_scan(parts, plan.tile, folder, carried):
            yield DIVIDING * share, None
    tiles = load_tiles(folder)
    assert tiles is not None
    check_noise_level(tiles.size, settings.sigma)
    left = deque(tile for tile in tiles.numbers if not tiles.is_done(tile))
    done, all_points = int(tiles.counts.sum()) - sum(int(tiles.counts[tile]) for tile in left), int(tiles.counts.sum())
    with submitter(denoise_tile, denoiser, min(plan.workers, len(left)), tiling.cluster) as (submit, workers):
        running: dict[Future, int] = {}
        while left or running:
            while left and len(running) < workers + (workers > 1):  # one waits, so that no worker has to
                tile = left.popleft()
                running[submit(tile_part(tiles, tile, tiling.buffer), settings)] = tile
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                tile = running.pop(future)
                tiles.save_result(tile, *future.result())
                done += int(tiles.counts[tile])
            yield DIVIDING + (1 - DIVIDING) * done / max(all_points, 1), None
    yield 1.0, tiles


@dataclass(frozen=True)
class LimitedParts:
    """A scan in parts, each with the constraints of its points."""

    parts: Iterable[Cloud]
    """The parts, which can be gone through again and again."""
    count: int
    """Points of the scan."""
    limits: Callable[[Cloud], Constraints]
    """The constraints of a part."""

    def __iter__(self) -> Iterator[Cloud]:
        """The parts in order."""
        return (with_limits(part, self.limits(part)) for part in self.parts)


def iter_denoise_large(
    cloud: Cloud, denoiser: CloudDenoiser, settings: Settings, tiling: Tiling, limits: Constraints = FREE
) -> Iterator[DenoiseProgress]:
    """Denoise a cloud in memory tile by tile; the last report has the positions and all else, as of a cloud in one piece."""
    parts = LimitedParts((cloud,), len(cloud), lambda _: limits)
    names = limit_names(next(iter(parts)))
    with tempfile.TemporaryDirectory(prefix="becalm-", suffix=".tiles") as folder:
        for share, tiles in iter_denoise_tiles(parts, Path(folder), denoiser, settings, tiling, names):
            if tiles is None:
                yield DenoiseProgress(share)
        assert tiles is not None
        yield rows_progress(tiles, cloud, 0)
