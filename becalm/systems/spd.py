"""SPD: score-based point-cloud denoising (Luo & Hu, ICCV 2021): gradient ascent on the learned score of p ∗ n.

A feature network gets a patch of 1000 noisy points; from the features of one of them, its anchor, a score network computes for
any position nearby the displacement towards the clean surface (near it, σ² times the paper's score). Denoising is gradient
ascent with a decreasing step. `SPD.iter_denoise` keeps every point and adapts to the local scale; `iter_denoise_paper` is the
authors' procedure, with their farthest-point merge.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.edgeconv import FeatureNetwork, ScoreNetwork, freeze, frozen_scores
from becalm.nets.precision import fast_matmul
from becalm.points.cover import PatchCover, patch_cover
from becalm.points.estimate import noise_level
from becalm.points.metrics import unit_sphere
from becalm.points.neighbours import farthest_point_sample, knn
from becalm.points.progress import DenoiseProgress

PATCH_SIZE = 1000
"""Points of a patch, in training and inference."""

TARGET_NOISE = 0.012
"""The noise level to which `SPD.iter_denoise` scales: the middle of the range on which the official weights were trained."""

RADIUS_RANGE = (0.08, 0.35)
"""Least and greatest radius of a scaled patch of 1000 points: the range in training, and a little below."""

OVERLAP = 2.0
"""Patches per point in `SPD.iter_denoise`."""

STEP_SIZES = (0.7, 0.7, 0.6, 0.5, 0.4)
"""The steps of `SPD.iter_denoise`, as fractions of the displacement that the score network computes."""

MAX_POINTS = 50_000
"""The greatest number of points for `iter_denoise_paper`."""

ENSEMBLE = 4
"""Anchors of a point in a step, or points of an anchor (paper eq. 9)."""


@dataclass(frozen=True)
class Ascent:
    """The steps α_t = α · decayᵗ, t = 0 to T − 1, of the paper's gradient ascent."""

    steps: int = 30
    """T, the number of steps."""
    alpha: float = 0.2
    """α, the first step."""
    decay: float = 0.95
    """Ratio of one step to the one before."""


class SPD(nn.Module):
    """The two networks, and the inference that keeps the order and count of the points."""

    def __init__(self, neighbours: int = 16, hidden: int = 128, blocks: int = 4):
        super().__init__()
        self.config = {"neighbours": neighbours, "hidden": hidden, "blocks": blocks}
        self.features = FeatureNetwork(neighbours=neighbours)
        self.score = ScoreNetwork(self.features.width, hidden, blocks)

    def forward(
        self,
        patches: Float[Tensor, "patch point 3"],
        anchors: Int[Tensor, "patch anchor"],
        places: Float[Tensor, "patch anchor k 3"],
    ) -> Float[Tensor, "patch anchor k 3"]:
        """S_i(x), the displacements at the positions x computed from the anchors i, which index points of the patches."""
        batch = torch.arange(patches.shape[0])[:, None]
        offset = places - patches[batch, anchors][:, :, None]
        features = self.features(patches)[batch, anchors]
        return self.score(offset.flatten(0, 1), features.flatten(0, 1)).reshape(places.shape)

    @torch.inference_mode()
    def iter_denoise(self, xyz: np.ndarray, sigma: float | None = None, seed: int = 0) -> Iterator[DenoiseProgress]:
        """Denoise a cloud [n, 3] of at least 3 distinct points; σ is estimated from a sample of points where it is not given.

        Copies of one position stay together. The networks work in a frame about each patch, in its `local_units`; features and
        units of a point are blended over its patches, then all points ascend together:
        x ← x + a · unit · mean of S_i(x) over the ENSEMBLE nearest anchors i (paper eq. 9; larger and fewer steps).
        """
        distinct, inverse = np.unique(xyz, axis=0, return_inverse=True)
        if len(distinct) < 3:
            raise ValueError(f"xyz: {len(distinct)} distinct positions; SPD needs at least 3")
        patches = patch_cover(distinct, PATCH_SIZE, OVERLAP)
        units = local_units(patches, noise_level(distinct, seed) if sigma is None else sigma)
        unit = blend_units(patches, units, len(distinct))
        features = torch.zeros(len(distinct), self.features.width, device=next(self.parameters()).device)
        for start in range(0, len(patches.members), 8):
            _add_features(self.features, distinct, patches, units, slice(start, start + 8), features)
            yield DenoiseProgress(0.5 * start / len(patches.members))
        net, x = freeze(self.score, _matmul_dtype(features.device)), distinct
        for i, step in enumerate(STEP_SIZES):
            anchors = knn(distinct, min(ENSEMBLE, len(distinct)), x)[1]
            x = x + step * unit[:, None] * _mean_score(net, x, distinct, anchors, unit, features)
            yield DenoiseProgress(
                0.5 + 0.5 * (i + 1) / len(STEP_SIZES), x[inverse.ravel()] if i + 1 == len(STEP_SIZES) else None
            )


