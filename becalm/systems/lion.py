"""LION with a latent point for each point (Zeng et al., NeurIPS 2022, § 3), on two-stream transformers in place of voxels.

h₀ ∈ ℝ^{N×(3+1)} is a smoothed noisy copy of the points, for encoder and decoder begin as near the identity: μ = x + 0.01 · out,
x̂ = h + 0.01 · out, log σ = −6 + out. The likelihood is Laplace's, an L1 distance of points that correspond. The head of z₀
begins at zero and every log σ is bounded, so that a fresh model gives back what it is given whatever z₀ is drawn.
"""

from typing import NamedTuple

import torch
from torch import nn

from becalm.core import objective, times
from becalm.core.process import corrupt, noise_like
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import CoordinateEmbedding
from becalm.nets.latent import LEAST, MOST, Gaussian, GlobalDenoiser, zeroed
from becalm.nets.precision import fast_matmul
from becalm.nets.streams import TwoStream
from becalm.systems.lion_sparse import Way, denoiser_of, unit_guess, walked
from becalm.systems.lion_sparse_autoencoder import Latent, Posterior

SKIP = 0.01
"""Weight of what networks add to the identity."""


class Width(NamedTuple):
    """The size of a dense LION."""

    numbers: int = 128
    """Of z₀."""
    points: int = 96
    """Width of the stream of points."""
    tokens: int = 160
    """Width of the tokens."""
    heads: int = 4
    """Attention heads."""
    rounds: int = 3
    """Times that tokens read and write."""


class Summary(nn.Module):
    """q(z₀ | x): every point by itself, then their mean and maximum."""

    def __init__(self, width: int, numbers: int):
        super().__init__()
        self.each = nn.Sequential(CoordinateEmbedding(3, width), nn.SiLU(), nn.Linear(width, 2 * width), nn.SiLU())
        self.mix = nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width), nn.SiLU())
        self.tell = zeroed(nn.Linear(2 * width, 2 * numbers))

    def forward(self, points: Float[Tensor, "batch point 3"]) -> Gaussian:
        """The posterior, N(0, e⁻⁶) at first."""
        seen = self.each(points)
        mean, log_sigma = self.tell(self.mix(torch.cat([seen.mean(1), seen.amax(1)], -1))).float().chunk(2, -1)
        return Gaussian(mean, (log_sigma - 3).clamp(LEAST, MOST))


class Conditioned(nn.Module):
    """A two-stream denoiser of latent points [batch, point, 4] that is told z₀ beside level and class."""

    def __init__(self, width: Width, classes: int):
        super().__init__()
        self.label = nn.Embedding(1 + classes, width.numbers)
        self.network = TwoStream(4, 4, 2 * width.numbers, tuple(width[1:]))  # type: ignore[arg-type]

    def told(self, z: Float[Tensor, "batch number"]):
        """The network for one z₀, called as `lion.denoiser_of` does."""

        def network(h: Tensor, t: Tensor, label: Tensor) -> Tensor:
            return self.network(h, t[:, :1], torch.cat([z, self.label(label)], -1))

        return network


