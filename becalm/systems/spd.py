"""SPD: score-based point-cloud denoising (Luo & Hu, ICCV 2021): climb the learned score of p ∗ n.

A feature network sees a patch of 1000 noisy points; anchored at each of them, a score network tells for any place
nearby the displacement towards the clean surface (σ² times the paper's score, near it). Cleaning is gradient ascent
with a shrinking step. `SPD.iter_denoise` keeps every point and adapts to the local scale; `paper` is the authors' procedure, with
their farthest-point merge.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.edgeconv import FeatureNetwork, ScoreNetwork, frozen, scores
from becalm.nets.precision import fast_matmul
from becalm.points.cover import Patches, cover
from becalm.points.estimate import noise_level
from becalm.points.metrics import unit_sphere
from becalm.points.neighbours import farthest_point_sample, knn
from becalm.points.progress import DenoiseProgress

PATCH = 1000
"""Points of a patch, in training and in use."""

NOISE = 0.012
"""To what a sweep scales the noise level: the middle of what the official weights were trained on."""

RADII = (0.08, 0.35)
"""Least and greatest radius of a scaled patch of 1000 points: what training clouds had, and a little below."""

OVERLAP = 2.0
"""Patches per point in a sweep."""

STEPS = (0.7, 0.7, 0.6, 0.5, 0.4)
"""The steps of a sweep, as fractions of the displacement that the scores ask for."""

MOST = 50_000
"""Points that the paper's mode takes."""

ENSEMBLE = 4
"""How many anchors and points are tied to each other in a step (paper eq. 9)."""


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
        """S_i(x), the displacements at the places x that the anchors i, points of the patches by index, ask for."""
        batch = torch.arange(len(patches))[:, None]
        offset = places - patches[batch, anchors][:, :, None]
        features = self.features(patches)[batch, anchors]
        return self.score(offset.flatten(0, 1), features.flatten(0, 1)).reshape(places.shape)

    @torch.inference_mode()
    def iter_denoise(self, xyz: np.ndarray, sigma: float | None = None, seed: int = 0) -> Iterator[DenoiseProgress]:
        """Denoise a cloud [n, 3] of at least 3 distinct points; σ is estimated where not given, by a sample of points.

        Points at one position are seen once and stay together. The networks work in a frame about each patch, in its
        `local_units`; features and units of a point are blended over its patches, then all points climb at once:
        x ← x + a · unit · mean of S_i(x) over the ENSEMBLE nearest anchors i (paper eq. 9; larger and fewer steps).
        """
        distinct, inverse = np.unique(xyz, axis=0, return_inverse=True)
        if len(distinct) < 3:
            raise ValueError(f"xyz: {len(distinct)} distinct positions; SPD needs at least 3")
        patches = cover(distinct, PATCH, OVERLAP)
        units = local_units(patches, noise_level(distinct, seed) if sigma is None else sigma)
        unit = blended(patches, units, len(distinct))
        features = torch.zeros(len(distinct), self.features.width)
        for start in range(0, len(patches.members), 8):
            _blend(self.features, distinct, patches, units, slice(start, start + 8), features)
            yield DenoiseProgress(0.5 * start / len(patches.members))
        net, x = frozen(self.score, _products()), distinct
        for i, step in enumerate(STEPS):
            anchors = knn(distinct, min(ENSEMBLE, len(distinct)), x)[1]
            x = x + step * unit[:, None] * _mean_score(net, x, distinct, anchors, unit, features)
            yield DenoiseProgress(0.5 + 0.5 * (i + 1) / len(STEPS), x[inverse.ravel()] if i + 1 == len(STEPS) else None)


def local_units(patches: Patches, sigma: float) -> np.ndarray:
    """Lengths [p] that are 1 in the networks' frame: σ becomes NOISE, as far as the patch's radius stays within RADII.

    A patch of m < 1000 points counts as √(1000/m) as wide, as it would be with 1000 points of that density.
    """
    radius = patches.radii * np.sqrt(PATCH / patches.members.shape[1])
    return np.clip(sigma / NOISE, radius / RADII[1], radius / RADII[0])


def blended(patches: Patches, units: np.ndarray, n: int) -> np.ndarray:
    """The units [n] of the points: the weighted geometric mean of their patches'."""
    logs = patches.weights * np.log(units)[:, None]
    return np.exp(np.bincount(patches.members.ravel(), logs.ravel(), n))


def _blend(
    network: FeatureNetwork, xyz: np.ndarray, patches: Patches, units: np.ndarray, rows: slice, total: Tensor
) -> None:
    """Add the weighted features of some patches to those of the points."""
    members = patches.members[rows]
    local = (xyz[members] - patches.centres[rows, None]) / units[rows, None, None]
    with fast_matmul("cpu"):
        found = network(torch.as_tensor(local, dtype=torch.float32)).float()
    weights = torch.as_tensor(patches.weights[rows], dtype=torch.float32)
    total.index_add_(0, torch.as_tensor(members.ravel()), (found * weights[..., None]).flatten(0, 1))


