"""The recipe of `sudoku4` and `sudoku9`: SRM on Sudokus of handwritten digits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.core.typing import Tensor
from becalm.images import judge, sudoku
from becalm.images.digits import Digits, read_mnist, top_per_class
from becalm.systems.srm import SRM, losses
from becalm.systems.store import load, save
from becalm.train.loop import Plan, train


@dataclass(frozen=True)
class Recipe:
    """Train SRM to solve Sudokus whose digits are handwritten."""

    digits: Path = Path("mnist.npz")
    """MNIST: an .npz file, or the folder of its four IDX files."""
    run: Path = Path("runs/sudoku")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    start: Path | None = None
    """Weights to begin from, in place of random ones."""
    side: Literal[4, 9] = 4
    """Cells in a row."""
    pixels: int = 14
    """Side in pixels of a cell, as the network sees it."""
    top: int = 1000
    """Digits of each class to learn from: those that a judge is surest of."""
    visited: float = 0.5
    """Share of a batch in the states that sequential solving visits; the others have a uniform mean level."""
    batch: int = 128
    """Puzzles in a batch."""
    seed: int = 0
    """Decides every draw: puzzles, noise and first weights."""
    width: int = 128
    """Width of the network."""
    heads: int = 4
    """Attention heads."""
    depth: int = 4
    """Blocks."""
    loops: int = 1
    """Times the blocks are run."""
    compiled: bool = False
    """Compile the network with torch.compile (needs a C++ compiler)."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=6000, rate=2e-3, warmup=100, ema=0.998))
    """Steps, rates, log and saves."""


SMALL = Recipe(run=Path("runs/sudoku4"))
"""`sudoku4`: half an hour on one core."""

LARGE = Recipe(
    run=Path("runs/sudoku9"),
    side=9,
    batch=64,
    width=256,
    heads=8,
    depth=6,
    plan=Plan(steps=40_000, rate=1e-3, warmup=500, ema=0.999),
)
"""`sudoku9`: made for a GPU; many hours on a CPU."""


class Batch(NamedTuple):
    """Solved puzzles, the levels at which they are shown, the weight of each level, and the seed of the noise."""

    x: Tensor
    t: Tensor
    weight: Tensor
    seed: int


def pool(recipe: Recipe) -> Digits:
    """The digits to learn from: of MNIST's training part the clearest of each class, as small as the network sees them."""
    known = read_mnist(recipe.digits)[0].only(range(1, recipe.side + 1))
    reader = judge.fit(known, recipe.pixels, torch.Generator().manual_seed(0), epochs=1)
    return top_per_class(known, reader.confidence(known), recipe.top).shrunk(recipe.pixels)


def batch_of(recipe: Recipe, digits: Digits, weight, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    cells, visited = recipe.side**2, round(recipe.visited * recipe.batch)
    x = sudoku.draw(sudoku.solved(recipe.side, recipe.batch, "train", generator), digits, generator)
    unknown = ~sudoku.masks(recipe.side, recipe.batch - visited, 0, cells - 1, generator)
    mixed = times.uniform_mean(recipe.batch - visited, cells, generator) * unknown[..., None]
    t = torch.cat([mixed, times.sequential(visited, cells, generator)])
    w = torch.cat([weight(mixed), torch.ones(visited, cells, 1)])
    return Batch(x, t, w, int(torch.randint(2**62, (), generator=generator)))


def loss(model: SRM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch."""
    device = next(model.parameters()).device
    x, t, weight = (part.to(device) for part in batch[:3])
    return losses(model, x, t, weight, torch.Generator().manual_seed(batch.seed))


def begun(recipe: Recipe) -> SRM:
    """The model before its first step: seeded weights, or those to start from."""
    if recipe.start:
        model = load(recipe.start, SRM)
        if len(model.places) != recipe.side**2:
            raise InputError(
                f"{recipe.start}: places: {len(model.places)}; a side of {recipe.side} has {recipe.side**2}"
            )
        return model
    shape = [recipe.width, recipe.heads, recipe.depth, recipe.loops, 4]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return SRM(recipe.pixels**2, sudoku.places(recipe.side).tolist(), shape)


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    model, cells = begun(recipe).to(recipe.device).train(), recipe.side**2
    weight = times.density_weight(times.uniform_mean, cells, torch.Generator().manual_seed(recipe.seed), 20_000)
    make = partial(batch_of, recipe, pool(recipe), weight)
    if recipe.compiled:
        model.network.compile()
    yield from train(model, loss, lambda start: map(make, count(start)), recipe.plan, recipe.run)
    name = f"sudoku{recipe.side}"
    facts = {"task": "solve sudokus", "recipe": name, "steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts)
