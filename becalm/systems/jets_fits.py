"""What `Jets` sees of a cloud: planes and quadrics at nine scales, on four levels of its pyramid, and a graph of neighbours.

Seen from each point, the residuals of the fits measure white noise, correlated noise and curvature there; their offsets are
candidate displacements.
"""

from typing import NamedTuple

import numpy as np
import torch

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.blend import Graph, join_rows, row_blocks
from becalm.points.estimate import MAX_NOISE_TO_RADIUS
from becalm.points.polyfit import (
    FEATURES_PER_SCALE,
    LOG_OFFSET,
    LOG_RADIUS,
    LOG_RESIDUAL,
    Quadrics,
    describe_quadrics,
    fit_quadrics,
    local_scale,
)
from becalm.points.pyramid import Level, pyramid

LEVEL_SCALES = ((12, 24), (12, 24, 48), (24, 48), (24, 48))
"""Neighbours in each fit, by level of the pyramid: as many points of the scan as 12 to 3 072, a radius of 2 to 32 spacings."""

N_SCALES = sum(len(scales) for scales in LEVEL_SCALES)

EDGE_RANKS = ((1, 2, 3, 4, 5, 6, 8, 12, 17, 23), (4, 11, 28), (12,), (12,))
"""Ranks, by distance, of the neighbours on each level to which a point has edges; on coarser levels, those of the nearest of its
points."""

NEAR_EDGES = len(EDGE_RANKS[0])

NORMAL_SCALES = (1, 2, 4)
"""Scales whose normals the network sees: those of about 24, 48 and 192 points of the scan."""

RESIDUAL_SHARE = (0.60, 0.83, 0.93, 0.97, 0.985, 1.0, 1.0, 1.0, 1.0)
"""Ratio of the offset from the quadric to the point's own noise, scale by scale."""

CALM_NEIGHBOURS = 24
"""Points of the coarsest level that are a point's surroundings: within about 20 spacings."""

CALM_SHARES = (0.15, 0.5)
"""Of these so many are calmer than the residuals that the network sees beside the point's own."""

N_FEATURES = (FEATURES_PER_SCALE + len(CALM_SHARES)) * N_SCALES
"""Features of a point."""


class FittedCloud(NamedTuple):
    """A cloud with its local fits: the network's input."""

    graph: Graph
    features: Float[Tensor, "point feature"]
    candidates: Float[Tensor, "point candidate 3"]

    def to(self, device: torch.device) -> "FittedCloud":
        """The cloud with its tensors on a device."""
        graph = Graph._make(part.to(device) for part in self.graph)
        return FittedCloud(graph, self.features.to(device), self.candidates.to(device))


def fit_cloud(xyz: np.ndarray, block: int = 2**13) -> FittedCloud:
    """Local fits at every point of a cloud [n, 3] of distinct positions, n ≥ 16, on every level of its pyramid.

    Quadrics are fitted around the points of each level, and every point of the cloud is described by the nearest of each.
    """
    levels = pyramid(xyz, tuple(max(scales) for scales in LEVEL_SCALES))
    points = torch.as_tensor(xyz)
    scale = local_scale(points, torch.as_tensor(levels[0].neighbours))
    fits, nearest, edges = [], [], []
    for i, (level, scales) in enumerate(zip(levels, LEVEL_SCALES, strict=True)):
        places, seeds, near = (torch.as_tensor(x) for x in (level.points, level.seeds, level.neighbours))
        fits.append(fit_quadrics(places, near, places, scale[seeds], scales))
        nearest.append(torch.arange(len(xyz)) if i == 0 else torch.as_tensor(level.tree.query(xyz, 1)[1][:, 0]))
        edges.append(seeds[near[:, list(EDGE_RANKS[i])]])

    def describe_rows(rows: slice) -> tuple[torch.Tensor, ...]:
        """Ends and offsets of edges, features (room left for those of `calm_residuals`), candidates and normals."""
        seen = []
        for level, level_fits, closest in zip(levels, fits, nearest, strict=True):
            at = closest[rows]
            unit = scale[torch.as_tensor(level.seeds)[at]]
            offsets = ((points[rows] - torch.as_tensor(level.points)[at]) / unit[:, None]).float()
            for fit in level_fits:
                chosen = Quadrics._make(field[at] for field in fit)
                seen.append(describe_quadrics(chosen, offsets, unit / scale[rows]))
        features, vectors, normals = zip(*seen, strict=True)
        ends = torch.cat([level_edges[at[rows]] for level_edges, at in zip(edges, nearest, strict=True)], 1)
        axes = torch.stack([normals[i] for i in NORMAL_SCALES], 1)
        room = scale.new_zeros(len(ends), N_FEATURES - N_SCALES * FEATURES_PER_SCALE)
        offsets = (points[ends] - points[rows][:, None]).float()
        return ends, offsets, torch.cat([*features, room], 1), torch.cat(vectors, 1), axes

    blocks = (describe_rows(rows) for rows in row_blocks(points, block))
    ends, offsets, features, vectors, normals = join_rows(blocks, points)
    described = features[:, : N_SCALES * FEATURES_PER_SCALE]
    features[:, described.shape[1] :] = calm_residuals(described, scale, levels[-1], nearest[-1])
    return FittedCloud(Graph(offsets, scale, ends, normals), features, vectors)


def calm_residuals(
    features: Float[Tensor, "point feature"],
    scale: Float[Tensor, " point"],
    coarsest: Level,
    nearest: Int[Tensor, " point"],
) -> Float[Tensor, "point calm"]:
    """The logarithm of the residual of each scale's quadrics in the calm part of a point's surroundings, in its local unit.

    Noise is everywhere, detail in places: where a fit leaves more than in calm places around, what it leaves may be shape.
    The surroundings are the nearest points of the coarsest level, about 20 spacings; `nearest` is the nearest of these.
    """
    residual = features.unflatten(1, (N_SCALES, FEATURES_PER_SCALE))[..., LOG_RESIDUAL] + scale.log()[:, None]
    around = torch.as_tensor(coarsest.seeds)[torch.as_tensor(coarsest.neighbours[:, :CALM_NEIGHBOURS])]
    calm = residual[around].quantile(residual.new_tensor(CALM_SHARES), dim=1)
    return calm[:, nearest].movedim(0, 1).flatten(1) - scale.log()[:, None]


def residual_noise(cloud: FittedCloud) -> Float[Tensor, " point"]:
    """A robust estimate of the noise level at each point, in local units, from the fits alone; the network refines it.

    At each scale it is the median over the neighbours of the offset from the quadric, over 0.6745 and `RESIDUAL_SHARE`, averaged
    over the neighbours. The scale taken is the smallest that is wide against this level at the point and at half of the
    neighbours.
    """
    features = cloud.features[:, : N_SCALES * FEATURES_PER_SCALE].unflatten(1, (N_SCALES, FEATURES_PER_SCALE))
    offsets, radii = features[..., LOG_OFFSET].exp(), features[..., LOG_RADIUS].exp()
    near = cloud.graph.edges[:, :NEAR_EDGES]
    levels = offsets[near].median(1).values / (0.6745 * offsets.new_tensor(RESIDUAL_SHARE))
    levels = levels[near].mean(1)
    fits = levels <= MAX_NOISE_TO_RADIUS * radii
    fits &= (fits[near].float().mean(1) >= 0.5).cumsum(1) > 0
    fits[:, -1] = True
    return levels.gather(1, fits.int().argmax(1, keepdim=True))[:, 0].clamp_min(1e-3)
