"""The recipes of what `lion_families` is measured against: diffusion of the points themselves, and LION with dense latents."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Literal

import torch

from becalm.core.typing import Int, Tensor
from becalm.recipes import lion
from becalm.shapes import sets
from becalm.shapes.augment import chosen
from becalm.systems import lion as lion_dense
from becalm.systems import pvd
from becalm.systems.lion import DenseLion
from becalm.systems.lion_sparse_autoencoder import Latent
from becalm.systems.pvd import PointDiffusion
from becalm.training.loop import Plan, train
from becalm.weights.store import save


@dataclass(frozen=True)
class Recipe:
    """Train a rival of LION on the same shapes."""

    form: Literal["points", "dense"] = "points"
    """Diffusion of points, or LION with a latent point for each point."""
    shapes: Literal["families", "ldraw"] = "families"
    """Six procedural families without end, or LDraw's parts."""
    data: Path = Path("ldraw_parts_4096.npz")
    """The file of LDraw's parts."""
    run: Path = Path("runs/lion_points")
    """Folder of the run; an interrupted run continues from there."""
    pool: int = 6000
    """Procedural shapes to learn from."""
    points: int = 512
    """Points of a shape."""
    batch: int = 16
    """Shapes in a batch."""
    seed: int = 0
    """Decides every draw."""
    device: str = "cpu"
    """Where to train."""
    prior_steps: int = 0
    """`dense`: steps of stage 2."""
    plan: Plan = field(default_factory=lambda: Plan(steps=8000, learning_rate=1.5e-3, warmup=200, ema_decay=0.999))
    """Steps (`dense`: of stage 1), rates, log and saves."""


POINTS = Recipe()
"""`lion_points`: as long on one core as `lion_families`."""

DENSE = Recipe(form="dense", run=Path("runs/lion_dense"), points=2048, prior_steps=20_000)
"""`lion_dense`: made for a GPU, with `--device cuda`."""


def batch_of(recipe: Recipe, shapes: sets.ShapeSet, step: int) -> tuple[Tensor, Int[Tensor, " batch"], torch.Generator]:
    """Points, classes from 1, and the generator of the noise: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    rows = torch.randint(len(shapes), (recipe.batch,), generator=generator)
    points = chosen(shapes.points[rows.numpy()], recipe.points, generator)
    return points, torch.from_numpy(shapes.labels)[rows] + 1, generator


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end, yielding the log's records, then write the model beside them."""
    made = lion.Recipe(shapes=recipe.shapes, data=recipe.data, pool=recipe.pool, seed=recipe.seed)
    shapes = lion.shapes_of(replace(made, seen=recipe.points, target=0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = {"points": points_model, "dense": dense_model}[recipe.form](shapes).to(recipe.device).train()
    work = {"points": trained_points, "dense": trained_dense}[recipe.form]
    yield from work(recipe, shapes, model)
    name = f"lion_{recipe.form}"
    facts = {"task": "generate shapes", "recipe": name, "protocol": "box", "steps": recipe.plan.steps}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts, torch.float16)


def points_model(shapes: sets.ShapeSet) -> PointDiffusion:
    """A diffusion of points that knows their deviation."""
    return PointDiffusion(list(shapes.classes), None, round(float(shapes.points.std()), 4))


def dense_model(shapes: sets.ShapeSet) -> DenseLion:
    """A fresh dense LION."""
    return DenseLion(list(shapes.classes))


def trained_points(recipe: Recipe, shapes: sets.ShapeSet, model: PointDiffusion) -> Iterator[dict]:
    """The one stage of a diffusion of points."""

    def loss(model: PointDiffusion, step: int) -> dict[str, Tensor]:
        points, label, generator = batch_of(recipe, shapes, step)
        return pvd.losses(model, points.to(recipe.device), label.to(recipe.device), generator)

    yield from train(model, loss, count, recipe.plan, recipe.run)


def trained_dense(recipe: Recipe, shapes: sets.ShapeSet, model: DenseLion) -> Iterator[dict]:
    """Stage 1, its KL's weight rising from 1e−7 to 0.5 half-way; then stage 2 on the frozen autoencoder's latents."""

    def first(model: DenseLion, step: int) -> dict[str, Tensor]:
        points, _, generator = batch_of(recipe, shapes, step)
        weight = max(1e-7, 0.5 * min(1.0, 2 * step / recipe.plan.steps))
        return lion_dense.autoencoder_losses(model, points.to(recipe.device), weight, generator)

    def encoded(step: int) -> tuple[Latent, Tensor, torch.Generator]:
        points, label, generator = batch_of(recipe, shapes, 2**40 + step)
        with torch.no_grad():
            _, latent = model.encode(points.to(recipe.device), generator)
        return latent, label.to(recipe.device), generator

    def second(model: DenseLion, step: int) -> dict[str, Tensor]:
        latent, label, generator = encoded(step)
        return lion_dense.prior_losses(model, latent, label, generator)

    stages = {"autoencoder": (model.summary, model.encoder, model.decoder), "prior": (model.whole, model.points)}
    for name, work, steps in (("autoencoder", first, recipe.plan.steps), ("prior", second, recipe.prior_steps)):
        model.requires_grad_(False)
        for part in stages[name]:
            part.requires_grad_(True)
        if name == "prior":
            model.measure(encoded(-1)[0])
        plan = replace(recipe.plan, steps=steps)
        yield from ({"stage": name, **record} for record in train(model, work, count, plan, recipe.run / name))
