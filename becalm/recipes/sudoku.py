"""The recipe of `sudoku4` and `sudoku9`: SRM on Sudokus of handwritten digits.

Given cells show any training digit, distorted as hands and papers do; what is to be solved is written with the clearest ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.core.process import Prediction
from becalm.core.typing import Tensor
from becalm.images import digit_classifier, sudoku
from becalm.images.digits import Digits, fisher_discriminants, read_digits
from becalm.images.grid import shrink
from becalm.images.handwriting import write_on_sheets
from becalm.nets.digit_classifier import DigitClassifier
from becalm.nets.transformer import Shape
from becalm.systems.srm import SRM, Head, losses, noise_and_predict
from becalm.systems.srm_digits import DigitSRM, with_reader
from becalm.training.distributed import step_numbers
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
    """Weights to begin from, in place of random ones: a file, or a packaged model's name."""
    reader: Path | None = Path("reader14")
    """The digit classifier through which the network sees settled cells, a file or a packaged model; weights that are begun from
    keep theirs. `none`: no classifier."""
    side: Literal[4, 9] = 4
    """Cells in a row."""
    pixels: int = 14
    """Side in pixels of a cell, as the network sees it."""
    digits_per_class: int = 1000
    """Digits of each class to write with: those that a digit classifier is most confident of."""
    handwriting: float = 1.0
    """How far given digits are distorted: slant, size, thickness, pencil, paper (`images.handwriting`); 0: not at all."""
    times: Literal["uniform_mean", "independent", "shared"] = "uniform_mean"
    """How noise levels are drawn: with a uniform mean (SRM), independently (Diffusion Forcing), or one for all (diffusion)."""
    sharpness: float = 1.0
    """Of `uniform_mean`: the greater, the more alike the levels of a grid."""
    weighting: Literal["density", "none"] = "density"
    """Weight of a noise level in the loss: 1/p(t), or 1."""
    shift: float = 5.0
    """Of the schedule: how much of the time is spent where cells are mostly noise, and decided upon."""
    sequential_share: float = 0.5
    """Share of a batch in states that sequential solving passes through; the others have levels drawn as `times` says."""
    batch: int = 128
    """Puzzles in a batch."""
    seed: int = 0
    """Decides every draw: puzzles, noise and first weights."""
    head: Head = "clean"
    """What the network puts out: x, ε, the velocity, or the residual of a linear estimate."""
    width: int = 128
    """Width of the network."""
    heads: int = 4
    """Attention heads."""
    depth: int = 4
    """Blocks."""
    loops: int = 1
    """Times the blocks are run; may be changed with `start`, whose other sizes stay."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, over the width."""
    compiled: bool = False
    """Compile the network with torch.compile (needs a C++ compiler)."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=6000, learning_rate=2e-3, warmup=100, ema_decay=0.998))
    """Steps, rates, log and saves."""


SUDOKU4 = Recipe(run=Path("runs/sudoku4"))
"""`sudoku4`: half an hour on one core."""

SUDOKU9 = Recipe(
    run=Path("runs/sudoku9"),
    side=9,
    batch=64,
    heads=8,
    loops=2,
    mlp_ratio=2,
    plan=Plan(steps=12_000, learning_rate=1.5e-3, warmup=200, ema_decay=0.999),
)
"""`sudoku9`: an hour and a half on one core."""


class Pools(NamedTuple):
    """Digits to learn from."""

    given: Digits
    """All training digits at their own size, which given cells show."""
    clear: Digits
    """The clearest of each class at the network's size, which other cells are written with."""


class Batch(NamedTuple):
    """Solved puzzles at noise levels."""

    x: Tensor
    """The cells [batch, cell, channel]; distorted where they are given."""
    t: Tensor
    """Their noise levels [batch, cell, 1]."""
    weight: Tensor
    """The weight of each level in the loss."""
    grids: Tensor
    """The digits [batch, cell]."""
    seed: int
    """Of the noise."""


def training_digits(recipe: Recipe) -> Pools:
    """MNIST's training digits, or scikit-learn's: all of the classes of the grid, and the clearest of each at the cells' size."""
    known = read_digits(recipe.digits)[0].only(range(1, recipe.side + 1))
    if not 1 <= recipe.pixels <= known.images.shape[1]:
        raise InputError(
            f"--pixels {recipe.pixels}: {recipe.digits} has digits of {known.images.shape[1]} pixels a side"
        )
    classifier = load_reader(recipe) or digit_classifier.fit(known, recipe.pixels, torch.Generator().manual_seed(0))
    return Pools(known, digit_classifier.clearest_digits(classifier, known, recipe.digits_per_class))


def load_reader(recipe: Recipe) -> DigitClassifier | None:
    """The recipe's digit classifier, None where it has none. Raises InputError where it reads cells of another size."""
    if recipe.reader is None or str(recipe.reader) == "none":
        return None
    reader = load(recipe.reader, DigitClassifier)
    if reader.side != recipe.pixels:
        raise InputError(
            f"{recipe.reader}: reads cells of {reader.side} pixels, and --pixels says {recipe.pixels}; give --reader none"
        )
    return reader


def sample_levels(recipe: Recipe, batch: int, cells: int, generator: torch.Generator) -> Tensor:
    """Noise levels [batch, cell, 1], drawn as the recipe says."""
    return times.sample_times(recipe.times, batch, cells, generator, recipe.sharpness)


