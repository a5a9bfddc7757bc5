"""SBD: score-based diffusion denoising. Reverse diffusion that starts at the scan and is conditioned on it at every step.

In the `explode` scaling the scan itself is y_T = x + σ_T ε. The scan's features F_T (those of a `Jets` network, and its
estimate of the clean points) are computed once; a small head ε_θ(y, σ, F_T) then takes every point from its own σ_T to zero.
Training draws y_t on one trajectory with the scan: on the bridge between x and y_T, which is the process's own posterior q(y_t
| y_T, x). As α = 1, positions are displacements from the scan's points: y_T is 0.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from becalm.core import times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean
from becalm.core.process import noise_like, posterior, reverse_moments
from becalm.core.sample import Step, Stepper, reverse, sample
from becalm.core.schedule import Betas, Karras
from becalm.core.typing import Float, Tensor
from becalm.core.walk import together
from becalm.nets.bridge import Bridge, ScanFeatures
from becalm.nets.precision import inference_iter
from becalm.points.estimate import noise_levels
from becalm.points.neighbours import morton_codes
from becalm.points.polyfit import VECTORS_PER_SCALE
from becalm.points.progress import DenoiseProgress
from becalm.points.regularize import equalize_spacing
from becalm.systems.jets import Jets
from becalm.systems.jets_fits import N_SCALES, FittedCloud, fit_cloud
from becalm.systems.jets_training import TrainingItem

NORMALS = 3
"""Normals that a fitted cloud has at each point."""

MIN_NOISE = 0.02
"""Least noise level, in local units, in training."""

MAX_DISPLACEMENT = 4.0
"""Greatest length of a candidate displacement, in σ: noise is hardly ever longer."""

SECOND_PASS_NOISE = 0.6
"""Noise, in local units, from which on a second pass follows: after the first the cloud is thinner, and smaller scales fit."""

HEAD_CHUNK = 2**16
"""Points that pass through the head at a time, to bound memory."""

Rule = Literal["mean", "flow", "ancestral"]
"""The update of a step: the ancestral mean, the deterministic flow, or ancestral sampling."""

LossWeight = Callable[[Tensor, Tensor, Tensor], Tensor]
"""λ(σ, σ_T, local unit): the weight of the loss at noise σ."""


class SBD(nn.Module):
    """The trunk, a `Jets` network that extracts the scan's features, and the head of the reverse diffusion."""

    def __init__(self, trunk: dict, hidden: int = 128):
        super().__init__()
        self.config = {"trunk": trunk, "hidden": hidden}
        self.trunk = Jets(**trunk)
        width = self.trunk.config["width"]
        self.head = Bridge(width, VECTORS_PER_SCALE * N_SCALES, NORMALS, hidden)

    def forward(self, y: Tensor, sigma: Tensor, sigma_top: Tensor, scan: ScanFeatures) -> Tensor:
        """x̂ for displacements y [batch, point, 3] at noise σ [batch, point, 1], from a scan with noise σ_T [point, 1]."""
        unit = scan.scale[:, None]
        y, sigma, sigma_top = y / unit, (sigma / unit).expand(*y.shape[:2], 1), (sigma_top / unit).expand(len(unit), 1)
        rows = torch.arange(len(unit), device=y.device).split(HEAD_CHUNK)
        parts = [self.head(y[:, r], sigma[:, r], sigma_top[r], ScanFeatures(*(part[r] for part in scan))) for r in rows]
        return unit * torch.cat(parts, 1)

    def iter_denoise(
        self,
        xyz: np.ndarray,
        sigma: float | np.ndarray | None = None,
        seed: int = 0,
        steps: int = 4,
        rule: Rule = "mean",
    ) -> Iterator[DenoiseProgress]:
        """Denoise a cloud [n, 3] of at least 16 points with noise σ (one, or [n]; None: estimated) in K = `steps` steps.

        Thick noise takes a second pass, for which the result of the first is a scan with noise of its own, estimated. At the end
        points are spaced evenly. The seed has an effect with the rule `ancestral` only.
        """
        order = np.argsort(morton_codes(xyz))  # near in memory what is near in space
        place = np.argsort(order)
        level = np.broadcast_to(noise_levels(xyz) if sigma is None else sigma, len(xyz))[order]
        moved, thickness = yield from self._denoise_once(xyz[order], level, steps, rule, seed, 0.0)
        if thickness >= SECOND_PASS_NOISE:
            yield DenoiseProgress(0.5, moved[place], level[place])
            left = np.minimum(noise_levels(moved), level)  # no thicker than before
            moved, _ = yield from self._denoise_once(moved, left, steps, rule, seed, 0.5)
        yield DenoiseProgress(1.0, equalize_spacing(moved, level)[place], level[place])

    def _denoise_once(
        self, xyz: np.ndarray, level: np.ndarray, steps: int, rule: Rule, seed: int, begin: float
    ) -> Generator[DenoiseProgress, None, tuple[np.ndarray, float]]:
        """The reverse diffusion of a cloud with noise [n]: its final positions, and the median of σ in local units."""
        scan, moved = extract_features(self, xyz, level), xyz
        yield DenoiseProgress(begin + 0.4)
        for k, state in enumerate(inference_iter(run_sampler(self, scan, level, steps, rule, seed)), 1):
            moved = xyz + state.prediction.x[0].double().cpu().numpy()
            yield DenoiseProgress(begin + 0.4 + 0.1 * k / (steps + 1))
        return moved, float(np.median(level / scan.scale.cpu().numpy()))


