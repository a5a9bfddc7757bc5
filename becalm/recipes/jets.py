"""The recipe of the packaged denoiser `jets`: what it learns from, for how long, and how its file is made."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from becalm.core.files import InputError
from becalm.core.typing import Tensor
from becalm.shapes.cloud_pairs import cloud_pair
from becalm.systems.jets import Jets, Sample, joined, losses, placed, sample_of
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
    start: Path | None = None
    """Weights to begin from, in place of random ones."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    clouds: int = 1
    """Clouds in a batch."""
    told: float = 0.25
    """Share of batches in which the model is told the noise level."""
    again: float = 0.2
    """Share of batches in which the cloud was already swept once by the model as it then was."""
    part: Literal["all", "heads"] = "all"
    """What learns: all, or anew the two outputs that tell noise and error, with the rest as it is (needs `start`)."""
    width: int = 64
    """Width of the network."""
    layers: int = 4
    """Rounds of messages."""
    workers: int = 1
    """Processes that make data; 0 makes it in this one."""
    compiled: bool = False
    """Compile the network with torch.compile (needs a C++ compiler)."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=2800, rate=1.5e-3, warmup=100, ema=0.998))
    """Steps, rates, log and saves."""


class Batch:
    """The clouds of one step, and what is drawn for it."""

    def __init__(self, samples: list[Sample], told: bool, again: bool):
        self.samples, self.told, self.again = samples, told, again


def batch_of(recipe: Recipe, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    rng = np.random.default_rng([recipe.seed, step])
    told, again = rng.random(2) < (recipe.told, recipe.again)
    numbers = range(step * recipe.clouds, (step + 1) * recipe.clouds)
    pairs = [cloud_pair(recipe.seed, number, recipe.meshes) for number in numbers]
    return Batch([sample_of(p.clean, p.noisy, p.sigma, p.interior) for p in pairs], bool(told), bool(again))


def swept(model: Jets, sample: Sample) -> Sample:
    """The item after one sweep by the model as it is; its noise level is what error is left."""
    with torch.inference_mode():
        there = placed(sample, next(model.parameters()).device)
        moved = there.cloud.graph.points + model(there.cloud, torch.full_like(there.sigma, torch.nan)).move
    settled = moved.cpu().double().numpy()
    clean = sample.clean.cpu().double().numpy()
    left = np.sqrt(np.square(settled - clean).sum(-1)[sample.interior.cpu().numpy() > 0].mean() / 3)
    return sample_of(clean, settled, np.full(len(clean), left), sample.interior.cpu().numpy())


def loss(model: Jets, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch."""
    samples = [swept(model, s) for s in batch.samples] if batch.again else batch.samples
    device = next(model.parameters()).device
    return losses(model, placed(joined(samples), device), batch.told and not batch.again)


def begun(recipe: Recipe) -> Jets:
    """The model before its first step: seeded weights, or those to start from; features standardised on the first clouds."""
    if recipe.start:
        model = load(recipe.start, Jets)
        return headless(model) if recipe.part == "heads" else model
    if recipe.part == "heads":
        raise InputError("--part heads: needs trained weights; give them with --start FILE")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Jets(recipe.width, recipe.layers)
    features = torch.cat([batch_of(recipe, step).samples[0].cloud.features for step in range(24)])
    model.network.standardise(features)
    return model


def headless(model: Jets) -> Jets:
    """The model with its noise and error told by the fits alone, and nothing but these two outputs left to learn."""
    model.requires_grad_(False)
    model.network.leave.requires_grad_(True)
    torch.nn.init.zeros_(model.network.leave.weight)
    torch.nn.init.zeros_(model.network.leave.bias)
    return model


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    model = begun(recipe).to(recipe.device)
    batches = partial(prefetch, partial(batch_of, recipe), workers=recipe.workers)
    if recipe.compiled:
        for layer in model.network.layers:
            layer.compile(dynamic=True)
    yield from train(model, loss, batches, recipe.plan, recipe.run)
    facts = {"task": "denoise clouds", "recipe": "jets", "steps": recipe.plan.steps, "seed": recipe.seed}
    save(model, recipe.run / "jets.safetensors", facts)
