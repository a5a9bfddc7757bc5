"""The recipe of `even_pixels` and `polygons`: SRM on whole images, patch by patch, with rules that only counting can keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Tensor
from becalm.recipes.image_tasks import TASKS, Task, check_model
from becalm.systems.srm import SIGMA_MIN, SRM, Head, losses, noise_and_predict
from becalm.systems.srm_pixels import PixelSRM
from becalm.systems.srm_polygons import PolygonSRM
from becalm.training.distributed import step_numbers
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

NEARLY_CLEAN = 0.2
"""Greatest noise level at which z itself shows whether a patch has a category, and which."""

T_MIN = 0.01
"""Noise levels below this become 0, given: hardly noisy data teach nothing, and their variance term would outweigh the rest."""


@dataclass(frozen=True)
class Recipe:
    """Train SRM to generate images whose patches must agree on a count."""

    run: Path = Path("runs/even_pixels")
    """Folder of the run: its log and its state; an interrupted run continues from there."""
    start: Path | None = None
    """Weights to begin from, in place of random ones."""
    task: Literal["even-pixels", "polygons"] = "even-pixels"
    """Which images."""
    times: Literal["uniform_mean", "shared", "independent"] = "uniform_mean"
    """How noise levels are drawn: with a uniform mean (SRM), one for the image (diffusion), independently (Diffusion Forcing)."""
    sharpness: float = 0.75
    """Of `uniform_mean`: the greater, the more alike the levels of an image."""
    sequential_share: float = 0.5
    """Of `uniform_mean`: share of a batch in states that sequential sampling passes through."""
    sigma_power: float = 1.0
    """Power of σ in a level's weight: at 0 the loss is the error of the velocity, as SRM has it, at 2 that of x. Counts are
    decided where a patch is nearly all noise; a loss of the velocity weighs what z nearly shows."""
    ending_share: float = 1.0
    """Of the sequential states: share in which the number of patches that are left is log-uniform, not uniform."""
    ending_exponent: float = 1.0
    """Of these: nᵘ of n patches are left, u uniform to this power; 3 leaves a single patch in half of them."""
    ending_weight: float = 1.0
    """Of these: power of n/left in the weight of an image; at 1 all images count alike, at 0 all patches do."""
    max_active: int = 1
    """Of the sequential states: most patches that are being denoised at once."""
    nearly_clean_share: float = 0.0
    """Of the sequential states, where patches have categories: share in which all patches with one are nearly clean, the others
    clean, so that positions and sizes can be learned from one another."""
    rollout_range: float = 0.0
    """Train half the batch on states reached by one model step from t + U(0, range)."""
    shift: float = 1.0
    """Of the schedule: how much of the time is spent where patches are mostly noise, and decided upon."""
    feature_loss_weight: float = 0.0
    """Weight of the features' loss (the error of mean colours; the cross-entropy of categories) beside the error of x."""
    pooled_context: bool = False
    """Even pixels: append the sum of the features of all patches to every token; certainty is then about the features."""
    pixel_depth: int = 3
    """Even pixels: layers of the per-pixel head; 0 for none."""
    head: Head | None = None
    """What the network puts out; where nothing is given `clean`, or `residual` with a per-pixel head."""
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
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, over the width."""
    compiled: bool = False
    """Compile the network with torch.compile (needs a C++ compiler)."""
    device: str = "cpu"
    """Where to train."""
    plan: Plan = field(default_factory=lambda: Plan(steps=6000, learning_rate=2e-3, warmup=100, ema_decay=0.998))
    """Steps, rates, log and saves."""


EVEN_PIXELS = Recipe(
    feature_loss_weight=1.0,
    pooled_context=True,
    pixel_depth=6,
    sequential_share=0.75,
    ending_exponent=3.0,
    rollout_range=0.1,
)
"""`even_pixels`: some fifteen minutes on one core; the packaged weights had two and a half hours."""

POLYGONS = Recipe(
    run=Path("runs/polygons"),
    task="polygons",
    sharpness=0.5,
    sequential_share=0.75,
    ending_share=0.3,
    ending_weight=0.5,
    max_active=8,
    nearly_clean_share=0.25,
    feature_loss_weight=0.1,
    shift=3.0,
    pixel_depth=0,
    batch=48,
    width=128,
    heads=4,
    depth=3,
    mlp_ratio=2,
    plan=Plan(steps=10_000, learning_rate=2e-3, warmup=200, ema_decay=0.998),
)
"""`polygons`: 80 minutes of two cores; the packaged weights had four hours, in pieces (their card)."""


class Batch(NamedTuple):
    """Images as patches at noise levels."""

    x: Tensor
    """The patches [batch, variable, channel]."""
    t: Tensor
    """Their noise levels [batch, variable, 1]."""
    weight: Tensor
    """The weight of each level in the loss."""
    seed: int
    """Of the noise."""


def sample_levels(
    recipe: Recipe, batch: int, variables: int, generator: torch.Generator
) -> Float[Tensor, "batch variable 1"]:
    """Noise levels, drawn as the recipe's `times` says."""
    return times.sample_times(recipe.times, batch, variables, generator, recipe.sharpness)


