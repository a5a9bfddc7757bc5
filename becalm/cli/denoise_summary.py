"""The summary of a denoised scan in plain words."""

from collections.abc import Iterator

import numpy as np

from becalm.points.denoise import Report
from becalm.points.quantisation import MATTERS, rounding_noise
from becalm.points.units import Unit, format_length
from becalm.tasks.denoise import DenoiseResult
from becalm.tasks.denoise_large import LargeResult

AXES = {"x": "along x", "y": "along y", "z": "along z", "range": "along the rays"}


def summary_lines(result: DenoiseResult | LargeResult, details: bool) -> Iterator[str]:
    """What was found and what was done, a line for each; with `details` the figures behind it."""
    report, unit = result.report, result.unit
    missing = f" ({report.missing:,} without coordinates)" if report.missing else ""
    yield f"points        {report.points:,}{missing}"
    for axis, step in report.steps.items():
        yield f"coordinates   stand on a grid of {format_length(step, unit)} {AXES[axis]}"
    if report.displacement_max > 0:
        yield f"noise         {noise_in_words(result)}"
    if report.roughness is not None and report.displacement_max > 0:
        yield (
            f"roughness     {format_length(report.roughness, unit)} before, as becalm info has it: without what neighbours share"
        )
    yield f"moved         {moves_in_words(result)}"
    if report.unmoved and report.displacement_max > 0:
        yield f"not moved     {report.unmoved:,} points{unmoved_in_words(result)}"
    if result.options.outliers != "keep":
        done = "removed" if result.options.outliers == "remove" else "flagged"
        yield f"outliers      {report.outliers:,} {done}"
    if details:
        yield from detail_lines(result)
    if not unit.symbol:
        yield "lengths are in the scan's units"


def noise_in_words(result: DenoiseResult | LargeResult) -> str:
    """The noise that was found, its two parts, and what is expected to be left of it."""
    report, unit = result.report, result.unit
    before, shared = report.noise_before, report.noise_shared
    text = f"the noise is {format_length(before, unit)}"
    if shared is not None:
        white = np.sqrt(max(before**2 - shared**2, 0))
        text += f" (white {format_length(white, unit)}, shared by neighbours {format_length(shared, unit)})"
    text += rounding_in_words(report, unit)
    if result.progress.error is None:
        return f"{text}; the roughness left is {format_length(report.noise_after, unit)}"
    return f"{text}; after, {format_length(report.noise_after, unit)} are expected"


def rounding_in_words(report: Report, unit: Unit) -> str:
    """How much of the noise is the rounding of the coordinates; nothing where that is too little to matter."""
    step = max(report.steps.values(), default=0.0)
    least = min(report.noise_before, report.roughness or report.noise_before)
    if rounding_noise(step) <= MATTERS * least:
        return ""
    part, whole = format_length(rounding_noise(step), unit), format_length(step, unit)
    if rounding_noise(step) >= report.noise_before:
        return f"; coordinates stand on steps of {whole}, which is coarser than this noise"
    return f", of which rounding of the coordinates to {whole} makes up to {part}"


def moves_in_words(result: DenoiseResult | LargeResult) -> str:
    """How far points moved, and along what."""
    report, unit = result.report, result.unit
    if report.displacement_max == 0:
        extent = np.ptp(result.original.xyz[result.original.measured], axis=0).max()
        found = (
            "no noise found at any scale" if report.noise_before < 0.05 * extent else "no surface found in the noise"
        )
        return f"{found}: nothing was moved"
    middle, most = (format_length(x, unit) for x in (report.displacement_median, report.displacement_max))
    sensors = result.constraints.sensors
    if sensors is None:
        return f"{middle} in the median, {most} at most"
    count = len(np.unique(sensors, axis=0))
    places = f"({', '.join(f'{x:g}' for x in sensors[0])})" if count == 1 else f"{count} places"
    return f"{middle} in the median, {most} at most, along the rays from {places}"


def unmoved_in_words(result: DenoiseResult | LargeResult) -> str:
    """Why points did not move, as far as it is known."""
    limits, reasons = result.constraints, []
    if result.report.off_surface:
        reasons.append(f"{result.report.off_surface:,} of no surface: leaves, wires or strays")
    if limits.seen is not None:
        reasons.append(f"{(~limits.seen).sum():,} not of --only-class")
    if limits.movable is not None:
        reasons.append(f"{(~limits.movable).sum():,} of --keep-class")
    return f" ({'; '.join(reasons)})" if reasons else ""


def detail_lines(result: DenoiseResult | LargeResult) -> Iterator[str]:
    """Percentiles, and the test of the noise's distribution."""
    report, unit = result.report, result.unit
    low, high, far = (format_length(x, unit) for x in (report.noise_low, report.noise_high, report.displacement_95))
    yield f"at the points noise of {low} to {high} (5th to 95th percentile)"
    yield f"displacement  {far} at the 95th percentile"
    yield f"normal        {normality_verdict(report.jarque_bera, report.normal_p)}"


def normality_verdict(statistic: float | None, p: float | None) -> str:
    """Whether the noise is Gaussian, by the Jarque–Bera test at 1 %."""
    if statistic is None or p is None:
        return "not tested (no noise, or too few points)"
    return f"{'yes' if p > 0.01 else 'no'} (Jarque–Bera {statistic:.3g}, p {p:.2g})"
