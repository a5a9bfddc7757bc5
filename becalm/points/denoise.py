"""Denoise a cloud with a model: what goes in, what comes back, and what is reported of it.

The model sees finite, distinct positions about a local origin and answers with displacements. Points without coordinates,
copies of one position, order, count and attributes are settled here, so that no model has to think of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from becalm.points.cloud import Cloud, ScanError
from becalm.points.estimate import noise_level, noise_levels
from becalm.points.neighbours import spacing
from becalm.points.outliers import contradicting, isolated
from becalm.points.progress import Stage, final

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
    """Outliers found: isolated, or at odds with the noise around them (0 where they were kept and not looked for)."""
    noise_before: float
    """Estimated standard deviation of the noise across the surface."""
    noise_after: float
    """The same of the result."""
    noise_low: float
    """5th percentile over the points of the noise found at each."""
    noise_high: float
    """95th percentile of the same: far above `noise_low` where the noise is uneven."""
    jarque_bera: float | None
    """Statistic of the Jarque–Bera test on residuals over the noise at each point: about 2 where they are normal, None where
    there is no noise or there are too few points to tell."""
    normal_p: float | None
    """Its p-value: small where the noise is not Gaussian, or outliers are among it."""
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
            xyz, back = cloud.xyz.copy(), copies.reshape(-1)
            xyz[taken] += (stage.xyz - places)[back]
            noise = noise_levels(places, seed) if stage.noise is None else stage.noise
            error = None if stage.error is None else spread_out(stage.error[back], taken)
            yield Stage(stage.done, xyz, spread_out(noise[back], taken), error)


def spread_out(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Values of the points taken [m] as values of all [n], NaN elsewhere."""
    whole = np.full(len(taken), np.nan)
    whole[taken] = values
    return whole


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
    stage, outlier = judged(cloud, final(stages(cloud, model, outlier, sigma, seed)), outlier, outliers)
    return finished(cloud, stage, outlier, outliers)


def judged(cloud: Cloud, stage: Stage, outlier: np.ndarray, choice: Outliers) -> tuple[Stage, np.ndarray]:
    """The outcome with outliers put back in their places, and the outliers: isolated ones and those whose displacement
    contradicts the noise around them; none are looked for where they are to be kept."""
    taken = cloud.finite & ~outlier
    if choice == "keep" or stage.xyz is None or stage.noise is None:
        return stage, outlier
    moved = stage.xyz[taken] - cloud.xyz[taken]
    outlier = outlier.copy()
    outlier[taken] = contradicting(cloud.local()[taken], moved, stage.noise[taken])
    outlier |= cloud.finite & ~taken
    return stage._replace(xyz=np.where(outlier[:, None], cloud.xyz, stage.xyz)), outlier


def finished(cloud: Cloud, stage: Stage, outlier: np.ndarray, outliers: Outliers) -> Cloud:
    """The result: moved, with an attribute `outlier` (uint8) where they are flagged, less them where they are removed."""
    assert stage.xyz is not None
    settled = cloud.moved(stage.xyz)
    if outliers == "flag":
        settled = settled.with_attributes({"outlier": outlier.astype(np.uint8)})
    return settled.select(~outlier) if outliers == "remove" else settled


def details(cloud: Cloud, stage: Stage) -> dict[str, np.ndarray]:
    """What is known of every point, float32 [n]: `displacement` and `noise` (σ) in the scan's units, and where the model tells
    its error e, `confidence` h²/(h² + e²) with h the scan's spacing: 1 for a sure place, ½ within a spacing."""
    assert stage.xyz is not None and stage.noise is not None
    found = {"displacement": np.linalg.norm(stage.xyz - cloud.xyz, axis=1), "noise": stage.noise}
    if stage.error is not None:
        unit = spacing(cloud.local()[cloud.finite]) ** 2 + np.finfo(float).tiny
        found["confidence"] = unit / (unit + stage.error**2)
    return {name: values.astype(np.float32) for name, values in found.items()}


def report(cloud: Cloud, stage: Stage, outlier: np.ndarray) -> Report:
    """The figures of a result beside the cloud it was made from."""
    from becalm.points.normality import normality

    assert stage.xyz is not None and stage.noise is not None
    taken = cloud.finite & ~outlier
    before, after = cloud.local()[taken], stage.xyz[taken] - cloud.origin
    lengths = np.linalg.norm(after - before, axis=1)
    once = np.unique(before, axis=0, return_index=True)[1]  # copies have no noise between them, and would hide it
    before, after = before[once], after[once]
    low, high = np.nanquantile(stage.noise[taken], (0.05, 0.95))
    test = normality(before)
    return Report(
        points=len(cloud),
        missing=int((~cloud.finite).sum()),
        outliers=int(outlier.sum()),
        noise_before=noise_level(before),
        noise_after=noise_level(after),
        noise_low=float(low),
        noise_high=float(high),
        jarque_bera=float(test.statistic) if np.isfinite(test.p) else None,
        normal_p=float(test.p) if np.isfinite(test.p) else None,
        displacement_median=float(np.median(lengths)),
        displacement_95=float(np.quantile(lengths, 0.95)),
    )
