"""The recipe of `painter`: the network that renders layouts of Counting Polygons."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from becalm.core.files import InputError
from becalm.images.counting_polygons import renderer
from becalm.images.counting_polygons.layout import encode_layout
from becalm.images.counting_polygons.reader import polygon_scores
from becalm.images.counting_polygons.scenes import plain_background, polygons
from becalm.weights.store import save


@dataclass(frozen=True)
class Recipe:
    """Train the network that renders layouts, with which `becalm evaluate` makes images of polygons."""

    run: Path = Path("runs/painter")
    """Folder for the weights."""
    steps: int = 2500
    """Steps of 48 images, 1024 pixels of each."""
    log_every: int = 50
    """Steps between two records."""
    images: int = 200
    """New images that it is tested on at the end."""
    seed: int = 0
    """Decides weights and images."""


def run(recipe: Recipe) -> Iterator[dict]:
    """Train, yielding the error of colours, then render new layouts, write the weights and yield the share that is read right."""
    if recipe.steps < 1 or recipe.images < 1:
        raise InputError("--steps and --images: must be at least 1")
    generator = torch.Generator().manual_seed(recipe.seed)
    for step, (network, error) in enumerate(renderer.fit(recipe.steps, generator), 1):
        if step % recipe.log_every == 0:
            yield {"step": step, "error": error}
    scenes = polygons(recipe.images, generator, background=plain_background)
    images = renderer.render(network, encode_layout(scenes, 16), 128)
    right = polygon_scores(images, scenes).both
    facts = {"task": "render layouts of polygons", "recipe": "painter", "steps": recipe.steps, "seed": recipe.seed}
    recipe.run.mkdir(parents=True, exist_ok=True)
    save(network, recipe.run / "painter.safetensors", facts | {"right": round(right, 4)}, torch.float16)
    yield {"step": recipe.steps, "error": (images - scenes.images).square().mean().item(), "right": right}
