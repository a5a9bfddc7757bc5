"""SBD: score-based diffusion denoising. Reverse diffusion that starts at the scan and looks back at it at every step.

In the `explode` scaling the scan itself is y_T = x + σ_T ε. What the scan says (F_T: features and answer of a `Jets` network) is
computed once; a small head ε_θ(y, σ, F_T) then leads every point from its own σ_T to zero. Training draws y_t on one trajectory
with the scan: the bridge pinned at x and y_T, which is the process's own posterior q(y_t | y_T, x). As α = 1, all is said in
displacements from the scan's points: y_T is 0 there.
"""

from collections.abc import Callable, Generator, Iterator
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
from becalm.nets.bridge import Bridge, Scan
from becalm.nets.precision import inference_iter
from becalm.points.estimate import noise_levels
from becalm.points.neighbours import morton_codes
from becalm.points.polyfit import SCALES, VECTORS_PER_SCALE
from becalm.points.progress import DenoiseProgress
from becalm.points.regularize import equalize_spacing
from becalm.systems.jets import FittedCloud, Jets, TrainingItem, fit_cloud

NORMALS = 3
"""Normals a fitted cloud carries at each point."""

LEAST = 0.02
"""Least noise, in local units, that the network is trained at."""

REACH = 4.0
"""Longest displacement proposed, in σ: noise is hardly ever longer."""

THICK = 0.6
"""Where σ is this much of the local unit or more, the result is read once more: smaller scales fit a thinner cloud."""

ROWS = 2**16
"""Points that pass through the head at a time, for memory's sake."""

Rule = Literal["mean", "flow", "ancestral"]
Weight = Callable[[Tensor, Tensor, Tensor], Tensor]


