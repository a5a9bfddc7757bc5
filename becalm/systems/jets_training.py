"""What `jets` learns by: a training item and the terms of the loss."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.blend import BlendOutput, Graph
from becalm.points.neighbours import NeighbourTree
from becalm.points.pyramid import nearest_neighbours
from becalm.shapes.cloud_pairs import CloudPair
from becalm.systems.jets import Jets
from becalm.systems.jets_fits import FittedCloud, fit_cloud


class TrainingItem(NamedTuple):
    """A fitted noisy cloud with its ground truth; lengths in its own units."""

    cloud: FittedCloud
    noisy: Float[Tensor, "point 3"]
    """Its points, about a near origin."""
    clean: Float[Tensor, "point 3"]
    """The clean position of each noisy point, by index."""
    normals: Float[Tensor, "point 3"]
    """Unit normals of the surface at the clean positions."""
    sigma: Float[Tensor, " point"]
    """The noise level at each point."""
    shared: Float[Tensor, " point"]
    """The part of it that neighbours have in common."""
    length: Float[Tensor, " point"]
    """The distance over which they do."""
    surface: Float[Tensor, " point"]
    """1 for points of surfaces, 0 for others."""
    interior: Float[Tensor, " point"]
    """1 where all neighbours of the point are in the item, 0 where the crop's border cut its neighbourhood."""
    around: Int[Tensor, "point k"]
    """Indices of the nearest noisy points, among which (or their clean positions) the losses search for nearest points."""


def training_item(pair: CloudPair) -> TrainingItem:
    """A training item from a pair of clouds."""
    origin = pair.noisy.mean(0)
    truth = torch.as_tensor(pair.clean - origin, dtype=torch.float32)
    noisy = torch.as_tensor(pair.noisy - origin, dtype=torch.float32)
    if pair.normals is None:
        around = torch.as_tensor(nearest_neighbours(NeighbourTree(pair.clean, 12), pair.clean, 12))
        centred = truth[around] - truth[around].mean(1, keepdim=True)
        normals = torch.linalg.eigh(centred.mT @ centred)[1][..., 0]
    else:
        normals = torch.as_tensor(pair.normals, dtype=torch.float32)
    rest = (pair.sigma, pair.shared, pair.length, pair.surface, pair.interior)
    numbers = [torch.as_tensor(x, dtype=torch.float32) for x in rest]
    k = min(96, len(noisy))
    around = torch.as_tensor(nearest_neighbours(NeighbourTree(pair.noisy, k), pair.noisy, 96))
    return TrainingItem._make([fit_cloud(pair.noisy), noisy, truth, normals, *numbers, around])


def merge_items(items: list[TrainingItem]) -> TrainingItem:
    """Several items as one disconnected graph, with their indices shifted."""
    starts = np.cumsum([0] + [len(s.clean) for s in items])[:-1].tolist()
    offsets, scales, edges, normals = zip(*(s.cloud.graph for s in items), strict=True)
    shifted = torch.cat([e + start for e, start in zip(edges, starts, strict=True)])
    graph = Graph(torch.cat(offsets), torch.cat(scales), shifted, torch.cat(normals))
    features, candidates = (
        torch.cat(x) for x in zip(*((s.cloud.features, s.cloud.candidates) for s in items), strict=True)
    )
    rest = [torch.cat(parts) for parts in zip(*(s[1:-1] for s in items), strict=True)]
    around = torch.cat([s.around + start for s, start in zip(items, starts, strict=True)])
    return TrainingItem._make([FittedCloud(graph, features, candidates), *rest, around])


def item_to(item: TrainingItem, device: torch.device) -> TrainingItem:
    """The item with its tensors on a device."""
    return TrainingItem._make(part.to(device) for part in item)


