"""The recipe of `ddpm_digits8`: DDPM (Ho, Jain & Abbeel 2020) on small digits, with the bound of its own chain.

1000 linear betas, the simple loss, either of the two variances β and β̃; the bound is L_T + Σ L_{t−1} + L_0 (their eq. 5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from becalm.core import likelihood
from becalm.core.denoiser import Denoiser
from becalm.core.process import noise_like, posterior, reverse_moments
from becalm.core.schedule import Betas
from becalm.core.times import stratified
from becalm.core.typing import Float, Tensor
from becalm.nets.precision import fast_matmul
from becalm.recipes import vdm
from becalm.systems.vdm import VDM, encode_levels, images_to_variables
from becalm.training.distributed import step_numbers
from becalm.training.loop import Plan, train
from becalm.weights.store import save

Variance = Literal["small", "large"]


@dataclass(frozen=True)
class Recipe(vdm.Recipe):
    """Train DDPM: the network predicts ε, the noise schedule is the fixed betas."""


DIGITS8 = Recipe(
    data="digits8",
    run=Path("runs/ddpm_digits8"),
    levels=17,
    widths=(48, 96),
    head="eps",
    schedule="betas",
    gamma_min=-9.2,
    gamma_max=10.1,
    octaves=0,
    batch=128,
    plan=Plan(steps=1500, learning_rate=2e-3, warmup=50, ema_decay=0.995),
)
"""`ddpm_digits8`: three minutes on one core."""


def simple_loss(recipe: vdm.Recipe, model: VDM, batch: vdm.Batch) -> dict[str, Tensor]:
    """L_simple = E |ε − ε̂(z_t, t)|² a number, t uniform on 1 … T (eq. 14)."""
    generator, steps = torch.Generator().manual_seed(batch.seed), round(1 / model.start)
    x = encode_levels(model, batch.v.to(recipe.device))
    t = torch.floor(batch.u.to(x.device) * steps + 1).clamp_max(steps) / steps
    error = likelihood.noise_error(model.denoiser, x, t, noise_like(x, generator))
    return {"loss": error.mean() / x[0].numel()}


def chain_bound(
    denoiser: Denoiser,
    x: Float[Tensor, "batch variable channel"],
    levels: int,
    variance: Variance,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> likelihood.Bound:
    """L_T, L_0 and an estimate of Σ L_{t−1} from `draws` values of t in 2 … T, in nats a datum.

    `variance` is σ² of the reverse steps: `large` β_t, `small` β̃_t, with β₁ at t = 1 for either, where β̃ is 0.
    """
    schedule: Betas = denoiser.schedule
    steps, kl = schedule.steps, []
    for u in stratified(draws * len(x), 1, generator).reshape(draws, len(x), 1, 1).to(x.device):
        t = (2 + torch.floor(u * (steps - 1)).clamp_max(steps - 2)) / steps
        kl.append((steps - 1) * transition_kl(denoiser, x, t, noise_like(x, generator), variance))
    first = torch.full((len(x), 1, 1), 1 / steps, dtype=torch.float64, device=x.device)
    _, alpha, sigma = schedule(first)
    z = alpha.to(x) * x + sigma.to(x) * noise_like(x, generator)
    log_p = discretized_log_prob(x, denoiser(z, first, None).x, sigma / alpha, levels)
    diffusion = torch.stack(kl).mean(0)
    return likelihood.Bound(likelihood.prior_kl(x, schedule), -log_p.sum((1, 2)), diffusion, x[0].numel())


def transition_kl(
    denoiser: Denoiser,
    x: Float[Tensor, "batch variable channel"],
    t: Float[Tensor, "batch 1 1"],
    eps: Float[Tensor, "batch variable channel"],
    variance: Variance,
) -> Float[Tensor, " batch"]:
    """L_{t−1} = KL(q(z_{t−1}|z_t, x) ‖ p(z_{t−1}|z_t)) at one draw of z_t, of two Gaussians."""
    schedule = denoiser.schedule
    s = t - 1 / schedule.steps
    _, alpha, sigma = (part.to(torch.float64) for part in schedule(t))
    z = alpha * x.double() + sigma * eps.double()
    guess = denoiser(z.to(x), t, None)
    guess = guess._replace(x=guess.x.double(), eps=guess.eps.double())
    true, small = posterior(z, x.double(), t, s, schedule)
    mean, wide = reverse_moments(guess, z, t, s, schedule, 1.0, variance)
    ratio = (small / wide).square()
    return ((ratio - 1 - ratio.log() + ((true - mean) / wide).square()) / 2).sum((1, 2))


def discretized_log_prob(
    x: Float[Tensor, "*batch variable channel"],
    mean: Float[Tensor, "*batch variable channel"],
    std: Tensor,
    levels: int,
) -> Float[Tensor, "*batch variable channel"]:
    """log ∫ N(y; mean, std²) dy over the bin of each level, x ± 1/K, the outermost bins unbounded (eq. 13)."""
    x, mean = x.double(), mean.double()
    above, below = ((x + side / levels - mean) / std for side in (1, -1))
    number = likelihood.nearest_level(x, levels)
    above = torch.where(number == levels - 1, torch.inf, above)
    below = torch.where(number == 0, -torch.inf, below)
    # either tail from its own side, so that the difference of two numbers near 1 is never taken
    flipped = below + above > 0
    high, low = torch.where(flipped, -below, above), torch.where(flipped, -above, below)
    logs = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return logs[0] + torch.log(-torch.expm1((logs[1] - logs[0]).clamp_max(-1e-300)))


@torch.no_grad()
def evaluate_chain_bound(
    model: VDM, images: Tensor, variance: Variance, draws: int = 16, seed: int = 0
) -> dict[str, float]:
    """The bound of the chain in bits a dimension by term: prior L_T, diffusion Σ L_{t−1}, reconstruction L_0."""
    generator, denoiser = torch.Generator().manual_seed(seed), model.denoiser
    with fast_matmul(next(model.parameters()).device.type):
        parts = [
            chain_bound(
                denoiser,
                encode_levels(model, images_to_variables(model, part)),
                model.levels,
                variance,
                draws,
                generator,
            )
            for part in images.split(vdm.EVAL_BATCH)
        ]
    return vdm.bits_by_term(likelihood.concatenate_bounds(parts))


def run(recipe: Recipe) -> Iterator[dict]:
    """Train to the end of the plan, yielding the log's records, then save the averaged weights and evaluate them."""
    data = vdm.load_images(recipe)
    model = vdm.build_model(recipe, data.train).to(recipe.device).train()
    make = partial(vdm.sample_batch, recipe, model, data.train)
    yield from train(
        model, partial(simple_loss, recipe), lambda start: map(make, step_numbers(start)), recipe.plan, recipe.run
    )
    test = data.test[: vdm.MAX_TEST_IMAGES]
    test_bits = {name: evaluate_chain_bound(model.eval(), test, name) for name in ("small", "large")}
    facts = {"task": "likelihood and generation", "recipe": f"ddpm_{recipe.data}", "steps": recipe.plan.steps}
    path = recipe.run / f"ddpm_{recipe.data}.safetensors"
    save(model.cpu(), path, facts | {"seed": recipe.seed, "bits_per_dim": test_bits})
    yield {"step": recipe.plan.steps, "test": test_bits}
