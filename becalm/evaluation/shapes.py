"""A trial of models of shapes: as many new shapes of its classes as a reference has, and the oracle's row beside them."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from becalm.core.typing import Float, Int, Tensor
from becalm.shapes import set_metrics, sets
from becalm.shapes.set_metrics import Row
from becalm.shapes.sets import ShapeSet
from becalm.systems import lion as lion_dense
from becalm.systems import lion_sparse, pvd
from becalm.systems.lion import DenseLion
from becalm.systems.lion_sparse import Lion, Way
from becalm.systems.lion_sparse_autoencoder import decode
from becalm.systems.pvd import PointDiffusion

ShapeModel = Lion | DenseLion | PointDiffusion
"""What draws shapes of a class."""

POINTS, BATCH = 2048, 16
"""Points of a shape that is measured, and shapes that are drawn at a time."""


def drawn(
    model: ShapeModel, label: Int[Tensor, " batch"], points: int, way: Way, generator: torch.Generator
) -> Float[Tensor, "batch point 3"]:
    """New shapes of the classes `label`, from 1; 0 is any."""
    if isinstance(model, PointDiffusion):
        return pvd.generate(model, label, points, way.steps, generator)
    if isinstance(model, DenseLion):
        return lion_dense.generate(model, label, points, way, generator)
    latent = lion_sparse.generate(model.prior, label, model.autoencoder.sizes.anchors, way, generator)
    return decode(model.autoencoder, latent, points, generator)


def references(kind: str, data: Path, count: int, seed: int = 101) -> tuple[ShapeSet, ShapeSet]:
    """At most `count` shapes that no model has learned from, and as many that it may have. LDraw's are in the file `data`."""
    if kind == "ldraw":
        test, train = (sets.some(sets.ldraw(data, part), count, 0) for part in ("test", "train"))
        return test, train
    held = sets.generated(count, 2 * POINTS, seed + 7919, split="test")
    return held, sets.generated(count, 2 * POINTS, seed)


def trial(
    models: dict[str, ShapeModel],
    test: ShapeSet,
    train: ShapeSet,
    way: Way,
    settings: set_metrics.Settings,
    seed: int = 0,
) -> Iterator[Row]:
    """A row of `metrics.compare` for every model, with its seconds a shape of 2048 points; then the oracle's."""
    label = torch.from_numpy(test.labels) + 1
    for name, model in models.items():
        generator, wall, cpu = torch.Generator().manual_seed(seed), time.time(), time.process_time()
        made = torch.cat([drawn(model, part, POINTS, way, generator) for part in label.split(BATCH)])
        took = {"seconds a shape": time.time() - wall, "core seconds a shape": time.process_time() - cpu}
        new = sets.boxed(replace(test, points=made.float().numpy(), names=()))
        yield set_metrics.compare(name, new, test, settings) | {key: value / len(label) for key, value in took.items()}
    yield set_metrics.oracle(test, train, settings)
