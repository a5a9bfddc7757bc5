"""The recipes `ncsn_digits8` and `ebm_digits8`: scores and energies of handwritten digits of 8 × 8 pixels."""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from becalm.core import contrastive, scores
from becalm.core.compare import auroc, two_sample_test
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError, atomic_file
from becalm.core.langevin import annealed_langevin, ula
from becalm.core.process import noise_like
from becalm.core.sample import sample
from becalm.core.scores import score_at_level
from becalm.core.typing import Float, Tensor
from becalm.core.walk import together
from becalm.images import puzzle_picture
from becalm.images.digits import Digits, read_digits8, read_mnist
from becalm.systems.ebm import Energy, energy_at
from becalm.systems.fields import EnergyModel, Learner, ScoreModel, by_sigma
from becalm.training.loop import Plan, train
from becalm.weights.store import save

SIDE = 8
"""Pixels in a row."""

SAMPLES = 256
"""Samples drawn when a run ends."""

PENALTY = 0.01
"""Of `persistent`: weight of the energies' squares. Without it they drift to hundreds, and at last the chains explode."""


@dataclass(frozen=True)
class Recipe:
    """Learn the score or an energy of digits of 8 × 8 pixels, and draw samples."""

    digits: Path | None = None
    """An .npz with `images` [n, 8, 8], 0 (paper) to 16, and `labels` [n]; scikit-learn's where none is given."""
    mnist: Path | None = None
    """MNIST, shrunk to 8 × 8: what an energy should find foreign."""
    objective: Literal["denoising_multilevel", "persistent"] = "denoising_multilevel"
    """Denoising score matching at many levels, or persistent contrastive divergence with a replay buffer (an energy)."""
    model: Literal["score", "energy"] = "score"
    """A network of vectors, or of one number whose gradient is the score."""
    run: Path = Path("runs/ncsn_digits8")
    """Folder of the run: its log, its state, its weights, samples and measures; an interrupted run continues from there."""
    batch: int = 128
    """Digits in a batch."""
    high: float = 10.0
    """Greatest noise of denoising: about the greatest distance between two digits."""
    low: float = 0.1
    """Least noise; of `persistent` the only one."""
    levels: int = 16
    """Levels of denoising; their ratio 1.36 is what Song & Ermon (2020) ask for in 64 dimensions."""
    chain: int = 10
    """Langevin steps of a negative."""
    size: float = 0.004
    """Their size h."""
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
    """Digits as variables, and the seed of what is drawn beside them."""

    x: Float[Tensor, "batch 64 1"]
    seed: int


def read(path: Path | None) -> tuple[Digits, Digits]:
    """Digits of 8 × 8 pixels to train and, the last fifth, to test; raises InputError for a file that holds none."""
    if path is None:
        return read_digits8()
    try:
        with np.load(path, allow_pickle=False) as fields:
            images, labels = fields["images"], fields["labels"]
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]}; an .npz with `images` and `labels` is needed") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npz of plain arrays ({error}); write it with numpy.savez") from error
    if images.shape[1:] != (SIDE, SIDE) or labels.shape != images.shape[:1] or len(images) < 10:
        raise InputError(f"{path}: images {images.shape}, labels {labels.shape}; [n, 8, 8] and [n] are needed, n ≥ 10")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 16 or images.max() <= 1:
        raise InputError(
            f"{path}: images: from {images.min():g} to {images.max():g}; levels 0 (paper) to 16 are needed"
        )
    whole = Digits(torch.from_numpy(images.astype(np.float32)) / 16, torch.from_numpy(labels.astype(np.int64)))
    cut = len(whole) * 4 // 5
    return whole.select(torch.arange(cut)), whole.select(torch.arange(cut, len(whole)))


def variables(images: Float[Tensor, "digit 8 8"]) -> Float[Tensor, "digit 64 1"]:
    """Pixels as variables in [−1, 1], rows first."""
    return images.flatten(1)[..., None] * 2 - 1