class SBD(nn.Module):
    """The trunk that reads the scan, and the head that leads from it."""

    def __init__(self, trunk: dict, hidden: int = 128):
        super().__init__()
        self.config = {"trunk": trunk, "hidden": hidden}
        self.trunk = Jets(**trunk)
        width = self.trunk.network.leave.in_features
        self.head = Bridge(width, VECTORS_PER_SCALE * len(SCALES), NORMALS, hidden)

    def forward(self, y: Tensor, sigma: Tensor, top: Tensor, scan: Scan) -> Tensor:
        """x̂ for displacements y [batch, point, 3] at noise σ [batch, point, 1], from a scan with noise σ_T [point, 1]."""
        unit = scan.scale[:, None]
        given = [y / unit, (sigma / unit).expand(*y.shape[:2], 1), (top / unit).expand(len(unit), 1)]
        rows = torch.arange(len(unit), device=y.device).split(ROWS)
        parts = [
            self.head(given[0][:, r], given[1][:, r], given[2][r], Scan(*(known[r] for known in scan))) for r in rows
        ]
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

        Where the noise is thick, what is left is read once more as a thinner scan with its own, estimated noise. At the end
        points are spaced evenly. The seed matters to the rule `ancestral` alone.
        """
        order = np.argsort(morton_codes(xyz))  # near in memory what is near in space
        place = np.argsort(order)
        level = np.broadcast_to(noise_levels(xyz) if sigma is None else sigma, len(xyz))[order]
        found, thickness = yield from self._sweep(xyz[order], level, steps, rule, seed, 0.0)
        if thickness >= THICK:
            yield DenoiseProgress(0.5, found[place], level[place])
            left = np.minimum(noise_levels(found), level)  # no thicker than it was
            found, _ = yield from self._sweep(found, left, steps, rule, seed, 0.5)
        yield DenoiseProgress(1.0, equalize_spacing(found, level)[place], level[place])

    def _sweep(
        self, xyz: np.ndarray, level: np.ndarray, steps: int, rule: Rule, seed: int, begin: float
    ) -> Generator[DenoiseProgress, None, tuple[np.ndarray, float]]:
        """Read a cloud with noise [n] and walk from it to zero; where it ends, and the median of σ in local units."""
        scan, found = read(self, xyz, level), xyz
        yield DenoiseProgress(begin + 0.4)
        for k, state in enumerate(inference_iter(walk(self, scan, level, steps, rule, seed)), 1):
            found = xyz + state.prediction.x[0].double().numpy()
            yield DenoiseProgress(begin + 0.4 + 0.1 * k / (steps + 1))
        return found, float(np.median(level / scan.scale.numpy()))


def features(trunk: Jets, cloud: FittedCloud, sigma: Float[Tensor, " point"], chunk: int | None = None) -> Scan:
    """F_T: output and inner features of the trunk for a scan, given the noise level σ; no proposal exceeds REACH σ."""
    seen: list[Tensor] = []
    # The hidden features are what enters the trunk's last layer; a hook reads them without another copy of its rounds.
    handle = trunk.network.leave.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        for answer in trunk.iter_layers(cloud, sigma, chunk):
            pass
    finally:
        handle.remove()
    scale = cloud.graph.scale
    proposals = torch.cat([(answer.displacement / scale[:, None])[:, None], cloud.candidates], 1)
    longest = (REACH * sigma / scale)[:, None, None]
    proposals = proposals * (longest / proposals.norm(dim=2, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    return Scan(scale, seen[-1].to(scale), proposals[:, 0], proposals[:, 1:], cloud.graph.normals)


def read(model: SBD, xyz: np.ndarray, sigma: np.ndarray) -> Scan:
    """F_T of a cloud [n, 3] with noise σ [n]."""
    cloud, level = fit_cloud(xyz), torch.as_tensor(sigma, dtype=torch.float32)
    return next(inference_iter(features(model.trunk, cloud, level, chunk) for chunk in (512,)))


def schedule_of(sigma: Float[Tensor, "*shape"]) -> Karras:
    """σ_t = t max(σ): linear, and 0 at t = 0."""
    return Karras(sigma_min=0.0, sigma_max=float(sigma.max()) or 1.0, rho=1.0)


def time_of(sigma: Float[Tensor, "*shape"], schedule: Karras) -> Float[Tensor, "*shape"]:
    """The t at which the noise is σ."""
    return schedule.time(2 * sigma.double().log())


def denoiser_of(model: SBD, scan: Scan, top: Float[Tensor, "point 1"], schedule: Karras) -> Denoiser:
    """ε_θ(y, σ, F_T) as the core takes it: from displacements y at times t to x̂ and ε̂ = (y − x̂)/σ."""
    return Denoiser(lambda y, t, given: model(y, schedule(t).sigma.to(y), top, scan), schedule, clean)


def mean_only() -> Stepper:
    """The ancestral mean, without its noise: in a Gaussian world it ends in the posterior mean, however many its steps."""

    def stepper(ask, now, s, schedule, previous, generator):
        return reverse_moments(now.prediction, now.z, now.t, s, schedule)[0]

    return stepper


RULES: dict[Rule, Stepper] = {"mean": mean_only(), "flow": reverse(eta=0), "ancestral": reverse(eta=1)}
"""Ancestral mean; the unconditional flow, which keeps the ratio of the noises; ancestral sampling."""


def walk(model: SBD, scan: Scan, sigma: np.ndarray, steps: int, rule: Rule = "mean", seed: int = 0) -> Iterator[Step]:
    """From the scan with noise σ [n] to zero in `steps` equal parts of σ; positions are displacements [1, n, 3]."""
    top = torch.as_tensor(sigma, dtype=torch.float32)[:, None]
    schedule = schedule_of(top)
    start, t = torch.zeros(1, len(top), 3), time_of(top, schedule)[None]
    generator = torch.Generator().manual_seed(seed)
    return sample(denoiser_of(model, scan, top, schedule), start, t, together(steps), RULES[rule], None, generator)


def uncertainty(
    model: SBD, xyz: np.ndarray, runs: int = 8, seed: int = 0, sigma: float | np.ndarray | None = None, steps: int = 4
) -> np.ndarray:
    """Standard deviation [n] per coordinate, across ancestral runs, of where each point of a cloud [n, 3] ends."""
    level = np.broadcast_to(noise_levels(xyz, seed) if sigma is None else sigma, len(xyz)).copy()
    scan, ends = read(model, xyz, level), []
    for run in range(runs):
        end = torch.zeros(1, len(xyz), 3)  # where there is no noise, no step is taken
        for state in inference_iter(walk(model, scan, level, steps, "ancestral", seed * runs + run)):
            end = state.z
        ends.append(end[0].double().numpy())
    return np.sqrt(np.var(ends, axis=0, ddof=1).mean(-1))


def even(sigma: Tensor, top: Tensor, unit: Tensor) -> Tensor:
    """λ = 1."""
    return torch.ones_like(sigma)


def bound(sigma: Tensor, top: Tensor, unit: Tensor) -> Tensor:
    """λ = γ′(τ)/2 = σ_T/σ with σ = σ_T τ: the likelihood bound's weight (VDM, eq. 17), the limit of many steps of DDPM's
    β_t²/(2 β̃_t α_t (1 − ᾱ_t))."""
    return top / sigma


def notes(sigma: Tensor, top: Tensor, unit: Tensor) -> Tensor:
    """λ = β_t²/(1 − ᾱ_t) in DDPM's own chain (β from 10⁻⁴ to 0.02 in 1000 steps), where its σ is that in local units."""
    chain = Betas()
    t = chain.time(2 * (sigma / unit).double().log())
    kept, before = chain(t).alpha.square(), chain((t - 1 / chain.steps).clamp_min(0)).alpha.square()
    return ((1 - kept / before).square() / (1 - kept)).to(sigma)


