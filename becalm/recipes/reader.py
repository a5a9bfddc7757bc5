"""The recipe of `reader14`: the digit classifier that `becalm solve` reads cells with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from becalm.core.typing import Tensor
from becalm.images.digits import Digits, read_mnist
from becalm.images.grid import shrink
from becalm.images.handwriting import write_on_sheets
from becalm.nets.digit_classifier import DigitClassifier, init_weights
from becalm.training.distributed import step_numbers
from becalm.training.loop import Plan, train
from becalm.weights.store import save

SMOOTHING = 0.02
"""Probability that is taken from a label and spread over all classes, so that what is read seldom is never certain."""

SHEET = 16
"""Digits of a sheet, which share a hand and a paper."""


@dataclass(frozen=True)
class Recipe:
    """Train the classifier of handwritten digits that `becalm solve` reads its puzzles with."""

    digits: Path = Path("mnist.npz")
    """MNIST: an .npz file, or the folder of its four IDX files."""
    run: Path = Path("runs/reader14")
    """Folder of the run: its log, its state and the weights; an interrupted run continues from there."""
    pixels: int = 14
    """Side in pixels of the cells it reads."""
    width: int = 32
    """Channels of the first convolution; later ones have two and four times as many."""
    handwriting: float = 1.0
    """How far digits are distorted: slant, size, thickness, pencil, paper (`images.handwriting`); 0: not at all."""
    batch: int = 256
    """Digits in a batch."""
    seed: int = 0
    """Decides weights, order and distortions."""
    plan: Plan = field(
        default_factory=lambda: Plan(steps=8000, learning_rate=4e-3, warmup=200, ema_decay=0.998, log_every=100)
    )
    """Steps, rates, log and saves."""


class Batch(NamedTuple):
    """Digits to learn from."""

    cells: Tensor
    """Their images [digit, channel] in [−1, 1]."""
    labels: Tensor
    """What they are."""


def make_batch(recipe: Recipe, digits: Digits, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    chosen = digits.select(torch.randint(len(digits), (recipe.batch,), generator=generator))
    return Batch(write_cells(chosen, recipe.pixels, generator, recipe.handwriting), chosen.labels)


def write_cells(digits: Digits, pixels: int, generator: torch.Generator, strength: float) -> Tensor:
    """The digits on sheets of 16, distorted, then shrunk to cells [digit, channel] of `pixels` a side, in [−1, 1]."""
    sheet = torch.arange(len(digits)) // SHEET
    written = write_on_sheets(digits.images, sheet, generator, strength)
    return shrink(written.flatten(1), pixels) * 2 - 1


def loss(model: DigitClassifier, batch: Batch) -> dict[str, Tensor]:
    """Cross-entropy with smoothed labels, and the share of the batch that is read right."""
    log_probability = model(batch.cells)
    error = F.nll_loss(log_probability, batch.labels)
    smoothed = (1 - SMOOTHING) * error - SMOOTHING * log_probability.mean()
    return {"loss": smoothed, "right": (log_probability.argmax(1) == batch.labels).float().mean()}


def scores(classifier: DigitClassifier, test: Digits, seed: int = 0) -> dict[str, float]:
    """Shares of digits that are read right: as they are, `right`, and distorted at full strength, `right_distorted`."""
    result = {}
    for name, strength in (("right", 0.0), ("right_distorted", 1.0)):
        cells = write_cells(test, classifier.side, torch.Generator().manual_seed(seed), strength)
        result[name] = round(float((classifier.read(cells) == test.labels).double().mean()), 5)
    return result


def run(recipe: Recipe) -> Iterator[dict]:
    """Train, yielding the log's records; write the averaged weights and yield `scores` on MNIST's test digits 1 to 9."""
    training, test = (part.only(range(1, 10)) for part in read_mnist(recipe.digits))
    classifier = DigitClassifier(recipe.pixels, recipe.width)
    init_weights(classifier, torch.Generator().manual_seed(recipe.seed))
    make = partial(make_batch, recipe, training)
    yield from train(classifier.train(), loss, lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run)
    measured, name = scores(classifier.eval(), test), f"reader{recipe.pixels}"
    facts = {"task": "read digits", "recipe": name, "steps": recipe.plan.steps, "seed": recipe.seed} | measured
    save(classifier, recipe.run / f"{name}.safetensors", facts, torch.float16)
    yield {"step": recipe.plan.steps, **measured}
