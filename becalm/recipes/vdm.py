"""The recipes `digits8`, `mnist`, `cifar10` and `swirl`: VDM on small images, and on points whose entropy is known."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from becalm.core.files import InputError
from becalm.core.learned import LeastVariance
from becalm.core.likelihood import Bound, concatenate_bounds
from becalm.core.typing import Float, Int, Tensor
from becalm.images.digits import read_mnist
from becalm.images.pools import TrainTest, load_digits8, make_swirl, read_cifar10, read_npz, refuse_missing_cifar10
from becalm.nets.precision import fast_matmul
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig, bound, images_to_variables, losses
from becalm.training.distributed import gather_rows, step_numbers, stratified_times
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

EVAL_BATCH = 128
"""Images whose bound is estimated at a time, at the end of a run."""

MAX_TEST_IMAGES = 1024
"""Test images whose bound is estimated then, at most."""

EVAL_NUMBERS = 2**19
"""Numbers times draws of that estimate, about: the fewer numbers the test images have, the more draws, from 4 to 256."""


@dataclass(frozen=True)
class Recipe:
    """Train VDM for a likelihood in bits."""

    data: Literal["digits8", "mnist", "cifar10", "swirl"]
    """The data."""
    digits: Path | None = None
    """The data's file: an .npz with x_train and x_test; for MNIST also the folder of its IDX files, for CIFAR-10 that of its
    Python batches. Without it digits8 is taken from scikit-learn; swirl is computed."""
    run: Path = Path("runs/vdm")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    start: Path | None = None
    """Weights to start a new run from: network and, where they are learned, γ(0) and γ(1); γ between them is fitted anew where
    `schedule` is another than theirs."""
    levels: int = 256
    """K, how many values a number can take."""
    network: Literal["unet", "flat", "mlp"] = "unet"
    """An ordinary U-Net, VDM's without down-sampling, or a perceptron for vectors."""
    widths: tuple[int, ...] = (64, 128)
    """Channels at each resolution of the U-Net; the other networks take the first."""
    depth: int = 1
    """Blocks at each resolution of a U-Net, or layers."""
    patch: int = 1
    """Side of the patches of pixels that the U-Net takes as one."""
    dropout: float = 0.0
    """Probability of dropout."""
    head: Literal["levels", "eps", "v", "x"] = "levels"
    """What the network predicts: logits over the levels, or ε (as in the paper), v = αε − σx, or x."""
    schedule: Literal["linear", "learned linear", "learned", "least variance", "few steps", "betas"] = "linear"
    """Noise schedule."""
    gamma_min: float = -13.3
    """γ(0); its initial value where it is learned."""
    gamma_max: float = 5.0
    """γ(1); its initial value where it is learned."""
    features: int = 32
    """Features of each number from which the level-aware head forms its logits."""
    octaves: int = 2
    """Fourier features of the noisy values, from the finest frequency downwards."""
    timesteps: int | None = None
    """T of the bound that is minimised; None for continuous time."""
    batch: int = 32
    """Images in a batch."""
    seed: int = 0
    """Decides every random draw: images, noise and initial weights."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=8000, learning_rate=2e-3, warmup=100, ema_decay=0.998))
    """Steps, rates, log and saves."""


DIGITS8 = Recipe(
    data="digits8",
    run=Path("runs/digits8"),
    levels=17,
    widths=(48, 96),
    gamma_min=-8.0,
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
"""`swirl`: the two numbers of each of 1024 points, whose distribution has 4.7353 bits a number."""


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
    """Images as variables, the seed of their noise, and in [0, 1) what decides their noise levels."""

    v: Int[Tensor, "image variable channel"]
    seed: int
    u: Float[Tensor, "image 1 1"]


def sample_batch(recipe: Recipe, model: VDM, images: Tensor, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    chosen = torch.randint(len(images), (recipe.batch,), generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    u = stratified_times(recipe.batch, recipe.seed, step)
    return Batch(images_to_variables(model, images[chosen]), seed, u)


def loss(recipe: Recipe, model: VDM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch; the batch's seed decides dropout too."""
    v = batch.v.to(recipe.device)
    with torch.random.fork_rng(devices=[] if v.device.type == "cpu" else [v.device]):
        torch.manual_seed(batch.seed)
        return losses(model, v, torch.Generator().manual_seed(batch.seed), recipe.timesteps, batch.u)