def losses(model: Jets, item: TrainingItem, known_sigma: bool) -> dict[str, Tensor]:
    """Error terms of one pass, each relative to what is attainable at the noise level, and their weighted sum as "loss".

    Of points of surfaces: `pair` is the squared error to the index-paired clean point, whose minimiser is the posterior mean;
    `near` and `cover` are the two halves of the Chamfer distance, `plane` the squared distance to the tangent plane of the
    nearest clean point, which tangential noise does not affect. `error` is the negative log-likelihood of the model's error
    estimate, `noise` the squared logarithm of the ratio of estimated to true noise variance, so that light noise counts as much
    as heavy noise, `split` the squared error of the share of it that neighbours have in common, `length` that of the logarithm
    of the distance over which they do. `stay` is the squared displacement of what is no surface, in local units. Of all points:
    `surface` is the cross-entropy of being of a surface. With `known_sigma` the model is given σ.
    """
    scale = item.cloud.graph.scale
    output = model(item.cloud, item.sigma if known_sigma else torch.full_like(item.sigma, torch.nan))
    moved = item.noisy + output.displacement
    error = (moved - item.clean).square().sum(-1)
    noise = item.sigma.square() + (0.03 * scale).square()
    # Along rays that graze a surface points are off far more than across it.
    whole = torch.maximum(noise, (item.noisy - item.clean).square().sum(-1)[item.around[:, :32]].mean(1) / 3)
    # What no denoiser can remove grows with the shared part.
    floor = (0.5 * scale).square() + (0.4 * item.shared).square()
    reach, whole_reach = (level * floor / (level + floor) for level in (noise, whole))
    here = moved.detach()
    forth, back = nearest_among(here, item.clean, item.around), nearest_among(item.clean, here, item.around)
    gap = moved - item.clean[forth]
    of_surface = item.interior * item.surface
    terms = {
        "pair": error / (3 * whole),
        "plane": (gap * item.normals[forth]).sum(-1).square() / reach,
        "near": gap.square().sum(-1) / (3 * whole_reach),
        "cover": (moved[back] - item.clean).square().sum(-1) / (3 * whole_reach),
    } | estimate_terms(output, estimate_targets(item, error.detach()))
    count = of_surface.sum().clamp_min(1)
    mean = {name: (value * of_surface).sum() / count for name, value in terms.items()}
    entropy = nn.functional.binary_cross_entropy_with_logits(output.surface, item.surface, reduction="none")
    mean["stay"] = ((1 - item.surface) * output.displacement.square().sum(-1) / scale.square()).mean()
    mean["surface"] = entropy.mean()  # at borders too: of leaves and wires little else is in an item
    # Without noise the errors are divided by almost nothing: the logarithm keeps such items from dominating the gradient.
    level = {name: 4 * torch.log1p(mean[name] / 4) if name in DISPLACEMENT_TERMS else mean[name] for name in mean}
    return mean | {"loss": torch.stack([LOSS_WEIGHTS[name] * value for name, value in level.items()]).sum()}


class EstimateTargets(NamedTuple):
    """What is true of each point of a surface, in local units."""

    error: Float[Tensor, " point"]
    """The squared distance from where the model moved it to its clean position."""
    log_noise: Float[Tensor, " point"]
    """The logarithm of the noise variance; at least that of a hundredth of a unit."""
    shared: Float[Tensor, " point"]
    """The share of it that neighbours have in common."""
    log_length: Float[Tensor, " point"]
    """The logarithm of the distance over which they do, from .3 to 30 units."""


def estimate_targets(item: TrainingItem, error: Float[Tensor, " point"]) -> EstimateTargets:
    """The truth of an item whose squared errors after the displacement are `error`."""
    scale = item.cloud.graph.scale
    log_noise = (item.sigma / scale).square().add(1e-4).log()
    share = item.shared.square() / (item.sigma.square() + (0.05 * scale).square())
    return EstimateTargets(error / scale.square(), log_noise, share, (item.length / scale).clamp(0.3, 30).log())


def estimate_terms(output: BlendOutput, truth: EstimateTargets) -> dict[str, Float[Tensor, " point"]]:
    """The terms "error", "noise", "split" and "length" of `losses` at each point."""
    return {
        "error": student_t_nll(truth.error, output.log_var),
        "noise": (output.log_noise - truth.log_noise).square() / 4,
        "split": (torch.sigmoid(output.shared) - truth.shared).square(),
        "length": truth.shared * (output.log_length - truth.log_length).square() / 4,
    }


DISPLACEMENT_TERMS = ("pair", "plane", "near", "cover", "stay")
"""The terms that the displacement alone decides."""

LOSS_WEIGHTS = {
    "pair": 0.7, "plane": 1.5, "near": 0.8, "cover": 0.8, "error": 0.5, "noise": 1.0, "split": 1.5, "length": 0.3,
    "surface": 1.0, "stay": 3.0,
}  # fmt: skip
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
