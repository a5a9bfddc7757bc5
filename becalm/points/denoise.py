"""Denoise a cloud with a model: what goes in, what comes back, and what is reported of it.

The model sees finite, distinct positions about a local origin and answers with displacements. Points without coordinates,
copies of one position, order, count and attributes are settled here, so that no model has to think of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.estimate import noise_level
from becalm.points.outliers import isolated
from becalm.points.stage import Stage, last

FEWEST = 16
"""A surface needs this many distinct points to be told from noise."""

Outliers = Literal["keep", "flag", "remove"]


@runtime_checkable
class Model(Protocol):
    """Whatever settles clouds."""

    def sweeps(self, xyz: np.ndarray, sigma: float | None = None, seed: int = 0) -> Iterator[Stage]:
        """Yield progress while settling [n, 3] distinct finite positions; the last stage holds where they end."""
        ...


@dataclass(frozen=True)
class Report:
    """What was done to a scan; lengths in its own units."""

    points: int
    """Points in the scan."""
    missing: int
    """Points without finite coordinates, which pass through untouched."""
    outliers: int
    """Isolated points found (0 where they were kept and not looked for)."""
    noise_before: float
    """Estimated standard deviation of the noise across the surface."""
    noise_after: float
    """The same of the result."""
    displacement_median: float
    """Median length of the displacements of the points that were denoised."""
    displacement_95: float
    """Their 95th percentile."""


def outliers_of(cloud: Cloud, choice: Outliers) -> np.ndarray:
    """bool [n]: the isolated points among the finite ones; none where they are to be kept."""
    found = np.zeros(len(cloud), dtype=bool)
    if choice != "keep" and cloud.finite.sum() > FEWEST:
        found[cloud.finite] = isolated(cloud.local()[cloud.finite])
    return found


def stages(
    cloud: Cloud, model: Model, outlier: np.ndarray, sigma: float | None = None, seed: int = 0
) -> Iterator[Stage]:
    """Denoise all but the outliers; each stage with positions has those of the whole cloud, [n, 3] absolute.

    `sigma` is the noise level in the scan's units, None where it is not known. Raises ScanError where there are fewer than 16
    distinct positions, or σ is not positive, or larger than the cloud.
    """
    taken = cloud.finite & ~outlier
    local = cloud.local()[taken]
    places, copies = np.unique(local, axis=0, return_inverse=True)
    check(places, sigma)
    for stage in model.sweeps(places, sigma, seed):
        if stage.xyz is None:
            yield stage
        else:
            xyz = cloud.xyz.copy()
            xyz[taken] += (stage.xyz - places)[copies.reshape(-1)]
            yield Stage(stage.done, xyz)


def check(places: np.ndarray, sigma: float | None) -> None:
    """Raise ScanError, without a file's name, for what cannot be denoised."""
    if len(places) < FEWEST:
        raise ScanError(
            f"{len(places)} distinct finite points; at least {FEWEST} are needed to tell a surface from noise"
        )
    size = float(np.linalg.norm(np.ptp(places, axis=0)))
    if sigma is not None and not 0 < sigma < size / 2:
        raise ScanError(
            f"noise {sigma:g}: a standard deviation in the scan's units, above 0 and well below its size {size:g}"
        )


def denoise(
    cloud: Cloud, model: Model, *, outliers: Outliers = "keep", sigma: float | None = None, seed: int = 0
) -> Cloud:
    """The cloud with its noise settled: same order, same attributes, same origin.

    Outliers are isolated points: kept (and denoised like any other), flagged (an attribute `outlier`, left in place) or
    removed. `sigma` is the noise level in the scan's units where it is known. Raises ScanError for what cannot be denoised.
    """
    outlier = outliers_of(cloud, outliers)
    return finished(cloud, last(stages(cloud, model, outlier, sigma, seed)), outlier, outliers)


def finished(
    cloud: Cloud, xyz: np.ndarray, outlier: np.ndarray, outliers: Outliers, displacement: bool = False
) -> Cloud:
    """The result: moved, with the attributes asked for (`outlier` uint8, `displacement` float32), less what is removed."""
    extra: dict[str, np.ndarray] = {}
    if displacement:
        extra["displacement"] = np.linalg.norm(xyz - cloud.xyz, axis=1).astype(np.float32)
    if outliers == "flag":
        extra["outlier"] = outlier.astype(np.uint8)
    settled = cloud.moved(xyz).with_attributes(extra)
    return settled.select(~outlier) if outliers == "remove" else settled


def report(cloud: Cloud, xyz: np.ndarray, outlier: np.ndarray) -> Report:
    """The figures of a result [n, 3] beside the cloud it was made from."""
    taken = cloud.finite & ~outlier
    before, after = cloud.local()[taken], xyz[taken] - cloud.origin
    lengths = np.linalg.norm(after - before, axis=1)
    return Report(
        points=len(cloud),
        missing=int((~cloud.finite).sum()),
        outliers=int(outlier.sum()),
        noise_before=noise_level(before),
        noise_after=noise_level(after),
        displacement_median=float(np.median(lengths)),
        displacement_95=float(np.quantile(lengths, 0.95)),
    )
