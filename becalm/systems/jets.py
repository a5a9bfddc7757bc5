"""Jets: becalm's own point-cloud denoiser. Local polynomial fits give candidate displacements; an equivariant network
weighs them.

Every point gets planes and quadrics at five scales (points/polyfit.py): their residuals measure the noise and the curvature of
the surface there, their offsets are candidate displacements, and `Blend` (nets/blend.py) weighs them over a neighbour graph.
Trained on index-paired noise, the displacement tends to the posterior mean x̂ = E[x | scan], so each pass over the cloud is one
denoising step of the `explode` process from its own noise level to zero.
"""

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.blend import Blend, BlendOutput, Graph
from becalm.nets.precision import inference_iter
from becalm.points.estimate import MAX_NOISE_TO_RADIUS, RESIDUAL_SHARE
from becalm.points.neighbours import NeighbourTree, morton_codes
from becalm.points.polyfit import (
    FEATURES_PER_SCALE,
    LOG_OFFSET,
    LOG_RADIUS,
    SCALES,
    VECTORS_PER_SCALE,
    fit_jets,
    local_scale,
)
from becalm.points.progress import DenoiseProgress
from becalm.points.regularize import equalize_spacing

EDGE_RANKS = np.unique(np.concatenate([np.arange(1, 11), np.geomspace(13, max(SCALES) - 1, 8).round().astype(int)]))
"""Ranks, by distance, of the neighbours to which a point has edges: all of the ten nearest, then geometrically fewer."""

SECOND_PASS_NOISE = 0.75
"""Noise, in local units, from which on a second pass follows: after the first the cloud is thinner, and smaller scales fit."""


CLEAN_RESIDUAL = 0.08
"""A scan is nearly clean where the residuals of its smallest fits are below this, in local units; there displacements
are capped."""


class FittedCloud(NamedTuple):
    """A cloud with its local fits: the network's input."""

    graph: Graph
    features: Float[Tensor, "point feature"]
    candidates: Float[Tensor, "point candidate 3"]


def fit_cloud(xyz: np.ndarray, block: int = 2**16) -> FittedCloud:
    """Local fits at every point of a cloud [n, 3], n ≥ 16; coordinates become float32 about their mean."""
    points = torch.as_tensor(xyz - xyz.mean(0), dtype=torch.float32)
    tree, k = NeighbourTree(xyz, min(max(SCALES), len(xyz))), max(SCALES)
    rows = torch.arange(len(xyz)).split(block)
    first = nearest_neighbours(tree, xyz, 32 if len(rows) > 1 else k)
    scale = local_scale(points, first[:, :32])
    parts = []
    for some in rows:
        neighbours = nearest_neighbours(tree, xyz[some], k) if len(rows) > 1 else first
        neighbours[:, 0] = some
        fits = fit_jets(points, neighbours, scale[some], some)
        parts.append((neighbours[:, EDGE_RANKS], *fits[1:]))
    edges, features, vectors, normals = (torch.cat(part) for part in zip(*parts, strict=True))
    return FittedCloud(Graph(points, scale, edges, normals[:, 1:4].contiguous()), features, vectors)


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
        self.network = Blend(FEATURES_PER_SCALE * len(SCALES), VECTORS_PER_SCALE * len(SCALES), width, layers, channels)

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
        for displacement, log_var, log_noise in self.network.iter_layers(*cloud, sigma, chunk):
            yield BlendOutput(displacement, base + log_var, base + log_noise)

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
        first = result = yield from self._denoise_once(xyz[order], level, 0.0)
        if first.thickness >= SECOND_PASS_NOISE:
            yield DenoiseProgress(0.5, result.xyz[place], first.noise[place], result.error[place])
            result = yield from self._denoise_once(result.xyz, unknown, 0.5)
        noise = first.noise if sigma is None else level
        yield DenoiseProgress(1.0, equalize_spacing(result.xyz, noise)[place], noise[place], result.error[place])

    def _denoise_once(
        self, xyz: np.ndarray, level: np.ndarray, begin: float
    ) -> Generator[DenoiseProgress, None, "PassResult"]:
        """One pass over a cloud [n, 3] with the noise level [n], NaN where it is not known; progress counts from `begin`."""
        cloud, layers = fit_cloud(xyz), len(self.network.layers)
        sigma = torch.as_tensor(level, dtype=torch.float32)
        for i, output in enumerate(inference_iter(self.iter_layers(cloud, sigma, chunk=512))):
            yield DenoiseProgress(begin + 0.5 * (i + 2) / (layers + 2))
        thickness = (output.log_noise / 2).exp()
        noise, error = (d * cloud.graph.scale for d in (thickness, (output.log_var / 2).exp()))
        moved = xyz + cap_displacements(cloud, output.displacement).double().numpy()
        return PassResult(moved, noise.double().numpy(), error.double().numpy(), float(thickness.median()))


