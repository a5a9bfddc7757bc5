"""The recipes of `lion_families` and `lion_ldraw`, or for your own shapes: first the autoencoder, then the prior of its latents.

Each stage is a run of its own in the recipe's folder (`autoencoder`, `prior`), with its log and its state; between them the
latents of all shapes are written to `latents.safetensors`, so that the prior never sees a point. What is complete is not
done again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Float, Int, Tensor
from becalm.nets.latent import SHAPE_FEATURES, farthest_points, gather_rows
from becalm.recipes.lion_sparse_health import health, likeness, with_checks
from becalm.shapes import sets
from becalm.shapes.augment import add_noise, crop_by_plane, sample_points, snap_to_grid
from becalm.systems import lion_sparse, lion_sparse_autoencoder
from becalm.systems.lion import Latent
from becalm.systems.lion_sparse import LionSparse, LossWeight, Prior
from becalm.systems.lion_sparse_autoencoder import Autoencoder, Sizes
from becalm.training.distributed import step_numbers, step_of, stratified_times
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

CHECKED_SHAPES = 60
"""Test shapes by which a model is checked while it learns."""


@dataclass(frozen=True)
class Recipe:
    """Train LION on few latent points on shapes in the unit box."""

    shapes: Literal["families", "ldraw", "folder", "pointflow"] = "families"
    """Six procedural families without end, LDraw's parts, your own meshes or clouds (a sub-folder a class, one shape in ten held
    back to check with), or ShapeNet as PointFlow has it."""
    data: Path = Path("ldraw_parts_4096.npz")
    """The file of LDraw's parts, or the folder of the others."""
    run: Path = Path("runs/lion_families")
    """Folder of the run; an interrupted run continues from there."""
    start: Path | None = None
    """Weights to begin a new run from, in place of random ones, trained on these classes or others, and of these sizes; with
    `--steps 0` the autoencoder stays as it is, with `--prior-steps 0` the prior."""
    pool: int = 6000
    """Procedural shapes to train on, made when training begins; a pure function of the seed."""
    seen: int = 768
    """Points of a shape that the encoder sees."""
    target: int = 768
    """Further points of it that the decoder has to account for."""
    batch: int = 16
    """Shapes in a batch of the autoencoder."""
    prior_batch: int = 48
    """Shapes in a batch of the prior."""
    kl_weight: float = 0.001
    """Weight of the mean KLs; it rises from 0 over the first half of stage 1."""
    crop_every: int = 5
    """One batch in so many consists of parts of shapes, cut by a plane, as `complete` encodes them; 0 for none."""
    corrupt_every: int = 0
    """One batch in so many consists of noisy points, and the next one of points on a coarse grid, to be decoded into clean ones,
    as `vary --amount 0` does; 0 for none."""
    trained: Literal["all", "encoder"] = "all"
    """Parts of the autoencoder that are trained: `encoder` keeps the decoder of `--start`, and so the meaning of latents."""
    views: int = 2
    """Latents of each shape, each from other points of it."""
    loss_weight: LossWeight = "flow"
    """Weight w(t) of both diffusions."""
    check: int = 1000
    """Steps between checks of the model (`lion_sparse_health`)."""
    sizes: Sizes = field(default_factory=Sizes)
    """How large the model is."""
    seed: int = 0
    """Decides every random draw."""
    device: str = "cpu"
    """Where to train."""
    prior_steps: int = 8000
    """Steps of stage 2, whose plan is otherwise that of stage 1."""
    prior_rate: float = 1.5e-3
    """Its peak learning rate."""
    plan: Plan = field(default_factory=lambda: Plan(steps=4000, learning_rate=2e-3, warmup=100, ema_decay=0.998))
    """Steps of stage 1, rates, log and saves."""


FAMILIES = Recipe()
"""`lion_families`: about fifty minutes of one core."""

LDRAW = Recipe(shapes="ldraw", run=Path("runs/lion_ldraw"), views=3)
"""`lion_ldraw`: the same on LDraw's parts."""

GPU = Recipe(
    run=Path("runs/lion_gpu"),
    pool=60_000,
    seen=2048,
    target=2048,
    batch=256,
    prior_batch=512,
    sizes=Sizes(anchors=256, width=256, heads=8, prior_width=384, prior_depth=12),
    prior_steps=14_000,
    prior_rate=1e-3,
    plan=Plan(steps=10_000, learning_rate=1e-3, warmup=500, ema_decay=0.999),
)
"""`lion_gpu`: half an hour of a large GPU, with `--device cuda`; not yet measured."""


class Batch(NamedTuple):
    """Points to encode, further points to account for, the KL's weight, the number of latent points, the seed of the noise."""

    seen: Float[Tensor, "batch point 3"]
    target: Float[Tensor, "batch other 3"]
    weight: float
    anchors: int
    seed: int