def _products() -> torch.dtype:
    """The dtype in which `fast_matmul` multiplies here."""
    with fast_matmul("cpu"):
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _mean_score(net, x, start, anchors, unit, features, block: int = 2**15) -> np.ndarray:
    """Mean of S_i(x) over each point's anchors, [n, 3], in local units."""
    result = np.empty_like(x)
    for first in range(0, len(x), block):
        rows = slice(first, first + block)
        index = anchors[rows]
        offset = (x[rows, None] - start[index]) / unit[index][..., None]
        flat = torch.as_tensor(offset.reshape(-1, 1, 3), dtype=torch.float32)
        found = scores(net, flat, features[torch.as_tensor(index.ravel())])
        result[rows] = found.reshape(*index.shape, 3).mean(1).numpy()
    return result


@torch.inference_mode()
def paper(
    model: SPD, xyz: np.ndarray, passes: int = 1, generator: torch.Generator | None = None
) -> Iterator[DenoiseProgress]:
    """The authors' inference on 3 to 50 000 points [n, 3]: a new cloud of n points, in no order of the old one's.

    In the unit sphere, int(3n/1000) farthest-point seeds, the 1000 points nearest to each, all patches climb on their
    own, and n of all their points are kept by farthest-point sampling. The authors take two passes at 3 % noise. The
    generator draws the first point of the samples; without one it is point 0, as in the authors' code.
    """
    if len(xyz) > MOST:
        raise ValueError(f"xyz: {len(xyz)} points; the paper's mode takes {MOST} (beyond, its authors cut by k-means)")
    for sweep in range(passes):
        centre, radius = unit_sphere(xyz)
        cloud = (xyz - centre) / radius
        seeds = farthest_point_sample(cloud, max(1, 3 * len(xyz) // PATCH), _draw(len(xyz), generator))
        patches = cloud[knn(cloud, min(PATCH, len(xyz)), cloud[seeds])[1]].astype(np.float32)
        parts = []
        for start in range(0, len(patches), 8):
            parts.append(climb(model, torch.as_tensor(patches[start : start + 8])).flatten(0, 1).double().numpy())
            yield DenoiseProgress((sweep + start / len(patches)) / passes)
        merged = np.concatenate(parts)
        kept = farthest_point_sample(merged, len(xyz), _draw(len(merged), generator))
        xyz = merged[kept] * radius + centre
        yield DenoiseProgress((sweep + 1) / passes, xyz)


def _draw(n: int, generator: torch.Generator | None) -> int:
    return 0 if generator is None else int(torch.randint(n, (), generator=generator))


def climb(
    model: SPD, patches: Float[Tensor, "patch point 3"], steps: int = 30, size: float = 0.2, decay: float = 0.95
) -> Float[Tensor, "patch point 3"]:
    """Ascent on each patch: x_j += a_t Σ S_i(x_j) over the anchors i with x_j among their 4 nearest, a_t = size·decay^t.

    A sum over however many anchors chose the point, as in the authors' code; eq. 9 of the paper has a mean over the
    point's own anchors. All in float32.
    """
    count, points = patches.shape[:2]
    net, anchors = frozen(model.score, torch.float32), patches.flatten(0, 1)
    features = model.features(patches).flatten(0, 1)
    x = anchors.clone()
    apart = np.repeat(np.arange(count) * 8.0, points)[:, None] * [1, 0, 0]  # one tree for all, patches out of reach
    for t in range(steps):
        near = knn(x.double().numpy() + apart, min(ENSEMBLE, points), anchors.double().numpy() + apart)[1]
        index = torch.as_tensor(near)
        found = scores(net, x[index] - anchors[:, None], features)
        x.index_add_(0, index.flatten(), found.flatten(0, 1), alpha=size * decay**t)
    return x.reshape(patches.shape)


def supervised_loss(
    model: SPD,
    noisy: Float[Tensor, "patch point 3"],
    clean: Float[Tensor, "patch more 3"],
    anchors: Int[Tensor, "patch anchor"],
) -> Tensor:
    """½/0.01 · mean ‖S_i(x) − t(x)‖² over the 32 noisy x nearest to each anchor; t(x) leads to the 4 nearest clean.

    The target is the mean of the four offsets, as in the authors' code; the paper (eq. 5) has the nearest one.
    """
    return _loss(model, noisy, anchors, lambda x: _mean_offset(x, clean, 4))


def unsupervised_loss(
    model: SPD, noisy: Float[Tensor, "patch point 3"], anchors: Int[Tensor, "patch anchor"]
) -> Tensor:
    """As `supervised_loss` without clean points: t(x) leads to the mean of the 8 nearest noisy points."""
    return _loss(model, noisy, anchors, lambda x: _mean_offset(x, noisy, 8))


def _loss(model: SPD, noisy: Tensor, anchors: Tensor, target: Callable[[Tensor], Tensor]) -> Tensor:
    batch = torch.arange(len(noisy))[:, None]
    frames = _nearest(noisy[batch, anchors], noisy, 32)
    found = model(noisy, anchors, frames)
    error = found.float() - target(frames.flatten(1, 2)).reshape(found.shape)
    return 0.5 / 0.01 * error.square().sum(-1).mean()


def _nearest(x: Float[Tensor, "patch x 3"], points: Float[Tensor, "patch point 3"], k: int) -> Tensor:
    """The k points nearest to each x, [patch, x, k, 3]."""
    index = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False).indices
    return points[torch.arange(len(points))[:, None, None], index]


def _mean_offset(x: Tensor, points: Tensor, k: int) -> Tensor:
    return _nearest(x, points, k).mean(2) - x
