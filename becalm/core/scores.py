"""Score matching: losses of a model of ∇ log p, one number per sample [batch], pure functions of the noise they are given.

A score is a function x [batch, *data] → the same shape, rows independent; an energy gives one number per row, p ∝ e^{−E}. The
explicit loss is ½E‖s − ∇ log p‖²; the implicit ones are the same less the constant ½E‖∇ log p‖²; the denoising ones are the
explicit loss of the noisy data plus a constant. Derivatives in x come from torch.func, and are differentiable themselves.
Sources: Hyvärinen 2005; Vincent 2011; Song, Garg, Shi & Ermon 2019; Song & Ermon 2019.
"""

from collections.abc import Callable

import torch

from becalm.core.denoiser import Denoiser
from becalm.core.typing import Float, Tensor

Score = Callable[[Tensor], Tensor]
Energy = Callable[[Tensor], Tensor]
LeveledScore = Callable[[Tensor, Tensor], Tensor]

MAX_TRACE_DIMENSIONS = 1024
"""Greatest dimension of a sample for the exact trace, which takes one backward pass per dimension."""

BACKWARD_CHUNK = 64
"""Backward passes vectorised together."""

SAMPLE_CHUNK = 4096
"""Samples differentiated together: their activations fit in the processor's cache."""


def energy_values(energy: Energy, x: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
    """E(x), one number per sample; raises ValueError where the function gives vectors."""
    values = energy(x)
    if values.numel() != len(x) or values.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"energy: the network gives {list(values.shape)} for x {list(x.shape)}; an energy is one number per sample, "
            f"[{len(x)}] or [{len(x)}, 1]: of a network f of vectors take ½‖x − f(x)‖²"
        )
    return values.reshape(len(x))