class LatentStore(NamedTuple):
    """Posteriors of all shapes' latents, and their classes, counted from 1."""

    z: Float[Tensor, "shape global"]
    z_sigma: Float[Tensor, "shape global"]
    h: Float[Tensor, "shape anchor channel"]
    h_sigma: Float[Tensor, "shape anchor channel"]
    label: Int[Tensor, " shape"]


def load_shapes(recipe: Recipe, part: Literal["train", "test"] = "train", most: int | None = None) -> sets.ShapeSet:
    """The shapes to train on, or to check with, each in the unit box."""
    points = max(2048, recipe.seen + recipe.target)
    if recipe.shapes == "ldraw":
        return sets.load_ldraw(recipe.data, part, recipe.seed)
    if recipe.shapes == "pointflow":
        return sets.normalize_boxes(sets.load_pointflow(recipe.data, part))
    if recipe.shapes == "folder":
        if recipe.data.is_file() or not recipe.data.exists():
            raise InputError(f"{recipe.data}: no such folder; give --data the folder of your shapes")
        return sets.load_folder(recipe.data, points, recipe.seed, part=part)
    return sets.generate_families(most or recipe.pool, points, recipe.seed + (part == "test") * 7919, split=part)


def make_batch(recipe: Recipe, shapes: sets.ShapeSet, step: int) -> Batch:
    """The autoencoder's batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    rows = torch.randint(len(shapes), (recipe.batch,), generator=generator)
    points = sample_points(shapes.points[rows.numpy()], recipe.seen + recipe.target, generator)
    share, anchors = 1.0, recipe.sizes.anchors
    if recipe.crop_every and step % recipe.crop_every == recipe.crop_every - 1:
        share = 0.3 + 0.5 * float(torch.rand((), generator=generator))
        anchors = round(share * anchors)
    seen, target = (crop_by_plane(part, share, generator) for part in points.split([recipe.seen, recipe.target], 1))
    if recipe.corrupt_every and step % recipe.corrupt_every < 2:
        seen = (add_noise, snap_to_grid)[step % recipe.corrupt_every](seen, generator)
    weight = recipe.kl_weight * (1.0 if recipe.start else min(1.0, 2 * step_of(step) / recipe.plan.steps))
    return Batch(seen, target, weight, anchors, int(torch.randint(2**62, (), generator=generator)))


def autoencoder_loss(model: Autoencoder, batch: Batch) -> dict[str, Tensor]:
    """The loss terms of stage 1."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(batch.seed)
    return lion_sparse_autoencoder.losses(
        model, batch.seen.to(device), batch.target.to(device), batch.weight, batch.anchors, generator
    )


def prior_loss(recipe: Recipe, prior: Prior, store: LatentStore, step: int) -> dict[str, Tensor]:
    """The loss terms of stage 2, for latents sampled anew from their posteriors."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + 2**40 + step)
    rows = torch.randint(len(store.label), (recipe.prior_batch,), generator=generator)
    device = next(prior.parameters()).device
    latent = Latent(*(part.to(device) for part in sample_latents(store, rows, generator)))
    t = stratified_times(recipe.prior_batch, recipe.seed, step)
    return lion_sparse.losses(prior, latent, store.label[rows].to(device), generator, recipe.loss_weight, t)


def sample_latents(store: LatentStore, rows: Int[Tensor, " row"], generator: torch.Generator) -> Latent:
    """Samples of the posteriors of some shapes."""
    z, z_sigma, h, h_sigma, _ = (part[rows] for part in store)
    z_noise, h_noise = (torch.randn(mean.shape, generator=generator) for mean in (z, h))
    return Latent(z + z_sigma * z_noise, h + h_sigma * h_noise)


def measure_patch_radius(shapes: sets.ShapeSet, recipe: Recipe) -> float:
    """Root mean square offset, per coordinate, of a point from the nearest anchor, over 128 shapes."""
    generator = torch.Generator().manual_seed(recipe.seed)
    points = sample_points(sets.subsample(shapes, 128, recipe.seed).points, recipe.seen + recipe.target, generator)
    anchors = gather_rows(points, farthest_points(points, recipe.sizes.anchors))
    return round(float(torch.cdist(points, anchors).amin(2).square().mean().div(3).sqrt()), 4)


def build_model(recipe: Recipe, shapes: sets.ShapeSet) -> LionSparse:
    """The model before its first step: seeded weights, or those to start from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if recipe.start:
            return with_classes(load(recipe.start, LionSparse), shapes.classes)
        return LionSparse(list(shapes.classes), list(recipe.sizes), measure_patch_radius(shapes, recipe))


def with_classes(old: LionSparse, classes: tuple[str, ...]) -> LionSparse:
    """The model for other classes; the embedding of a class that it was not trained on begins as that of no class."""
    model, state = LionSparse(list(classes), old.config["sizes"], old.config["patch_radius"]), old.state_dict()
    rows = [0, *(1 + old.classes.index(name) if name in old.classes else 0 for name in classes)]
    model.load_state_dict({name: part[rows] if name.endswith("label.weight") else part for name, part in state.items()})
    return model