class PassResult(NamedTuple):
    """Result of one pass over a cloud."""

    xyz: np.ndarray
    """New positions [n, 3]."""
    noise: np.ndarray
    """Estimated noise level [n], in the cloud's units."""
    error: np.ndarray
    """Estimated standard deviation [n] of the error of the new positions, in the cloud's units."""
    thickness: float
    """Median over the points of the noise level in local units."""


def residual_noise(cloud: FittedCloud) -> Float[Tensor, " point"]:
    """A robust estimate of the noise level at each point, in local units, from the fits alone; the network refines it.

    At each scale it is the median over the neighbours of the offset from the quadric, over 0.6745 and `RESIDUAL_SHARE`, averaged
    over the neighbours. The scale taken is the smallest that is wide against this level, at the point and in most of the cloud.
    """
    features = cloud.features.unflatten(1, (len(SCALES), FEATURES_PER_SCALE))
    offsets, radii = features[..., LOG_OFFSET].exp(), features[..., LOG_RADIUS].exp()
    levels = offsets[cloud.graph.edges].median(1).values / (0.6745 * offsets.new_tensor(RESIDUAL_SHARE))
    levels = levels[cloud.graph.edges].mean(1)
    fits = levels <= MAX_NOISE_TO_RADIUS * radii
    fits &= (fits.float().mean(0) >= 0.5).cummax(0).values
    fits[:, -1] = True
    return levels.gather(1, fits.int().argmax(1, keepdim=True))[:, 0].clamp_min(1e-3)


