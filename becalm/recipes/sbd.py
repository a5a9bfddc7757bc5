"""The recipe of `sbd`: a head for reverse diffusion on top of a `jets` network, from the same data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from becalm.core.typing import Tensor
from becalm.shapes.cloud_pairs import cloud_pair
from becalm.systems.jets import Jets
from becalm.systems.jets_training import TrainingItem, item_to, merge_items, training_item
from becalm.systems.sbd import SBD, losses
from becalm.training.loop import Plan, train
from becalm.training.prefetch import prefetch
from becalm.weights.store import load, save


@dataclass(frozen=True)
class Recipe:
    """Train `sbd` on procedural surfaces, and on meshes where a folder of them is given."""

    run: Path = Path("runs/sbd")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    meshes: Path | None = None
    """Folder of `train.*.npz` meshes to learn from beside the procedural surfaces."""
    start: Path = Path("jets")
    """The `jets` network that extracts the scan's features: a packaged name or a file."""
    learned: Literal["head", "all"] = "head"
    """What is trained: the head alone, or the trunk with it (then lower the plan's rate)."""
    weight: Literal["uniform", "likelihood", "ddpm"] = "uniform"
    """Weight of the loss over noise levels: 1, the likelihood bound's, or DDPM's β²/(1 − ᾱ)."""
    sigma_error: float = 0.1
    """Standard deviation of log(assumed noise level / true noise level): the model is trained with imprecise levels."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    clouds: int = 1
    """Clouds in a batch."""
    draws: int = 4
    """Draws of the bridge for each point of a cloud."""
    hidden: int = 128
    """Width of the head."""
    workers: int = 1
    """Processes that generate training data; 0 generates it in this one."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=1500, learning_rate=2e-3, warmup=50, ema_decay=0.995))
    """Steps, rates, log and saves."""


class Batch:
    """The clouds of one step, the noise level that the model assumes for each, and the seed of the step's random draws."""

    def __init__(self, items: list[TrainingItem], assumed_sigma: Tensor, seed: int):
        self.items, self.assumed_sigma, self.seed = items, assumed_sigma, seed


def make_batch(recipe: Recipe, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    rng = np.random.default_rng([recipe.seed, step])
    numbers = range(step * recipe.clouds, (step + 1) * recipe.clouds)
    pairs = [cloud_pair(recipe.seed, number, recipe.meshes) for number in numbers]
    assumed_sigma = np.concatenate([p.sigma * np.exp(recipe.sigma_error * rng.standard_normal()) for p in pairs])
    items = [training_item(pair) for pair in pairs]
    return Batch(items, torch.as_tensor(assumed_sigma, dtype=torch.float32), int(rng.integers(2**63)))


def loss(recipe: Recipe, model: SBD, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(batch.seed)
    item = item_to(merge_items(batch.items), device)
    return losses(model, item, batch.assumed_sigma.to(device), recipe.weight, recipe.draws, generator)


def build_model(recipe: Recipe) -> SBD:
    """The untrained model; its output is that of the `jets` network it starts from."""
    trunk = load(recipe.start, Jets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = SBD(trunk.config, recipe.hidden)
    model.trunk.load_state_dict(trunk.state_dict())
    model.trunk.requires_grad_(recipe.learned == "all")
    return model


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    model = build_model(recipe).to(recipe.device)
    batches = partial(prefetch, partial(make_batch, recipe), workers=recipe.workers)
    yield from train(model, partial(loss, recipe), batches, recipe.plan, recipe.run)
    facts = {"task": "denoise clouds", "recipe": "sbd", "steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / "sbd.safetensors", facts)
