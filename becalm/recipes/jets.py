"""The recipe of the packaged denoiser `jets`: what it learns from, for how long, and how its file is made."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from becalm.core.typing import Tensor
from becalm.points.progress import final_points
from becalm.shapes.cloud_pairs import CloudPair, training_pair
from becalm.shapes.scan_pairs import held_out_error, random_crop, read_scan_pairs
from becalm.systems.jets import Jets
from becalm.systems.jets_estimates import EstimateRows, estimate_rows, merge_rows, random_rows, train_estimates
from becalm.systems.jets_training import TrainingItem, item_to, losses, merge_items, training_item
from becalm.training.distributed import process_number
from becalm.training.loop import Plan, train
from becalm.training.prefetch import prefetch
from becalm.weights.store import load, save


@dataclass(frozen=True)
class Recipe:
    """Train `jets` on procedural surfaces, and on meshes where a folder of them is given."""

    run: Path = Path("runs/jets")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    meshes: Path | None = None
    """Folder of `train.*.npz` meshes to learn from beside the procedural surfaces."""
    pairs: Path | None = None
    """Folder of scans of one's own, NAME.noisy.* beside NAME.reference.* (a cleaner scan registered to it, or a mesh): the
    packaged weights, or those of `start`, are fine-tuned to them, 300 steps unless the plan says otherwise."""
    start: Path | None = None
    """Weights to begin from, in place of random ones."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    clouds: int = 1
    """Clouds in a batch."""
    scanned: float = 0.65
    """Share of the clouds that are simulated scans, with the errors of sensors."""
    known_sigma: float = 0.25
    """Share of batches in which the noise level is an input of the model."""
    second_pass: float = 0.2
    """Share of batches whose cloud has been denoised once already by the model at that step."""
    estimate_steps: int = 1500
    """Steps after those of the plan in which what is said beside the displacement is learned: noise, error, surface. After a
    plan of fewer than `estimate_batches` steps there are fewer in proportion."""
    estimate_batches: int = 1600
    """Batches of which these steps see a thousand points each; no more than the plan has steps, unless it has none."""
    width: int = 64
    """Width of the network."""
    layers: int = 4
    """Message-passing layers."""
    workers: int = 1
    """Processes that generate training data; 0 generates it in this one."""
    compiled: bool = False
    """Compile the network with torch.compile (needs a C++ compiler)."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=2800, learning_rate=1.5e-3, warmup=100, ema_decay=0.998))
    """Steps, rates, log and saves."""


ESTIMATE_POINTS = 1024
"""Points of a batch, at most, from which the estimates are learned."""

STANDARDISED_BATCHES = 24
"""Batches by whose statistics features are standardised."""


class Batch:
    """The clouds of one step, whether their σ is an input of the model, and whether they are denoised once before."""

    def __init__(self, items: list[TrainingItem], known_sigma: bool, second_pass: bool):
        self.items, self.known_sigma, self.second_pass = items, known_sigma, second_pass


def make_batch(recipe: Recipe, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    rng = np.random.default_rng([recipe.seed, step])
    known_sigma, second_pass = rng.random(2) < (recipe.known_sigma, recipe.second_pass)
    numbers = range(step * recipe.clouds, (step + 1) * recipe.clouds)
    items = [training_item(make_pair(recipe, number)) for number in numbers]
    return Batch(items, bool(known_sigma), bool(second_pass))


def make_pair(recipe: Recipe, number: int) -> CloudPair:
    """Training pair `number`: of one's own scans two times in three where there are any, else simulated."""
    rng = np.random.default_rng([recipe.seed, number, 2])
    if recipe.pairs and rng.random() < 2 / 3:
        return random_crop(read_scan_pairs(recipe.pairs), rng)
    return training_pair(recipe.seed, number, recipe.meshes, recipe.scanned)


