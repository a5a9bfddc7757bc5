"""The recipes `ncsn_digits8` and `ebm_digits8`: scores and energies of handwritten digits of 8 × 8 pixels."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from becalm.core import contrastive, scores
from becalm.core.compare import auroc, two_sample_test
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError, atomic_file
from becalm.core.langevin import annealed_langevin, ula
from becalm.core.numpy_files import load_arrays
from becalm.core.process import noise_like
from becalm.core.sample import sample
from becalm.core.schedule import Ladder
from becalm.core.scores import score_at_level
from becalm.core.typing import Float, Tensor
from becalm.core.walk import together
from becalm.images import puzzle_picture
from becalm.images.digits import Digits, read_digits8, read_mnist
from becalm.systems.ebm import EnergyScore, energy_at_level
from becalm.systems.fields import EnergyModel, ScoreModel, TrainingState, score_of_sigma
from becalm.training.distributed import step_numbers, stratified_times
from becalm.training.loop import Plan, train
from becalm.weights.store import save

SIDE = 8
"""Pixels in a row."""

SAMPLES = 256
"""Samples made when a run ends."""

PENALTY = 0.01
"""Weight of the squared energies in `persistent`. Without it energies drift to hundreds, and at last the chains diverge."""


@dataclass(frozen=True)
class Recipe:
    """Learn the score or an energy of digits of 8 × 8 pixels, and draw samples."""

    digits: Path | None = None
    """An .npz with `images` [n, 8, 8], 0 (paper) to 16, and `labels` [n]; scikit-learn's where none is given."""
    mnist: Path | None = None
    """MNIST, shrunk to 8 × 8: data that an energy should tell from the digits learned."""
    objective: Literal["denoising_multilevel", "persistent"] = "denoising_multilevel"
    """Denoising score matching at many levels, or persistent contrastive divergence with a replay buffer (an energy)."""
    model: Literal["score", "energy"] = "score"
    """A network of vectors, or of one number whose gradient is the score."""
    run: Path = Path("runs/ncsn_digits8")
    """Folder of the run: its log, its state, its weights, samples and measures; an interrupted run continues from there."""
    batch: int = 128
    """Digits in a batch."""
    sigma_max: float = 10.0
    """The greatest σ of denoising: about the greatest distance between two digits."""
    sigma_min: float = 0.1
    """The least σ; of `persistent` the only one."""
    levels: int = 16
    """Levels of denoising; their ratio 1.36 is what Song & Ermon (2020) ask for in 64 dimensions."""
    langevin_steps: int = 10
    """Langevin steps of a negative."""
    step_size: float = 0.004
    """Their step size h."""
    buffer: int = 2048
    """Persistent chains."""
    width: int = 48
    """Width of the network."""
    depth: int = 4
    """Its blocks."""
    seed: int = 0
    """Decides every draw: data, noise and first weights."""
    plan: Plan = field(
        default_factory=lambda: Plan(
            steps=6000, learning_rate=1.5e-3, ema_decay=0.999, bfloat16=False, log_every=50, save_every=100
        )
    )
    """Steps, rates, log and saves."""


NCSN = Recipe()
"""`ncsn_digits8`."""

EBM = Recipe(
    run=Path("runs/ebm_digits8"),
    model="energy",
    width=32,
    plan=Plan(steps=4000, learning_rate=1e-3, ema_decay=0.999, bfloat16=False, log_every=50, save_every=100),
)
"""`ebm_digits8`."""


class Batch(NamedTuple):
    """Digits as variables, the seed of the loss's random draws, and in [0, 1) what decides their noise levels."""

    x: Float[Tensor, "batch 64 1"]
    seed: int
    u: Float[Tensor, " batch"]


def read_digits(path: Path | None) -> tuple[Digits, Digits]:
    """Digits of 8 × 8 pixels to train and, the last fifth, to test; raises InputError for a file that holds none."""
    if path is None:
        return read_digits8()
    try:
        fields = load_arrays(path, ("images", "labels"))
        images, labels = fields["images"], fields["labels"]
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]}; an .npz with `images` and `labels` is needed") from error
    if images.shape[1:] != (SIDE, SIDE) or labels.shape != images.shape[:1] or len(images) < 10:
        raise InputError(f"{path}: images {images.shape}, labels {labels.shape}; [n, 8, 8] and [n] are needed, n ≥ 10")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 16 or images.max() <= 1:
        raise InputError(
            f"{path}: images: from {images.min():g} to {images.max():g}; levels 0 (paper) to 16 are needed"
        )
    whole = Digits(torch.from_numpy(images.astype(np.float32)) / 16, torch.from_numpy(labels.astype(np.int64)))
    cut = len(whole) * 4 // 5
    return whole.select(torch.arange(cut)), whole.select(torch.arange(cut, len(whole)))


