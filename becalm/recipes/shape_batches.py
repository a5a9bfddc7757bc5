"""Batches of shapes for the recipes that see the points of whole shapes."""

from pathlib import Path
from typing import Literal

import torch

from becalm.core.typing import Float, Int, Tensor
from becalm.recipes import lion_sparse
from becalm.shapes import sets
from becalm.shapes.augment import sample_points


def load_shapes(kind: Literal["families", "ldraw"], data: Path, pool: int, points: int, seed: int) -> sets.ShapeSet:
    """Training shapes of at least `points` points in the unit box: `pool` procedural ones, or the file of LDraw's parts."""
    return lion_sparse.load_shapes(
        lion_sparse.Recipe(shapes=kind, data=data, pool=pool, seed=seed, seen=points, target=0)
    )


def make_batch(
    shapes: sets.ShapeSet, batch: int, points: int, seed: int, step: int
) -> tuple[Float[Tensor, "batch point 3"], Int[Tensor, " batch"], torch.Generator]:
    """Points, classes from 1, and the generator of the noise: a pure function of the seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + step)
    rows = torch.randint(len(shapes), (batch,), generator=generator)
    chosen = sample_points(shapes.points[rows.numpy()], points, generator)
    return chosen, torch.from_numpy(shapes.labels)[rows] + 1, generator