@dataclass(frozen=True)
class Sampled:
    """A model that denoises clouds by a given rule, in a given number of steps."""

    model: SBD
    rule: Rule = "mean"
    steps: int = 4

    def iter_denoise(self, xyz: np.ndarray, sigma: float | None = None, seed: int = 0) -> Iterator[DenoiseProgress]:
        """As `SBD.iter_denoise`."""
        return self.model.iter_denoise(xyz, sigma, seed, self.steps, self.rule)


def scan_features(
    trunk: Jets, cloud: FittedCloud, sigma: Float[Tensor, " point"], chunk: int | None = None
) -> ScanFeatures:
    """F_T: the trunk's hidden features, its estimate and the candidate displacements, none longer than MAX_DISPLACEMENT σ."""
    hidden: list[Tensor] = []
    # The hidden features are those that the trunk's last layer returns, which a hook records.
    handle = trunk.network.layers[-1].register_forward_hook(lambda module, inputs, output: hidden.append(output[0]))
    try:
        *_, output = trunk.iter_layers(cloud, sigma, chunk)
    finally:
        handle.remove()
    assert output is not None, "the last layer has an output"
    scale = cloud.graph.scale
    vectors = torch.cat([(output.displacement / scale[:, None])[:, None], cloud.candidates], 1)
    longest = (MAX_DISPLACEMENT * sigma / scale)[:, None, None]
    vectors = vectors * (longest / vectors.norm(dim=2, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    return ScanFeatures(scale, hidden[-1].to(scale), vectors[:, 0], vectors[:, 1:], cloud.graph.normals)


def extract_features(model: SBD, xyz: np.ndarray, sigma: np.ndarray) -> ScanFeatures:
    """F_T of a cloud [n, 3] with noise σ [n]."""
    device = next(model.parameters()).device
    cloud, level = fit_cloud(xyz).to(device), torch.as_tensor(sigma, dtype=torch.float32).to(device)
    return next(inference_iter(scan_features(model.trunk, cloud, level, chunk) for chunk in (512,)))


def linear_schedule(sigma: Float[Tensor, "*shape"]) -> Karras:
    """σ_t = t max(σ): linear, and 0 at t = 0."""
    return Karras(sigma_min=0.0, sigma_max=float(sigma.max()) or 1.0, rho=1.0)


def time_at(sigma: Float[Tensor, "*shape"], schedule: Karras) -> Float[Tensor, "*shape"]:
    """The t at which the noise level is σ."""
    return schedule.time(2 * sigma.double().log())


def displacement_denoiser(
    model: SBD, scan: ScanFeatures, sigma_top: Float[Tensor, "point 1"], schedule: Karras
) -> Denoiser:
    """ε_θ(y, σ, F_T) as a `Denoiser`: from displacements y at times t to x̂ and ε̂ = (y − x̂)/σ."""
    return Denoiser(lambda y, t, given: model(y, schedule(t).sigma.to(y), sigma_top, scan), schedule, clean)


def ancestral_mean() -> Stepper:
    """Steps to the mean of the ancestral update, without noise: for Gaussian data they end in the posterior mean, in any
    number."""

    def stepper(ask, now, s, schedule, previous, generator):
        return reverse_moments(now.prediction, now.z, now.t, s, schedule)[0]

    return stepper


RULES: dict[Rule, Stepper] = {"mean": ancestral_mean(), "flow": reverse(eta=0), "ancestral": reverse(eta=1)}
"""The stepper of each rule."""


def run_sampler(
    model: SBD, scan: ScanFeatures, sigma: np.ndarray, steps: int, rule: Rule = "mean", seed: int = 0
) -> Iterator[Step]:
    """Reverse diffusion from the scan with noise σ [n] to zero in `steps` equal steps of σ; states are displacements [1, n,
    3]."""
    sigma_top = torch.as_tensor(sigma, dtype=torch.float32).to(scan.scale)[:, None]
    schedule = linear_schedule(sigma_top)
    start, t = sigma_top.new_zeros(1, len(sigma_top), 3), time_at(sigma_top, schedule)[None]
    generator = torch.Generator().manual_seed(seed)
    return sample(
        displacement_denoiser(model, scan, sigma_top, schedule), start, t, together(steps), RULES[rule], None, generator
    )


def uncertainty(
    model: SBD, xyz: np.ndarray, runs: int = 8, seed: int = 0, sigma: float | np.ndarray | None = None, steps: int = 4
) -> np.ndarray:
    """Standard deviation [n] per coordinate of each point's final position over ancestral runs from a cloud [n, 3]."""
    level = np.broadcast_to(noise_levels(xyz, seed) if sigma is None else sigma, len(xyz)).copy()
    scan, ends = extract_features(model, xyz, level), []
    for run in range(runs):
        end = torch.zeros(1, len(xyz), 3)  # without noise no step is taken
        for state in inference_iter(run_sampler(model, scan, level, steps, "ancestral", seed * runs + run)):
            end = state.z
        ends.append(end[0].double().cpu().numpy())
    return np.sqrt(np.var(ends, axis=0, ddof=1).mean(-1))


def uniform_weight(sigma: Tensor, sigma_top: Tensor, unit: Tensor) -> Tensor:
    """λ = 1."""
    return torch.ones_like(sigma)


def likelihood_weight(sigma: Tensor, sigma_top: Tensor, unit: Tensor) -> Tensor:
    """λ = γ′(τ)/2 = σ_T/σ with σ = σ_T τ: the weight of the likelihood bound (VDM, eq. 17), the limit for many steps of DDPM's
    β_t²/(2 β̃_t α_t (1 − ᾱ_t))."""
    return sigma_top / sigma


def ddpm_weight(sigma: Tensor, sigma_top: Tensor, unit: Tensor) -> Tensor:
    """λ = β_t²/(1 − ᾱ_t) in DDPM's chain (β from 10⁻⁴ to 0.02 in 1000 steps), at the t where its σ is that in local units."""
    chain = Betas()
    t = chain.time(2 * (sigma / unit).double().log())
    alpha_bar, before = chain(t).alpha.square(), chain((t - 1 / chain.steps).clamp_min(0)).alpha.square()
    return ((1 - alpha_bar / before).square() / (1 - alpha_bar)).to(sigma)


LOSS_WEIGHTS: dict[str, LossWeight] = {"uniform": uniform_weight, "likelihood": likelihood_weight, "ddpm": ddpm_weight}


def sample_bridge(
    x: Float[Tensor, "point 3"], sigma_top: Float[Tensor, "point 1"], draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """y_t and σ_t, `draws` samples of each point: on the bridge between the scan (0) and x, with σ_t/σ_T uniform in (0, 1]."""
    schedule = linear_schedule(sigma_top)
    end = time_at(sigma_top, schedule)[None]
    t = end * (1 - times.independent(draws, len(x), generator).to(x.device))
    pinned = x.expand(draws, -1, -1)
    mean, deviation = posterior(torch.zeros_like(pinned), pinned, end.expand_as(t), t, schedule)
    return mean + deviation * noise_like(pinned, generator), schedule(t).sigma.to(x)


def losses(
    model: SBD,
    item: TrainingItem,
    sigma: Float[Tensor, " point"],
    weight: str,
    draws: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """E λ(t) |(y_t − x)/σ_t − ε_θ(y_t, σ_t, F_T)|² over the points of a scan whose noise is assumed to be σ, as "pair".

    `plane` is the part of the same error across the surface. "loss" is 8 log(1 + s/8) of their sum s: errors are relative to σ,
    and the logarithm keeps scans with almost no noise from dominating.
    """
    scale = item.cloud.graph.scale
    sigma_top = torch.maximum(sigma, MIN_NOISE * scale)
    scan = scan_features(model.trunk, item.cloud, sigma_top)
    x = item.clean - item.noisy
    y, level = sample_bridge(x, sigma_top[:, None], draws, generator)
    error = (x - model(y, level, sigma_top[:, None], scan)) / level
    weights = LOSS_WEIGHTS[weight](level, sigma_top[:, None], scale[:, None])[..., 0] * item.interior
    weights = weights / weights.mean().clamp_min(1e-30)
    pair = (weights * error.square().sum(-1)).mean() / 3
    plane = (weights * (error * item.normals).sum(-1).square()).mean()
    return {"pair": pair, "plane": plane, "loss": 8 * torch.log1p((pair + plane) / 8)}
