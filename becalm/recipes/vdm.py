"""The recipes of `digits8`, `mnist`, `cifar10` and `swirl`: VDM on small images and on a law of points whose entropy is known."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from becalm.core.files import InputError
from becalm.core.likelihood import Bound, concatenate_bounds
from becalm.core.typing import Int, Tensor
from becalm.images.digits import read_mnist
from becalm.images.pools import TrainTest, load_digits8, make_swirl, read_cifar10, read_npz, refuse_missing_cifar10
from becalm.nets.precision import fast_matmul
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig, bound, images_to_variables, losses
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

HELD = 128
"""Images whose bound is estimated at a time."""

TESTED = 1024
"""Test images whose bound is estimated at the end of a run, at most."""

SEEN = 2**19
"""Numbers whose bound is estimated then, about: the fewer the images hold, the more draws each gets, from 4 to 256."""


@dataclass(frozen=True)
class Recipe:
    """Train VDM for a likelihood in bits."""

    data: Literal["digits8", "mnist", "cifar10", "swirl"]
    """What to learn."""
    digits: Path | None = None
    """Where the data lie: an .npz with x_train and x_test; for MNIST the folder of its IDX files, for CIFAR-10 that of its
    python batches, do as well. digits8 comes with scikit-learn and swirl out of nothing where no file is given."""
    run: Path = Path("runs/vdm")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    start: Path | None = None
    """Weights to start a new run from: their network is kept, and the ends of γ where these are learned; the schedule's course is
    fitted anew where `schedule` is of another kind than theirs."""
    levels: int = 256
    """Values a number can take."""
    network: Literal["unet", "flat", "mlp"] = "unet"
    """An ordinary U-Net, VDM's own, or layers for vectors."""
    widths: tuple[int, ...] = (64, 128)
    """Channels at each side of the U-Net; the others take the first."""
    depth: int = 1
    """Blocks at each side of a U-Net, or layers."""
    patch: int = 1
    """Pixels each way that the U-Net takes as one."""
    dropout: float = 0.0
    """Share of inner values left out in training."""
    head: Literal["levels", "eps", "v", "x"] = "levels"
    """What the network predicts: logits over the levels, or ε (as in the paper), v = αε − σx, or x."""
    schedule: Literal["linear", "learned linear", "learned", "least variance", "few steps", "betas"] = "linear"
    """Noise schedule."""
    low: float = -13.3
    """γ(0) to begin with."""
    high: float = 5.0
    """γ(1) to begin with."""
    features: int = 32
    """Numbers from which the level-aware head forms its logits."""
    octaves: int = 2
    """Fourier features of the noisy values, from the finest frequency downwards."""
    chain: int | None = None
    """T of the bound that is trained; infinitely many where none is given."""
    batch: int = 32
    """Images in a batch."""
    seed: int = 0
    """Decides every draw: images, noise and first weights."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=8000, learning_rate=2e-3, warmup=100, ema_decay=0.998))
    """Steps, rates, log and saves."""


DIGITS8 = Recipe(
    data="digits8",
    run=Path("runs/digits8"),
    levels=17,
    widths=(48, 96),
    low=-8.0,
    batch=128,
    plan=Plan(steps=500, learning_rate=2e-3, warmup=50, ema_decay=0.99),
)
"""`digits8`: a minute on one core."""

MNIST = Recipe(data="mnist", digits=Path("mnist.npz"), run=Path("runs/mnist"), schedule="few steps")
"""`mnist`: an hour on one core."""

CIFAR10 = Recipe(
    data="cifar10",
    run=Path("runs/cifar10"),
    widths=(128, 256),
    depth=2,
    batch=128,
    dropout=0.1,
    plan=Plan(steps=200_000, learning_rate=5e-4, warmup=500, ema_decay=0.9995),
)
"""`cifar10`: made for a GPU."""

SWIRL = Recipe(
    data="swirl",
    run=Path("runs/swirl"),
    network="mlp",
    widths=(512,),
    depth=4,
    octaves=8,
    schedule="least variance",
    batch=512,
    plan=Plan(steps=10_000, learning_rate=2e-3, warmup=100, ema_decay=0.995, bfloat16=False),
)
"""`swirl`: the two numbers of each of 1024 points, whose law holds 4.7353 bits a number."""


def load_images(recipe: Recipe) -> TrainTest:
    """Training and test images. Raises InputError naming file and field."""
    if recipe.data == "mnist":
        parts = read_mnist(recipe.digits or Path("mnist.npz"))
        data = TrainTest(*((part.images * 255).round().byte()[..., None] for part in parts))
    elif recipe.data == "cifar10" and recipe.digits and recipe.digits.is_dir():
        data = read_cifar10(recipe.digits)
    elif recipe.digits:
        data = read_npz(recipe.digits)
    else:
        load = {"digits8": load_digits8, "swirl": make_swirl, "cifar10": refuse_missing_cifar10}[recipe.data]
        data = load()
    for name, images in data._asdict().items():
        if images.numel() == 0 or int(images.max()) >= recipe.levels:
            fault = f"values up to {int(images.max())}" if images.numel() else "no images"
            raise InputError(f"{recipe.digits or recipe.data}: {name}: {fault}, not 0 to {recipe.levels - 1}")
    return data


class Batch(NamedTuple):
    """Images as variables, and the seed of their levels and noise."""

    v: Int[Tensor, "image variable channel"]
    seed: int


def batch_of(recipe: Recipe, model: VDM, images: Tensor, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    chosen = torch.randint(len(images), (recipe.batch,), generator=generator)
    return Batch(images_to_variables(model, images[chosen]), int(torch.randint(2**62, (), generator=generator)))


def loss(recipe: Recipe, model: VDM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch; what dropout leaves out is decided by the batch's seed too."""
    v = batch.v.to(recipe.device)
    with torch.random.fork_rng(devices=[] if v.device.type == "cpu" else [v.device]):
        torch.manual_seed(batch.seed)
        return losses(model, v, torch.Generator().manual_seed(batch.seed), recipe.chain)