def level_weight(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """The function from noise levels to their weight in the loss: 1/p(t), or 1 where levels are uniform."""
    if recipe.weighting == "none" or recipe.times != "uniform_mean":
        return torch.ones_like
    draw, generator = partial(sample_levels, recipe), torch.Generator().manual_seed(recipe.seed)
    return times.inverse_density_weight(draw, recipe.side**2, generator, 20_000)


def make_batch(recipe: Recipe, pools: Pools, weight: Callable[[Tensor], Tensor], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step.

    In the states of sequential solving a random share of the settled cells is given, and the others are solved ones.
    """
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    cells, sequential = recipe.side**2, round(recipe.sequential_share * recipe.batch)
    grids = sudoku.sample_grids(recipe.side, recipe.batch, "train", generator)
    x = sudoku.sample_cells(grids, pools.clear, generator)
    given = sudoku.sample_masks(recipe.side, recipe.batch - sequential, 0, cells - 1, generator)
    mixed = sample_levels(recipe, recipe.batch - sequential, cells, generator) * ~given[..., None]
    visited = times.sequential(sequential, cells, generator)
    share = torch.rand(sequential, 1, generator=generator)
    among = (visited[..., 0] == 0) & (torch.rand(sequential, cells, generator=generator) < share)
    write_given_digits(recipe, pools.given, x, grids, torch.cat([given, among]), generator)
    w = torch.cat([weight(mixed), torch.ones(sequential, cells, 1)])
    seed = int(torch.randint(2**62, (), generator=generator))
    return Batch(x, torch.cat([mixed, visited]), w, grids, seed)


def write_given_digits(
    recipe: Recipe, digits: Digits, x: Tensor, grids: Tensor, given: Tensor, generator: torch.Generator
):
    """Put a distorted image of its digit in every given cell of x [batch, cell, channel]; a puzzle is a sheet."""
    images = digits.sample_images(grids[given], generator)
    written = write_on_sheets(images, given.nonzero()[:, 0], generator, recipe.handwriting)
    x[given] = shrink(written.flatten(1), recipe.pixels) * 2 - 1


def loss(centres: Tensor, model: SRM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch, and in `consistent` how often the next digit would agree with those given."""
    device = next(model.parameters()).device
    x, t, weight, grids = (part.to(device) for part in batch[:4])
    predicted = noise_and_predict(model, x, t, torch.Generator().manual_seed(batch.seed))
    with torch.no_grad():
        share = next_digit_consistency(predicted.prediction, t, grids, centres.to(device), model.features)
    return losses(model, predicted, x, t, weight) | {"consistent": share}


def next_digit_consistency(
    prediction: Prediction, t: Tensor, grids: Tensor, centres: Tensor, features: Tensor | None
) -> Tensor:
    """Share of the grids whose most certain unknown cell would get a digit that no given cell of its row, column or box has.

    The digit of a cell is the class whose centre [class, channel] is nearest in the features.
    """
    unknown, known = t[..., 0] == 1, t[..., 0] == 0
    log_var = prediction.log_var.mean(-1).masked_fill(~unknown, torch.inf)  # type: ignore[union-attr]
    cell, rows = log_var.argmin(1), torch.arange(len(t), device=t.device)
    projection = torch.eye(centres.shape[1], device=t.device) if features is None else features
    digit = torch.cdist(prediction.x[rows, cell].float() @ projection, centres @ projection).argmin(1) + 1
    peers = sudoku.peers(isqrt(t.shape[1])).to(t.device)[cell] & known
    broken = (peers & (grids == digit[:, None])).any(1)
    return (~broken)[unknown.any(1)].double().mean()


def build_model(recipe: Recipe, digits: Digits) -> SRM:
    """The model before its first step: seeded weights, or those to start from. Raises InputError for what does not fit.

    `digits` are those to write with.
    """
    if not 0 <= recipe.sequential_share <= 1:
        raise InputError(f"--sequential-share {recipe.sequential_share}: is a share of the batch, from 0 to 1")
    if recipe.start:
        model = load(recipe.start, SRM)
        size = 0 if model.places is None else len(model.places), model.channels
        wanted = recipe.side**2, recipe.pixels**2
        if size != wanted:
            raise InputError(
                f"{recipe.start}: is for {size[0]} cells of {size[1]} numbers; --side and --pixels say {wanted[0]} of {wanted[1]}"
            )
        return add_reader(change_loops(model, recipe.loops), recipe)
    shape = [recipe.width, recipe.heads, recipe.depth, recipe.loops, recipe.mlp_ratio]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        places = sudoku.places(recipe.side).tolist()
        fields = {"channels": recipe.pixels**2, "places": places, "shape": shape, "head": recipe.head}
        model = SRM.build(**fields, shift=recipe.shift, features=recipe.side - 1)
    model.features.copy_(fisher_discriminants(digits, recipe.side - 1))  # type: ignore[union-attr]
    return add_reader(model, recipe)


def change_loops(model: SRM, loops: int) -> SRM:
    """The model with its blocks run as many times; the weights are the same."""
    model.network.loops = loops  # type: ignore[assignment]
    model.config["shape"][Shape._fields.index("loops")] = loops  # type: ignore[index]
    return model


def add_reader(model: SRM, recipe: Recipe) -> SRM:
    """The model with the recipe's digit classifier; as it is where it has one, or the recipe has none."""
    reader = load_reader(recipe)
    return model if reader is None or isinstance(model, DigitSRM) else with_reader(model, reader, recipe.side)


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    pools = training_digits(recipe)
    model = build_model(recipe, pools.clear).to(recipe.device).train()
    clear = pools.clear
    centres = torch.stack([clear.images[clear.labels == k + 1].mean(0) for k in range(recipe.side)]).flatten(1) * 2 - 1
    make = partial(make_batch, recipe, pools, level_weight(recipe))
    if recipe.compiled:
        model.network.compile()
    yield from train(
        model, partial(loss, centres), lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run
    )
    name = f"sudoku{recipe.side}"
    facts = {"task": "solve sudokus", "recipe": name, "steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts, torch.float16)
