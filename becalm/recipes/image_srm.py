"""The recipe of `even_pixels` and `polygons`: SRM on whole images, patch by patch, with rules that only counting can keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Tensor
from becalm.evaluation.image_tasks import TASKS, Task, fitting
from becalm.systems import srm
from becalm.systems.srm import SRM, losses, shown
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

NEARLY = 0.2
"""Level up to which what holds something is nearly settled: that it does, and what, shows by itself."""

T_LEAST = 0.01
"""Levels below this are taken as 0, given: what is hardly noisy teaches nothing, and its variance would drown all else."""


@dataclass(frozen=True)
class Recipe:
    """Train SRM to make images whose patches must agree on a count."""

    run: Path = Path("runs/even_pixels")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    start: Path | None = None
    """Weights to begin from, in place of random ones."""
    task: Literal["even-pixels", "polygons"] = "even-pixels"
    """Which images."""
    times: Literal["uniform_mean", "shared", "independent"] = "uniform_mean"
    """Levels: SRM's, of which a share is replaced by the visited states; one for the image; one for each patch on its own."""
    sharpness: float = 0.75
    """Of `uniform_mean`: a greater one makes the levels of an image more alike."""
    visited: float = 0.5
    """Of `uniform_mean`: share of a batch in the states that sequential sampling visits."""
    emphasis: float = 1.0
    """Power of σ in a level's weight: at 2 the loss is the error of x and not of the velocity, at 0 as SRM has it. What is
    counted shows where a patch is all noise; a loss of the velocity looks at what z nearly shows."""
    endings: float = 1.0
    """Of these: share in which the number of patches that are left is log-uniform; in the others it is uniform."""
    late: float = 1.0
    """Of these endings: n patches of which nᵘ are left, u being uniform to this power; 3 leaves one patch in half of them."""
    urgent: float = 1.0
    """Of these: power of n/left in the weight of an image of n patches; at 1 all of them count alike, at 0 all patches do."""
    active: int = 1
    """Of these: patches on their way at once, at most."""
    settling: float = 0.0
    """Of `visited`, where patches hold something or nothing: share in which all that hold something are nearly settled, and the
    rest is, so that where and how large it all is can be learned from one another."""
    led: float = 0.0
    """Half of the images are shown as the model's own step leads to them, from levels up to so much above."""
    shift: float = 1.0
    """Of the schedule: how much of the time is spent where patches are mostly noise, and decided upon."""
    stress: float = 0.0
    """Weight of the error of what is summed, or of the surprise at what a patch holds, beside the error of all its numbers;
    needs `summed`."""
    summed: bool = False
    """Whether patches are told the sum of all mean colours, or how many plans hold what; certainty is of the same."""
    grains: int = 3
    """Layers that tell pixels one by one; 0 for none. Between them the pixels of a patch share what they have to make up."""
    near: bool = False
    """Whether patches see those around them by convolutions (`nets/mosaic.py`), before all others."""
    head: srm.Head | None = None
    """What the network tells; where nothing is given, `clean`, or `residual` if pixels are told one by one."""
    batch: int = 32
    """Images in a batch."""
    seed: int = 0
    """Decides every draw: images, noise and first weights."""
    width: int = 96
    """Width of the network."""
    heads: int = 2
    """Attention heads."""
    depth: int = 4
    """Blocks."""
    ratio: int = 4
    """Width within a block's mixing, over the network's."""
    compiled: bool = False
    """Compile the network with torch.compile (needs a C++ compiler)."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=6000, rate=2e-3, warmup=100, ema=0.998))
    """Steps, rates, log and saves."""


EVEN = Recipe(stress=1.0, summed=True, grains=6, visited=0.75, late=3.0, led=0.1)
"""`even_pixels`: some fifteen minutes on one core; the packaged weights had two and a half hours."""

COUNTED = Recipe(
    run=Path("runs/polygons"),
    task="polygons",
    sharpness=0.5,
    visited=0.75,
    endings=0.3,
    urgent=0.5,
    active=8,
    settling=0.25,
    stress=0.1,
    summed=True,
    shift=3.0,
    grains=0,
    near=True,
    batch=48,
    width=128,
    heads=4,
    depth=3,
    ratio=2,
    plan=Plan(steps=10_000, rate=2e-3, warmup=200, ema=0.998),
)
"""`polygons`: 80 minutes of two cores; the packaged weights had four hours, in pieces (their card)."""


class Batch(NamedTuple):
    """Images as patches, the levels at which they are shown, their weights, and the seed of the noise."""

    x: Tensor
    t: Tensor
    weight: Tensor
    seed: int


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return TASKS[recipe.task]


def levels(recipe: Recipe, batch: int, variables: int, generator: torch.Generator) -> Float[Tensor, "batch variable 1"]:
    """Noise levels as the recipe's `times` wants them."""
    return times.sample_times(recipe.times, batch, variables, generator, recipe.sharpness)


