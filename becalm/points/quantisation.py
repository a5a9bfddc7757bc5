"""Coordinates that stand on a grid: voxel centres, coarse file formats, the steps of a depth camera."""

from typing import NamedTuple

import numpy as np

from becalm.points.neighbours import knn

SAMPLE = 20_000
"""Points that are looked at."""


class Steps(NamedTuple):
    """A step that coordinates stand on."""

    where: str
    """What is quantised: "x", "y", "z" or "range"."""
    step: float
    """Distance of the steps, in the cloud's units; for ranges that grow coarser, at the median range."""


def coordinate_steps(xyz: np.ndarray, rays_from: np.ndarray | None = None, coarse: float = 0.05) -> list[Steps]:
    """The steps of each coordinate of a cloud [n, 3], and of the range where the sensor's place [3] is known.

    Only steps of at least `coarse` times the spacing count: finer ones are how files round.
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
    wide = [f for f in found if f.step > max(coarse * spacing, 0)]
    names = {f.where for f in wide}
    return [f for f in wide if f.where != "range" or not names & set("xyz")]


def step_of(values: np.ndarray) -> float:
    """The distance of the steps that values [n] stand on; 0 where they stand on none.

    Steps are found where far fewer values than points occur, and nine in ten differences of neighbouring values are whole
    multiples of the least common one.
    """
    distinct = np.unique(values)
    if len(values) < 200 or len(distinct) > len(values) / 4 or len(distinct) < 3:
        return 0.0
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-9 * max(abs(distinct[0]), abs(distinct[-1]))]
    if not len(gaps):
        return 0.0
    step = float(np.median(gaps[gaps < 1.5 * np.quantile(gaps, 0.1)]))
    multiple = gaps / step
    whole = np.abs(multiple - np.round(multiple)) < 0.1 * np.maximum(np.round(multiple), 1)
    return step if whole.mean() > 0.9 else 0.0