class DenseLion(nn.Module):
    """Both stages; `deviation` holds those of the latents' channels, z₀ having one in all."""

    deviation: Tensor

    def __init__(self, classes: list[str], width: list[int] | None = None):
        super().__init__()
        made = Width(*(width or Width()))
        self.config, self.classes, self.width = {"classes": classes, "width": list(made)}, classes, made
        self.summary = Summary(made.points, made.numbers)
        self.encoder = TwoStream(3, 8, made.numbers, tuple(made[1:]))  # type: ignore[arg-type]
        self.decoder = TwoStream(4, 3, made.numbers, tuple(made[1:]))  # type: ignore[arg-type]
        self.whole, self.points = GlobalDenoiser(made.numbers, len(classes)), Conditioned(made, len(classes))
        self.register_buffer("deviation", torch.ones(5))

    def encode(
        self, points: Float[Tensor, "batch point 3"], generator: torch.Generator | None
    ) -> tuple[Posterior, Latent]:
        """The posterior of clouds, point by point, and a draw of it."""
        z_given = self.summary(points)
        z = z_given.draw(noise_like(z_given.mean, generator))
        mean, log_sigma = self.encoder(points, points.new_zeros(1, 1, 1).expand(len(points), 1, 1), z).chunk(2, -1)
        mean = torch.cat([points + SKIP * mean[..., :3], SKIP * mean[..., 3:]], -1)
        h_given = Gaussian(mean, (log_sigma - 6).clamp(LEAST, MOST))
        return Posterior(z_given, h_given), Latent(z, h_given.draw(noise_like(mean, generator)))

    def decode(self, latent: Latent) -> Float[Tensor, "batch point 3"]:
        """As many points as latent points."""
        level = latent.h.new_zeros(len(latent.h), 1, 1)
        return latent.h[..., :3] + SKIP * self.decoder(latent.h, level, latent.z)

    def measure(self, latent: Latent) -> None:
        """Take the deviations by which latents become variables of unit power."""
        self.deviation.copy_(torch.cat([latent.h.std((0, 1)), latent.z.std()[None]]).clamp_min(1e-3))


def autoencoder_losses(
    model: DenseLion, points: Float[Tensor, "batch point 3"], weight: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Σ|x − x̂| + λ (KL z₀ + KL h₀), sums over a shape's numbers as in the paper, divided by its coordinates."""
    posterior, latent = model.encode(points, generator)
    absolute = (points - model.decode(latent)).abs().sum((1, 2)).mean()
    kl_z, kl_h = (part.divergence().flatten(1).sum(1).mean() for part in posterior)
    count = points.shape[1] * 3
    terms = {"l1": absolute / count, "kl_z": kl_z / model.width.numbers, "kl_h": kl_h / (points.shape[1] * 4)}
    return terms | {"loss": (absolute + weight * (kl_z + kl_h)) / count}


def prior_losses(
    model: DenseLion, latent: Latent, label: Int[Tensor, " batch"], generator: torch.Generator
) -> dict[str, Tensor]:
    """Velocity errors of ε_θ(z_t, t) and ε_ψ(h_t, z₀, t), one t a shape for both, w(t) = 1."""
    shown = torch.where(torch.rand(len(label), generator=generator).to(label.device) < 0.1, 0, label)
    t = times.stratified(len(label), 1, generator).to(label.device)
    guess, rest = unit_guess(t.float())
    pairs = {
        "whole": (model.whole, (latent.z / model.deviation[4])[:, None]),
        "points": (model.points.told(latent.z), latent.h / model.deviation[:4]),
    }
    terms = {}
    for name, (network, x) in pairs.items():
        z, eps = corrupt(x, t, Rectified(), generator)
        terms[name] = objective.squared_error(guess * z + rest * network(z, t.float(), shown), eps - x).mean()
    return terms | {"loss": terms["whole"] + terms["points"]}


def generate(
    model: DenseLion, label: Int[Tensor, " batch"], points: int, way: Way | None = None, generator=None
) -> Float[Tensor, "batch point 3"]:
    """New shapes: z₀, then latent points, then points."""
    way, batch = way or Way(), len(label)
    t = torch.ones(batch, 1, 1, dtype=torch.float64, device=label.device)
    first = noise_like(torch.empty(batch, 1, model.width.numbers, device=label.device), generator)
    z = walked(denoiser_of(model.whole, label, way.guidance), first, t, way, generator)[:, 0] * model.deviation[4]
    start = noise_like(torch.empty(batch, points, 4, device=label.device), generator)
    told = denoiser_of(model.points.told(z), label, way.guidance)
    h = walked(told, start, t, way, generator) * model.deviation[:4]
    with torch.inference_mode(), fast_matmul(h.device.type):
        return model.decode(Latent(z, h))