def score_of_energy(energy: Energy) -> Score:
    """The score −∇E, itself differentiable; works under no_grad and inference_mode."""

    def score(x: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return -torch.func.grad(lambda place: energy_values(energy, place).sum())(x)

    return score


def energy_and_gradient(
    energy: Energy, x: Float[Tensor, "batch *data"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch *data"]]:
    """E and ∇E, detached; works under no_grad and inference_mode, but not within torch.func."""
    found = []
    with torch.inference_mode(False), torch.enable_grad():
        for part in x.split(SAMPLE_CHUNK):
            place = part.clone().detach().requires_grad_()
            values = energy_values(energy, place)
            found.append((values.detach(), *torch.autograd.grad(values.sum(), place)))
    values, slope = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, slope


def detached_score(energy: Energy) -> Score:
    """The score −∇E, detached: as `score_of_energy` in a fifth of the time, for sampling but not for losses."""
    return lambda x: -energy_and_gradient(energy, x)[1]


def loss_in_chunks(
    loss: Callable[..., Tensor], x: Float[Tensor, "batch *data"], *probes: Float[Tensor, "slice batch *data"]
) -> Float[Tensor, " batch"]:
    """loss(x, *probes) computed SAMPLE_CHUNK samples at a time: for 10⁵ samples a third of the time, or less."""
    parts = zip(x.split(SAMPLE_CHUNK), *(v.split(SAMPLE_CHUNK, 1) for v in probes), strict=True)
    return torch.cat([loss(*part) for part in parts])


def score_at_level(denoiser: Denoiser, t: Tensor, given: dict[str, Tensor] | None = None) -> Score:
    """The score −ε̂/σ of a denoiser's noisy data at t; infinite where σ_t = 0."""
    sigma = denoiser.schedule(t).sigma
    return lambda z: -denoiser(z, t, given).eps / sigma.to(z)


def half_squared_norm(values: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
    """½‖·‖² of each sample."""
    return values.square().flatten(1).sum(1) / 2


def rademacher_probes(x: Float[Tensor, "batch *data"], generator: torch.Generator | None, slices: int = 1) -> Tensor:
    """Probes of ±1 [slice, batch, *data]: Hutchinson's trace has variance 2 Σ_{i≠j} S_ij², S = (J + Jᵀ)/2; 0 for a diagonal J."""
    draws = torch.randint(0, 2, (slices, *x.shape), generator=generator)
    return (2 * draws - 1).to(x)


def normal_probes(x: Float[Tensor, "batch *data"], generator: torch.Generator | None, slices: int = 1) -> Tensor:
    """Probes of N(0, I) [slice, batch, *data]: Hutchinson's trace has variance 2 ‖S‖²."""
    return torch.randn(slices, *x.shape, generator=generator, dtype=x.dtype).to(x)


def sphere_probes(x: Float[Tensor, "batch *data"], generator: torch.Generator | None, slices: int = 1) -> Tensor:
    """Probes uniform on the sphere of radius √D [slice, batch, *data], so that E vvᵀ = I."""
    draws = normal_probes(x, generator, slices)
    length = draws.flatten(2).norm(dim=2).reshape(slices, len(x), *[1] * (x.ndim - 1))
    return draws * (x[0].numel() ** 0.5 / length)


def score_and_trace(
    score: Score, x: Float[Tensor, "batch *data"]
) -> tuple[Float[Tensor, "batch *data"], Float[Tensor, " batch"]]:
    """The score and tr ∂s/∂x, one backward pass per dimension; raises ValueError beyond MAX_TRACE_DIMENSIONS dimensions."""
    size = x[0].numel()
    if size > MAX_TRACE_DIMENSIONS:
        raise ValueError(
            f"exact trace: {size} numbers per sample would take {size} backward passes, more than {MAX_TRACE_DIMENSIONS}; "
            "estimate it: sliced_reduced(score, x, rademacher_probes(x, generator))"
        )
    value, pull = torch.func.vjp(score, x)[:2]

    def entry(direction: Tensor) -> Tensor:
        (row,) = pull(direction.reshape(1, *x.shape[1:]).expand_as(value))
        return row.flatten(1) @ direction

    basis = torch.eye(size, dtype=x.dtype, device=x.device)
    trace = torch.func.vmap(entry, chunk_size=BACKWARD_CHUNK)(basis).sum(0)
    check_curvature(value, trace)
    return value, trace


def score_and_quadratic_forms(
    score: Score, x: Float[Tensor, "batch *data"], v: Float[Tensor, "slice batch *data"]
) -> tuple[Float[Tensor, "batch *data"], Float[Tensor, "slice batch"]]:
    """The score and vᵀ(∂s/∂x)v one backward pass per probe: the mean over probes is Hutchinson's estimate of the trace."""
    value, pull = torch.func.vjp(score, x)[:2]
    rows = torch.func.vmap(lambda probe: pull(probe)[0])(v)
    forms = (rows * v).flatten(2).sum(2)
    check_curvature(value, forms)
    return value, forms


def check_curvature(value: Tensor, traces: Tensor) -> None:
    """Raise ValueError for a non-zero score with derivative exactly 0 at every sample, as of a piecewise linear energy."""
    if bool((traces == 0).all()) and bool((value != 0).any()):
        raise ValueError(
            "trace: the score's derivative is exactly 0 at every sample, as for an energy with ReLU; "
            "use SiLU or softplus, or a loss without a trace (denoising)"
        )


def explicit(score: Score, x: Float[Tensor, "batch *data"], truth: Score) -> Float[Tensor, " batch"]:
    """½‖s(x) − ∇ log p(x)‖², half the Fisher divergence; `truth` is the score of p.

    With x from a kernel q(x | x₀) and that kernel's score as `truth` it is denoising score matching with that kernel.
    """
    return half_squared_norm(score(x) - truth(x))


def implicit(score: Score, x: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
    """½‖s‖² + tr ∂s/∂x (Hyvärinen 2005): explicit less ½E‖∇ log p‖², for data whose density vanishes far away."""
    value, trace = score_and_trace(score, x)
    return half_squared_norm(value) + trace


def sliced(
    score: Score, x: Float[Tensor, "batch *data"], v: Float[Tensor, "slice batch *data"]
) -> Float[Tensor, " batch"]:
    """vᵀ(∂s/∂x)v + ½(vᵀs)², mean over the slices (Song et al. 2019, eq. 7)."""
    value, forms = score_and_quadratic_forms(score, x, v)
    return (forms + (v * value).flatten(2).sum(2).square() / 2).mean(0)


def sliced_reduced(
    score: Score, x: Float[Tensor, "batch *data"], v: Float[Tensor, "slice batch *data"]
) -> Float[Tensor, " batch"]:
    """vᵀ(∂s/∂x)v + ½‖s‖²: variance-reduced `sliced`: `implicit` with Hutchinson's trace (Song et al. 2019, eq. 8)."""
    value, forms = score_and_quadratic_forms(score, x, v)
    return half_squared_norm(value) + forms.mean(0)


def finite_sliced(
    score: Score, x: Float[Tensor, "batch *data"], v: Float[Tensor, "slice batch *data"], step: float = 1e-2
) -> Float[Tensor, " batch"]:
    """sliced_reduced to O(h²) from the scores at x ± hv, h = `step`: no derivative of the score (Pang et al. 2020).

    vᵀ(s₊ − s₋)/2h + ½‖(s₊ + s₋)/2‖², mean over the slices.
    """
    losses = []
    for probe in v:
        ahead, behind = score(x + step * probe), score(x - step * probe)
        form = (probe * (ahead - behind)).flatten(1).sum(1) / (2 * step)
        losses.append(form + half_squared_norm((ahead + behind) / 2))
    return torch.stack(losses).mean(0)


def finite_sliced_energy(
    energy: Energy, x: Float[Tensor, "batch *data"], v: Float[Tensor, "slice batch *data"], step: float = 5e-2
) -> Float[Tensor, " batch"]:
    """sliced to O(h²) from the energies at x and x ± hv: no derivative in x at all (Pang et al. 2020, eq. 11).

    −(E₊ + E₋ − 2E)/h² + ½((E₊ − E₋)/2h)², mean over the slices; the first term loses digits as E/h² grows.
    """
    middle = energy_values(energy, x)
    losses = []
    for probe in v:
        ahead, behind = energy_values(energy, x + step * probe), energy_values(energy, x - step * probe)
        losses.append(((ahead - behind) / (2 * step)).square() / 2 - (ahead + behind - 2 * middle) / step**2)
    return torch.stack(losses).mean(0)


def as_column(sigma: float | Float[Tensor, ""] | Float[Tensor, " batch"], x: Float[Tensor, "batch *data"]) -> Tensor:
    """σ as a tensor that broadcasts over x: [batch, 1, …], or one number for all."""
    values = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return values.reshape(-1, *[1] * (x.ndim - 1))


def denoising(
    score: Score,
    x: Float[Tensor, "batch *data"],
    eps: Float[Tensor, "batch *data"],
    sigma: float | Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """½‖s(x + σε) + ε/σ‖² (Vincent 2011): explicit for the density q_σ of noisy data, plus D/2σ² − ½E‖∇ log q_σ‖²."""
    width = as_column(sigma, x)
    return half_squared_norm(score(x + width * eps) + eps / width)


def denoising_control_variate(
    score: Score,
    x: Float[Tensor, "batch *data"],
    eps: Float[Tensor, "batch *data"],
    sigma: float | Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """`denoising` with a control variate of mean 0, s(x)ᵀε/σ + (‖ε‖² − D)/2σ², for small σ (Wang et al. 2020, § 4).

    ½‖s(x̃)‖² + (s(x̃) − s(x))ᵀε/σ + D/2σ², x̃ = x + σε: the same mean, but bounded variance as σ → 0, where it
    becomes `sliced_reduced` with normal probes, plus D/2σ². Two evaluations of the score.
    """
    width = as_column(sigma, x)
    noisy, clean = score(x + width * eps), score(x)
    cross = ((noisy - clean) * eps / width).flatten(1).sum(1)
    return half_squared_norm(noisy) + cross + x[0].numel() / (2 * width.flatten().square())


def denoising_multilevel(
    score: LeveledScore,
    x: Float[Tensor, "batch *data"],
    eps: Float[Tensor, "batch *data"],
    sigma: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """λ(σ) denoising with λ = σ²: ½‖σ s(x + σε, σ) + ε‖², each sample at its σ (Song & Ermon 2019, eq. 6).

    The score is called as score(z, σ) with σ [batch, 1, …]. It is ½‖ε − ε̂‖² for ε̂ = −σs.
    """
    width = as_column(sigma, x)
    return half_squared_norm(width * score(x + width * eps, width) + eps)


def denoising_stable_target(
    score: LeveledScore,
    x: Float[Tensor, "batch *data"],
    eps: Float[Tensor, "batch *data"],
    sigma: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """`denoising_multilevel` with stable targets (Xu et al. 2023): ε is replaced by its mean given z = x + σε and the batch.

    z may come from any datum x_j of the batch, with weight w_j ∝ exp(−‖z − x_j‖²/2σ²): the target is (z − Σ w_j x_j)/σ. As x
    itself is in the batch, the target has the same mean given z as ε, for any batch size: the minimiser stays, and the variance
    falls where several data could have given z. Computes batch² distances.
    """
    width = as_column(sigma, x)
    z = x + width * eps
    with torch.autocast(x.device.type, enabled=False):
        away = torch.cdist(z.flatten(1), x.flatten(1)) / width.flatten(1)
        mean = ((-away.square() / 2).softmax(1) @ x.flatten(1)).reshape(x.shape)
    return half_squared_norm(width * score(z, width) + (z - mean) / width)