def batch_of(recipe: Recipe, pool: Float[Tensor, "digit 64 1"], step: int) -> Batch:
    """The batch of a step: a pure function of the recipe's seed and the step."""
    generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + step)
    rows = torch.randint(len(pool), (recipe.batch,), generator=generator)
    return Batch(pool[rows], int(torch.randint(2**62, (), generator=generator)))


def build_learner(recipe: Recipe, pool: Float[Tensor, "digit 64 1"]) -> Learner:
    """The learner before its first step: seeded weights, chains of wide noise; raises InputError for what does not fit."""
    single = recipe.objective == "persistent"
    if single and recipe.model != "energy":
        raise InputError("--model score: a network of vectors has no energy, which persistent needs; --model energy")
    ladder = (recipe.low, recipe.low, 1) if single else (recipe.high, recipe.low, recipe.levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        family = {"score": ScoreModel, "energy": EnergyModel}[recipe.model]
        model = family(1, SIDE, recipe.width, recipe.depth, float(pool.square().mean()), *ladder)
    chains = wide(recipe.buffer if single else 0, torch.Generator().manual_seed(recipe.seed))
    return Learner(model, chains)


def wide(count: int, generator: torch.Generator | None) -> Float[Tensor, "count 64 1"]:
    """Where chains begin: noise about as wide as the data."""
    return torch.randn(count, SIDE**2, 1, generator=generator)


def loss(recipe: Recipe, learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """The objective's mean over a batch, for each pixel where it is denoising."""
    generator = torch.Generator().manual_seed(batch.seed)
    x, eps = batch.x, noise_like(batch.x, generator)
    if recipe.objective == "denoising_multilevel":
        sigma = learner.spread(len(x), generator)
        return {"loss": scores.denoising_multilevel(by_sigma(learner.denoiser), x, eps, sigma).mean() / SIDE**2}
    energy = energy_at(learner.denoiser, learner.least())
    chains = contrastive.LangevinChains(recipe.chain, recipe.size)
    found = contrastive.persistent_negatives(energy, learner.chains, len(x), wide, chains, generator)
    learner.chains.copy_(found.buffer)
    terms = contrastive.contrastive_loss(energy, x + recipe.low * eps, found.z, PENALTY)
    return {"loss": terms.mean(), "energy": energy(x).mean()}


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records; then weights, samples and what they are worth."""
    known, unseen = read(recipe.digits)
    pool = variables(known.images)
    learner = build_learner(recipe, pool)
    make = partial(batch_of, recipe, pool)
    yield from train(learner, partial(loss, recipe), lambda start: map(make, count(start)), recipe.plan, recipe.run)
    name = f"{'ncsn' if recipe.model == 'score' else 'ebm'}_digits8"
    facts = {"task": "learn digits", "recipe": name, "objective": recipe.objective}
    save(learner.model, recipe.run / f"{name}.safetensors", {**facts, "steps": recipe.plan.steps, "seed": recipe.seed})
    yield evaluate(recipe, learner, unseen)


def draw_samples(recipe: Recipe, learner: Learner, size: int, generator: torch.Generator) -> Float[Tensor, "size 64 1"]:
    """Samples: annealed Langevin down the ladder with Tweedie's step at its end, or the persistent chains run on."""
    if recipe.objective == "persistent":
        score = score_at_level(learner.denoiser, learner.least())
        states = ula(score, learner.chains[:size], recipe.size, 50, generator=generator)
    else:
        z, t = recipe.high * wide(size, generator), torch.ones(1, 1, 1, dtype=torch.float64)
        states = sample(
            learner.denoiser, z, t, together(recipe.levels), annealed_langevin(0.1, 20), generator=generator
        )
    for state in states:
        z = state.z
    return z


def evaluate(recipe: Recipe, learner: Learner, unseen: Digits) -> dict[str, float]:
    """Write `samples.png` and `measures.json`: the samples' energy distance to unseen digits, and of an energy its AUROC."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    usual = variables(unseen.images)
    samples = draw_samples(recipe, learner, SAMPLES, generator)
    tiles = (samples[:100].reshape(10, 10, SIDE, SIDE) + 1) / 2
    sheet = torch.nn.functional.pad(tiles, (1, 1, 1, 1), value=0.3).permute(0, 2, 1, 3).reshape(100, 100)
    puzzle_picture.write_image(sheet.repeat_interleave(4, 0).repeat_interleave(4, 1), recipe.run / "samples.png")
    test = two_sample_test(samples[..., 0], usual[..., 0], 999, generator)
    found = {"distance": test.distance, "limit": test.critical_value, "ink": float((samples + 1).mean() / 2)}
    if isinstance(learner.denoiser.network, Energy):
        found |= told_apart(learner, usual, unseen, recipe.mnist, generator)
    with atomic_file(recipe.run / "measures.json") as temporary:
        temporary.write_text(json.dumps(found) + "\n")
    return found


def told_apart(
    learner: Learner, usual: Tensor, unseen: Digits, mnist: Path | None, generator: torch.Generator
) -> dict[str, float]:
    """AUROC of the energy between unseen digits and each kind of strange ones, at the least noise and half-way up the ladder."""
    strange = {name: change(unseen, generator) for name, change in CORRUPTIONS.items()}
    if mnist is not None:
        strange["mnist"] = variables(read_mnist(mnist)[1].select(torch.arange(1000)).shrink_to(SIDE).images)
    found = {}
    for t in {float(learner.least()), 0.5 if learner.model.schedule.steps > 1 else 1.0}:
        level = torch.full((1, 1, 1), t, dtype=torch.float64)
        sigma = float(learner.model.schedule(level).sigma)
        known = mean_energy(learner.denoiser, usual, level, sigma, generator)
        for name, x in strange.items():
            other = mean_energy(learner.denoiser, x, level, sigma, generator)
            found[f"auroc {name}, σ {sigma:.2g}"] = auroc(known, other)
    return found


def mean_energy(
    denoiser: Denoiser, x: Tensor, t: Tensor, sigma: float, generator: torch.Generator, draws: int = 8
) -> Float[Tensor, " digit"]:
    """E of each datum under the noise of its level, mean over draws."""
    energy = energy_at(denoiser, t)
    with torch.no_grad():
        return torch.stack([energy(x + sigma * noise_like(x, generator)) for _ in range(draws)]).mean(0)


def noisy(digits: Digits, generator: torch.Generator) -> Tensor:
    """Noise of deviation 0.3 on digits in [−1, 1]."""
    x = variables(digits.images)
    return x + 0.3 * noise_like(x, generator)


def erased(digits: Digits, generator: torch.Generator) -> Tensor:
    """A random quarter wiped out."""
    corner = torch.randint(0, 2, (2, len(digits), 1, 1), generator=generator)
    rows, columns = torch.arange(SIDE)[:, None] // 4, torch.arange(SIDE) // 4
    return variables(digits.images * ~((rows == corner[0]) & (columns == corner[1])))


def turned(digits: Digits, generator: torch.Generator) -> Tensor:
    """By a right angle."""
    return variables(digits.images.rot90(1, (1, 2)))


def joined(digits: Digits, generator: torch.Generator) -> Tensor:
    """The upper half of one digit on the lower half of another."""
    other = digits.images[torch.randperm(len(digits), generator=generator)]
    return variables(torch.cat([digits.images[:, :4], other[:, 4:]], 1))


def shuffled(digits: Digits, generator: torch.Generator) -> Tensor:
    """The pixels in one other order."""
    return variables(digits.images)[:, torch.randperm(SIDE**2, generator=generator)]


CORRUPTIONS: dict[str, Callable[[Digits, torch.Generator], Tensor]] = {
    "noisy": noisy,
    "erased": erased,
    "turned": turned,
    "joined": joined,
    "shuffled": shuffled,
}
"""What is done to digits that the energy should then find strange."""
