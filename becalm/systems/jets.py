"""Jets: becalm's own point-cloud denoiser. Local polynomial fits give candidate displacements; an equivariant network
weighs them.

Every point gets planes and quadrics at seven scales, on three levels of a pyramid (points/pyramid.py, points/polyfit.py): their
residuals measure white noise, correlated noise and curvature there, their offsets are candidate displacements, and `Blend`
(nets/blend.py) weighs them over a neighbour graph.
Trained on index-paired noise, the displacement tends to the posterior mean x̂ = E[x | scan], so each pass over the cloud is one
denoising step of the `explode` process from its own noise level to zero.
"""

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Bool, Float, Int, Tensor
from becalm.nets.blend import Blend, BlendOutput, Graph
from becalm.nets.precision import inference_iter
from becalm.points.estimate import MAX_NOISE_TO_RADIUS
from becalm.points.neighbours import NeighbourTree, knn, morton_codes
from becalm.points.polyfit import (
    FEATURES_PER_SCALE,
    LOG_OFFSET,
    LOG_RADIUS,
    MEAN_CURVATURE,
    VECTORS_PER_SCALE,
    fit_neighbours,
    local_scale,
)
from becalm.points.progress import DenoiseProgress
from becalm.points.pyramid import interleave, pyramid
from becalm.points.regularize import equalize_spacing

LEVEL_SCALES = ((12, 24, 48), (24, 48), (24, 48))
"""Neighbours in each fit, by level of the pyramid: as many points of the scan as 12 to 768, a radius of 2 to 16 spacings."""

N_SCALES = sum(len(scales) for scales in LEVEL_SCALES)

EDGE_RANKS = ((1, 2, 3, 4, 5, 6, 7, 8, 11, 17, 28, 47), (12, 28, 47), (16,))
"""Ranks, by distance, of the neighbours on each level to which a point has edges."""

NORMAL_SCALES = (1, 2, 4)
"""Scales whose normals the network sees: 24 and 48 points of the scan, 48 of the next level."""

RESIDUAL_SHARE = (0.60, 0.83, 0.93, 0.97, 0.985, 1.0, 1.0)
"""Ratio of the offset from the quadric to the point's own noise, scale by scale."""

SECOND_PASS_NOISE = 0.75
"""Noise, in local units, from which on a second pass follows: after the first the cloud is thinner, and smaller scales fit."""

COARSE_PARTS = 4
"""Interleaved parts of a cloud that are denoised alone where neighbours share the noise: each sees twice as far."""

SHARED_RANGE = (0.5, 0.65)
"""Share of the noise that neighbours have in common from which on that begins to count, and from which on it counts fully."""

WHITE_RANGE = (0.25, 0.45)
"""Share of the noise that neighbours have in common up to which points are spaced evenly, and from which on they are not."""

COARSE_NOISE = (0.2, 0.28)
"""Noise, in local units, from which on the coarser passes begin to count, and from which on they count fully."""

CLEAN_NOISE, CLEAN_RESIDUAL = (0.04, 0.09), (0.012, 0.018)
"""The noise found and the residuals of the smallest fits, in local units, up to which a place is taken for clean and nothing
moves, and from which on points move freely."""

COARSE_BEND = (4.0, 8.0)
"""Sagitta over noise from which on the coarser passes count less, and from which on not at all."""

LONE = 4.0
"""A point whose neighbours are this many times as far away as theirs is alone, and not moved."""

MAX_MOVE = 3.5
"""No point moves farther than this many times the noise found at it."""

SURFACE_RANGE = (0.25, 0.75)
"""Points whose probability to be of a surface is below the first do not move, above the second they move freely."""


class FittedCloud(NamedTuple):
    """A cloud with its local fits: the network's input."""

    graph: Graph
    features: Float[Tensor, "point feature"]
    candidates: Float[Tensor, "point candidate 3"]


def fit_cloud(xyz: np.ndarray, block: int = 2**15) -> FittedCloud:
    """Local fits at every point of a cloud [n, 3] of distinct positions, n ≥ 16, on every level of its pyramid."""
    k = max(max(scales) for scales in LEVEL_SCALES)
    levels = pyramid(xyz, len(LEVEL_SCALES), k)
    clouds = [torch.as_tensor(level.points) for level in levels]
    seeds = [torch.as_tensor(level.seeds) for level in levels]
    first = nearest_neighbours(levels[0].tree, xyz, k)
    first[:, 0] = torch.arange(len(xyz))
    scale = local_scale(clouds[0], first)
    parts = []
    for rows in torch.arange(len(xyz)).split(block):
        centres, fits, edges = clouds[0][rows], [], []
        for i, scales in enumerate(LEVEL_SCALES):
            neighbours = first[rows] if i == 0 else nearest_neighbours(levels[i].tree, xyz[rows], k)
            fits.append(fit_neighbours(clouds[i], neighbours, centres, scale[rows].double(), scales))
            edges.append(seeds[i][neighbours[:, list(EDGE_RANKS[i])]])
        merged = [torch.cat(part, 1) for part in zip(*(fit[1:] for fit in fits), strict=True)]
        ends = torch.cat(edges, 1)
        parts.append((ends, (clouds[0][ends] - centres[:, None]).float(), *merged))
    ends, offsets, features, vectors, normals = (torch.cat(part) for part in zip(*parts, strict=True))
    return FittedCloud(Graph(offsets, scale, ends, normals[:, list(NORMAL_SCALES)].contiguous()), features, vectors)


