"""Local polynomial fits: planes and quadrics around every point at several scales, with candidate displacements and features.

A jet of order two is the local height function z(u, v) = a + bu + cv + du² + euv + fv² over the tangent plane
(Cazals & Pouget, "Estimating differential quantities using polynomial fitting of osculating jets", 2005).
Small neighbourhoods keep edges, large ones average noise away; here every scale is fitted, and the choice is left to the caller.
"""

from typing import NamedTuple

import torch

from becalm.core.typing import Float, Int, Shaped, Tensor

SCALES = (12, 24, 48, 96, 192)
"""Neighbours in each fit, the point itself included; each covers twice the area of the one before."""

FIT_CHUNK = 256
"""Points fitted at a time, so few that their arrays stay in the processor's cache."""

FEATURES_PER_SCALE = 10
LOG_OFFSET, LOG_RADIUS = 3, 7
"""Indices, among the features of a scale, of the logarithms of the distance to the quadric and of the neighbourhood's radius."""

MEAN_CURVATURE = 4
"""Index, among them, of the mean curvature (asinh); the next is the difference of the principal curvatures."""

VECTORS_PER_SCALE = 3


class LocalFits(NamedTuple):
    """Results of the fits at all scales for each point; lengths are in units of `scale`."""

    scale: Float[Tensor, " point"]
    """The local unit of length: mean distance to the 16 nearest neighbours, averaged over the 32 nearest points."""
    features: Float[Tensor, "point feature"]
    """Features invariant to rotation, translation and scale: residuals, offsets, curvatures, shapes of the neighbourhoods."""
    vectors: Float[Tensor, "point candidate 3"]
    """Candidate displacements: onto the plane, onto the quadric, and to the centroid within the tangent plane."""
    normals: Float[Tensor, "point scale 3"]
    """Unit normals of the fitted planes, up to their sign."""


def local_scale(points: Shaped[Tensor, "point 3"], neighbours: Int[Tensor, "point k"]) -> Float[Tensor, " point"]:
    """The unit of length at each point: mean distance to its 16 nearest neighbours, averaged over the 32 nearest points."""
    near = (points[neighbours[:, 1:17]] - points[:, None]).norm(dim=-1).mean(1)
    return near[neighbours[:, :32]].mean(1).float().clamp_min(1e-30)


def fit_jets(
    points: Float[Tensor, "point 3"],
    neighbours: Int[Tensor, "query k"],
    scale: Float[Tensor, " query"],
    queries: Int[Tensor, " query"],
    scales: tuple[int, ...] = SCALES,
) -> LocalFits:
    """Planes and quadrics fitted around the points numbered `queries`, given their nearest `neighbours` (themselves first)."""
    return fit_neighbours(points, neighbours, points[queries], scale, scales)


def fit_neighbours(
    points: Shaped[Tensor, "point 3"],
    neighbours: Int[Tensor, "query k"],
    centres: Shaped[Tensor, "query 3"],
    scale: Float[Tensor, " query"],
    scales: tuple[int, ...],
) -> LocalFits:
    """Planes and quadrics fitted around the places `centres` to their nearest `neighbours` among `points`, nearest first.

    Each fit weighs its k neighbours by exp(−2 r²/r_k²), takes the plane of least variance and regresses the heights above it on
    the six monomials up to order two, by ridge regression with a small penalty. Differences are taken in the precision of the
    points, the rest is float32.
    """
    with torch.autocast(points.device.type, enabled=False):  # bfloat16 would ruin the fits
        axes = points.T.contiguous()
        parts = [
            _fit_scales(((axes[:, n] - c.T[:, :, None]) / s[:, None]).transpose(0, 1).float(), scales)
            for n, s, c in zip(
                neighbours.split(FIT_CHUNK), scale.split(FIT_CHUNK), centres.split(FIT_CHUNK), strict=True
            )
        ]
    return LocalFits(scale, *(torch.cat(part) for part in zip(*parts, strict=True)))


def _fit_scales(offsets: Tensor, scales: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Features, candidates and normals at all scales, from neighbours at `offsets` [query, 3, k] (neighbours last, for speed)."""
    squared = offsets.square().sum(1)
    features, vectors, normals = zip(*(_fit_scale(offsets[..., :k], squared[:, :k]) for k in scales), strict=True)
    return torch.cat(features, 1), torch.cat(vectors, 1), torch.stack(normals, 1)


def _fit_scale(offsets: Tensor, squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features [query, 10], candidate displacements [query, 3, 3] and the normal [query, 3] at one scale."""
    outer = squared[:, -1:].clamp_min(1e-12)
    weight = torch.exp(-2 * squared / outer)
    weight = weight / weight.sum(1, keepdim=True)
    centre = (offsets * weight[:, None]).sum(-1)
    centred = offsets - centre[..., None]
    covariance = (centred * weight[:, None]) @ centred.mT
    values, frame = torch.linalg.eigh(covariance)
    normal = frame[..., 0]
    radius = outer.sqrt()
    height, u, v = (frame.mT @ offsets).unbind(1)
    u, v = u / radius, v / radius
    design = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v], 1)
    weighted = design * weight[:, None]
    ridge = design.new_tensor([1e-6, 1e-4, 1e-4, 1e-3, 1e-3, 1e-3]).diag()
    normal_equations = weighted @ design.mT + ridge
    moments = (weighted * height[:, None]).sum(-1, keepdim=True)
    coefficients = torch.cholesky_solve(moments, torch.linalg.cholesky(normal_equations))
    residual = height - (coefficients.mT @ design)[:, 0]
    variance = (weight * residual.square()).sum(1)
    a, b, c, d, e, f = coefficients[..., 0].unbind(-1)
    plane = (centre * normal).sum(-1)
    tangential = centre - plane[:, None] * normal
    values = values.clamp_min(0)
    total = values.sum(-1) + 1e-12
    sign = torch.where(a < 0, -1.0, 1.0)
    features = torch.stack(
        [
            _safe_log(variance) / 2,
            torch.asinh(a.abs()),
            torch.asinh(plane * sign),
            _safe_log(a.square()) / 2,
            torch.asinh((d + f) * sign),
            torch.asinh(((d - f).square() + e.square() + 1e-12).sqrt()),
            torch.asinh((b.square() + c.square() + 1e-12).sqrt()),
            radius[:, 0].log(),
            _safe_log(values[:, 0] / total) / 2,
            (values[:, 1] / total),
        ],
        -1,
    )
    vectors = torch.stack([plane[:, None] * normal, a[:, None] * normal, tangential], 1)
    return features, vectors, normal


def _safe_log(x: Tensor) -> Tensor:
    """log(x + 10⁻⁸)."""
    return torch.log(x + 1e-8)