def build_model(recipe: Recipe, images: Tensor) -> VDM:
    """The model before training: loaded weights, or seeded ones with the log histogram of the training values as logits.

    Raises InputError where the weights are those of other images.
    """
    if recipe.start:
        return load_initial_model(recipe, load(recipe.start, VDM), images)
    size: dict[str, Any] = {"depth": recipe.depth, "dropout": recipe.dropout}
    size |= {"widths": list(recipe.widths), "patch": recipe.patch} if recipe.network == "unet" else {}
    size |= {} if recipe.network == "unet" else {"width": recipe.widths[0]}
    shape, ends = list(images.shape[1:]), (recipe.gamma_min, recipe.gamma_max)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = NetworkConfig(recipe.network, size, recipe.octaves)
        model = VDM(shape, recipe.levels, recipe.head, network, NoiseConfig(recipe.schedule, *ends), recipe.features)
    if recipe.head == "levels":
        counts = torch.bincount(images.flatten().int(), minlength=recipe.levels).float() + 1
        with torch.no_grad():
            model.logits.bias.copy_((counts / counts.sum()).log())
    return model


def load_initial_model(recipe: Recipe, old: VDM, images: Tensor) -> VDM:
    """A model with the network of `old` and the schedule of the recipe."""
    if old.shape != tuple(images.shape[1:]) or old.levels != recipe.levels:
        raise InputError(
            f"{recipe.start}: made for images of {list(old.shape)} and {old.levels} levels; these have "
            f"{list(images.shape[1:])} and {recipe.levels}"
        )
    model, same = (
        VDM.build(**{**old.config, "schedule": recipe.schedule}),
        old.config["schedule"] == recipe.schedule,
    )
    initial, fitted = model.state_dict(), () if same else ("schedule.total", "schedule.count")
    kept = {name: part for name, part in old.state_dict().items() if name in initial and name not in fitted}
    model.load_state_dict(initial | kept)
    return model


@torch.no_grad()
def evaluate_bound(
    model: VDM, images: Tensor, steps: int | None = None, draws: int = 4, seed: int = 0
) -> dict[str, float]:
    """The bound of images in bits a dimension, by term, with the standard error of the whole."""
    generator = torch.Generator().manual_seed(seed)
    with fast_matmul(next(model.parameters()).device.type):
        parts = [
            bound(model, images_to_variables(model, part), steps, draws, generator) for part in images.split(EVAL_BATCH)
        ]
    return bits_by_term(concatenate_bounds(parts))


def bits_by_term(whole: Bound) -> dict[str, float]:
    """Bits a dimension by term, and the standard error of the whole."""
    terms = whole.estimates()
    bits = {name: round(term.bits, 5) for name, term in terms.items()}
    return bits | {"error": round(terms["total"].bits_error, 5)}


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then save the averaged weights and evaluate them.

    The last record is the bound of the first MAX_TEST_IMAGES test images in continuous time.
    """
    data = load_images(recipe)
    model = build_model(recipe, data.train).to(recipe.device).train()
    if isinstance(model.schedule, LeastVariance):
        model.schedule.gather = gather_rows
    make = partial(sample_batch, recipe, model, data.train)
    yield from train(
        model, partial(loss, recipe), lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run
    )
    test = data.test[:MAX_TEST_IMAGES]
    test_bits = evaluate_bound(model.eval(), test, draws=min(max(4, EVAL_NUMBERS // test.numel()), 256))
    facts = {
        "task": "likelihood and generation",
        "recipe": recipe.data,
        "steps": recipe.plan.steps,
        "seed": recipe.seed,
        "start": recipe.start and str(recipe.start),
    }
    save(model.cpu(), recipe.run / f"{recipe.data}.safetensors", facts | {"bits_per_dim": test_bits}, torch.float16)
    yield {"step": recipe.plan.steps, "test": test_bits}