def cap_displacements(cloud: FittedCloud, move: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
    """The displacements, capped in nearly clean scans, where residuals may be detail of the surface and not noise.

    With ρ the median over the scan of the residuals of the smallest fits in local units, and q their lower quartile (in local
    units or in the cloud's, whichever gives the greater length), no displacement is longer than 1.2 q/(1 − ρ/CLEAN_RESIDUAL);
    from ρ = CLEAN_RESIDUAL on, none is capped.
    """
    residuals, scale = cloud.features[:, 0].exp(), cloud.graph.scale
    share = float(residuals.median()) / CLEAN_RESIDUAL
    if share >= 1:
        return move
    quarter = 1 + len(residuals) // 4
    quartile = torch.maximum(residuals.kthvalue(quarter).values * scale, (residuals * scale).kthvalue(quarter).values)
    longest = 1.2 / (1 - share) * quartile[:, None]
    return move * (longest / move.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)


class TrainingItem(NamedTuple):
    """A fitted noisy cloud with its ground truth."""

    cloud: FittedCloud
    clean: Float[Tensor, "point 3"]
    """The clean position of each noisy point, by index."""
    normals: Float[Tensor, "point 3"]
    """Unit normals of the surface at the clean positions."""
    sigma: Float[Tensor, " point"]
    """The noise level at each point."""
    interior: Float[Tensor, " point"]
    """1 where all neighbours of the point are in the item, 0 where the crop's border cut its neighbourhood."""
    around: Int[Tensor, "point k"]
    """Indices of the nearest noisy points, among which (or their clean positions) the losses search for nearest points."""


def training_item(clean: np.ndarray, noisy: np.ndarray, sigma: np.ndarray, interior: np.ndarray) -> TrainingItem:
    """A training item from a pair of clouds [n, 3], the noise level [n] and the mask [n] of complete neighbourhoods."""
    truth = torch.as_tensor(clean - noisy.mean(0), dtype=torch.float32)
    around = nearest_neighbours(NeighbourTree(clean, 12), clean, 12)
    centred = truth[around] - truth[around].mean(1, keepdim=True)
    normals = torch.linalg.eigh(centred.mT @ centred)[1][..., 0]
    level, inside = (torch.as_tensor(a, dtype=torch.float32) for a in (sigma, interior))
    return TrainingItem(
        fit_cloud(noisy), truth, normals, level, inside, nearest_neighbours(NeighbourTree(noisy, 96), noisy, 96)
    )


def merge_items(items: list[TrainingItem]) -> TrainingItem:
    """Several items as one disconnected graph, with their indices shifted."""
    starts = np.cumsum([0] + [len(s.clean) for s in items])[:-1].tolist()
    graphs = [s.cloud.graph for s in items]
    graph = Graph(
        torch.cat([g.points for g in graphs]),
        torch.cat([g.scale for g in graphs]),
        torch.cat([g.edges + start for g, start in zip(graphs, starts, strict=True)]),
        torch.cat([g.normals for g in graphs]),
    )
    return TrainingItem(
        FittedCloud(
            graph, torch.cat([s.cloud.features for s in items]), torch.cat([s.cloud.candidates for s in items])
        ),
        torch.cat([s.clean for s in items]),
        torch.cat([s.normals for s in items]),
        torch.cat([s.sigma for s in items]),
        torch.cat([s.interior for s in items]),
        torch.cat([s.around + start for s, start in zip(items, starts, strict=True)]),
    )


def item_to(item: TrainingItem, device: torch.device) -> TrainingItem:
    """The item with its tensors on a device."""
    cloud = item.cloud
    graph = Graph(*(part.to(device) for part in cloud.graph))
    rest = [part.to(device) for part in item[1:]]
    return TrainingItem(FittedCloud(graph, cloud.features.to(device), cloud.candidates.to(device)), *rest)  # type: ignore[arg-type]


def losses(model: Jets, item: TrainingItem, known_sigma: bool) -> dict[str, Tensor]:
    """Error terms of one pass, each relative to what is attainable at the noise level, and their weighted sum as "loss".

    `pair` is the squared error to the index-paired clean point, whose minimiser is the posterior mean; `near` and `cover`
    are the two halves of the Chamfer distance, `plane` the squared distance to the tangent plane of the nearest clean point,
    which tangential noise does not affect. `error` is the negative log-likelihood of the model's error estimate, `noise` the
    squared logarithm of the ratio of estimated to true noise variance, so that light noise counts as much as heavy noise.
    With `known_sigma` the model is given σ.
    """
    points, scale = item.cloud.graph.points, item.cloud.graph.scale
    output = model(item.cloud, item.sigma if known_sigma else torch.full_like(item.sigma, torch.nan))
    moved, target = points + output.displacement, item.clean - points
    error = (output.displacement - target).square().sum(-1)
    small = (0.02 * scale).square()
    noise = item.sigma.square() + small
    reach = noise * (0.5 * scale).square() / (noise + (0.5 * scale).square())
    here = moved.detach()
    forth, back = nearest_among(here, item.clean, item.around), nearest_among(item.clean, here, item.around)
    gap = moved - item.clean[forth]
    terms = {
        "pair": error / (3 * noise),
        "plane": (gap * item.normals[forth]).sum(-1).square() / reach,
        "near": gap.square().sum(-1) / (3 * reach),
        "cover": (moved[back] - item.clean).square().sum(-1) / (3 * reach),
        "error": student_t_nll(error.detach() / scale.square(), output.log_var),
        "noise": (output.log_noise - (item.sigma / scale).square().add(1e-6).log()).square() / 4,
    }
    mean = {name: (value * item.interior).sum() / item.interior.sum().clamp_min(1) for name, value in terms.items()}
    total = torch.stack([LOSS_WEIGHTS[name] * value for name, value in mean.items()]).sum()
    # Without noise the errors are divided by almost nothing: the logarithm keeps such items from dominating the gradient.
    return mean | {"loss": 8 * torch.log1p(total.clamp_min(0) / 8)}


LOSS_WEIGHTS = {"pair": 0.7, "plane": 1.5, "near": 0.8, "cover": 0.8, "error": 0.1, "noise": 0.1}
"""Weights of the terms of `losses`."""


def student_t_nll(squared: Float[Tensor, " point"], log_var: Float[Tensor, " point"]) -> Float[Tensor, " point"]:
    """Negative log-likelihood −log t₄(e | 0, exp(log_var) I) of a 3-vector e, per coordinate and up to a constant.

    Its squared length is `squared` + 3·10⁻⁶. Student's t with four degrees of freedom is robust: under a Gaussian a few points
    with large errors would dominate.
    """
    return (7 * torch.log1p((squared + 3e-6) * torch.exp(-log_var) / 4) + 3 * log_var) / 6


@torch.no_grad()
def nearest_among(
    queries: Float[Tensor, "point 3"], points: Float[Tensor, "point 3"], among: Int[Tensor, "point k"]
) -> Int[Tensor, " point"]:
    """The index of the point nearest to each query, among those indexed by its row of `among`."""
    choice = (points[among] - queries[:, None]).square().sum(-1).argmin(1)
    return among.gather(1, choice[:, None])[:, 0]