def denoised_item(model: Jets, item: TrainingItem) -> TrainingItem:
    """The item after one pass of the model as it is; its noise level is the remaining root mean squared error."""
    with torch.inference_mode():
        there = item_to(item, next(model.parameters()).device)
        moved = there.noisy + model(there.cloud, torch.full_like(there.sigma, torch.nan)).displacement
    denoised, clean, normals = (x.cpu().double().numpy() for x in (moved, item.clean, item.normals))
    interior, surface = item.interior.numpy() > 0, item.surface.numpy() > 0
    counted = interior & surface if (interior & surface).any() else interior
    left = np.sqrt(np.square(denoised - clean).sum(-1)[counted].mean() / 3)
    level, none = np.full(len(clean), left), np.zeros(len(clean))
    return training_item(CloudPair(clean, denoised, level, interior, level, none + 3 * left, surface, normals))


def loss(model: Jets, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch."""
    items = [denoised_item(model, s) for s in batch.items] if batch.second_pass else batch.items
    device = next(model.parameters()).device
    return losses(model, item_to(merge_items(items), device), batch.known_sigma and not batch.second_pass)


def build_model(recipe: Recipe) -> Jets:
    """The untrained model, or the one to start from; features are standardised by the statistics of the first 24 batches."""
    if recipe.start or recipe.pairs:
        return load(recipe.start or "jets", Jets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Jets(recipe.width, recipe.layers)
    features = torch.cat([make_batch(recipe, step).items[0].cloud.features for step in range(STANDARDISED_BATCHES)])
    model.network.set_standardisation(features)
    return model


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state.

    With pairs of one's own the first and last records have the error on what was held out of each, after over before denoising.
    """
    plan = recipe.plan
    if recipe.pairs:
        read_scan_pairs(recipe.pairs)  # what is wrong with them is said before anything else
        plan = FINE_TUNING if plan == Recipe().plan else plan
    model = build_model(recipe).to(recipe.device)
    if recipe.pairs:
        yield {"step": 0, "held out, after over before": held_out(model, recipe.pairs)}
    batches = partial(prefetch, partial(make_batch, recipe), workers=recipe.workers)
    if recipe.compiled:
        for layer in model.network.layers:
            layer.compile(dynamic=True)
    yield from train(model, loss, batches, plan, recipe.run)
    if process_number() > 0:
        return
    count = min(recipe.estimate_batches, plan.steps or recipe.estimate_batches)
    steps = round(recipe.estimate_steps * count / recipe.estimate_batches)
    for record in train_estimates(model, estimate_pool(model, recipe, plan.steps, count), steps, recipe.seed):
        yield {"step": plan.steps} | record
    facts = {"task": "denoise clouds", "recipe": "jets", "steps": plan.steps, "seed": recipe.seed}
    save(model, recipe.run / "jets.safetensors", facts)
    if recipe.pairs:
        yield {"step": plan.steps, "held out, after over before": held_out(model, recipe.pairs)}


def estimate_pool(model: Jets, recipe: Recipe, first: int, count: int) -> EstimateRows:
    """Rows to learn the estimates from, of `count` batches from number `first` on.

    Clouds that are denoised once already give a fifth as many: of what is estimated for these only the error is used, and with
    more of them clean scans are taken for denoised ones, whose remaining noise neighbours share.
    """
    batches = prefetch(partial(make_batch, recipe), first, workers=recipe.workers)
    device, parts, generator = next(model.parameters()).device, [], torch.Generator().manual_seed(recipe.seed)
    for batch in islice(batches, count):
        items = [denoised_item(model, s) for s in batch.items] if batch.second_pass else batch.items
        known = batch.known_sigma and not batch.second_pass
        rows = estimate_rows(model, item_to(merge_items(items), device), known)
        parts.append(random_rows(rows, ESTIMATE_POINTS // (5 if batch.second_pass else 1), generator))
    return merge_rows(parts)


FINE_TUNING = Plan(steps=300, learning_rate=3e-4, warmup=20, ema_decay=0.98)
"""How packaged weights are tuned to scans of one's own."""


def held_out(model: Jets, folder: Path) -> dict[str, float]:
    """The root mean square error on the held-out part of each pair, after over before denoising."""
    ratios = held_out_error(
        read_scan_pairs(folder), lambda points: final_points(model.cpu().eval().iter_denoise(points))
    )
    model.train()
    return {name: round(value, 4) for name, value in ratios.items()}
