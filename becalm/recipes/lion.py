"""The recipe of LION as the paper has it: the autoencoder with N latent points, then both priors in the β chain."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from becalm.core.typing import Tensor
from becalm.recipes.shape_batches import load_shapes, make_batch
from becalm.systems import lion
from becalm.systems.lion import KLWeights, Latent, Lion, Times, Variance, Weight
from becalm.training.distributed import step_numbers, step_of, stratified_times
from becalm.training.loop import Plan, train
from becalm.weights.store import save

LEAST_KL_WEIGHT = 1e-7
"""λ at the first step."""


@dataclass(frozen=True)
class Recipe:
    """Train LION with a latent point for each point on shapes in the unit box; made for a GPU, with `--device cuda`."""

    shapes: Literal["families", "ldraw"] = "families"
    """Six procedural families without end, or LDraw's parts."""
    data: Path = Path("ldraw_parts_4096.npz")
    """The file of LDraw's parts."""
    run: Path = Path("runs/lion")
    """Folder of the run; an interrupted run continues from there."""
    pool: int = 6000
    """Procedural shapes to train on."""
    points: int = 2048
    """Points of a shape, and latent points."""
    batch: int = 16
    """Shapes in a batch."""
    kl_z: float = 0.5
    """λ_z, the weight of KL(q(z₀ | x) ‖ p); it rises from 10⁻⁷ over the first half of stage 1."""
    kl_h: float = 0.5
    """λ_h, that of KL(q(h₀ | x, z₀) ‖ p), likewise."""
    weight: Weight = "simple"
    """w(t) of stage 2: 1, or that of the variational bound (elbo)."""
    variance: Variance = "large"
    """ρ_t² in w(t) and in sampling: β_t (large), or the posterior's β̃_t (small)."""
    times: Times = "uniform"
    """Training steps t: uniform, or by importance, in proportion to w(t)."""
    seed: int = 0
    """Decides every random draw."""
    device: str = "cpu"
    """Where to train."""
    prior_steps: int = 20_000
    """Steps of stage 2, whose plan is otherwise that of stage 1."""
    plan: Plan = field(default_factory=lambda: Plan(steps=8000, learning_rate=1.5e-3, warmup=200, ema_decay=0.999))
    """Steps of stage 1, rates, log and saves."""


def kl_weights(recipe: Recipe, step: int) -> KLWeights:
    """λ_z and λ_h at a step of stage 1: linear from 10⁻⁷ to their final values, reached half-way."""
    risen = min(1.0, 2 * step / recipe.plan.steps)
    return KLWeights(*(LEAST_KL_WEIGHT + risen * (final - LEAST_KL_WEIGHT) for final in (recipe.kl_z, recipe.kl_h)))


def run(recipe: Recipe) -> Iterator[dict]:
    """Train both stages, yielding the log's records, then write the model beside them. Raises InputError."""
    shapes = load_shapes(recipe.shapes, recipe.data, recipe.pool, recipe.points, recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Lion(list(shapes.classes), None, recipe.variance).to(recipe.device).train()

    def points_of(step: int) -> tuple[Tensor, Tensor, torch.Generator]:
        points, label, generator = make_batch(shapes, recipe.batch, recipe.points, recipe.seed, step)
        return points.to(recipe.device), label.to(recipe.device), generator

    def latents_of(step: int) -> tuple[Latent, Tensor, torch.Generator]:
        points, label, generator = points_of(2**40 + step)
        with torch.no_grad():
            _, latent = model.encode(points, generator)
        return latent, label, generator

    def autoencoder_loss(model: Lion, step: int) -> dict[str, Tensor]:
        points, _, generator = points_of(step)
        return lion.autoencoder_losses(model, points, kl_weights(recipe, step_of(step)), generator)

    def prior_loss(model: Lion, step: int) -> dict[str, Tensor]:
        latent, label, generator = latents_of(step)
        u = stratified_times(recipe.batch, recipe.seed, step)
        return lion.prior_losses(model, latent, label, generator, recipe.weight, recipe.times, u)

    stage_1 = (model.global_encoder, model.point_encoder, model.decoder)
    yield from run_stage("autoencoder", model, stage_1, autoencoder_loss, recipe, recipe.plan.steps)
    if recipe.prior_steps:
        model.fit_latent_std(latents_of(-1)[0])
    stage_2 = (model.global_denoiser, model.point_denoiser)
    yield from run_stage("prior", model, stage_2, prior_loss, recipe, recipe.prior_steps)
    facts = {"task": "generate shapes", "recipe": "lion", "protocol": "box", "seed": recipe.seed}
    facts |= {"steps": [recipe.plan.steps, recipe.prior_steps]}
    save(model.cpu(), recipe.run / "lion.safetensors", facts, torch.float16)


def run_stage(name: str, model: Lion, parts: tuple, loss, recipe: Recipe, steps: int) -> Iterator[dict]:
    """Train some parts of the model, the others frozen, yielding the log's records."""
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    plan = replace(recipe.plan, steps=steps)
    yield from ({"stage": name, **record} for record in train(model, loss, step_numbers, plan, recipe.run / name))
