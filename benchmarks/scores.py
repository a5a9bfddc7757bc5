"""Scores and energies measured: each loss on eight Gaussians, the multi-level model's samples and nats, torchebm beside it.

    python benchmarks/scores.py objectives sampling torchebm     (all three where none is named)

Rows go to results/scores.json as they are found; what is there already is kept unless --again. One thread; CPU-seconds.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from becalm.core import contrastive, scores
from becalm.core.compare import score_agreement, two_sample_test
from becalm.core.densities import GaussianMixture, eight_gaussians
from becalm.core.flow_likelihood import log_density
from becalm.core.flow_solvers import runge_kutta
from becalm.core.langevin import mala, ula
from becalm.core.scores import detached_score, score_at_level, score_of_energy
from becalm.recipes import ebm_toy, plane
from becalm.recipes.ebm_toy import DENOISING, OBJECTIVES, Recipe
from becalm.systems.fields import TrainingState
from becalm.training.loop import Plan, train

RESULTS = Path(__file__).parent / "results" / "scores.json"
SIZE = 100_000
"""2-D samples in a step whose speed is measured."""

BUDGETS = {
    "explicit": 2500,
    "implicit": 3000,
    "sliced": 3500,
    "sliced_reduced": 3000,
    "finite_sliced": 3500,
    "finite_sliced_energy": 3000,
    "denoising": 9000,
    "denoising_control_variate": 3500,
    "denoising_multilevel": 9000,
    "denoising_multilevel_control_variate": 4000,
    "denoising_stable_target": 3500,
    "contrastive": 1000,
    "persistent": 1000,
}
"""Steps of each objective, chosen to stay below a minute of one core."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recipe_for(objective: str) -> Recipe:
    """How an objective is learned here."""
    energy = objective in ebm_toy.NEED_ENERGY
    plan = Plan(
        steps=BUDGETS[objective],
        learning_rate=3e-3,
        final_rate_fraction=1e-3,
        weight_decay=0.0,
        ema_decay=0.998,
        gradient_clip=10.0,
        bfloat16=False,
    )
    sigma = 0.1 if objective == "denoising" else 0.05
    recipe = Recipe(objective=objective, model="energy" if energy else "score", sigma_min=sigma, plan=plan)  # type: ignore[arg-type]
    return replace(recipe, batch=1024) if objective == "denoising" else recipe


def train_model(recipe: Recipe) -> tuple[TrainingState, float]:
    """The training after its plan, weights averaged, and the CPU-seconds it took."""
    training, density = ebm_toy.build_model(recipe), ebm_toy.make_density(recipe)
    start = time.process_time()
    with TemporaryDirectory() as folder:
        make = partial(ebm_toy.sample_batch, recipe, density)
        loss = partial(ebm_toy.loss, recipe)
        for _ in train(training, loss, lambda first: map(make, count(first)), recipe.plan, Path(folder)):
            pass
    return training, time.process_time() - start


def objective_row(objective: str) -> dict:
    """Agreement of an objective's score with that of the data, and with that of the noisy data it learned from."""
    recipe = recipe_for(objective)
    training, seconds = train_model(recipe)
    density, score = eight_gaussians(), score_at_level(training.denoiser, training.t_min)
    row = {"steps": recipe.plan.steps, "batch": recipe.batch, "cpu_seconds": round(seconds, 1)}
    for name, truth in {"clean": density, "noisy": density.convolve(recipe.sigma_min)}.items():
        if name == "clean" or objective in DENOISING:
            agreement = score_agreement(score, truth.sample(20_000, generator(7)).float()[:, None], truth.score)
            row |= {f"{name}_{key}": round(value, 5) for key, value in agreement._asdict().items()}
    if objective in ("contrastive", "persistent"):
        samples = plane.sample_model(training.denoiser, False, 1500, 2, generator(5))
        test = two_sample_test(samples, density.sample(1500, generator(6)).float(), 1999, generator(8))
        row |= {"distance": test.distance, "limit": test.critical_value}
    return row


