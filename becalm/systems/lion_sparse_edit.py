"""What LION does with shapes that are there: complete a part, vary, interpolate (Zeng et al. 2022, § 3.2 and appendices)."""

import torch

from becalm.core.process import corrupt
from becalm.core.sample import Step, heun
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Int, Tensor
from becalm.nets.precision import fast_matmul
from becalm.systems.lion_sparse import Lion, Prior, Way, denoiser_of, fill, walked
from becalm.systems.lion_sparse_autoencoder import ROWS, Latent

NEARLY = 1e-3
"""Where a flow from clean data to noise begins: a level of exactly 0 would mean a variable that is given."""


def complete(
    prior: Prior,
    given: Float[Tensor, "batch some channel"],
    missing: int,
    label: Int[Tensor, " batch"],
    way: Way | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Shapes that have the given latent points, which come out untouched, and `missing` more; z₀ is drawn with them."""
    batch, some, channels = given.shape
    more = given.new_zeros(batch, missing, channels)
    x = prior.packed(Latent(given.new_zeros(batch, ROWS * channels), torch.cat([given, more], 1)))
    places = torch.arange(x.shape[1], device=x.device) - ROWS
    known = ((places >= 0) & (places < some)).expand(batch, -1)
    z, h = fill(prior, x, known, label, way, generator)
    return Latent(z, torch.cat([given, h[:, some:]], 1))


def vary(
    model: Lion,
    points: Float[Tensor, "batch point 3"],
    amount: float,
    label: Int[Tensor, " batch"],
    way: Way | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Diffuse–denoise: z₀ is noised to t = `amount` and denoised; h₀ is encoded anew with it, and treated alike.

    0 gives back the reconstruction, which is clean where the input was noisy or coarse and the encoder has seen such; 1 another
    shape.
    """
    way, prior = way or Way(), model.prior

    def shaken(network: torch.nn.Module, x: Tensor, t: Tensor) -> Tensor:
        z, _ = corrupt(x, t.to(x.device), Rectified(), generator)
        return walked(
            denoiser_of(network, label, way.guidance), torch.where(t.to(x.device) == 0, x, z), t, way, generator
        )

    def revise(z: Tensor) -> Tensor:
        if not amount:
            return z
        x = prior.packed(Latent(z, z.new_zeros(len(z), 0, prior.middle.shape[1])))
        level = torch.full((len(z), 1, 1), float(amount), dtype=torch.float64)
        return prior.unpacked(shaken(prior.whole, x.flatten(1)[:, None], level).reshape(x.shape)).z

    with torch.inference_mode(), fast_matmul(points.device.type):
        _, latent = model.autoencoder.encode(points, generator, None, revise)
    if not amount:
        return latent
    x = prior.packed(latent)
    t = torch.full((*x.shape[:2], 1), float(amount), dtype=torch.float64)
    t[:, :ROWS] = 0
    return prior.unpacked(shaken(prior.points, x, t))


def noised(
    denoiser, x: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"], steps: int
) -> Tensor:
    """The deterministic flow run from clean data up to the levels t, by Heun's steps: the noise that would give x."""
    step, z = heun(), x
    with torch.inference_mode(), fast_matmul(x.device.type):
        for k in range(steps):
            low, high = (torch.where(t > 0, NEARLY + (t - NEARLY) * i / steps, 0.0) for i in (k, k + 1))
            now = Step(z, low, denoiser(z, low, None))
            z = torch.where(t > 0, step(lambda z, t: denoiser(z, t, None), now, high, denoiser.schedule, None, None), x)
    return z


def interpolate(
    model: Lion,
    one: Latent,
    other: Latent,
    count: int,
    label: Int[Tensor, " batch"],
    way: Way | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """`count` shapes from `one` to `other` (each a single shape), both included: noise is interpolated, √(1 − s) and √s.

    z₀ first, then latent points given the z₀ between, those of the ends being matched by the least sum of squared distances.
    """
    way, prior = way or Way(), model.prior
    share = torch.linspace(0, 1, count, device=one.z.device)[:, None, None]
    label = label[:1].expand(count)
    order = matched(one.h[0, :, :3], other.h[0, :, :3])
    ends = torch.cat([prior.packed(one), prior.packed(Latent(other.z, other.h[:, order]))])

    def path(network: torch.nn.Module, ends: Tensor, t: Tensor) -> Tensor:
        top = noised(denoiser_of(network, label[:1].expand(2), 0.0), ends, t.expand(2, -1, -1), way.steps)
        return between(top, share)

    def back(network: torch.nn.Module, start: Tensor, t: Tensor) -> Tensor:
        return walked(denoiser_of(network, label, 0.0), start, t.expand(count, -1, -1), way, generator)

    t = torch.ones(1, 1, 1, dtype=torch.float64)
    whole = ends[:, :ROWS].flatten(1)[:, None]
    z = back(prior.whole, path(prior.whole, whole, t), t).reshape(count, ROWS, -1)
    t = (torch.arange(ends.shape[1]) >= ROWS).double()[None, :, None]
    start = torch.cat([z, path(prior.points, ends, t)[:, ROWS:]], 1)
    return prior.unpacked(back(prior.points, start, t))


def between(ends: Float[Tensor, "2 variable channel"], share: Float[Tensor, "step 1 1"]) -> Tensor:
    """√(1 − s) a + √s b, which keeps the variance of independent noise."""
    return (1 - share).sqrt() * ends[:1] + share.sqrt() * ends[1:]


def matched(a: Float[Tensor, "anchor 3"], b: Float[Tensor, "anchor 3"]) -> Int[Tensor, " anchor"]:
    """The order of b in which the sum of squared distances to a is least."""
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(torch.cdist(a, b).square().cpu().numpy())[1])