def begun(recipe: Recipe, images: Tensor) -> VDM:
    """The model before its first step: weights to start from, or seeded ones and the histogram of all training values.

    Raises InputError where the weights are of other images.
    """
    if recipe.start:
        return continued(recipe, load(recipe.start, VDM), images)
    size: dict[str, Any] = {"depth": recipe.depth, "dropout": recipe.dropout}
    size |= {"widths": list(recipe.widths), "patch": recipe.patch} if recipe.network == "unet" else {}
    size |= {} if recipe.network == "unet" else {"width": recipe.widths[0]}
    shape, ends = list(images.shape[1:]), (recipe.low, recipe.high)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = NetworkConfig(recipe.network, size, recipe.octaves)
        model = VDM(shape, recipe.levels, recipe.head, network, NoiseConfig(recipe.schedule, *ends), recipe.features)
    if recipe.head == "levels":
        seen = torch.bincount(images.flatten().int(), minlength=recipe.levels).float() + 1
        with torch.no_grad():
            model.logits.bias.copy_((seen / seen.sum()).log())
    return model


def continued(recipe: Recipe, old: VDM, images: Tensor) -> VDM:
    """The network of `old` under the schedule of the recipe."""
    if old.shape != tuple(images.shape[1:]) or old.levels != recipe.levels:
        raise InputError(
            f"{recipe.start}: made for images of {list(old.shape)} and {old.levels} levels; these have "
            f"{list(images.shape[1:])} and {recipe.levels}"
        )
    model, same = (
        VDM.build(**{**old.config, "schedule": recipe.schedule}),
        old.config["schedule"] == recipe.schedule,
    )
    fresh, course = model.state_dict(), () if same else ("schedule.total", "schedule.count")
    kept = {name: part for name, part in old.state_dict().items() if name in fresh and name not in course}
    model.load_state_dict(fresh | kept)
    return model


@torch.no_grad()
def measured(model: VDM, images: Tensor, steps: int | None = None, draws: int = 4, seed: int = 0) -> dict[str, float]:
    """The bound of images in bits a dimension, by term, with the standard error of the whole."""
    generator = torch.Generator().manual_seed(seed)
    with fast_matmul(next(model.parameters()).device.type):
        parts = [bound(model, images_to_variables(model, some), steps, draws, generator) for some in images.split(HELD)]
    return summary(concatenate_bounds(parts))


def summary(whole: Bound) -> dict[str, float]:
    """Bits a dimension by term, and the standard error of the whole."""
    found = whole.estimates()
    named = {name: round(value.bits, 5) for name, value in found.items()}
    return named | {"error": round(found["total"].bits_error, 5)}


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights and say what they reach.

    The last record is the bound of the first test images, `TESTED` at most, in continuous time.
    """
    data = load_images(recipe)
    model = begun(recipe, data.train).to(recipe.device).train()
    make = partial(batch_of, recipe, model, data.train)
    yield from train(model, partial(loss, recipe), lambda start: map(make, count(start)), recipe.plan, recipe.run)
    test = data.test[:TESTED]
    found = measured(model.eval(), test, draws=min(max(4, SEEN // test.numel()), 256))
    facts = {
        "task": "likelihood and generation",
        "recipe": recipe.data,
        "steps": recipe.plan.steps,
        "seed": recipe.seed,
        "start": recipe.start and str(recipe.start),
    }
    save(model.cpu(), recipe.run / f"{recipe.data}.safetensors", facts | {"bits_per_dim": found}, torch.float16)
    yield {"step": recipe.plan.steps, "test": found}
