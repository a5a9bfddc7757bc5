"""Editing with LION on few latent points: complete, vary, interpolate (Zeng et al. 2022, § 3.2 and appendices)."""

import torch

from becalm.core.denoiser import Denoiser
from becalm.core.process import corrupt
from becalm.core.sample import Step, heun
from becalm.core.sampler import Sampler
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Int, Tensor
from becalm.nets.precision import fast_matmul
from becalm.systems.lion import Latent, run_sampler
from becalm.systems.lion_sparse import LionSparse, Prior, guided_denoiser, inpaint
from becalm.systems.lion_sparse_autoencoder import ROWS

FLOW_START = 1e-3
"""Level at which the flow from data to noise starts: t = 0 itself would mark a variable as given."""


def complete(
    prior: Prior,
    given: Float[Tensor, "batch known channel"],
    missing: int,
    label: Int[Tensor, " batch"],
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Latents that consist of the given latent points, unchanged, and `missing` sampled ones; z₀ is sampled with them."""
    batch, count, channels = given.shape
    empty = given.new_zeros(batch, missing, channels)
    x = prior.pack(Latent(given.new_zeros(batch, ROWS * channels), torch.cat([given, empty], 1)))
    index = torch.arange(x.shape[1], device=x.device) - ROWS
    known = ((index >= 0) & (index < count)).expand(batch, -1)
    z, h = inpaint(prior, x, known, label, sampler, generator)
    return Latent(z, torch.cat([given, h[:, count:]], 1))


def vary(
    model: LionSparse,
    points: Float[Tensor, "batch point 3"],
    amount: float,
    label: Int[Tensor, " batch"],
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Diffuse–denoise: z₀ is noised to t = `amount` and denoised; h₀ is encoded again given the new z₀, noised and denoised.

    0 gives the reconstruction, which is clean where the input was noisy or coarse and the encoder was trained on such; 1 gives
    another shape.
    """
    sampler, prior = sampler or model.default_sampler, model.prior

    def diffuse_denoise(network: torch.nn.Module, x: Tensor, t: Tensor) -> Tensor:
        t = t.to(x.device)
        z, _ = corrupt(x, t, Rectified(), generator)
        denoiser = guided_denoiser(network, label, sampler.guidance)
        return run_sampler(denoiser, torch.where(t == 0, x, z), t, sampler, generator)

    def revise(z: Tensor) -> Tensor:
        if not amount:
            return z
        x = prior.pack(Latent(z, z.new_zeros(len(z), 0, prior.mean.shape[1])))
        level = torch.full((len(z), 1, 1), float(amount), dtype=torch.float64)
        return prior.unpack(diffuse_denoise(prior.global_denoiser, x.flatten(1)[:, None], level).reshape(x.shape)).z

    with torch.inference_mode(), fast_matmul(points.device.type):
        _, latent = model.autoencoder.encode(points, generator, None, revise)
    if not amount:
        return latent
    x = prior.pack(latent)
    t = torch.full((*x.shape[:2], 1), float(amount), dtype=torch.float64)
    t[:, :ROWS] = 0
    return prior.unpack(diffuse_denoise(prior.point_denoiser, x, t))


def encode_noise(
    denoiser: Denoiser, x: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"], steps: int
) -> Tensor:
    """The noise that deterministic sampling would turn into x: the flow from clean data up to the levels t, by Heun's method."""
    step, z, t = heun(), x, t.to(x.device)
    with torch.inference_mode(), fast_matmul(x.device.type):
        for k in range(steps):
            here, there = (torch.where(t > 0, FLOW_START + (t - FLOW_START) * i / steps, 0.0) for i in (k, k + 1))
            now = Step(z, here, denoiser(z, here, None))
            after = step(lambda z, t: denoiser(z, t, None), now, there, denoiser.schedule, None, None)
            z = torch.where(t > 0, after, x)
    return z


def interpolate(
    model: LionSparse,
    one: Latent,
    other: Latent,
    count: int,
    label: Int[Tensor, " batch"],
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """`count` latents from `one` to `other` (each of a single shape), both included, interpolated as noise (`mix_noise`).

    z₀ first, then the latent points given the z₀ in between; the latent points of the ends are paired by `match_points`.
    """
    sampler, prior = sampler or model.default_sampler, model.prior
    share = torch.linspace(0, 1, count, device=one.z.device)[:, None, None]
    label = label[:1].expand(count)
    order = match_points(one.h[0, :, :3], other.h[0, :, :3])
    ends = torch.cat([prior.pack(one), prior.pack(Latent(other.z, other.h[:, order]))])

    def interpolate_noise(network: torch.nn.Module, ends: Tensor, t: Tensor) -> Tensor:
        denoiser = guided_denoiser(network, label[:1].expand(2), 0.0)
        return mix_noise(encode_noise(denoiser, ends, t.expand(2, -1, -1), sampler.steps), share)

    def denoise(network: torch.nn.Module, start: Tensor, t: Tensor) -> Tensor:
        return run_sampler(guided_denoiser(network, label, 0.0), start, t.expand(count, -1, -1), sampler, generator)

    t = torch.ones(1, 1, 1, dtype=torch.float64)
    z_ends = ends[:, :ROWS].flatten(1)[:, None]
    z = denoise(prior.global_denoiser, interpolate_noise(prior.global_denoiser, z_ends, t), t).reshape(count, ROWS, -1)
    t = (torch.arange(ends.shape[1]) >= ROWS).double()[None, :, None]
    start = torch.cat([z, interpolate_noise(prior.point_denoiser, ends, t)[:, ROWS:]], 1)
    return prior.unpack(denoise(prior.point_denoiser, start, t))


def mix_noise(ends: Float[Tensor, "2 variable channel"], share: Float[Tensor, "step 1 1"]) -> Tensor:
    """√(1 − s) a + √s b, which keeps the variance of independent noise."""
    return (1 - share).sqrt() * ends[:1] + share.sqrt() * ends[1:]


def match_points(a: Float[Tensor, "anchor 3"], b: Float[Tensor, "anchor 3"]) -> Int[Tensor, " anchor"]:
    """The order of b that pairs it with a at the least sum of squared distances (linear assignment)."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(torch.cdist(a, b).square().cpu().numpy())[1])
