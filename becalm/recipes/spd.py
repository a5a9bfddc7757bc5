"""The recipe of SPD: Luo & Hu's network trained by their loss, on our surfaces and noise."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from becalm.core.typing import Float, Int, Tensor
from becalm.points.neighbours import knn
from becalm.shapes.cloud_pairs import cloud_pair
from becalm.systems.spd import PATCH_SIZE, RADIUS_RANGE, SPD, supervised_loss, unsupervised_loss
from becalm.training.loop import Plan, train
from becalm.training.prefetch import prefetch
from becalm.weights.store import load, save

N_CLEAN = 1200
"""Clean points of a patch."""


@dataclass(frozen=True)
class Recipe:
    """Train SPD on patches of procedural surfaces, and of meshes where a folder of them is given."""

    run: Path = Path("runs/spd")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    meshes: Path | None = None
    """Folder of `train.*.npz` meshes to learn from beside the procedural surfaces."""
    start: Path | None = None
    """Weights to begin from, in place of random ones."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    loss: Literal["supervised", "unsupervised"] = "supervised"
    """Targets from clean points, or from the noisy ones alone."""
    target_neighbours: int = 4
    """Clean points whose mean offset is the target: 1 for s(x) = NN(x, Y) − x (paper eq. 5), 4 as in the authors' code."""
    patches: int = 8
    """Patches in a batch; the paper has 32."""
    anchors: int = 128
    """Anchors in a patch."""
    workers: int = 1
    """Processes that generate training data; 0 generates it in this one."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=20_000, learning_rate=3e-4, warmup=200, bfloat16=False))
    """Steps, rates, log and saves."""


class Batch(NamedTuple):
    """Patches in the network's frame."""

    noisy: Float[Tensor, "patch point 3"]
    clean: Float[Tensor, "patch more 3"]
    anchors: Int[Tensor, "patch anchor"]


def make_batch(recipe: Recipe, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    rng = np.random.default_rng([recipe.seed, step])
    patches = [patch(recipe, step * recipe.patches + i, rng) for i in range(recipe.patches)]
    noisy, clean = (torch.as_tensor(np.stack(part), dtype=torch.float32) for part in zip(*patches, strict=True))
    anchors = rng.permuted(np.tile(np.arange(PATCH_SIZE), (recipe.patches, 1)), axis=1)[:, : recipe.anchors]
    return Batch(noisy, clean, torch.as_tensor(anchors))


def patch(recipe: Recipe, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The PATCH_SIZE noisy and N_CLEAN clean points nearest to a random noisy point, relative to it and scaled to
    RADIUS_RANGE."""
    pair = cloud_pair(recipe.seed, number, recipe.meshes)
    inside = np.flatnonzero(pair.interior) if pair.interior.any() else np.arange(len(pair.noisy))
    seed = pair.noisy[rng.choice(inside)][None]
    distances, members = knn(pair.noisy, PATCH_SIZE, seed)
    near = knn(pair.clean, N_CLEAN, seed)[1][0]
    unit = np.exp(rng.uniform(*np.log(RADIUS_RANGE))) / distances[0, -1]
    return (pair.noisy[members[0]] - seed) * unit, (pair.clean[near] - seed) * unit


def loss(recipe: Recipe, model: SPD, batch: Batch) -> dict[str, Tensor]:
    """The recipe's loss for a batch."""
    batch = Batch(*(part.to(next(model.parameters()).device) for part in batch))
    if recipe.loss == "supervised":
        return {"loss": supervised_loss(model, *batch, neighbours=recipe.target_neighbours)}
    return {"loss": unsupervised_loss(model, batch.noisy, batch.anchors)}


def build_model(recipe: Recipe) -> SPD:
    """The untrained model, or the one to start from."""
    if recipe.start:
        return load(recipe.start, SPD)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return SPD()


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    model = build_model(recipe).train().to(recipe.device)
    batches = partial(prefetch, partial(make_batch, recipe), workers=recipe.workers)
    yield from train(model, partial(loss, recipe), batches, recipe.plan, recipe.run)
    save(
        model.eval(),
        recipe.run / "spd.safetensors",
        {"task": "denoise clouds", "steps": recipe.plan.steps, "seed": recipe.seed},
    )