def nearest_neighbours(tree: NeighbourTree, queries: np.ndarray, k: int) -> Int[Tensor, "query k"]:
    """The k nearest points of each query; where the cloud has fewer, the farthest is repeated."""
    indices = torch.as_tensor(tree.query(queries, min(k, len(tree.points)))[1])
    missing = k - indices.shape[1]
    return torch.cat([indices, indices[:, -1:].expand(-1, missing)], 1) if missing else indices


class Jets(nn.Module):
    """The network: from a cloud's local fits to displacements, noise levels and errors."""

    def __init__(self, width: int = 64, layers: int = 4, channels: int = 4):
        super().__init__()
        self.config = {"width": width, "layers": layers, "channels": channels}
        self.network = Blend(FEATURES_PER_SCALE * N_SCALES, VECTORS_PER_SCALE * N_SCALES, width, layers, channels)

    def forward(self, cloud: FittedCloud, sigma: Float[Tensor, " point"]) -> BlendOutput:
        """`sigma` is the known noise level per point in the cloud's units, NaN where it is not known."""
        for output in self.iter_layers(cloud, sigma):
            pass
        return output

    def iter_layers(
        self, cloud: FittedCloud, sigma: Float[Tensor, " point"], chunk: int | None = None
    ) -> Iterator[BlendOutput]:
        """The outputs computed from each layer, `chunk` points at a time; log-variances of the network are relative to
        `residual_noise`."""
        base = 2 * residual_noise(cloud).log()
        for output in self.network.iter_layers(*cloud, sigma, chunk):
            yield output._replace(log_var=base + output.log_var, log_noise=base + output.log_noise)

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
        first = result = yield from self._denoise_once(start, level, 0.0, 0.4)
        found = {name: getattr(first, name)[place] for name in ("shared", "length", "surface")}
        noise, weight = first.noise if sigma is None else level, coarse_weight(start, first)
        between = first
        if weight.any():
            between = yield from self._denoise_interleaved(start, first, weight, 0.4)
            noise = noise if sigma is not None else np.maximum(noise, weight * between.noise)
        again = (first.thickness >= SECOND_PASS_NOISE) | (weight > 0)
        if again.any():
            yield DenoiseProgress(0.7, between.xyz[place], noise[place], between.error[place], **found)
            second = yield from self._denoise_once(between.xyz, unknown, 0.7, 0.3)
            result = second._replace(
                xyz=np.where(again[:, None], second.xyz, first.xyz), error=np.where(again, second.error, first.error)
            )
        white = 1 - ramp(first.shared, WHITE_RANGE)  # shared noise does not push neighbours together
        free = np.where(first.surface > SURFACE_RANGE[1], first.noise * white, 0.0)
        moved = equalize_spacing(result.xyz, free)
        yield DenoiseProgress(1.0, moved[place], noise[place], result.error[place], **found)

    def _denoise_interleaved(
        self, xyz: np.ndarray, first: "PassResult", weight: np.ndarray, begin: float
    ) -> Generator[DenoiseProgress, None, "PassResult"]:
        """A pass over each of four interleaved quarters of a cloud [n, 3], which reaches twice as far; where `weight` [n] is 1
        its results stand, where it is 0 those of the first pass."""
        labels, parts = interleave(xyz, COARSE_PARTS), {}
        for i in range(COARSE_PARTS):
            rows = np.flatnonzero(labels == i)
            if len(rows) >= 16:
                unknown = np.full(len(rows), np.nan)
                found = yield from self._denoise_once(
                    xyz[rows], unknown, begin + 0.3 * i / COARSE_PARTS, 0.3 / COARSE_PARTS
                )
                parts[i] = rows, found
        coarse = [field.copy() for field in first]
        for rows, found in parts.values():
            for whole, part in zip(coarse, found, strict=True):
                whole[rows] = part
        merged = PassResult._make(coarse)
        mixed = first.xyz + weight[:, None] * (merged.xyz - first.xyz)
        return merged._replace(xyz=mixed, error=np.where(weight > 0, merged.error, first.error))

    def _denoise_once(
        self, xyz: np.ndarray, level: np.ndarray, begin: float, share: float
    ) -> Generator[DenoiseProgress, None, "PassResult"]:
        """One pass over a cloud [n, 3] with the noise level [n], NaN where it is not known; it is a `share` of the whole work,
        which counts from `begin`."""
        cloud, layers = fit_cloud(xyz), len(self.network.layers)
        sigma = torch.as_tensor(level, dtype=torch.float32)
        # bfloat16 would cost up to a hundredth of a spacing, and gain hardly any time.
        for i, output in enumerate(inference_iter(self.iter_layers(cloud, sigma, chunk=512), "float32")):
            yield DenoiseProgress(begin + share * (i + 2) / (layers + 2))
        return pass_result(xyz, cloud, output)


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
    """Probability [n] that the point is of a surface."""
    thickness: np.ndarray
    """Mean noise level [n] of the neighbours, in local units."""
    sagitta: np.ndarray
    """How far [n] the surface bends within the reach of the coarsest level, in local units."""


