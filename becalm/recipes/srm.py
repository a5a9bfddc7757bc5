"""The recipe `srm`: SRM on data of your own, an array [datum, variable, channel] in an .npz file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.core.numpy_files import load_arrays
from becalm.core.times import Distribution
from becalm.core.typing import Float, Tensor
from becalm.systems.srm import SRM, losses, noise_and_predict
from becalm.training.distributed import step_numbers
from becalm.training.loop import Plan, train
from becalm.weights.store import save

RMS_RANGE = 0.3, 3.0
"""Root mean squares of data that the noise schedule, which ends at noise of standard deviation 1, suits."""


@dataclass(frozen=True)
class Recipe:
    """Train SRM on your own data: sets of variables, of which any may be given and the others are sampled."""

    data: Path = Path("mine.npz")
    """An .npz file with `x` [datum, variable, channel] of mean near 0 and standard deviation near 1, and, where it matters where
    a variable is, `places` [variable, axis]: whole numbers (row, column, box, …) or coordinates. Without it variables are
    numbered."""
    run: Path = Path("runs/srm")
    """Folder of the run: its log, its state and at the end srm.safetensors; an interrupted run continues from there."""
    times: Distribution = "uniform_mean"
    """How noise levels are drawn: with a uniform mean (SRM), independently (Diffusion Forcing), or one for all (diffusion)."""
    sharpness: float = 1.0
    """Of `uniform_mean`: the greater, the more alike the levels of a datum."""
    sequential_share: float = 0.5
    """Share of a batch in states that sequential solving passes through; the others have levels drawn as `times` says."""
    shift: float = 1.0
    """Of the schedule: at more than 1 more of the time is spent where variables are mostly noise."""
    batch: int = 128
    """Data in a batch."""
    width: int = 64
    """Width of the network, a transformer over the variables."""
    heads: int = 4
    """Attention heads."""
    depth: int = 3
    """Blocks."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    device: str = "cpu"
    """Where to train: cpu, cuda or mps."""
    plan: Plan = field(default_factory=lambda: Plan(steps=2000, learning_rate=2e-3, warmup=100, ema_decay=0.995))
    """Steps, rates, log and saves."""


class Batch(NamedTuple):
    """Data at noise levels."""

    x: Float[Tensor, "batch variable channel"]
    """The data."""
    t: Float[Tensor, "batch variable 1"]
    """The noise level of each variable."""
    weight: Float[Tensor, "batch variable 1"]
    """The weight of each level in the loss."""
    seed: int
    """Of the noise."""


def read_data(path: Path) -> tuple[Float[Tensor, "datum variable channel"], np.ndarray]:
    """The data of an .npz file and the places of their variables [variable, axis]. Raises InputError for what does not fit."""
    try:
        arrays = load_arrays(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; --data FILE.npz names your own") from None
    except (OSError, InputError) as error:
        raise InputError(f"{path}: is no .npz file of arrays; write one by numpy.savez(path, x=x)") from error
    x = arrays.get("x")
    if x is None or x.ndim != 3 or x.size == 0 or not np.issubdtype(x.dtype, np.number):
        names = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise InputError(f"{path}: x: numbers [datum, variable, channel] are needed; the file has {names}")
    if not np.isfinite(x).all():
        raise InputError(f"{path}: x: has values that are not finite; leave these data out")
    rms = float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    if not RMS_RANGE[0] <= rms <= RMS_RANGE[1]:
        mean, std = float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
        raise InputError(f"{path}: x: has mean {mean:.3g}, standard deviation {std:.3g}; give (x − mean)/deviation")
    places = arrays.get("places")
    if places is None:
        places = np.arange(x.shape[1])[:, None]
    if places.ndim != 2 or len(places) != x.shape[1] or not np.issubdtype(places.dtype, np.number):
        raise InputError(f"{path}: places: must be [{x.shape[1]} variables, axis]; it is {list(places.shape)}")
    return torch.from_numpy(x.astype(np.float32)), places


def level_weight(recipe: Recipe, variables: int) -> Callable[[Tensor], Tensor]:
    """The weight of noise levels in the loss: 1/p(t), which is 1 where levels are uniform."""
    if recipe.times != "uniform_mean":
        return torch.ones_like
    draw = partial(times.uniform_mean, sharpness=recipe.sharpness)
    return times.inverse_density_weight(draw, variables, torch.Generator().manual_seed(recipe.seed), 20_000)


def make_batch(recipe: Recipe, x: Tensor, weight: Callable[[Tensor], Tensor], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step.

    A part of the batch has noise levels as `times` draws them, where a uniform share of the variables is given (t = 0); the
    rest has the levels of sequential solving.
    """
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    variables, sequential = x.shape[1], round(recipe.sequential_share * recipe.batch)
    rows = torch.randint(len(x), (recipe.batch,), generator=generator)
    mixed = times.sample_times(recipe.times, recipe.batch - sequential, variables, generator, recipe.sharpness)
    given_share = torch.rand(len(mixed), 1, 1, generator=generator)
    mixed = mixed * (torch.rand(mixed.shape, generator=generator) >= given_share)
    t = torch.cat([mixed, times.sequential(sequential, variables, generator)])
    w = torch.cat([weight(mixed), torch.ones(sequential, variables, 1)])
    return Batch(x[rows], t, w, int(torch.randint(2**62, (), generator=generator)))


def loss(model: SRM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `systems.srm.losses` for a batch."""
    device = next(model.parameters()).device
    x, t, weight = (part.to(device) for part in batch[:3])
    predicted = noise_and_predict(model, x, t, torch.Generator().manual_seed(batch.seed))
    return losses(model, predicted, x, t, weight)


def build_model(recipe: Recipe, x: Tensor, places: np.ndarray) -> SRM:
    """The model before its first step, with seeded weights.."""
    shape = [recipe.width, recipe.heads, recipe.depth, 1, 4]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        variance = float(x.double().square().mean())
        return SRM.build(
            channels=x.shape[2], places=places.tolist(), shape=shape, shift=recipe.shift, data_variance=variance
        )


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    if not 0 <= recipe.sequential_share <= 1:
        raise InputError(f"--sequential-share {recipe.sequential_share}: is a share of the batch, from 0 to 1")
    x, places = read_data(recipe.data)
    model = build_model(recipe, x, places).to(recipe.device).train()
    make = partial(make_batch, recipe, x, level_weight(recipe, x.shape[1]))
    yield from train(model, loss, lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run)
    facts = {"task": f"solve {x.shape[1]} variables", "recipe": "srm", "steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / "srm.safetensors", facts)
