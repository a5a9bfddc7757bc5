"""Coordinates that stand on a grid: voxel centres, coarse file formats, the steps of a depth camera."""

from typing import NamedTuple

import numpy as np

from becalm.points.neighbours import knn

SAMPLE = 20_000
"""Points that are looked at."""

MATTERS = 0.2
"""Share of the noise from which on the part that rounding makes is said."""


class Steps(NamedTuple):
    """A step that coordinates stand on."""

    where: str
    """What is quantised: "x", "y", "z" or "range"."""
    step: float
    """Distance of the steps, in the cloud's units; for ranges that grow coarser, at the median range."""


def rounding_noise(step: float) -> float:
    """The standard deviation of the noise that rounding to a step makes, step/√12."""
    return step / np.sqrt(12)


def coordinate_steps(
    xyz: np.ndarray, rays_from: np.ndarray | None = None, coarse: float = 0.05, noise: float | None = None
) -> list[Steps]:
    """The steps of each coordinate of a cloud [n, 3], and of the range where the sensor's place [3] is known.

    Only steps of at least `coarse` times the spacing count, and those that make more than `MATTERS` of the `noise` where it is
    given: finer ones are how files round.
    """
    some = xyz[:: max(1, len(xyz) // SAMPLE)]
    spacing = float(np.median(knn(some, 2)[0][:, 1])) if len(some) > 1 else 0.0
    spacing *= np.sqrt(len(some) / len(xyz))
    found = [Steps(axis, step_of(some[:, i])) for i, axis in enumerate("xyz")]
    if rays_from is not None:
        away = some - rays_from
        depth = np.abs(away[:, np.abs(np.median(away, axis=0)).argmax()])
        for values, name in ((depth, "range"), (1 / np.maximum(depth, 1e-300), "range")):
            step = step_of(values)
            if name == "range" and values is not depth:
                step *= float(np.median(depth)) ** 2
            found.append(Steps(name, step))
    least = coarse * spacing if noise is None else min(coarse * spacing, MATTERS * noise / rounding_noise(1.0))
    wide = [f for f in found if f.step > max(least, 0)]
    names = {f.where for f in wide}
    return [f for f in wide if f.where != "range" or not names & set("xyz")]


def step_of(values: np.ndarray) -> float:
    """The distance of the steps that values [n] stand on; 0 where they stand on none.

    Steps are found where far fewer values than points occur, and nine in ten differences of neighbouring values are whole
    multiples of the least common one; or where all are multiples of the least.
    """
    distinct = np.unique(values)
    if len(values) < 200 or len(distinct) < 3:
        return 0.0
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-9 * max(abs(distinct[0]), abs(distinct[-1]))]
    if len(distinct) > len(values) / 4 or not len(gaps):
        return even_step(distinct)
    step = float(np.median(gaps[gaps < 1.5 * np.quantile(gaps, 0.1)]))
    multiple = gaps / step
    whole = np.abs(multiple - np.round(multiple)) < 0.1 * np.maximum(np.round(multiple), 1)
    return step if whole.mean() > 0.9 else even_step(distinct)


def even_step(distinct: np.ndarray) -> float:
    """The distance of the steps of which all differences of sorted values [n] are whole multiples; 0 where there is none."""
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 16 * np.spacing(max(abs(distinct[0]), abs(distinct[-1])))]
    if not len(gaps):
        return 0.0
    step = float(gaps[gaps < 1.5 * gaps.min()].mean())
    multiple = (distinct - distinct[0]) / step
    return step if np.all(np.abs(multiple - np.round(multiple)) < 0.1) else 0.0
