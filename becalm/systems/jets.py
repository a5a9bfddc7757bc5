"""Jets: becalm's own point-cloud denoiser. Local polynomial fits give candidate displacements; an equivariant network
weighs them.

Planes and quadrics are fitted at nine scales, on four levels of a pyramid (points/pyramid.py, points/polyfit.py). Seen from each
point, their residuals measure white noise, correlated noise and curvature there, their offsets are candidate displacements, and
`Blend` (nets/blend.py) weighs them over a neighbour graph.
Trained on index-paired noise, the displacement tends to the posterior mean x̂ = E[x | scan], so each pass over the cloud is one
denoising step of the `explode` process from its own noise level to zero.
"""

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Bool, Float, Tensor
from becalm.nets.blend import Blend, BlendOutput
from becalm.nets.precision import inference_iter
from becalm.points.neighbours import morton_codes
from becalm.points.polyfit import VECTORS_PER_SCALE
from becalm.points.progress import DenoiseProgress
from becalm.points.regularize import equalize_spacing
from becalm.systems.jets_fits import (
    CALM_SHARES,
    EDGE_RANKS,
    N_FEATURES,
    N_SCALES,
    NEAR_EDGES,
    FittedCloud,
    fit_cloud,
    residual_noise,
)

SECOND_PASS_NOISE = 0.55
"""Noise, in local units, from which on a second pass follows: after the first the cloud is thinner, and smaller scales fit."""

WHITE_RANGE = (0.25, 0.45)
"""Share of the noise that neighbours have in common up to which points are spaced evenly, and from which on they are not."""

LONE = 4.0
"""A point whose neighbours are this many times as far away as theirs is alone, and not moved."""

MAX_MOVE = 3.5
"""No point moves farther than this many times the noise found at it."""

SURFACE_RANGE = (0.3, 0.7)
"""Points whose probability to be of a surface is below the first do not move, above the second they move freely. As others count
RARE_WEIGHT times in its training (`jets_estimates`), these are about three quarters and nineteen in twenty."""


class Jets(nn.Module):
    """The network: from a cloud's local fits to displacements, noise levels and errors."""

    def __init__(self, width: int = 64, layers: int = 4, channels: int = 4):
        super().__init__()
        self.config = {"width": width, "layers": layers, "channels": channels}
        self.network = Blend(N_FEATURES, VECTORS_PER_SCALE * N_SCALES, width, layers, channels)

    def adapt_former_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of before `calm_residuals`, or of before estimates saw how inputs deviate around a point, get zeros there."""
        state, added = dict(state), len(CALM_SHARES) * N_SCALES
        if len(state.get("network.mean", ())) == N_FEATURES - added:
            for name, value in (("network.mean", 0.0), ("network.deviation", 1.0)):
                state[name] = torch.cat([state[name], state[name].new_full((added,), value)])
            for name in ("network.enter.0.weight", "network.leave.0.weight"):
                known, hint = state[name].split([state[name].shape[1] - 2, 2], 1)  # the last two are the known noise
                state[name] = torch.cat([known, known.new_zeros(len(known), added), hint], 1)
        weight = state.get("network.leave.0.weight")
        if weight is not None:
            expected = self.network.state_dict()["leave.0.weight"].shape[1]
            state["network.leave.0.weight"] = nn.functional.pad(weight, (0, max(expected - weight.shape[1], 0)))
        return state

    def forward(self, cloud: FittedCloud, sigma: Float[Tensor, " point"]) -> BlendOutput:
        """`sigma` is the known noise level per point in the cloud's units, NaN where it is not known."""
        *_, output = self.iter_layers(cloud, sigma)
        assert output is not None
        return output

    def iter_layers(
        self,
        cloud: FittedCloud,
        sigma: Float[Tensor, " point"],
        chunk: int | None = None,
        wanted: Bool[Tensor, " point"] | None = None,
    ) -> Iterator[BlendOutput | None]:
        """As `Blend.iter_layers`; log-variances of the network are relative to `residual_noise`."""
        base = 2 * residual_noise(cloud).log()
        for output in self.network.iter_layers(*cloud, sigma, chunk, wanted):
            yield output and output._replace(log_var=base + output.log_var, log_noise=base + output.log_noise)

    def iter_denoise(
        self, xyz: np.ndarray, sigma: float | np.ndarray | None = None, seed: int = 0
    ) -> Iterator[DenoiseProgress]:
        """Denoise a cloud [n, 3] of at least 16 points; the noise level σ (one, or [n]; None: unknown) conditions the first pass.

        Deterministic: the seed has no effect.
        """
        del seed
        order = np.argsort(morton_codes(xyz))  # near in memory what is near in space
        place = np.argsort(order)
        unknown = np.full(len(xyz), np.nan)
        level = unknown if sigma is None else np.broadcast_to(sigma, len(xyz))[order]
        start = xyz[order]
        first = result = yield from self._denoise_once(start, level, (0.0, 0.6))
        found = {name: getattr(first, name)[place] for name in ("shared", "length", "surface")}
        noise = first.noise if sigma is None else level
        again = first.thickness >= SECOND_PASS_NOISE
        if again.any():
            yield DenoiseProgress(0.6, first.xyz[place], noise[place], first.error[place], **found)
            second = yield from self._denoise_once(first.xyz, unknown, (0.6, 1.0), again, first.surface)
            result = second._replace(
                xyz=np.where(again[:, None], second.xyz, first.xyz), error=np.where(again, second.error, first.error)
            )
        white = 1 - ramp(first.shared, WHITE_RANGE)  # shared noise does not push neighbours together
        free = np.where(first.surface > SURFACE_RANGE[1], first.noise * white, 0.0)
        moved = equalize_spacing(result.xyz, free)
        yield DenoiseProgress(1.0, moved[place], noise[place], result.error[place], **found)

    def _denoise_once(
        self,
        xyz: np.ndarray,
        level: np.ndarray,
        done: tuple[float, float],
        wanted: np.ndarray | None = None,
        surface: np.ndarray | None = None,
    ) -> Generator[DenoiseProgress, None, "PassResult"]:
        """One pass over a cloud [n, 3] with the noise level [n], NaN where unknown; `done` is the share of the whole work before
        and after it. Of points that are not `wanted` [n] the result is void. `surface` [n] is that of an earlier pass, if any."""
        cloud, layers = fit_cloud(xyz), len(self.network.layers)
        device, (begin, end) = next(self.parameters()).device, done
        sigma = torch.as_tensor(level, dtype=torch.float32, device=device)
        chosen = None if wanted is None or wanted.all() else torch.as_tensor(wanted, device=device)
        # bfloat16 would cost up to a hundredth of a spacing, and gain hardly any time.
        outputs = inference_iter(self.iter_layers(cloud.to(device), sigma, 512, chosen), "float32")
        output = None
        for i, output in enumerate(outputs):
            yield DenoiseProgress(begin + (end - begin) * (i + 2) / (layers + 2))
        assert output is not None, "the last layer has an output"
        output = BlendOutput._make(part.cpu() for part in output)
        mean = output.surface.sigmoid()[cloud.graph.edges].mean(1)
        return pass_result(xyz, cloud, output, mean if surface is None else torch.as_tensor(surface).float())