@torch.no_grad()
def encode_shapes(recipe: Recipe, model: Autoencoder, shapes: sets.ShapeSet, path: Path) -> LatentStore:
    """Posteriors of all shapes, read from the file `path`, or computed and written to it. Raises InputError."""
    from safetensors.torch import load_file, save_file

    if not path.exists():
        generator, parts = torch.Generator().manual_seed(recipe.seed), []
        device = next(model.parameters()).device
        for start in range(0, recipe.views * len(shapes), 64):
            rows = np.arange(start, min(start + 64, recipe.views * len(shapes))) % len(shapes)
            points = sample_points(shapes.points[rows], recipe.seen, generator).to(device)
            (z, h), _ = model.encode(points, generator)
            label = torch.from_numpy(shapes.labels[rows]) + 1
            z_sigma, h_sigma = z.log_sigma.exp().cpu(), h.log_sigma.exp().cpu()
            parts.append(LatentStore(z.mean.cpu(), z_sigma, h.mean.cpu(), h_sigma, label))
        store = LatentStore(*(torch.cat(column) for column in zip(*parts, strict=True)))
        with atomic_file(path) as temporary:
            save_file(store._asdict(), temporary)
    try:
        store = LatentStore(**load_file(path))
    except (TypeError, OSError) as error:
        raise InputError(f"{path}: holds no latents ({error}); remove it and train again") from error
    if store.label.tolist() != recipe.views * (shapes.labels + 1).tolist():
        raise InputError(f"{path}: these are latents of other shapes; give another --run, or remove it")
    return store


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError for settings that cannot be trained with."""
    for name in ("check", "views", "prior_batch", "seen", "target", "pool"):
        if getattr(recipe, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(recipe, name)}: must be at least 1")
    sizes = recipe.sizes
    if sizes.features < SHAPE_FEATURES or sizes.width % sizes.heads or sizes.prior_width % sizes.heads:
        raise InputError(
            f"--features must be at least {SHAPE_FEATURES}, --heads {sizes.heads} a divisor of --width and --prior-width"
        )
    if not 1 <= sizes.anchors <= recipe.seen:
        raise InputError(f"--anchors {sizes.anchors}: must be from 1 to --seen, {recipe.seen}")
    if recipe.trained == "encoder" and not recipe.start:
        raise InputError("--trained encoder: needs trained weights; give them with --start FILE")


def run(recipe: Recipe) -> Iterator[dict]:
    """Train both stages, yielding the log's records, then write the model beside them. Raises InputError."""
    check_recipe(recipe)
    shapes = load_shapes(recipe)
    test = sets.subsample(load_shapes(recipe, "test", CHECKED_SHAPES), CHECKED_SHAPES, recipe.seed)
    needed, available = recipe.seen + recipe.target, shapes.points.shape[1]
    if available < needed:
        raise InputError(f"--seen, --target: {needed} points; shapes have {available}")
    model = build_model(recipe, shapes).to(recipe.device).train()
    recipe = replace(recipe, sizes=model.autoencoder.sizes)
    if recipe.trained == "encoder":
        model.autoencoder.requires_grad_(False).encoder.requires_grad_(True)

    folder, make = recipe.run / "autoencoder", partial(make_batch, recipe, shapes)
    work = train(model.autoencoder, autoencoder_loss, lambda start: map(make, step_numbers(start)), recipe.plan, folder)
    yield from with_checks(1, work, recipe.check, partial(health, model.autoencoder, test, recipe.seen), folder)
    store = encode_shapes(recipe, model.autoencoder.eval(), shapes, recipe.run / "latents.safetensors")
    if recipe.prior_steps:
        every = torch.arange(len(store.label))
        model.prior.fit_normalization(sample_latents(store, every, torch.Generator().manual_seed(recipe.seed)))
    yield {"stage": 2, "latents": len(store.label), **health(model.autoencoder, test, recipe.seen)}

    def loss(prior: Prior, step: int) -> dict[str, Tensor]:
        return prior_loss(recipe, prior, store, step)

    folder, plan = recipe.run / "prior", replace(recipe.plan, steps=recipe.prior_steps, learning_rate=recipe.prior_rate)
    work = train(model.prior, loss, step_numbers, plan, folder)
    yield from with_checks(2, work, recipe.check, partial(likeness, model, shapes, test), folder)

    name = f"lion_{recipe.shapes}"
    facts = {"task": "generate shapes", "recipe": name, "protocol": "box", "seed": recipe.seed}
    facts |= {"steps": [recipe.plan.steps, recipe.prior_steps], "start": recipe.start and str(recipe.start)}
    save(model.cpu(), recipe.run / f"{name}.safetensors", facts, torch.float16)