def pass_result(xyz: np.ndarray, cloud: FittedCloud, output: BlendOutput) -> PassResult:
    """What the network's estimates mean for a cloud [n, 3]: displacements are capped by the noise, and there are none off
    surfaces or where there is next to no noise."""
    scale, surface = cloud.graph.scale, torch.sigmoid(output.surface)
    noise, error, length = (x.exp() * scale for x in (output.log_noise / 2, output.log_var / 2, output.log_length))
    low, high = SURFACE_RANGE
    around = (output.log_noise / 2).exp()[cloud.graph.edges].mean(1)
    residual = residual_noise(cloud)[cloud.graph.edges].mean(1)
    noisy = ramp(around.numpy(), CLEAN_NOISE) * ramp(residual.numpy(), CLEAN_RESIDUAL) * ~lone_points(cloud).numpy()
    free = ((surface - low) / (high - low)).clamp(0, 1) * torch.as_tensor(noisy)
    move = output.displacement
    longest = MAX_MOVE * noise / move.norm(dim=1).clamp_min(1e-30)
    move = move * (free * longest.clamp_max(1))[:, None]
    numbers = (noise, error, torch.sigmoid(output.shared), length, surface)
    rest = [x.double().numpy() for x in numbers]
    return PassResult._make(
        [xyz + move.double().numpy(), *rest, around.double().numpy(), sagitta(cloud).double().numpy()]
    )


def lone_points(cloud: FittedCloud) -> Bool[Tensor, " point"]:
    """The points whose eighth neighbour is more than LONE times as far away as those of their neighbours are, in the median."""
    eighth = cloud.graph.offsets[:, 7].norm(dim=1)
    return eighth > LONE * eighth[cloud.graph.edges[:, : len(EDGE_RANKS[0])]].median(1).values


def sagitta(cloud: FittedCloud) -> Float[Tensor, " point"]:
    """How far, in local units, the surface bends away from its plane within the reach of the first fit on the coarsest level."""
    features = cloud.features.unflatten(1, (N_SCALES, FEATURES_PER_SCALE))[:, -len(LEVEL_SCALES[-1])]
    return features[:, MEAN_CURVATURE].abs().sinh() + features[:, MEAN_CURVATURE + 1].abs().sinh()


def coarse_weight(xyz: np.ndarray, first: PassResult) -> np.ndarray:
    """How much [n] the coarser passes count at each point of a cloud [n, 3], from 0 to 1.

    They do where neighbours share the noise (by its mean share over 32 neighbours), and the noise is not thin: in a scan that is
    nearly clean, what looks like shared noise is detail. Nor do they where the surface bends much within their reach.
    """
    around = first.shared[knn(xyz, min(32, len(xyz)))[1]].mean(axis=1)
    bend = first.sagitta / np.maximum(first.thickness, 1e-9)
    return ramp(around, SHARED_RANGE) * ramp(first.thickness, COARSE_NOISE) * (1 - ramp(bend, COARSE_BEND))


def ramp(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Values [n] mapped from 0 at the first end to 1 at the second, and clipped."""
    return np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)


def residual_noise(cloud: FittedCloud) -> Float[Tensor, " point"]:
    """A robust estimate of the noise level at each point, in local units, from the fits alone; the network refines it.

    At each scale it is the median over the neighbours of the offset from the quadric, over 0.6745 and `RESIDUAL_SHARE`, averaged
    over the neighbours. The scale taken is the smallest that is wide against this level at the point and at half of the
    neighbours.
    """
    features = cloud.features.unflatten(1, (N_SCALES, FEATURES_PER_SCALE))
    offsets, radii = features[..., LOG_OFFSET].exp(), features[..., LOG_RADIUS].exp()
    near = cloud.graph.edges[:, : len(EDGE_RANKS[0])]
    levels = offsets[near].median(1).values / (0.6745 * offsets.new_tensor(RESIDUAL_SHARE))
    levels = levels[near].mean(1)
    fits = levels <= MAX_NOISE_TO_RADIUS * radii
    fits &= (fits[near].float().mean(1) >= 0.5).cumsum(1) > 0
    fits[:, -1] = True
    return levels.gather(1, fits.int().argmax(1, keepdim=True))[:, 0].clamp_min(1e-3)
