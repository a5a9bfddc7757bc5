"""The recipe `ebm_toy`: a density of the plane learned as a score or an energy, by any loss, with pictures."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from becalm.core import contrastive, scores
from becalm.core.denoiser import Denoiser
from becalm.core.densities import Checkerboard, Density, GaussianMixture, Mixture, eight_gaussians, rings
from becalm.core.files import InputError, atomic_file
from becalm.core.process import noise_like
from becalm.core.scores import score_at_level
from becalm.core.typing import Float, Tensor
from becalm.recipes import plane
from becalm.systems.ebm import energy_at, traceable_at
from becalm.systems.fields import EnergyModel, Learner, ScoreModel, by_sigma
from becalm.training.loop import Plan, train
from becalm.weights.store import save

ONE = torch.ones(1, 1, 1, dtype=torch.float64)
"""t of the only level, where there is one."""

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
    """Learn a density of the plane by a loss of your choice, and draw what was learned."""

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
    sigma: float = 0.05
    """Noise of the denoising losses of one level; of those of many the least."""
    high: float = 10.0
    """Greatest noise of the denoising losses of many levels."""
    levels: int = 12
    """Their levels."""
    slices: int = 1
    """Probes a sample, for the losses that slice."""
    chain: int = 20
    """Langevin steps of a negative, for the contrastive losses."""
    size: float = 0.005
    """Their size h."""
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


ENERGY = ("finite_sliced_energy", "contrastive", "persistent")
"""Losses that need an energy."""

MANY = ("denoising_multilevel", "denoising_multilevel_control_variate", "denoising_stable_target")
"""Losses of many levels."""

NOISY = ("denoising", "denoising_control_variate", *MANY)
"""Losses that learn the score of noisy data."""


class Batch(NamedTuple):
    """New samples and the seed of what is drawn beside them."""

    x: Float[Tensor, "batch 1 channel"]
    seed: int


def density_of(recipe: Recipe) -> GaussianMixture | Mixture | Checkerboard:
    """What is learned. The points of a shape are a mixture of narrow Gaussians, whose blurs are known (ShapeGF)."""
    if recipe.density == "surface":
        points = torus(2000, torch.Generator().manual_seed(recipe.seed))
        return GaussianMixture(points, torch.full((2000,), 1 / 2000).double(), torch.full((2000,), 0.02).double())
    kinds = {"eight": eight_gaussians, "rings": rings, "checkerboard": partial(Checkerboard, deviation=0.1)}
    return kinds[recipe.density]()


def torus(size: int, generator: torch.Generator, large: float = 1.0, small: float = 0.4) -> Float[Tensor, "point 3"]:
    """Points evenly on a torus, by rejection: a ring of the tube has area ∝ R + r cos φ."""
    tries = 4 * size
    around, along, chance = 2 * torch.pi * torch.rand(3, tries, generator=generator, dtype=torch.float64)
    kept = chance / (2 * torch.pi) < (large + small * along.cos()) / (large + small)
    around, along = around[kept][:size], along[kept][:size]
    reach = large + small * along.cos()
    return torch.stack([reach * around.cos(), reach * around.sin(), small * along.sin()], -1)


def batch_of(recipe: Recipe, density: Density, step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    x = density.sample(recipe.batch, generator).float()[:, None]
    return Batch(x, int(torch.randint(2**62, (), generator=generator)))


def explicit(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    return scores.explicit(score_at_level(learner.denoiser, learner.least()), x, density_of(recipe).score)


def implicit(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    return scores.loss_in_chunks(partial(scores.implicit, traceable_at(learner.denoiser, learner.least())), x)


def by_probes(loss: Callable) -> Callable:
    """A loss of a score, samples and probes as one of the learner."""

    def objective(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        score = traceable_at(learner.denoiser, learner.least())
        return scores.loss_in_chunks(partial(loss, score), x, scores.rademacher_probes(x, generator, recipe.slices))

    return objective


def finite_sliced_energy(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    energy = energy_at(learner.denoiser, learner.least())
    return scores.finite_sliced_energy(energy, x, scores.rademacher_probes(x, generator, recipe.slices))


def by_noise(loss: Callable) -> Callable:
    """A loss of a score, samples, noise and σ as one of the learner."""

    def objective(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        score = score_at_level(learner.denoiser, learner.least())
        return loss(score, x, noise_like(x, generator), recipe.sigma)

    return objective


def by_levels(loss: Callable) -> Callable:
    """A loss of a score at many levels, samples, noise and σ as one of the learner."""

    def objective(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
        sigma = learner.spread(len(x), generator)
        return loss(by_sigma(learner.denoiser), x, noise_like(x, generator), sigma)

    return objective


def denoising_multilevel_control_variate(
    learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator
) -> Tensor:
    """The same with the control variate at every level: twice the work, and much less noise where σ is small."""
    sigma = learner.spread(len(x), generator)
    score = score_at_level(learner.denoiser, learner.model.schedule.time(2 * sigma.log())[:, None, None])
    return sigma.square() * scores.denoising_control_variate(score, x, noise_like(x, generator), sigma)


def chains_of(recipe: Recipe) -> contrastive.LangevinChains:
    """How negatives are sampled."""
    return contrastive.LangevinChains(recipe.chain, recipe.size)


def contrastive_divergence(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    energy = energy_at(learner.denoiser, learner.least())
    return contrastive.contrastive_loss(energy, x, contrastive.cd_negatives(energy, x, chains_of(recipe), generator))


def persistent(learner: Learner, x: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """The chains that were run go back into the learner; new ones begin in a wide Gaussian."""
    energy, shape = energy_at(learner.denoiser, learner.least()), x.shape[1:]

    def fresh(count: int, generator: torch.Generator | None) -> Tensor:
        return 2 * torch.randn(count, *shape, generator=generator)

    found = contrastive.persistent_negatives(energy, learner.chains, len(x), fresh, chains_of(recipe), generator)
    learner.chains.copy_(found.buffer)
    return contrastive.contrastive_loss(energy, x, found.z)


OBJECTIVES: dict[str, Callable[[Learner, Tensor, Recipe, torch.Generator], Tensor]] = {
    "explicit": explicit,
    "implicit": implicit,
    "sliced": by_probes(scores.sliced),
    "sliced_reduced": by_probes(scores.sliced_reduced),
    "finite_sliced": by_probes(scores.finite_sliced),
    "finite_sliced_energy": finite_sliced_energy,
    "denoising": by_noise(scores.denoising),
    "denoising_control_variate": by_noise(scores.denoising_control_variate),
    "denoising_multilevel": by_levels(scores.denoising_multilevel),
    "denoising_multilevel_control_variate": denoising_multilevel_control_variate,
    "denoising_stable_target": by_levels(scores.denoising_stable_target),
    "contrastive": contrastive_divergence,
    "persistent": persistent,
}
"""Each of `core.scores` and `core.contrastive`, as a function of the learner and what a step brings."""


def build_learner(recipe: Recipe) -> Learner:
    """The learner before its first step: seeded weights, chains in a wide Gaussian; raises InputError for what does not fit."""
    if recipe.objective in ENERGY and recipe.model != "energy":
        raise InputError(
            f"--model score: a network of vectors has no energy, which {recipe.objective} needs; --model energy"
        )
    many, channels = recipe.objective in MANY, 3 if recipe.density == "surface" else 2
    ladder = (recipe.high, recipe.sigma, recipe.levels) if many else (0.2, 0.2, 1)
    generator = torch.Generator().manual_seed(recipe.seed)
    power = float(density_of(recipe).sample(4096, generator).square().mean())
    family = {"score": ScoreModel, "energy": EnergyModel}[recipe.model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = family(channels, 0, recipe.width, recipe.depth, power, *ladder)
    places = recipe.buffer if recipe.objective == "persistent" else 0
    return Learner(model, 2 * torch.randn(places, 1, channels, generator=generator))


def loss(recipe: Recipe, learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """The objective's mean over a batch."""
    generator = torch.Generator().manual_seed(batch.seed)
    return {"loss": OBJECTIVES[recipe.objective](learner, batch.x, recipe, generator).mean()}


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records; then the weights, what they are worth, and pictures."""
    learner, density = build_learner(recipe), density_of(recipe)
    make = partial(batch_of, recipe, density)
    yield from train(learner, partial(loss, recipe), lambda start: map(make, count(start)), recipe.plan, recipe.run)
    model = learner.model.eval()
    facts = {"task": "learn a density", "recipe": "ebm_toy", "objective": recipe.objective, "density": recipe.density}
    save(model, recipe.run / "ebm_toy.safetensors", {**facts, "steps": recipe.plan.steps, "seed": recipe.seed})
    yield evaluate(recipe, learner.denoiser)


def evaluate(recipe: Recipe, denoiser: Denoiser) -> dict[str, float]:
    """Measure the model at its least noise, write `measures.json` and `picture.png`, and return the measures."""
    density, generator = density_of(recipe), torch.Generator().manual_seed(recipe.seed + 1)
    noise = recipe.sigma if recipe.objective in NOISY else 0.0
    truth = density.convolve(noise) if noise else density
    learned = plane.Learned(denoiser, ONE / denoiser.schedule.steps, truth)
    channels = 3 if recipe.density == "surface" else 2
    samples = plane.draw_samples(denoiser, recipe.objective in MANY, 1000, channels, generator)
    found = plane.measures(learned, samples, density)
    with atomic_file(recipe.run / "measures.json") as temporary:
        temporary.write_text(json.dumps(found) + "\n")
    if isinstance(density, GaussianMixture) and channels == 3:
        shown = plane.Learned(denoiser, ONE / 2, density.convolve(float(denoiser.schedule(ONE / 2).sigma)))
        plane.draw_section(shown, density.centres.float(), recipe.run / "picture.png")
    else:
        plane.draw(learned, samples, recipe.run / "picture.png", generator)
    return found
