"""Evaluation of models of shapes: new shapes against as many reference shapes of each class, and training shapes likewise."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from becalm.core.sampler import Sampler
from becalm.core.typing import Float, Int, Tensor
from becalm.shapes import set_metrics, sets
from becalm.shapes.set_metrics import Row
from becalm.shapes.sets import ShapeSet
from becalm.tasks.generate import Generator

POINTS, BATCH = 2048, 16
"""Points of a shape that is measured, and shapes that are generated at a time."""


def sample_shapes(
    model: Generator, label: Int[Tensor, " batch"], points: int, sampler: Sampler, generator: torch.Generator
) -> Float[Tensor, "batch point 3"]:
    """New shapes of the classes `label`, from 1, where 0 is any class; computed on the model's device, returned on the CPU."""
    device = next(model.parameters()).device  # type: ignore[attr-defined]
    *_, shapes = model.generate(label.to(device), points, sampler, generator)
    return shapes.cpu()


def reference_sets(kind: str, data: Path, count: int, seed: int = 101) -> tuple[ShapeSet, ShapeSet]:
    """At most `count` shapes that no model was trained on, and as many that it may have been: `ldraw` from the file `data`, or
    the procedural families."""
    if kind == "ldraw":
        test, train = (sets.subsample(sets.load_ldraw(data, part), count, 0) for part in ("test", "train"))
        return test, train
    test = sets.generate_families(count, 2 * POINTS, seed + 7919, split="test")
    return test, sets.generate_families(count, 2 * POINTS, seed)


def evaluate(
    models: dict[str, Generator],
    test: ShapeSet,
    train: ShapeSet,
    sampler: Sampler,
    settings: set_metrics.Settings,
    seed: int = 0,
) -> Iterator[Row]:
    """A row of `set_metrics.compare` for every model, with its seconds a shape of 2048 points; then the oracle's."""
    label = torch.from_numpy(test.labels) + 1
    for name, model in models.items():
        generator, wall, cpu = torch.Generator().manual_seed(seed), time.time(), time.process_time()
        points = torch.cat([sample_shapes(model, part, POINTS, sampler, generator) for part in label.split(BATCH)])
        took = {"seconds a shape": time.time() - wall, "core seconds a shape": time.process_time() - cpu}
        new = sets.normalize_boxes(replace(test, points=points.float().numpy(), names=()))
        yield set_metrics.compare(name, new, test, settings) | {key: value / len(label) for key, value in took.items()}
    yield set_metrics.oracle(test, train, settings)