class PassResult(NamedTuple):
    """Result of one pass over a cloud; lengths in its own units."""

    xyz: np.ndarray
    """New positions [n, 3]."""
    noise: np.ndarray
    """Estimated noise level [n]."""
    error: np.ndarray
    """Estimated standard deviation [n] of the error of the new positions."""
    shared: np.ndarray
    """Estimated share [n] of the noise's variance which neighbours have in common."""
    length: np.ndarray
    """Estimated distance [n] over which they do."""
    surface: np.ndarray
    """Probability [n] that the point is of a surface, the mean over its neighbours."""
    thickness: np.ndarray
    """Mean noise level [n] of the neighbours, in local units."""


def pass_result(xyz: np.ndarray, cloud: FittedCloud, output: BlendOutput, surface: Tensor) -> PassResult:
    """What the network's estimates mean for a cloud [n, 3] of points that are of a surface with these probabilities:
    displacements are capped by the noise, and there are none off surfaces and of lone points."""
    scale, (low, high) = cloud.graph.scale, SURFACE_RANGE
    noise, error, length = (x.exp() * scale for x in (output.log_noise / 2, output.log_var / 2, output.log_length))
    free = ((surface - low) / (high - low)).clamp(0, 1) * ~lone_points(cloud)
    longest = MAX_MOVE * noise / output.displacement.norm(dim=1).clamp_min(1e-30)
    move = output.displacement * (free * longest.clamp_max(1))[:, None]
    # The variance of the noise is that of the posterior mean and that of the posterior: no less than what is removed.
    noise = torch.maximum(noise, move.square().sum(1)[cloud.graph.edges].mean(1).sqrt())
    thickness = (noise / scale)[cloud.graph.edges].mean(1)
    numbers = (move, noise, error, output.shared.sigmoid(), length, surface, thickness)
    moved, *rest = (x.double().numpy() for x in numbers)
    return PassResult(xyz + moved, *rest)


def lone_points(cloud: FittedCloud) -> Bool[Tensor, " point"]:
    """The points whose eighth neighbour is more than LONE times as far away as those of their neighbours are, in the median."""
    eighth = cloud.graph.offsets[:, EDGE_RANKS[0].index(8)].norm(dim=1)
    return eighth > LONE * eighth[cloud.graph.edges[:, :NEAR_EDGES]].median(1).values


def ramp(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Values [n] mapped from 0 at the first end to 1 at the second, and clipped."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