def local_units(patches: PatchCover, sigma: float) -> np.ndarray:
    """The unit of length [p] of each patch's frame: σ becomes TARGET_NOISE, unless its radius would leave RADIUS_RANGE.

    The radius of a patch of m < 1000 points is multiplied by √(1000/m), which is that of 1000 points of the same density.
    """
    radius = patches.radii * np.sqrt(PATCH_SIZE / patches.members.shape[1])
    return np.clip(sigma / TARGET_NOISE, radius / RADIUS_RANGE[1], radius / RADIUS_RANGE[0])


def blend_units(patches: PatchCover, units: np.ndarray, n: int) -> np.ndarray:
    """The units [n] of the points: the weighted geometric mean of their patches'."""
    logs = patches.weights * np.log(units)[:, None]
    return np.exp(np.bincount(patches.members.ravel(), logs.ravel(), n))


def _add_features(
    network: FeatureNetwork, xyz: np.ndarray, patches: PatchCover, units: np.ndarray, rows: slice, total: Tensor
) -> None:
    """Add the weighted features of some patches to those of the points."""
    members = patches.members[rows]
    local = (xyz[members] - patches.centres[rows, None]) / units[rows, None, None]
    device = total.device
    with fast_matmul(device.type):
        output = network(torch.as_tensor(local, dtype=torch.float32).to(device)).float()
    weights = torch.as_tensor(patches.weights[rows], dtype=torch.float32).to(device)
    total.index_add_(0, torch.as_tensor(members.ravel()).to(device), (output * weights[..., None]).flatten(0, 1))


def _matmul_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which `fast_matmul` multiplies on a device."""
    with fast_matmul(device.type):
        enabled = torch.is_autocast_enabled(device.type)
        return torch.get_autocast_dtype(device.type) if enabled else torch.float32


def _mean_score(net, x, start, anchors, unit, features, block: int = 2**15) -> np.ndarray:
    """Mean of S_i(x) over each point's anchors, [n, 3], in local units."""
    result = np.empty_like(x)
    for first in range(0, len(x), block):
        rows = slice(first, first + block)
        index = anchors[rows]
        offset = (x[rows, None] - start[index]) / unit[index][..., None]
        flat = torch.as_tensor(offset.reshape(-1, 1, 3), dtype=torch.float32).to(features.device)
        output = frozen_scores(net, flat, features[torch.as_tensor(index.ravel()).to(features.device)])
        result[rows] = output.reshape(*index.shape, 3).mean(1).cpu().numpy()
    return result


