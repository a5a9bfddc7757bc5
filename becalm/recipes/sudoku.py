"""The recipe of `sudoku4` and `sudoku9`: SRM on Sudokus of handwritten digits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import isqrt
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.core.process import Prediction
from becalm.core.typing import Tensor
from becalm.images import digit_classifier, sudoku
from becalm.images.digits import Digits, discriminants, read
from becalm.systems.srm import SRM, Head, losses, shown
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save


@dataclass(frozen=True)
class Recipe:
    """Train SRM to solve Sudokus whose digits are handwritten."""

    digits: Path = Path("mnist.npz")
    """MNIST: an .npz file, or the folder of its four IDX files; or `digits8`, scikit-learn's, for `--pixels 8`."""
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
    times: Literal["uniform_mean", "independent", "shared"] = "uniform_mean"
    """How levels are drawn: a uniform mean (SRM), each by itself (Diffusion Forcing), or one for all (plain diffusion)."""
    sharpness: float = 1.0
    """Of `uniform_mean`: how alike the levels of a grid are."""
    weighting: Literal["density", "none"] = "density"
    """Weight of a level in the loss: 1/p(t), or 1."""
    shift: float = 5.0
    """Of the schedule: how much of the time is spent where cells are mostly noise, and decided upon."""
    visited: float = 0.5
    """Share of a batch in the states that sequential solving visits; the others have a uniform mean level."""
    batch: int = 128
    """Puzzles in a batch."""
    seed: int = 0
    """Decides every draw: puzzles, noise and first weights."""
    head: Head = "clean"
    """What the network tells of a cell."""
    width: int = 128
    """Width of the network."""
    heads: int = 4
    """Attention heads."""
    depth: int = 4
    """Blocks."""
    loops: int = 1
    """Times the blocks are run."""
    ratio: int = 4
    """Width within the mixing after attention, over the width."""
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
    heads=8,
    loops=2,
    ratio=2,
    plan=Plan(steps=12_000, rate=1.5e-3, warmup=200, ema=0.999),
)
"""`sudoku9`: an hour and a half on one core."""


class Batch(NamedTuple):
    """Solved puzzles, the levels at which they are shown, the weight of each level, the digits, and the noise's seed."""

    x: Tensor
    t: Tensor
    weight: Tensor
    grids: Tensor
    seed: int


def pool(recipe: Recipe) -> Digits:
    """The digits to learn from: of the training part the clearest of each class, as small as the network sees them."""
    known = read(recipe.digits)[0].only(range(1, recipe.side + 1))
    if not 1 <= recipe.pixels <= known.images.shape[1]:
        raise InputError(
            f"--pixels {recipe.pixels}: {recipe.digits} has digits of {known.images.shape[1]} pixels a side"
        )
    return digit_classifier.clearest(
        digit_classifier.fit(known, recipe.pixels, torch.Generator().manual_seed(0)), known, recipe.top
    )


def levels(recipe: Recipe, batch: int, cells: int, generator: torch.Generator) -> Tensor:
    """Noise levels [batch, cell, 1] as the recipe wants them."""
    return times.sample_times(recipe.times, batch, cells, generator, recipe.sharpness)


def weights(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """The weight of a level in the loss; 1 where levels are uniform."""
    if recipe.weighting == "none" or recipe.times != "uniform_mean":
        return torch.ones_like
    draw, generator = partial(levels, recipe), torch.Generator().manual_seed(recipe.seed)
    return times.inverse_density_weight(draw, recipe.side**2, generator, 20_000)


def batch_of(recipe: Recipe, digits: Digits, weight: Callable[[Tensor], Tensor], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    cells, visited = recipe.side**2, round(recipe.visited * recipe.batch)
    grids = sudoku.solved(recipe.side, recipe.batch, "train", generator)
    x = sudoku.draw(grids, digits, generator)
    unknown = ~sudoku.masks(recipe.side, recipe.batch - visited, 0, cells - 1, generator)
    mixed = levels(recipe, recipe.batch - visited, cells, generator) * unknown[..., None]
    t = torch.cat([mixed, times.sequential(visited, cells, generator)])
    w = torch.cat([weight(mixed), torch.ones(visited, cells, 1)])
    return Batch(x, t, w, grids, int(torch.randint(2**62, (), generator=generator)))


def loss(centres: Tensor, model: SRM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch, and how many of the decisions that solving would take next are lawful."""
    device = next(model.parameters()).device
    x, t, weight, grids = (part.to(device) for part in batch[:4])
    said = shown(model, x, t, torch.Generator().manual_seed(batch.seed))
    with torch.no_grad():
        decided = lawful(said.prediction, t, grids, centres.to(device), model.features)
    return losses(model, said, x, t, weight) | {"lawful": decided}


def lawful(prediction: Prediction, t: Tensor, grids: Tensor, centres: Tensor, features: Tensor | None) -> Tensor:
    """Share of the grids whose surest unknown cell would get a digit that no given cell of its row, column or box has.

    What is in a cell is read as the class whose centre [class, channel] is nearest in the features.
    """
    unknown, known = t[..., 0] == 1, t[..., 0] == 0
    doubt = prediction.log_var.mean(-1).masked_fill(~unknown, torch.inf)  # type: ignore[union-attr]
    cell, rows = doubt.argmin(1), torch.arange(len(t), device=t.device)
    view = torch.eye(centres.shape[1], device=t.device) if features is None else features
    digit = torch.cdist(prediction.x[rows, cell].float() @ view, centres @ view).argmin(1) + 1
    peers = sudoku.peers(isqrt(t.shape[1])).to(t.device)[cell] & known
    broken = (peers & (grids == digit[:, None])).any(1)
    return (~broken)[unknown.any(1)].double().mean()


def begun(recipe: Recipe, digits: Digits) -> SRM:
    """The model before its first step: seeded weights, or those to start from. Raises InputError for what does not fit."""
    if not 0 <= recipe.visited <= 1:
        raise InputError(f"--visited {recipe.visited}: is a share of the batch, from 0 to 1")
    if recipe.start:
        model = load(recipe.start, SRM)
        seen, wanted = (len(model.places), model.config["channels"]), (recipe.side**2, recipe.pixels**2)
        if seen != wanted:
            raise InputError(
                f"{recipe.start}: is for {seen[0]} cells of {seen[1]} numbers; --side and --pixels say {wanted[0]} of {wanted[1]}"
            )
        return model
    shape = [recipe.width, recipe.heads, recipe.depth, recipe.loops, recipe.ratio]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        places = sudoku.places(recipe.side).tolist()
        model = SRM(recipe.pixels**2, places, shape, shift=recipe.shift, features=recipe.side - 1, head=recipe.head)
    model.features.copy_(discriminants(digits, recipe.side - 1))  # type: ignore[union-attr]
    return model


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    digits = pool(recipe)
    model = begun(recipe, digits).to(recipe.device).train()
    centres = (
        torch.stack([digits.images[digits.labels == k + 1].mean(0) for k in range(recipe.side)]).flatten(1) * 2 - 1
    )
    make = partial(batch_of, recipe, digits, weights(recipe))
    if recipe.compiled:
        model.network.compile()
    yield from train(model, partial(loss, centres), lambda start: map(make, count(start)), recipe.plan, recipe.run)
    name = f"sudoku{recipe.side}"
    facts = {"task": "solve sudokus", "recipe": name, "steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts, torch.float16)