WEIGHTS: dict[str, Weight] = {"even": even, "bound": bound, "notes": notes}


def sample_bridge(
    x: Float[Tensor, "point 3"], top: Float[Tensor, "point 1"], draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """y_t and σ_t, each `draws` times: on the bridge from the scan (0) to x, τ = σ_t/σ_T uniform in (0, 1]."""
    schedule = schedule_of(top)
    end = time_of(top, schedule)[None]
    t = end * (1 - times.independent(draws, len(x), generator).to(x.device))
    pinned = x.expand(draws, -1, -1)
    mean, deviation = posterior(torch.zeros_like(pinned), pinned, end.expand_as(t), t, schedule)
    return mean + deviation * noise_like(pinned, generator), schedule(t).sigma.to(x)


def losses(
    model: SBD,
    sample: TrainingItem,
    sigma: Float[Tensor, " point"],
    weight: str,
    draws: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """E λ(t) |(y_t − x)/σ_t − ε_θ(y_t, σ_t, F_T)|² over points of a scan whose noise is thought to be σ, as "pair".

    `plane` is the part of the same error across the surface, which is what shows; "loss" is their sum s as 8 log(1 + s/8):
    where there is next to no noise all is large against it, and the logarithm keeps such scans from ruling the rest.
    """
    scale = sample.cloud.graph.scale
    top = torch.maximum(sigma, LEAST * scale)
    scan = features(model.trunk, sample.cloud, top)
    x = sample.clean - sample.cloud.graph.points
    y, level = sample_bridge(x, top[:, None], draws, generator)
    error = (x - model(y, level, top[:, None], scan)) / level
    share = WEIGHTS[weight](level, top[:, None], scale[:, None])[..., 0] * sample.interior
    share = share / share.mean().clamp_min(1e-30)
    pair = (share * error.square().sum(-1)).mean() / 3
    plane = (share * (error * sample.normals).sum(-1).square()).mean()
    return {"pair": pair, "plane": plane, "loss": 8 * torch.log1p((pair + plane) / 8)}