def sampling_row() -> dict:
    """The multi-level model: two-sample test and mode weights of its samples, nats of its flow, against the exact density."""
    recipe = replace(recipe_for("denoising_stable_target"), batch=1024, sigma_min=0.02)
    training, seconds = train_model(replace(recipe, plan=replace(recipe.plan, steps=8000)))
    density, denoiser, size = eight_gaussians(), training.denoiser, 2000
    samples = plane.sample_model(denoiser, True, size, 2, generator(5)).double()
    test = two_sample_test(samples, density.sample(size, generator(6)), 1999, generator(8))
    share = torch.cdist(samples, density.centres).argmin(1).bincount(minlength=8) / size
    off = (share - 1 / 8).abs().max() / math.sqrt(1 / 8 * 7 / 8 / size)
    x = density.sample(1000, generator(9)).float()[:, None]
    ends = 2 * math.log(recipe.sigma_min), 2 * math.log(recipe.sigma_max)
    nats = log_density(denoiser, x, runge_kutta(60), gamma_min=ends[0], gamma_max=ends[1])
    row = {"cpu_seconds": round(seconds, 1), "distance": test.distance, "limit": test.critical_value, "p": test.p}
    row["worst_mode_in_se"] = round(float(off), 2)
    for name, truth in (("noisy", density.convolve(recipe.sigma_min)), ("clean", density)):
        away = nats.nats - truth.log_prob(x[:, 0].double())
        row |= {
            f"nats_off_{name}": round(float(away.mean()), 4),
            f"nats_abs_{name}": round(float(away.abs().mean()), 4),
        }
    return row


def timed(work: Callable[[], object], times: int = 3) -> float:
    """CPU-milliseconds of a run of `work`, median of some after one to warm up."""
    work()
    spent = []
    for _ in range(times):
        start = time.process_time()
        work()
        spent.append(1000 * (time.process_time() - start))
    return round(statistics.median(spent), 1)


def network(outputs: int) -> torch.nn.Sequential:
    """The network of both sides: 2 → 128 → 128 → outputs, SiLU."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(2, 128), torch.nn.SiLU(), torch.nn.Linear(128, 128), torch.nn.SiLU()
    return torch.nn.Sequential(*layers, torch.nn.Linear(128, outputs))


def ours() -> dict[str, Callable[[], object]]:
    """A training step's loss and gradient, or a sampler's step, of becalm at SIZE samples; energies, as torchebm has."""
    net, x = network(1), eight_gaussians().sample(SIZE, generator()).float()

    def energy(z: torch.Tensor) -> torch.Tensor:
        return net(z)[:, 0]

    score, eps = score_of_energy(energy), torch.randn(SIZE, 2, generator=generator(1))
    v, chains = scores.rademacher_probes(x, generator(2)), contrastive.LangevinChains(10, 0.01)
    losses = {
        "implicit, exact": lambda: scores.loss_in_chunks(partial(scores.implicit, score), x),
        "denoising": lambda: scores.loss_in_chunks(lambda a, b: scores.denoising(score, a, b[0], 0.1), x, eps[None]),
        "sliced, 1 slice": lambda: scores.loss_in_chunks(partial(scores.sliced, score), x, v),
        "finite differences": lambda: scores.loss_in_chunks(partial(scores.finite_sliced_energy, energy), x, v),
        "CD-10": lambda: contrastive.contrastive_loss(
            energy, x, contrastive.cd_negatives(energy, x, chains, generator(3))
        ),
    }
    steps = {
        "Langevin": lambda: next(ula(detached_score(energy), x, 0.01, 1, generator=generator(4))),
        "MALA": lambda: next(mala(energy, x, 0.01, 1, generator=generator(4))),
    }
    return {**{name: lambda f=f: f().mean().backward() for name, f in losses.items()}, **steps}


def theirs() -> dict[str, Callable[[], object]]:
    """The same of torchebm."""
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence, DenoisingScoreMatching, ScoreMatching, SlicedScoreMatching
    from torchebm.samplers import HamiltonianMonteCarlo, LangevinDynamics

    class Energy(BaseModel):
        def __init__(self):
            super().__init__()
            self.net = network(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).squeeze(-1)

    model, x = Energy(), eight_gaussians().sample(SIZE, generator()).float()
    langevin = LangevinDynamics(model, step_size=0.01)
    losses = {
        "implicit, exact": ScoreMatching(model, hessian_method="exact"),
        "denoising": DenoisingScoreMatching(model, noise_scale=0.1),
        "sliced, 1 slice": SlicedScoreMatching(model, n_projections=1),
        "finite differences": ScoreMatching(model, hessian_method="approx"),
    }
    divergence = ContrastiveDivergence(model, langevin, k_steps=10)
    hamiltonian = HamiltonianMonteCarlo(model, step_size=0.1, n_leapfrog_steps=1)
    return {
        **{name: lambda f=f: f(x.clone()).backward() for name, f in losses.items()},
        "CD-10": lambda: divergence(x.clone())[0].backward(),
        "Langevin": lambda: langevin.sample(x=x.clone(), n_steps=1),
        "HMC, 1 leapfrog": lambda: hamiltonian.sample(x=x.clone(), n_steps=1),
    }


def values() -> dict[str, list[float]]:
    """Each loss of both on one energy in closed form, beside the true value by half a million samples."""
    from torchebm.core import BaseModel
    from torchebm.losses import DenoisingScoreMatching, ScoreMatching, SlicedScoreMatching

    wide = GaussianMixture(eight_gaussians().centres.float(), torch.full((8,), 1 / 8), torch.full((8,), 0.4))

    class Energy(BaseModel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -wide.log_prob(x)

    x, model = eight_gaussians().sample(500_000, generator()).float(), Energy()
    score, eps, v = wide.score, torch.randn(x.shape, generator=generator(1)), scores.rademacher_probes(x, generator(2))
    torch.manual_seed(0)
    theirs = {
        "implicit, exact": ScoreMatching(model),
        "finite differences": ScoreMatching(model, hessian_method="approx"),
        "denoising": DenoisingScoreMatching(model, noise_scale=0.1),
        "sliced, 1 slice": SlicedScoreMatching(model, n_projections=1),
    }
    ours = {
        "implicit, exact": scores.implicit(score, x),
        "finite differences": scores.finite_sliced_energy(lambda z: -wide.log_prob(z), x.double(), v.double()),
        "denoising": scores.denoising(score, x, eps, 0.1),
        "sliced, 1 slice": scores.sliced(score, x, v),
    }
    return {name: [float(ours[name].mean()), float(theirs[name](x.clone()).detach())] for name in ours}


def bias() -> dict[str, float]:
    """Variance of long Langevin chains of N(0, 1) at h = 0.5 over 1/(1 − h/2): 1 where the step is what it is said to be."""
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Bowl(BaseModel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square().sum(-1) / 2

    start, truth = torch.randn(200_000, 1, generator=generator()), 1 / (1 - 0.25)
    torch.manual_seed(0)
    theirs = LangevinDynamics(Bowl(), step_size=0.5).sample(x=start.clone(), n_steps=30)
    for state in ula(lambda z: -z, start, 0.5, 30, generator=generator(1)):
        z = state.z
    return {"becalm": float(z.var() / truth), "torchebm": float(theirs.var() / truth)}


def torchebm_row() -> dict:
    """Speed per step at SIZE samples, values of losses, and the variance of Langevin's chains, both side by side."""
    import torchebm

    speed = {name: {"becalm": timed(work)} for name, work in ours().items()}
    for name, work in theirs().items():
        speed.setdefault(name, {})["torchebm"] = timed(work)
    row = {"version": torchebm.__version__, "torch": torch.__version__, "milliseconds": speed}
    return row | {"values": values(), "langevin_variance": bias()}