def to_variables(images: Float[Tensor, "digit 8 8"]) -> Float[Tensor, "digit 64 1"]:
    """Pixels as variables in [−1, 1], rows first."""
    return images.flatten(1)[..., None] * 2 - 1


def sample_batch(recipe: Recipe, pool: Float[Tensor, "digit 64 1"], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    rows = torch.randint(len(pool), (recipe.batch,), generator=generator)
    u = stratified_times(recipe.batch, recipe.seed, step).flatten()
    return Batch(pool[rows], int(torch.randint(2**62, (), generator=generator)), u)


def build_model(recipe: Recipe, pool: Float[Tensor, "digit 64 1"]) -> TrainingState:
    """The model before training: seeded weights, chains of noise. Raises InputError for options that do not fit."""
    single = recipe.objective == "persistent"
    if single and recipe.model != "energy":
        raise InputError("--model score: a network of vectors has no energy, which persistent needs; --model energy")
    sigma_max, levels = (recipe.sigma_min, 1) if single else (recipe.sigma_max, recipe.levels)
    ladder = Ladder(sigma_max, recipe.sigma_min, levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        system = {"score": ScoreModel, "energy": EnergyModel}[recipe.model]
        model = system(1, SIDE, recipe.width, recipe.depth, float(pool.square().mean()), ladder)
    chains = initial_chains(recipe.buffer if single else 0, torch.Generator().manual_seed(recipe.seed))
    return TrainingState(model, chains)


def initial_chains(count: int, generator: torch.Generator | None) -> Float[Tensor, "count 64 1"]:
    """Where chains start: noise about as wide as the data."""
    return torch.randn(count, SIDE**2, 1, generator=generator)


def loss(recipe: Recipe, training: TrainingState, batch: Batch) -> dict[str, Tensor]:
    """The objective's mean over a batch, for each pixel where it is denoising."""
    generator = torch.Generator().manual_seed(batch.seed)
    x, eps = batch.x, noise_like(batch.x, generator)
    if recipe.objective == "denoising_multilevel":
        sigma = training.sigmas_at(batch.u)
        return {"loss": scores.denoising_multilevel(score_of_sigma(training.denoiser), x, eps, sigma).mean() / SIDE**2}
    energy = energy_at_level(training.denoiser, training.t_min)
    chains = contrastive.LangevinChains(recipe.langevin_steps, recipe.step_size)
    negatives = contrastive.persistent_negatives(energy, training.chains, len(x), initial_chains, chains, generator)
    training.chains.copy_(negatives.buffer)
    terms = contrastive.contrastive_loss(energy, x + recipe.sigma_min * eps, negatives.z, PENALTY)
    return {"loss": terms.mean(), "energy": energy(x).mean()}


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records; then save the weights and evaluate the samples."""
    train_digits, test_digits = read_digits(recipe.digits)
    pool = to_variables(train_digits.images)
    training = build_model(recipe, pool)
    make = partial(sample_batch, recipe, pool)
    yield from train(
        training, partial(loss, recipe), lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run
    )
    name = f"{'ncsn' if recipe.model == 'score' else 'ebm'}_digits8"
    facts = {"task": "learn digits", "recipe": name, "objective": recipe.objective}
    save(training.model, recipe.run / f"{name}.safetensors", {**facts, "steps": recipe.plan.steps, "seed": recipe.seed})
    yield evaluate(recipe, training, test_digits)


def sample_digits(
    recipe: Recipe, training: TrainingState, size: int, generator: torch.Generator
) -> Float[Tensor, "size 64 1"]:
    """Samples by annealed Langevin down the ladder, with Tweedie's step at its end, or by running the persistent chains on."""
    if recipe.objective == "persistent":
        score = score_at_level(training.denoiser, training.t_min)
        states = ula(score, training.chains[:size], recipe.step_size, 50, generator=generator)
    else:
        z, t = recipe.sigma_max * initial_chains(size, generator), torch.ones(1, 1, 1, dtype=torch.float64)
        states = sample(
            training.denoiser, z, t, together(recipe.levels), annealed_langevin(0.1, 20), generator=generator
        )
    for state in states:
        z = state.z
    return z


def evaluate(recipe: Recipe, training: TrainingState, test_digits: Digits) -> dict[str, float]:
    """Write `samples.png` and `measures.json`: the samples' energy distance to test digits, and the AUROCs of an energy."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    usual = to_variables(test_digits.images)
    samples = sample_digits(recipe, training, SAMPLES, generator)
    tiles = (samples[:100].reshape(10, 10, SIDE, SIDE) + 1) / 2
    sheet = torch.nn.functional.pad(tiles, (1, 1, 1, 1), value=0.3).permute(0, 2, 1, 3).reshape(100, 100)
    puzzle_picture.write_image(sheet.repeat_interleave(4, 0).repeat_interleave(4, 1), recipe.run / "samples.png")
    test = two_sample_test(samples[..., 0], usual[..., 0], 999, generator)
    measures = {"distance": test.distance, "limit": test.critical_value, "ink": float((samples + 1).mean() / 2)}
    if isinstance(training.denoiser.network, EnergyScore):
        measures |= corruption_aurocs(training, usual, test_digits, recipe.mnist, generator)
    with atomic_file(recipe.run / "measures.json") as temporary:
        temporary.write_text(json.dumps(measures) + "\n")
    return measures


def corruption_aurocs(
    training: TrainingState, usual: Tensor, test_digits: Digits, mnist: Path | None, generator: torch.Generator
) -> dict[str, float]:
    """AUROC of the energy between test digits and each corruption of them, at σ_min and half-way up the ladder."""
    altered = {name: change(test_digits, generator) for name, change in CORRUPTIONS.items()}
    if mnist is not None:
        altered["mnist"] = to_variables(read_mnist(mnist)[1].select(torch.arange(1000)).shrink_to(SIDE).images)
    aurocs = {}
    for t in {float(training.t_min), 0.5 if training.model.schedule.steps > 1 else 1.0}:
        level = torch.full((1, 1, 1), t, dtype=torch.float64)
        sigma = float(training.model.schedule(level).sigma)
        usual_energy = mean_energy(training.denoiser, usual, level, sigma, generator)
        for name, x in altered.items():
            other = mean_energy(training.denoiser, x, level, sigma, generator)
            aurocs[f"auroc {name}, σ {sigma:.2g}"] = auroc(usual_energy, other)
    return aurocs


def mean_energy(
    denoiser: Denoiser, x: Tensor, t: Tensor, sigma: float, generator: torch.Generator, draws: int = 8
) -> Float[Tensor, " digit"]:
    """E of each datum under noise σ, mean over draws."""
    energy = energy_at_level(denoiser, t)
    with torch.no_grad():
        return torch.stack([energy(x + sigma * noise_like(x, generator)) for _ in range(draws)]).mean(0)


def add_noise(digits: Digits, generator: torch.Generator) -> Tensor:
    """Digits in [−1, 1] with noise of standard deviation 0.3."""
    x = to_variables(digits.images)
    return x + 0.3 * noise_like(x, generator)


def erase_quarter(digits: Digits, generator: torch.Generator) -> Tensor:
    """Digits with a random quarter erased."""
    corner = torch.randint(0, 2, (2, len(digits), 1, 1), generator=generator)
    rows, columns = torch.arange(SIDE)[:, None] // 4, torch.arange(SIDE) // 4
    return to_variables(digits.images * ~((rows == corner[0]) & (columns == corner[1])))


def rotate(digits: Digits, generator: torch.Generator) -> Tensor:
    """Digits turned by a right angle."""
    return to_variables(digits.images.rot90(1, (1, 2)))


def splice_halves(digits: Digits, generator: torch.Generator) -> Tensor:
    """The upper half of each digit on the lower half of another."""
    other = digits.images[torch.randperm(len(digits), generator=generator)]
    return to_variables(torch.cat([digits.images[:, :4], other[:, 4:]], 1))


def shuffle_pixels(digits: Digits, generator: torch.Generator) -> Tensor:
    """Digits with their pixels in another order, the same for all."""
    return to_variables(digits.images)[:, torch.randperm(SIDE**2, generator=generator)]


CORRUPTIONS: dict[str, Callable[[Digits, torch.Generator], Tensor]] = {
    "noisy": add_noise,
    "erased": erase_quarter,
    "turned": rotate,
    "joined": splice_halves,
    "shuffled": shuffle_pixels,
}
"""Corruptions of digits that an energy should tell from digits."""
