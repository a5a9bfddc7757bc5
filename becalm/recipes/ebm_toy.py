"""The recipe `ebm_toy`: learn a density of the plane as a score or an energy, by any loss, and plot it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import contrastive, scores
from becalm.core.denoiser import Denoiser
from becalm.core.densities import Checkerboard, Density, GaussianMixture, Mixture, eight_gaussians, rings
from becalm.core.files import InputError, atomic_file
from becalm.core.process import noise_like
from becalm.core.schedule import Ladder
from becalm.core.scores import score_at_level
from becalm.core.typing import Float, Tensor
from becalm.recipes import plane
from becalm.systems.ebm import energy_at_level, smooth_score_at_level
from becalm.systems.fields import EnergyModel, ScoreModel, TrainingState, score_of_sigma
from becalm.training.distributed import step_numbers
from becalm.training.loop import Plan, train
from becalm.weights.store import save

ONE = torch.ones(1, 1, 1, dtype=torch.float64)
"""t = 1: that of the only level, where there is one."""

Objective = Literal[
    "explicit",
    "implicit",
    "sliced",
    "sliced_reduced",
    "finite_sliced",
    "finite_sliced_energy",
    "denoising",
    "denoising_control_variate",
    "denoising_multilevel",
    "denoising_multilevel_control_variate",
    "denoising_stable_target",
    "contrastive",
    "persistent",
]


@dataclass(frozen=True)
class Recipe:
    """Learn a density of the plane by a loss of your choice, and plot what was learned."""

    density: Literal["eight", "rings", "checkerboard", "surface"] = "eight"
    """What to learn: eight Gaussians, three rings, a blurred checkerboard; or the points of a torus in space."""
    objective: Objective = "denoising_stable_target"
    """The loss."""
    model: Literal["score", "energy"] = "score"
    """A network of vectors, or of one number whose gradient is the score."""
    run: Path = Path("runs/ebm_toy")
    """Folder of the run: its log, its state, its weights and pictures; an interrupted run continues from there."""
    batch: int = 512
    """Samples in a batch, all new."""
    sigma_min: float = 0.05
    """σ of the denoising losses of one level, and the least of those of many."""
    sigma_max: float = 10.0
    """The greatest σ of the denoising losses of many levels."""
    levels: int = 12
    """Their levels."""
    probes: int = 1
    """Random directions a sample, for the sliced losses."""
    langevin_steps: int = 20
    """Langevin steps of a negative, for the contrastive losses."""
    step_size: float = 0.005
    """Their step size h."""
    buffer: int = 4096
    """Persistent chains."""
    width: int = 128
    """Width of the network."""
    depth: int = 3
    """Its hidden layers."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    plan: Plan = field(
        default_factory=lambda: Plan(
            steps=3000,
            learning_rate=3e-3,
            final_rate_fraction=1e-3,
            weight_decay=0.0,
            ema_decay=0.998,
            gradient_clip=10.0,
            bfloat16=False,
            log_every=100,
        )
    )
    """Steps, rates, log and saves."""


NEED_ENERGY = ("finite_sliced_energy", "contrastive", "persistent")
"""Losses that need an energy."""

MULTILEVEL = ("denoising_multilevel", "denoising_multilevel_control_variate", "denoising_stable_target")
"""Losses of many levels."""

DENOISING = ("denoising", "denoising_control_variate", *MULTILEVEL)
"""Losses that learn the score of noisy data."""


class Batch(NamedTuple):
    """New samples, and the seed of the loss's random draws."""

    x: Float[Tensor, "batch 1 channel"]
    seed: int


def make_density(recipe: Recipe) -> GaussianMixture | Mixture | Checkerboard:
    """The density to learn. The points of a surface are a mixture of narrow Gaussians, closed under noise (ShapeGF)."""
    if recipe.density == "surface":
        points = torus(2000, torch.Generator().manual_seed(recipe.seed))
        return GaussianMixture(points, torch.full((2000,), 1 / 2000).double(), torch.full((2000,), 0.02).double())
    kinds = {"eight": eight_gaussians, "rings": rings, "checkerboard": partial(Checkerboard, deviation=0.1)}
    return kinds[recipe.density]()