def weight_of(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """1/p(t) of the levels drawn by `uniform_mean`; 1 for the others, whose p is 1."""
    if recipe.times != "uniform_mean":
        return torch.ones_like
    generator = torch.Generator().manual_seed(recipe.seed)
    return times.inverse_density_weight(partial(levels, recipe), task_of(recipe).side ** 2, generator, 8_000)


def batch_of(recipe: Recipe, weight: Callable[[Tensor], Tensor], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    task, n = task_of(recipe), task_of(recipe).side ** 2
    shown = round(recipe.visited * recipe.batch) if recipe.times == "uniform_mean" else 0
    mixed = levels(recipe, recipe.batch - shown, n, generator)
    x = task.real(recipe.batch, generator)
    on_the_way, share = visited(recipe, x[recipe.batch - shown :], generator)
    t, w = torch.cat([mixed, on_the_way]), torch.cat([weight(mixed), share])
    t = torch.where(t < T_LEAST, 0.0, t)
    w = w * Rectified(shift=recipe.shift)(t).sigma.clamp_min(srm.SIGMA_LEAST) ** recipe.emphasis
    return Batch(x, t, w, int(torch.randint(2**62, (), generator=generator)))


def visited(recipe: Recipe, x: Tensor, generator: torch.Generator) -> tuple[Float[Tensor, "batch variable 1"], Tensor]:
    """States of a sequential walk over x, and their weight: finished patches, 1 to `active` on their way, the others at t = 1.

    The number u of n patches that are not finished is uniform, with weight 1, or for the share `endings` log-uniform with
    weight n/u to the power `urgent`: only when few are left does a count decide anything. Which are left is left to chance;
    where patches hold something or nothing, each kind of thing is sooner or, more often, later than the rest in three quarters
    of the images, as a walk has it that begins with the surest.
    """
    batch, n, _ = x.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, dtype=torch.float64)

    chance, flags = draw(n), task_of(recipe).flags
    held = x[..., :flags] > 2
    if flags:
        chance += (held * (1.5 * draw(1, flags) - 0.5) * (draw(1, 1) < 0.75)).sum(-1)
    place, level, ends = chance.argsort(1).argsort(1), draw(n), draw(1) < recipe.endings
    left = torch.where(ends, n ** draw(1) ** recipe.late, 1 + n * draw(1)).floor().clamp(1, n)
    moving = (1 + recipe.active * draw(1)).floor().clamp_max(recipe.active)
    t = torch.where(place < n - left, 0.0, torch.where(place < n - left + moving, level, 1.0))
    weight = torch.where(ends, (n / left) ** recipe.urgent, 1.0).expand(-1, n)
    if recipe.settling:
        nearly = draw(1) < recipe.settling
        t = torch.where(nearly, NEARLY * level * held.any(-1), t)
        weight = torch.where(nearly, 1.0, weight)
    return t[..., None], weight[..., None]


def loss(recipe: Recipe, model: SRM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch."""
    device = next(model.parameters()).device
    x, t, weight = (part.to(device) for part in batch[:3])
    generator = torch.Generator().manual_seed(batch.seed)
    above = raised(recipe, t, generator) if recipe.led else None
    return losses(model, shown(model, x, t, generator, above), x, t, weight, recipe.stress)


def raised(recipe: Recipe, t: Float[Tensor, "batch variable 1"], generator: torch.Generator) -> Tensor:
    """The levels from which the model's own step leads to t: up to `led` above in half of the images, t itself elsewhere."""
    rise = recipe.led * torch.rand(t.shape, generator=generator, dtype=t.dtype)
    rise = rise * (torch.rand(len(t), 1, 1, generator=generator) < 0.5)
    return torch.where(t > 0, (t + rise.to(t)).clamp_max(1), t)


def begun(recipe: Recipe) -> SRM:
    """The model before its first step: seeded weights, or those to start from. Raises InputError for what does not fit."""
    task = task_of(recipe)
    if recipe.stress and not recipe.summed:
        raise InputError("--stress: is about the sums that patches are told; add --summed, or give --stress 0")
    if task.flags and recipe.grains:
        raise InputError("--grains: are pixels, and polygons are made of a plan; give --grains 0")
    if not 0 <= recipe.visited <= 1 or recipe.active < 1:
        raise InputError("--visited must be from 0 to 1, --active at least 1")
    if not 0 <= recipe.settling <= 1 or (recipe.settling and not task.flags):
        raise InputError("--settling must be from 0 to 1, and 0 where patches are pixels")
    if recipe.start:
        model = fitting(load(recipe.start, SRM), task, str(recipe.start))
        if model.config["shift"] != recipe.shift:
            raise InputError(f"{recipe.start}: has a schedule of shift {model.config['shift']}; give --shift so")
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        features, shape = task.features(), [recipe.width, recipe.heads, recipe.depth, 1, recipe.ratio]
        told = recipe.summed or task.flags
        extras = {"features": features.shape[1] if told else 0, "summed": recipe.summed, "head": recipe.head}
        extras |= {"grain": 3 * bool(recipe.grains), "grain_depth": recipe.grains}
        extras |= {"near": recipe.near, "flags": task.flags, "circle": task.circle}
        model = SRM(task.channels, task.places(), shape, task.power, recipe.shift, **extras)
    if model.features is not None:
        model.features.copy_(features)
    return model


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    model = begun(recipe).to(recipe.device).train()
    make = partial(batch_of, recipe, weight_of(recipe))
    if recipe.compiled:
        model.network.compile()
    yield from train(model, partial(loss, recipe), lambda start: map(make, count(start)), recipe.plan, recipe.run)
    name = recipe.task.replace("-", "_")
    facts = {"task": f"make {name} images", "recipe": name, "times": recipe.times, "benchmark": recipe.task}
    facts |= {"steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts, torch.float16)
