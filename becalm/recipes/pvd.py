"""The recipe of the baseline of `lion_families`: diffusion of the points themselves, for as long on one core."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from becalm.core.typing import Tensor
from becalm.recipes.shape_batches import load_shapes, make_batch
from becalm.systems import pvd
from becalm.systems.pvd import PointDiffusion
from becalm.training.distributed import step_numbers, stratified_times
from becalm.training.loop import Plan, train
from becalm.weights.store import save


@dataclass(frozen=True)
class Recipe:
    """Train a diffusion of points on shapes in the unit box."""

    shapes: Literal["families", "ldraw"] = "families"
    """Six procedural families without end, or LDraw's parts."""
    data: Path = Path("ldraw_parts_4096.npz")
    """The file of LDraw's parts."""
    run: Path = Path("runs/pvd")
    """Folder of the run; an interrupted run continues from there."""
    pool: int = 6000
    """Procedural shapes to train on."""
    points: int = 512
    """Points of a shape."""
    batch: int = 16
    """Shapes in a batch."""
    seed: int = 0
    """Decides every random draw."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=8000, learning_rate=1.5e-3, warmup=200, ema_decay=0.999))
    """Steps, rates, log and saves."""


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end, yielding the log's records, then write the model beside them. Raises InputError."""
    shapes = load_shapes(recipe.shapes, recipe.data, recipe.pool, recipe.points, recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = PointDiffusion(list(shapes.classes), None, round(float(shapes.points.std()), 4))

    def loss(model: PointDiffusion, step: int) -> dict[str, Tensor]:
        points, label, generator = make_batch(shapes, recipe.batch, recipe.points, recipe.seed, step)
        t = stratified_times(recipe.batch, recipe.seed, step)
        return pvd.losses(model, points.to(recipe.device), label.to(recipe.device), generator, t)

    yield from train(model.to(recipe.device).train(), loss, step_numbers, recipe.plan, recipe.run)
    facts = {"task": "generate shapes", "recipe": "pvd", "protocol": "box", "steps": recipe.plan.steps}
    save(model.cpu(), recipe.run / "pvd.safetensors", facts, torch.float16)