@torch.inference_mode()
def iter_denoise_paper(
    model: SPD,
    xyz: np.ndarray,
    passes: int = 1,
    generator: torch.Generator | None = None,
    ascent: Ascent = Ascent(),
) -> Iterator[DenoiseProgress]:
    """The authors' inference on 3 to 50 000 points [n, 3]: a new cloud of n points, in an order of its own.

    In the unit sphere: int(3n/1000) farthest-point seeds, the 1000 points nearest to each, ascent on every patch separately,
    and a farthest-point sample of n of all their points. The authors take two passes at 3 % noise. The generator draws the
    first point of the samples; without one it is point 0, as in the authors' code.
    """
    if len(xyz) > MAX_POINTS:
        raise ValueError(f"xyz: {len(xyz)} points; at most {MAX_POINTS} (beyond that the authors split by k-means)")
    device = next(model.parameters()).device
    for sweep in range(passes):
        centre, radius = unit_sphere(xyz)
        cloud = (xyz - centre) / radius
        seeds = farthest_point_sample(cloud, max(1, 3 * len(xyz) // PATCH_SIZE), _random_index(len(xyz), generator))
        patches = cloud[knn(cloud, min(PATCH_SIZE, len(xyz)), cloud[seeds])[1]].astype(np.float32)
        parts = []
        for start in range(0, len(patches), 8):
            ascended = ascend(model, torch.as_tensor(patches[start : start + 8]).to(device), ascent)
            parts.append(ascended.flatten(0, 1).double().cpu().numpy())
            yield DenoiseProgress((sweep + start / len(patches)) / passes)
        merged = np.concatenate(parts)
        kept = farthest_point_sample(merged, len(xyz), _random_index(len(merged), generator))
        xyz = merged[kept] * radius + centre
        yield DenoiseProgress((sweep + 1) / passes, xyz)


def _random_index(n: int, generator: torch.Generator | None) -> int:
    return 0 if generator is None else int(torch.randint(n, (), generator=generator))


def ascend(
    model: SPD, patches: Float[Tensor, "patch point 3"], ascent: Ascent = Ascent()
) -> Float[Tensor, "patch point 3"]:
    """Gradient ascent on each patch: x_j += α_t Σ_i S_i(x_j) over the anchors i that have x_j among their 4 nearest points.

    It is a sum over all such anchors, as in the authors' code; eq. 9 of the paper has a mean over the point's own nearest
    anchors. In float32.
    """
    count, points = patches.shape[:2]
    net, anchors = freeze(model.score, torch.float32), patches.flatten(0, 1)
    features = model.features(patches).flatten(0, 1)
    x = anchors.clone()
    separation = np.repeat(np.arange(count) * 8.0, points)[:, None] * [
        1,
        0,
        0,
    ]  # one tree for all, patches out of reach
    for t in range(ascent.steps):
        now, start = (part.double().cpu().numpy() + separation for part in (x, anchors))
        indices = knn(now, min(ENSEMBLE, points), start)[1]
        index = torch.as_tensor(indices)
        output = frozen_scores(net, x[index] - anchors[:, None], features)
        x.index_add_(0, index.flatten(), output.flatten(0, 1), alpha=ascent.alpha * ascent.decay**t)
    return x.reshape(patches.shape)


def supervised_loss(
    model: SPD,
    noisy: Float[Tensor, "patch point 3"],
    clean: Float[Tensor, "patch more 3"],
    anchors: Int[Tensor, "patch anchor"],
    neighbours: int = 4,
) -> Tensor:
    """½/0.01 · mean ‖S_i(x) − s(x)‖² over the 32 noisy x nearest to each anchor; s(x) is the offset to the clean points.

    It is s(x) = NN(x, Y) − x (paper eq. 5) with `neighbours` = 1, and the mean of the offsets to the 4 nearest of the clean
    points Y with 4, as in the authors' code.
    """
    return _displacement_loss(model, noisy, anchors, lambda x: _mean_offset(x, clean, neighbours))


def unsupervised_loss(
    model: SPD, noisy: Float[Tensor, "patch point 3"], anchors: Int[Tensor, "patch anchor"]
) -> Tensor:
    """As `supervised_loss` without clean points: s(x) is the mean of the offsets to the 8 nearest noisy points."""
    return _displacement_loss(model, noisy, anchors, lambda x: _mean_offset(x, noisy, 8))


def _displacement_loss(model: SPD, noisy: Tensor, anchors: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
    batch = torch.arange(len(noisy))[:, None]
    frames = _nearest_points(noisy[batch, anchors], noisy, 32)
    output = model(noisy, anchors, frames)
    error = output.float() - target(frames.flatten(1, 2)).reshape(output.shape)
    return 0.5 / 0.01 * error.square().sum(-1).mean()


def _nearest_points(x: Float[Tensor, "patch x 3"], points: Float[Tensor, "patch point 3"], k: int) -> Tensor:
    """The k points nearest to each x, [patch, x, k, 3]."""
    index = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False).indices
    return points[torch.arange(len(points))[:, None, None], index]


def _mean_offset(x: Tensor, points: Tensor, k: int) -> Tensor:
    """Mean of the offsets from each x to its k nearest points."""
    return _nearest_points(x, points, k).mean(2) - x