def tables(rows: dict) -> str:
    """The rows as Markdown."""
    lines = [
        "| objective | steps × batch | CPU s | cosine | relative Fisher | the same, own noisy density |",
        "|---" * 6 + "|",
    ]
    for name in BUDGETS:
        if name in rows:
            r = rows[name]
            own = f"{r['noisy_cosine']:.4f}, {r['noisy_fisher']:.4f}" if "noisy_fisher" in r else "–"
            cells = (
                f"{r['steps']} × {r['batch']} | {r['cpu_seconds']} | {r['clean_cosine']:.4f} | {r['clean_fisher']:.4f}"
            )
            lines.append(f"| {name} | {cells} | {own} |")
    if "sampling" in rows:
        lines += ["", *(f"- {name}: {value}" for name, value in rows["sampling"].items())]
    if "torchebm" in rows:
        lines += ["", "| per step, 10⁵ samples | becalm, CPU ms | torchebm, CPU ms |", "|---|---|---|"]
        for name, r in rows["torchebm"]["milliseconds"].items():
            lines.append(f"| {name} | {r.get('becalm', '–')} | {r.get('torchebm', '–')} |")
        lines += ["", "| value on a known energy | becalm | torchebm |", "|---|---|---|"]
        lines += [f"| {name} | {a:.4f} | {b:.4f} |" for name, (a, b) in rows["torchebm"]["values"].items()]
        lines += ["", f"Langevin's variance over the true one: {rows['torchebm']['langevin_variance']}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="objectives, sampling, torchebm, or the name of one objective")
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work: dict[str, Callable[[], dict]] = {name: lambda name=name: objective_row(name) for name in OBJECTIVES}
    work |= {"sampling": sampling_row, "torchebm": torchebm_row}
    parts = given.parts or ["objectives", "sampling", "torchebm"]
    wanted = [name for part in parts for name in (OBJECTIVES if part == "objectives" else [part])]
    for name in wanted:
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if name not in rows or given.again:
            rows[name] = work[name]()
            print(name, json.dumps(rows[name]), flush=True)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(tables(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
