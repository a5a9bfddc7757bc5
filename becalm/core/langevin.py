"""Langevin sampling: generators for a score or an energy, and steppers of `sample` for a denoiser.

One convention of the step size everywhere: z ← z + h s(z) + √(2hτ) n, n ~ N(0, I), so that h is the time step of
dz = s dt + √(2τ) dW, whose stationary law is p^{1/τ}. Other conventions: with ε as in z + (ε²/2) s + ε n, h = ε²/2; NCSN's paper
steps z + (a/2) s + √a n, so h = a/2; NCSN's released code z + a s + √(2a) n, so h = a, twice the paper's at equal numbers.
Sources: Roberts & Tweedie 1996 (MALA); Hoffman & Gelman 2014, § 3.2 (step size); Song & Ermon 2019 (NCSN); Song et al. 2021.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from becalm.core.process import Prediction, noise_like
from becalm.core.sample import Stepper, reverse
from becalm.core.scores import Energy, Score, as_column, energy_and_gradient
from becalm.core.typing import Float, Tensor

MAX_NORM = 1e6
"""Norm of a sample beyond which a chain counts as diverged."""


class ChainState(NamedTuple):
    """State of Markov chains, with the fields of `Step`, so that `trajectory.record_steps` accepts it."""

    z: Tensor
    """The chains [batch, *data]."""
    t: Tensor
    """0: the variables are clean."""
    prediction: Prediction
    """(z, 0)."""
    step_size: Tensor
    """h of the next step, one number or one per chain [batch]."""
    acceptance: Tensor | None = None
    """Acceptance probability of the last proposal [batch]; None without Metropolis test."""


def chain_state(z: Tensor, size: Tensor, accepted: Tensor | None = None) -> ChainState:
    """The chain state at z, with t = 0."""
    return ChainState(z, torch.zeros_like(z[..., :1]), Prediction(z, torch.zeros_like(z)), size, accepted)


def sample_norms(z: Tensor) -> Float[Tensor, " batch"]:
    """‖z‖ of each chain."""
    return z.flatten(1).norm(dim=1)


def ula(
    score: Score,
    z: Float[Tensor, "batch *data"],
    step_size: float | Float[Tensor, " batch"],
    steps: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    max_norm: float = MAX_NORM,
) -> Iterator[ChainState]:
    """Unadjusted Langevin (ULA): `steps` steps of h = `step_size`, each yielded.

    Its law has bias O(h): for N(0, 1) the variance is 1/(1 − h/2); it diverges for h ≥ 2/(greatest curvature). Raises ValueError
    with the step and a smaller h to try where a chain is NaN or its norm exceeds
    `max_norm`.
    """
    h = torch.as_tensor(step_size, dtype=z.dtype, device=z.device)
    width = as_column(h, z)
    for k in range(steps):
        with torch.no_grad():
            slope = score(z)
            after = z + width * slope + torch.sqrt(2 * width * temperature) * noise_like(z, generator)
            check_explosion(after, z, slope, h, f"step {k}", max_norm)
        z = after
        yield chain_state(z, h)


def check_explosion(after: Tensor, z: Tensor, slope: Tensor, size: Tensor, where: str, bound: float = MAX_NORM) -> None:
    """Raise ValueError where a step of `size` along `slope` made a chain NaN or its norm exceed `bound`.

    The suggested size is ‖z‖/‖s‖ before the step, the inverse curvature of a quadratic, clamped to [h/100, h/2].
    """
    length = sample_norms(after)
    good = length <= bound
    if bool(good.all()):
        return
    worst = int((~good).int().argmax())
    h = float(size.expand(len(z))[worst])
    inverse = float(sample_norms(z)[worst] / sample_norms(slope)[worst])
    better = min(max(inverse, h / 100), h / 2) if math.isfinite(inverse) else h / 10
    raise ValueError(
        f"langevin: {where}: chain {worst} has ‖z‖ = {float(length[worst]):.3g} (bound {bound:.3g}) "
        f"with step size {h:.3g}; try {better:.2g}"
    )


class ValueAndGrad(NamedTuple):
    """A state with its energy and gradient."""

    z: Tensor
    value: Tensor
    """E(z) [batch]."""
    grad: Tensor
    """∇E(z), shaped like z."""


def value_and_grad(energy: Energy, z: Float[Tensor, "batch *data"]) -> ValueAndGrad:
    """E(z) and ∇E(z) by one backward pass."""
    return ValueAndGrad(z, *energy_and_gradient(energy, z))


def log_acceptance_ratio(
    here: ValueAndGrad, there: ValueAndGrad, size: Tensor, temperature: float = 1.0
) -> Float[Tensor, " batch"]:
    """log π(y) q(x | y) − log π(x) q(y | x), the logarithm of MALA's acceptance ratio (not clamped); π ∝ e^{−E/τ}; antisymmetric.

    q(y | x) = N(x − h∇E(x), 2hτ I).
    """
    h = size.expand(len(here.z))
    wide = as_column(h, here.z)
    back = (here.z - there.z + wide * there.grad).flatten(1).square().sum(1)
    forth = (there.z - here.z + wide * here.grad).flatten(1).square().sum(1)
    return (here.value - there.value - (back - forth) / (4 * h)) / temperature


def mala_step(
    energy: Energy, here: ValueAndGrad, size: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
) -> tuple[ValueAndGrad, Float[Tensor, " batch"]]:
    """One step of MALA: the next state, and each chain's acceptance probability; NaN is never accepted."""
    wide = as_column(size, here.z)
    noise = noise_like(here.z, generator)
    there = value_and_grad(energy, here.z - wide * here.grad + torch.sqrt(2 * wide * temperature) * noise)
    chance = log_acceptance_ratio(here, there, size, temperature).clamp_max(0).exp().nan_to_num(nan=0.0)
    draw = torch.rand(len(chance), generator=generator, dtype=torch.float64)
    taken = draw.to(chance) < chance
    chosen = [torch.where(taken.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(here, there, strict=True)]
    return ValueAndGrad(*chosen), chance


def mala(
    energy: Energy,
    z: Float[Tensor, "batch *data"],
    step_size: float | Float[Tensor, " batch"],
    steps: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[ChainState]:
    """Metropolis-adjusted Langevin: `ula` with a Metropolis test of each step, so that the law e^{−E/τ} is exact for any h.

    Raises ValueError where the energy of a start is not finite.
    """
    h = torch.as_tensor(step_size, dtype=z.dtype, device=z.device)
    here = initial_state(energy, z)
    for _ in range(steps):
        with torch.no_grad():
            here, chance = mala_step(energy, here, h, temperature, generator)
        yield chain_state(here.z, h, chance)


def initial_state(energy: Energy, z: Tensor) -> ValueAndGrad:
    """The first state of the chains; raises ValueError where an energy is not finite."""
    with torch.no_grad():
        here = value_and_grad(energy, z)
    if not bool(torch.isfinite(here.value).all()):
        raise ValueError(
            f"langevin: step 0: E of chain {int((~torch.isfinite(here.value)).int().argmax())} is not finite"
        )
    return here


@dataclass(frozen=True)
class DualAveraging:
    """Dual averaging of log h to a target acceptance (Hoffman & Gelman 2014, § 3.2.1)."""

    target: float = 0.574
    """Optimal acceptance of MALA in many dimensions (Roberts & Rosenthal 1998)."""
    gain: float = 0.05
    """Their γ: strength of the shrinkage of log h to log 10h₀."""
    delay: float = 10.0
    """Their t₀: damps the first steps."""
    forget: float = 0.75
    """Their κ: decay exponent of the averaging weights."""


def mala_warm_up(
    energy: Energy,
    z: Float[Tensor, "batch *data"],
    step_size: float | Float[Tensor, " batch"],
    steps: int,
    dual_averaging: DualAveraging | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[ChainState]:
    """MALA with h adapted per chain; continue with `mala` from the last state's z and `step_size` (the averaged h).

    While h changes the law is not exact: discard these states.
    """
    rule = dual_averaging or DualAveraging()
    first = torch.as_tensor(step_size, dtype=z.dtype, device=z.device).expand(len(z))
    here, h = initial_state(energy, z), first
    debt, average = torch.zeros_like(first), torch.zeros_like(first)
    for k in range(1, steps + 1):
        with torch.no_grad():
            here, chance = mala_step(energy, here, h, temperature, generator)
        share = 1 / (k + rule.delay)
        debt = (1 - share) * debt + share * (rule.target - chance)
        log = torch.log(10 * first) - math.sqrt(k) / rule.gain * debt
        weight = k**-rule.forget
        average = weight * log + (1 - weight) * average
        h = log.exp()
        yield chain_state(here.z, average.exp(), chance)


def langevin_step(
    z: Tensor,
    eps: Tensor,
    sigma: Tensor,
    size: float | Tensor,
    temperature: float,
    generator: torch.Generator | None,
    inner: int = 0,
) -> Tensor:
    """One Langevin step with h = rσ², r = `size`, elementwise: z − r σ ε̂ + σ √(2rτ) n; the same in every scaling."""
    wide = as_column(size, z)
    after = z + sigma * (torch.sqrt(2 * wide * temperature) * noise_like(z, generator) - wide * eps)
    check_explosion(
        after, z, sigma * eps, wide.flatten(), f"inner step {inner} at σ = {float(sigma.max()):.3g}, sizes in σ²"
    )
    return after


def annealed_langevin(step_size: float = 0.1, inner_steps: int = 100, temperature: float = 1.0) -> Stepper:
    """Stepper of annealed Langevin (NCSN): `inner_steps` steps of h = `step_size` σ² at each level; x̂ at the clean end.

    Song & Ermon's steps a_i = ε σ_i²/σ_L² are `step_size` = ε/(2σ_L²) by their paper and ε/σ_L² by their code: ε = 2e−5 and
    σ_L = 0.01 give 0.1 and 0.2. Between levels z/α is kept. Raises ValueError where `step_size` is not in (0, 2): it diverges.
    """
    if not 0 < step_size < 2 or inner_steps < 1:
        raise ValueError(
            f"annealed_langevin: step_size {step_size} must lie in (0, 2), inner_steps {inner_steps} be at least 1; "
            "try step_size 0.1"
        )

    def stepper(predict, state, s, schedule, previous, generator):
        here, there = schedule(state.t), schedule(s)
        z, prediction = state.z, state.prediction
        for k in range(inner_steps):
            z = langevin_step(z, prediction.eps, here.sigma.to(z), step_size, temperature, generator, k)
            if k < inner_steps - 1 or bool((there.sigma == 0).any()):
                prediction = predict(z, state.t)
        moved = here.gamma != there.gamma
        if bool((moved & (here.alpha == 0)).any()):
            raise ValueError("annealed_langevin: z/α is infinite where α = 0; start below t = 1, or use a Ladder")
        ratio = torch.where(moved, there.alpha / here.alpha, 1.0)
        return torch.where(there.sigma == 0, there.alpha.to(z) * prediction.x, ratio.to(z) * z)

    return stepper


def predictor_corrector(
    predictor: Stepper | None = None, snr: float = 0.16, inner_steps: int = 1, temperature: float = 1.0
) -> Stepper:
    """Predictor–corrector stepper: a step of `predictor` (default `reverse()`), then `inner_steps` Langevin steps.

    h = 2 (r ‖n‖/‖s‖)², r the signal-to-noise ratio `snr` (Song et al. 2021, algorithm 4), norms per sample, so that samples do
    not depend on their batch. ‖n‖ is replaced by √D: h = 2r² D/‖ε̂‖² σ² in every scaling, and at most σ²/2.
    """
    first = predictor or reverse()

    def stepper(predict, state, s, schedule, previous, generator):
        z, sigma = first(predict, state, s, schedule, previous, generator), schedule(s).sigma.to(state.z)
        if bool((sigma == 0).all()):
            return z
        noisy = (sigma > 0).expand_as(z)
        count = noisy.flatten(1).sum(1)
        for k in range(inner_steps):
            eps = torch.where(noisy, predict(z, s).eps, 0.0)
            size = (2 * snr**2 * count / eps.flatten(1).square().sum(1)).nan_to_num(0.0).clamp_max(0.5)
            z = langevin_step(z, eps, sigma, size, temperature, generator, k)
        return z

    return stepper