def level_weight(recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """The function from noise levels to their weight: 1/p(t) for `uniform_mean`; 1 for the others, whose p is 1."""
    if recipe.times != "uniform_mean":
        return torch.ones_like
    generator = torch.Generator().manual_seed(recipe.seed)
    return times.inverse_density_weight(partial(sample_levels, recipe), TASKS[recipe.task].side ** 2, generator, 8_000)


def make_batch(recipe: Recipe, weight: Callable[[Tensor], Tensor], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    task = TASKS[recipe.task]
    sequential = round(recipe.sequential_share * recipe.batch) if recipe.times == "uniform_mean" else 0
    mixed = sample_levels(recipe, recipe.batch - sequential, task.side**2, generator)
    x = task.sample_patches(recipe.batch, generator)
    levels, level_weights = sequential_states(recipe, x[recipe.batch - sequential :], generator)
    t, w = torch.cat([mixed, levels]), torch.cat([weight(mixed), level_weights])
    t = torch.where(t < T_MIN, 0.0, t)
    w = w * Rectified(shift=recipe.shift)(t).sigma.clamp_min(SIGMA_MIN) ** recipe.sigma_power
    return Batch(x, t, w, int(torch.randint(2**62, (), generator=generator)))


def sequential_states(
    recipe: Recipe, x: Tensor, generator: torch.Generator
) -> tuple[Float[Tensor, "batch variable 1"], Float[Tensor, "batch variable 1"]]:
    """Noise levels of a sequential walk over x and their weights: patches clean, 1 to `max_active` at U(0, 1), the others at 1.

    The number u of n patches that are not clean is uniform, with weight 1, or for the share `ending_share` log-uniform with
    weight (n/u)^`ending_weight`: only when few are left does a count decide anything. Which are left is random; but in three
    quarters of the images each category is sooner or, more often, later than the rest, as in a walk by certainty.
    """
    batch, n, _ = x.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, dtype=torch.float64)

    priority, categories = uniform(n), TASKS[recipe.task].n_categories
    present = x[..., :categories] > 2
    if categories:
        priority += (present * (1.5 * uniform(1, categories) - 0.5) * (uniform(1, 1) < 0.75)).sum(-1)
    place, level, ends = priority.argsort(1).argsort(1), uniform(n), uniform(1) < recipe.ending_share
    left = torch.where(ends, n ** uniform(1) ** recipe.ending_exponent, 1 + n * uniform(1)).floor().clamp(1, n)
    active = (1 + recipe.max_active * uniform(1)).floor().clamp_max(recipe.max_active)
    t = torch.where(place < n - left, 0.0, torch.where(place < n - left + active, level, 1.0))
    weight = torch.where(ends, (n / left) ** recipe.ending_weight, 1.0).expand(-1, n)
    if recipe.nearly_clean_share:
        nearly_clean = uniform(1) < recipe.nearly_clean_share
        t = torch.where(nearly_clean, NEARLY_CLEAN * level * present.any(-1), t)
        weight = torch.where(nearly_clean, 1.0, weight)
    return t[..., None], weight[..., None]


def loss(recipe: Recipe, model: SRM, batch: Batch) -> dict[str, Tensor]:
    """The terms of `losses` for a batch."""
    device = next(model.parameters()).device
    x, t, weight = (part.to(device) for part in batch[:3])
    generator = torch.Generator().manual_seed(batch.seed)
    start = rollout_start(recipe, t, generator) if recipe.rollout_range else None
    predicted = noise_and_predict(model, x, t, generator, start)
    return losses(model, predicted, x, t, weight, recipe.feature_loss_weight)


def rollout_start(recipe: Recipe, t: Float[Tensor, "batch variable 1"], generator: torch.Generator) -> Tensor:
    """The levels from which a model step leads to t: t + U(0, `rollout_range`) in half of the images, t itself elsewhere."""
    rise = recipe.rollout_range * torch.rand(t.shape, generator=generator, dtype=t.dtype)
    rise = rise * (torch.rand(len(t), 1, 1, generator=generator) < 0.5)
    return torch.where(t > 0, (t + rise.to(t)).clamp_max(1), t)


def check_recipe(recipe: Recipe, task: Task) -> None:
    """Raise InputError for fields that are out of range or do not go together."""
    if task.n_categories and (recipe.pixel_depth or recipe.pooled_context):
        raise InputError(
            "--pixel-depth, --pooled-context: are about pixels; polygons have layouts; give --pixel-depth 0"
        )
    if recipe.feature_loss_weight and not (recipe.pooled_context or task.n_categories):
        raise InputError("--feature-loss-weight: needs features; add --pooled-context, or give --feature-loss-weight 0")
    if not 0 <= recipe.sequential_share <= 1 or recipe.max_active < 1:
        raise InputError("--sequential-share must be from 0 to 1, --max-active at least 1")
    if not 0 <= recipe.nearly_clean_share <= 1 or (recipe.nearly_clean_share and not task.n_categories):
        raise InputError("--nearly-clean-share must be from 0 to 1, and 0 where patches are pixels")


def build_model(recipe: Recipe) -> SRM:
    """The model before its first step: seeded weights, or those to start from. Raises InputError for what does not fit."""
    task = TASKS[recipe.task]
    check_recipe(recipe, task)
    if recipe.start:
        model = check_model(load(recipe.start, SRM), task, str(recipe.start))
        if model.schedule.shift != recipe.shift:
            raise InputError(f"{recipe.start}: has a schedule of shift {model.schedule.shift}; give --shift so")
        return model
    shape = [recipe.width, recipe.heads, recipe.depth, 1, recipe.mlp_ratio]
    fields = {"channels": task.channels, "places": task.places(), "shape": shape, "shift": recipe.shift}
    fields |= {"data_variance": task.data_variance, "features": task.features().shape[1]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if task.n_categories:
            model: SRM = PolygonSRM.build(**fields, head=recipe.head or "clean")
        else:
            fields |= {"features": recipe.pooled_context * fields["features"]}
            fields |= {"pixel_channels": 3 * bool(recipe.pixel_depth), "pixel_depth": recipe.pixel_depth}
            model = PixelSRM.build(**fields, head=recipe.head or ("residual" if recipe.pixel_depth else "clean"))
    if model.features is not None:
        model.features.copy_(task.features())
    return model


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then write the averaged weights beside the state."""
    model = build_model(recipe).to(recipe.device).train()
    make = partial(make_batch, recipe, level_weight(recipe))
    if recipe.compiled:
        model.network.compile()
    yield from train(
        model, partial(loss, recipe), lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run
    )
    name = recipe.task.replace("-", "_")
    facts = {"task": f"make {name} images", "recipe": name, "times": recipe.times, "benchmark": recipe.task}
    facts |= {"steps": recipe.plan.steps, "seed": recipe.seed}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts, torch.float16)
