"""SPD's published procedure: a noisy cloud in, as many new points out, without order and attributes."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import numpy as np

from becalm.points import denoise as clouds
from becalm.points.cloud import Cloud, ScanError
from becalm.points.formats import write
from becalm.points.interop import as_cloud
from becalm.points.suitability import check_suitable
from becalm.systems.spd import SPD
from becalm.tasks.denoise import Model, Options, Warn, error_prefix, load_denoiser
from becalm.tasks.progress import Progress


@dataclass(frozen=True, eq=False, repr=False)
class ResampledResult:
    """The result of SPD's published procedure: a new cloud of as many points, without order and attributes."""

    original: Cloud
    """The cloud that went in."""
    cloud: Cloud
    """The new points."""

    @property
    def points(self) -> np.ndarray:
        """The new points [n, 3]."""
        return self.cloud.xyz

    @cached_property
    def report(self) -> dict[str, int | float]:
        """Points, and the estimated noise before and after."""
        from becalm.points.estimate import noise_level

        before, after = noise_level(self.original.local()), noise_level(self.cloud.local())
        return {"points": len(self.cloud), "noise_before": before, "noise_after": after}

    def save(self, path: str | PathLike[str], warn: Warn = warnings.warn) -> None:
        """Write the new points. Raises ScanError."""
        write(self.cloud, path, warn)

    def __repr__(self) -> str:
        return f"ResampledResult({len(self.cloud):,} points)"


def steps_as_published(
    points: Any,
    model: Model = "spd",
    outliers: Literal["keep", "flag", "remove"] = "keep",
    sigma: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    ascent_steps: int = 30,
    alpha: float = 0.2,
    warn: Warn = warnings.warn,
) -> Iterator[Progress]:
    """SPD's procedure as published, on at most 50 000 points; the last report has a `ResampledResult`.

    Isolated points are left out first unless outliers are kept. `ascent_steps` is T and `alpha` the first step α of the gradient
    ascent. Where σ exceeds 2.5 % of the radius there are two passes, as the authors take. Raises InputError.
    """
    import torch

    from becalm.points.estimate import noise_level
    from becalm.points.metrics import unit_sphere
    from becalm.systems.spd import MAX_POINTS, Ascent, iter_denoise_paper
    from becalm.weights.store import model_words

    spd = load_denoiser(model, Options(device=device))
    if not isinstance(spd, SPD):
        raise ScanError(
            f"--mode paper is SPD's; {model} is {model_words(type(spd))}; leave --mode out, or name a file of SPD's weights "
            "by --model"
        )
    whole = as_cloud(points, warn)
    with error_prefix(whole):
        check_suitable(whole)
    cloud = whole.select(whole.measured & ~clouds.find_isolated(whole, outliers))
    local = cloud.local()
    with error_prefix(cloud):
        clouds.check_points(local, sigma, cloud)
        if len(local) > MAX_POINTS:
            raise ScanError(f"{len(local):,} points; --mode paper takes {MAX_POINTS:,} (leave --mode out)")
    passes = 2 if (sigma or noise_level(local)) / unit_sphere(local)[1] > 0.025 else 1
    generator = torch.Generator().manual_seed(seed)
    for progress in iter_denoise_paper(spd, local, passes, generator, Ascent(ascent_steps, alpha)):
        if progress.done < 1:
            yield Progress(progress.done, None if progress.xyz is None else progress.xyz + cloud.origin)
    assert progress.xyz is not None
    yield Progress(1.0, None, ResampledResult(cloud, Cloud(progress.xyz + cloud.origin, origin=cloud.origin)))