def torus(size: int, generator: torch.Generator, large: float = 1.0, small: float = 0.4) -> Float[Tensor, "point 3"]:
    """Uniform points on a torus of radii R and r, by rejection: the area at the angle φ of the tube is ∝ R + r cos φ."""
    tries = 4 * size
    around, along, chance = 2 * torch.pi * torch.rand(3, tries, generator=generator, dtype=torch.float64)
    kept = chance / (2 * torch.pi) < (large + small * along.cos()) / (large + small)
    around, along = around[kept][:size], along[kept][:size]
    reach = large + small * along.cos()
    return torch.stack([reach * around.cos(), reach * around.sin(), small * along.sin()], -1)


def sample_batch(recipe: Recipe, density: Density, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    x = density.sample(recipe.batch, generator).float()[:, None]
    return Batch(x, int(torch.randint(2**62, (), generator=generator)))


def explicit(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Explicit score matching at σ_min: the density's own score is the target."""
    return scores.explicit(score_at_level(training.denoiser, training.t_min), x, make_density(recipe).score)


def implicit(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Implicit score matching at σ_min, with the exact trace."""
    return scores.loss_in_chunks(partial(scores.implicit, smooth_score_at_level(training.denoiser, training.t_min)), x)


def with_probes(loss: Callable) -> Callable:
    """The objective of a loss (score, samples, probes)."""

    def objective(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        score = smooth_score_at_level(training.denoiser, training.t_min)
        return scores.loss_in_chunks(partial(loss, score), x, scores.rademacher_probes(x, generator, recipe.probes))

    return objective


def finite_sliced_energy(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Sliced score matching of an energy by finite differences, at σ_min."""
    energy = energy_at_level(training.denoiser, training.t_min)
    return scores.finite_sliced_energy(energy, x, scores.rademacher_probes(x, generator, recipe.probes))


def with_noise(loss: Callable) -> Callable:
    """The objective of a loss (score, samples, noise, σ) at σ_min."""

    def objective(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        score = score_at_level(training.denoiser, training.t_min)
        return loss(score, x, noise_like(x, generator), recipe.sigma_min)

    return objective


def with_sigmas(loss: Callable) -> Callable:
    """The objective of a loss (score of z and σ, samples, noise, σ) over all σ."""

    def objective(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        sigma = training.sample_sigmas(len(x), generator)
        return loss(score_of_sigma(training.denoiser), x, noise_like(x, generator), sigma)

    return objective


def denoising_multilevel_control_variate(
    training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator
) -> Tensor:
    """Denoising over all σ with the control variate: twice the work, and much less gradient noise where σ is small."""
    sigma = training.sample_sigmas(len(x), generator)
    score = score_at_level(training.denoiser, training.model.schedule.time(2 * sigma.log())[:, None, None])
    return sigma.square() * scores.denoising_control_variate(score, x, noise_like(x, generator), sigma)


def langevin_chains(recipe: Recipe) -> contrastive.LangevinChains:
    """How the negatives are sampled."""
    return contrastive.LangevinChains(recipe.langevin_steps, recipe.step_size)


def contrastive_divergence(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Contrastive divergence at σ_min: negatives by a few Langevin steps from the data."""
    energy = energy_at_level(training.denoiser, training.t_min)
    return contrastive.contrastive_loss(
        energy, x, contrastive.cd_negatives(energy, x, langevin_chains(recipe), generator)
    )


def persistent(training: TrainingState, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Persistent contrastive divergence: the chains' new states replace the old; fresh chains start in a wide Gaussian."""
    energy, shape = energy_at_level(training.denoiser, training.t_min), x.shape[1:]

    def fresh(count: int, generator: torch.Generator | None) -> Tensor:
        return 2 * torch.randn(count, *shape, generator=generator)

    negatives = contrastive.persistent_negatives(
        energy, training.chains, len(x), fresh, langevin_chains(recipe), generator
    )
    training.chains.copy_(negatives.buffer)
    return contrastive.contrastive_loss(energy, x, negatives.z)


OBJECTIVES: dict[str, Callable[[TrainingState, Tensor, Recipe, torch.Generator], Tensor]] = {
    "explicit": explicit,
    "implicit": implicit,
    "sliced": with_probes(scores.sliced),
    "sliced_reduced": with_probes(scores.sliced_reduced),
    "finite_sliced": with_probes(scores.finite_sliced),
    "finite_sliced_energy": finite_sliced_energy,
    "denoising": with_noise(scores.denoising),
    "denoising_control_variate": with_noise(scores.denoising_control_variate),
    "denoising_multilevel": with_sigmas(scores.denoising_multilevel),
    "denoising_multilevel_control_variate": denoising_multilevel_control_variate,
    "denoising_stable_target": with_sigmas(scores.denoising_stable_target),
    "contrastive": contrastive_divergence,
    "persistent": persistent,
}
"""Every loss of `core.scores` and `core.contrastive` as a function of the model, a batch, the recipe and a generator."""


def build_model(recipe: Recipe) -> TrainingState:
    """The model before training: seeded weights, chains from a wide Gaussian. Raises InputError for options that do not fit."""
    if recipe.objective in NEED_ENERGY and recipe.model != "energy":
        raise InputError(
            f"--model score: a network of vectors has no energy, which {recipe.objective} needs; --model energy"
        )
    many, channels = recipe.objective in MULTILEVEL, 3 if recipe.density == "surface" else 2
    ladder = Ladder(recipe.sigma_max, recipe.sigma_min, recipe.levels) if many else Ladder(0.2, 0.2, 1)
    generator = torch.Generator().manual_seed(recipe.seed)
    data_variance = float(make_density(recipe).sample(4096, generator).square().mean())
    system = {"score": ScoreModel, "energy": EnergyModel}[recipe.model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = system(channels, 0, recipe.width, recipe.depth, data_variance, ladder)
    places = recipe.buffer if recipe.objective == "persistent" else 0
    return TrainingState(model, 2 * torch.randn(places, 1, channels, generator=generator))


def loss(recipe: Recipe, training: TrainingState, batch: Batch) -> dict[str, Tensor]:
    """The objective's mean over a batch."""
    generator = torch.Generator().manual_seed(batch.seed)
    return {"loss": OBJECTIVES[recipe.objective](training, batch.x, recipe, generator).mean()}


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records; then save the weights, and evaluate and plot the model."""
    training, density = build_model(recipe), make_density(recipe)
    make = partial(sample_batch, recipe, density)
    yield from train(
        training, partial(loss, recipe), lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run
    )
    model = training.model.eval()
    facts = {"task": "learn a density", "recipe": "ebm_toy", "objective": recipe.objective, "density": recipe.density}
    save(model, recipe.run / "ebm_toy.safetensors", {**facts, "steps": recipe.plan.steps, "seed": recipe.seed})
    yield evaluate(recipe, training.denoiser)


def evaluate(recipe: Recipe, denoiser: Denoiser) -> dict[str, float]:
    """Evaluate the model at its lowest noise level, write `measures.json` and `picture.png`, and return the measures."""
    density, generator = make_density(recipe), torch.Generator().manual_seed(recipe.seed + 1)
    noise = recipe.sigma_min if recipe.objective in DENOISING else 0.0
    truth = density.convolve(noise) if noise else density
    learned = plane.LearnedDensity(denoiser, ONE / denoiser.schedule.steps, truth)
    channels = 3 if recipe.density == "surface" else 2
    samples = plane.sample_model(denoiser, recipe.objective in MULTILEVEL, 1000, channels, generator)
    measures = plane.evaluate_samples(learned, samples, density)
    with atomic_file(recipe.run / "measures.json") as temporary:
        temporary.write_text(json.dumps(measures) + "\n")
    if isinstance(density, GaussianMixture) and channels == 3:
        section = plane.LearnedDensity(denoiser, ONE / 2, density.convolve(float(denoiser.schedule(ONE / 2).sigma)))
        plane.plot_section(section, density.centres.float(), recipe.run / "picture.png")
    else:
        plane.plot_density(learned, samples, recipe.run / "picture.png", generator)
    return measures
