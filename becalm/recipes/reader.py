"""The recipe of `reader14`: the digit classifier that `becalm solve` reads cells with."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from becalm.images import digit_classifier
from becalm.images.digits import read_mnist
from becalm.images.grid import shrink
from becalm.weights.store import save


@dataclass(frozen=True)
class Recipe:
    """Fit the classifier of handwritten digits that `becalm solve` checks its puzzles with."""

    digits: Path = Path("mnist.npz")
    """MNIST: an .npz file, or the folder of its four IDX files."""
    run: Path = Path("runs/reader14")
    """Folder for the weights."""
    pixels: int = 14
    """Side in pixels of the cells it reads."""
    epochs: int = 6
    """Passes over MNIST's training part."""
    seed: int = 0
    """Decides weights and order."""


def run(recipe: Recipe) -> Iterator[dict]:
    """Fit, write the weights, and yield one record: the share of MNIST's test digits 1 to 9 that are read right."""
    training, test = (part.only(range(1, 10)) for part in read_mnist(recipe.digits))
    classifier = digit_classifier.fit(
        training, recipe.pixels, torch.Generator().manual_seed(recipe.seed), recipe.epochs
    )
    cells = shrink(test.images.flatten(1), recipe.pixels) * 2 - 1
    right = float((classifier.read(cells) == test.labels).double().mean())
    name = f"reader{recipe.pixels}"
    facts = {
        "task": "read digits",
        "recipe": name,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "right": round(right, 4),
    }
    recipe.run.mkdir(parents=True, exist_ok=True)
    save(classifier, recipe.run / f"{name}.safetensors", facts, torch.float16)
    yield {"epochs": recipe.epochs, "right": right}
