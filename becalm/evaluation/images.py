"""A trial of SRM on whole images: made from nothing by every walk with the same noise, and counted."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from becalm.core import walk
from becalm.core.sample import reverse
from becalm.core.typing import Bool, Float, Tensor
from becalm.evaluation.image_tasks import Task
from becalm.evaluation.sudoku import operations, wilson
from becalm.images.counting_polygons.categorical import drawn
from becalm.images.counting_polygons.reader import read_polygons
from becalm.images.even_pixels import hue_histogram, rgb_to_hsv, split_error, to_unit
from becalm.systems.srm import SRM, Way, solve, solved

WALKS = ("certainty", "order", "random", "together")
"""Surest patch first; row by row; in a random order; all at once."""


class Settings(NamedTuple):
    """How patches are walked through."""

    steps_per_variable: int = 10
    """Steps for each patch of a sequential walk."""
    overlap: float = 0.0
    """Share of its steps that a patch runs along with the next."""
    group: int = 1
    """Patches that are begun at once."""
    together: int = 100
    """Steps of the walk that takes all at once."""
    eta: float = 0.5
    """Noise put back in each step."""


SETTINGS = {
    "even-pixels": Settings(steps_per_variable=60, together=300, eta=1.0),
    "polygons": Settings(steps_per_variable=12, overlap=0.7, eta=1.0),
}
"""What is good for a task, by its name."""


class Row(NamedTuple):
    """How one walk did."""

    benchmark: str
    """Name of the task."""
    walk: str
    """Name of the walk."""
    number: int
    """Images made."""
    right: float
    """Share of the images that keep the rule: exactly half of the pixels, or numbers that tell the figures and corners."""
    low: float
    """Lower end of its 95 % interval (Wilson)."""
    high: float
    """Upper end of the same."""
    deviation: float
    """Even pixels: mean number on the wrong side. Polygons: share of images whose figures have not all the same corners."""
    judge: float
    """Share of real images that the same judge calls right: no score can be expected above it."""
    calls: float
    """Network calls an image."""
    seconds: float
    """Seconds an image."""
    gflop: float
    """Floating-point operations an image, × 10⁹."""


Verdict = tuple[Bool[Tensor, " image"], Float[Tensor, " image"]]
"""Which images keep the rule, and what is counted in `Row.deviation`."""


def even_verdict(images: Float[Tensor, "image height width 3"]) -> Verdict:
    """Exactly half of the pixels on either side, and how many are too many on one."""
    error = split_error(hue_histogram(rgb_to_hsv(to_unit(images))[..., 0]))
    return error == 0, error.float()


def polygon_verdict(images: Float[Tensor, "image height width 3"]) -> Verdict:
    """Printed numbers that tell the count and the corners, and whether not all corners are the same."""
    reading = read_polygons(images)
    return reading.consistent(), (~reading.uniform).float()


VERDICTS: dict[str, Callable[[Tensor], Verdict]] = {"even-pixels": even_verdict, "polygons": polygon_verdict}
"""The judge of a task, by its name."""


def way_of(name: str, task: Task, settings: Settings, batch: int, seed: int) -> Way:
    """The walk and the step of a name in WALKS, for a batch of images."""
    random = torch.rand(batch, task.side**2, generator=torch.Generator().manual_seed(seed))
    budget = settings.group, settings.overlap, None, settings.steps_per_variable
    walks = {
        "certainty": lambda: walk.by_certainty(*budget),
        "order": lambda: walk.in_order(None, *budget),
        "random": lambda: walk.in_order(random, *budget),
        "together": lambda: walk.together(settings.together),
    }
    step = reverse(eta=settings.eta)
    return Way(walks[name](), drawn(task.flags, step) if task.flags else step)


def generated(
    model: SRM, task: Task, number: int, way: Way, generator: torch.Generator
) -> tuple[Float[Tensor, "image height width 3"], int]:
    """New images and the number of network calls; the first noise is drawn first, so that all walks begin with the same."""
    counts: list[int] = []
    nothing, unknown = torch.zeros(number, task.side**2, task.channels), torch.ones(number, task.side**2).bool()
    counted = model.register_forward_pre_hook(lambda module, inputs: counts.append(1))
    try:
        patches = solved(solve(model, nothing, unknown, way, generator), nothing)
    finally:
        counted.remove()
    return task.pictures(patches), len(counts)


def real(task: Task, number: int, seed: int) -> Float[Tensor, "image height width 3"]:
    """Real images, for the judge."""
    return task.draw(number, torch.Generator().manual_seed(seed))


def trial(
    model: SRM,
    task: Task,
    number: int,
    names: tuple[str, ...] = WALKS,
    settings: Settings | None = None,
    batch: int = 50,
    seed: int = 0,
) -> Iterator[tuple[Row, Float[Tensor, "image height width 3"]]]:
    """Make `number` images by every walk from the same noise; yields a row and the images of each."""
    settings, flop = settings or SETTINGS[task.name], operations(model)
    judge = float(VERDICTS[task.name](real(task, number, seed))[0].double().mean())
    for name in names:
        started, calls, made = time.time(), 0, []
        for start in range(0, number, batch):
            count = min(batch, number - start)
            way = way_of(name, task, settings, count, seed + start)
            images, asked = generated(model, task, count, way, torch.Generator().manual_seed(seed + start))
            made.append(images)
            calls += asked * count
        right, deviation = VERDICTS[task.name](torch.cat(made))
        share, low, high = wilson(int(right.sum()), number)
        each = calls / number, (time.time() - started) / number, calls / number * flop / 1e9
        yield Row(task.name, name, number, share, low, high, float(deviation.mean()), judge, *each), torch.cat(made)
