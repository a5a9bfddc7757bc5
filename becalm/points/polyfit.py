"""Local polynomial fits: planes and quadrics around places of a cloud at several scales, and what they say of points nearby.

A jet of order two is the local height function z(u, v) = a + bu + cv + du² + euv + fv² over the tangent plane
(Cazals & Pouget, "Estimating differential quantities using polynomial fitting of osculating jets", 2005).
Small neighbourhoods keep edges, large ones average noise away; here every scale is fitted, and the choice is left to the caller.
A fit is described as seen from any point near its place, so that one fit may serve many points.
"""

from typing import NamedTuple

import torch

from becalm.core.typing import Float, Int, Shaped, Tensor

SCALES = (12, 24, 48, 96, 192)
"""Neighbours in each fit, the point itself included; each covers twice the area of the one before."""

FIT_CHUNK = 256
"""Points fitted at a time, so few that their arrays stay in the processor's cache."""

FEATURES_PER_SCALE = 10
LOG_RESIDUAL, LOG_OFFSET, LOG_RADIUS = 0, 3, 7
"""Indices, among the features of a scale, of the logarithms of the quadric's root mean squared residual, of the distance to
it and of the neighbourhood's radius."""

VECTORS_PER_SCALE = 3

REACH = 1.5
"""Radii from its middle up to which a quadric is followed; beyond, it is continued by the height there."""


class LocalFits(NamedTuple):
    """Results of the fits at all scales for each point; lengths are in units of `scale`."""

    scale: Float[Tensor, " point"]
    """The local unit of length: mean distance to the 16 nearest neighbours, averaged over the 24 nearest points."""
    features: Float[Tensor, "point feature"]
    """Features invariant to rotation, translation and scale: residuals, offsets, curvatures, shapes of the neighbourhoods."""
    vectors: Float[Tensor, "point candidate 3"]
    """Candidate displacements: onto the plane, onto the quadric, and to the centroid within the tangent plane."""
    normals: Float[Tensor, "point scale 3"]
    """Unit normals of the quadrics beside the point, up to their sign."""


class Quadrics(NamedTuple):
    """One fitted quadric a place; lengths in a unit of the place's own."""

    frame: Float[Tensor, "place 3 3"]
    """Columns: the normal of the plane of least variance and two directions within it."""
    coefficients: Float[Tensor, "place 6"]
    """a to f of the height above the place, of u and v in radii."""
    radius: Float[Tensor, " place"]
    """Distance to the farthest neighbour."""
    centroid: Float[Tensor, "place 3"]
    """The neighbours' weighted mean, from the place."""
    variance: Float[Tensor, " place"]
    """The weighted mean squared residual."""
    eigenvalues: Float[Tensor, "place 3"]
    """Of the neighbours' weighted covariance, rising."""


def local_scale(points: Shaped[Tensor, "point 3"], neighbours: Int[Tensor, "point k"]) -> Float[Tensor, " point"]:
    """The unit of length at each point: mean distance to its 16 nearest neighbours, averaged over the 24 nearest points."""
    near = (points[neighbours[:, 1:17]] - points[:, None]).norm(dim=-1).mean(1)
    return near[neighbours[:, :24]].mean(1).float().clamp_min(1e-30)


def fit_jets(
    points: Float[Tensor, "point 3"],
    neighbours: Int[Tensor, "query k"],
    scale: Float[Tensor, " query"],
    queries: Int[Tensor, " query"],
    scales: tuple[int, ...] = SCALES,
) -> LocalFits:
    """Planes and quadrics fitted around the points numbered `queries`, given their nearest `neighbours` (themselves first)."""
    fits = fit_quadrics(points, neighbours, points[queries], scale, scales)
    parts = [describe_quadrics(fit, torch.zeros_like(fit.centroid), torch.ones_like(scale)) for fit in fits]
    features, vectors, normals = zip(*parts, strict=True)
    return LocalFits(scale, torch.cat(features, 1), torch.cat(vectors, 1), torch.stack(normals, 1))


def fit_quadrics(
    points: Shaped[Tensor, "point 3"],
    neighbours: Int[Tensor, "place k"],
    places: Shaped[Tensor, "place 3"],
    unit: Float[Tensor, " place"],
    scales: tuple[int, ...],
) -> list[Quadrics]:
    """Quadrics, one a scale, fitted around `places` to their nearest `neighbours` among `points`, nearest first, in `unit`s.

    Each fit weighs its k neighbours by exp(−2 r²/r_k²), takes the plane of least variance and regresses the heights above it on
    the six monomials up to order two, by ridge regression with a small penalty. Differences are taken in the precision of the
    points, the rest is float32.
    """
    axes, parts = points.T.contiguous(), []
    with torch.autocast(points.device.type, enabled=False):  # bfloat16 would ruin the fits
        for near, s, c in zip(neighbours.split(FIT_CHUNK), unit.split(FIT_CHUNK), places.split(FIT_CHUNK), strict=True):
            offsets = ((axes[:, near] - c.T[:, :, None]) / s[:, None]).transpose(0, 1).float()
            squared = offsets.square().sum(1)
            parts.append([_fit_scale(offsets[..., :k], squared[:, :k]) for k in scales])
    by_scale = (zip(*chunks, strict=True) for chunks in zip(*parts, strict=True))
    return [Quadrics._make(torch.cat(field) for field in fields) for fields in by_scale]


def _fit_scale(offsets: Tensor, squared: Tensor) -> Quadrics:
    """The quadrics of neighbours at `offsets` [place, 3, k] (neighbours last, for speed) of squared lengths [place, k]."""
    outer = squared[:, -1:].clamp_min(1e-12)
    weight = torch.exp(-2 * squared / outer)
    weight = weight / weight.sum(1, keepdim=True)
    centroid = (offsets * weight[:, None]).sum(-1)
    centred = offsets - centroid[..., None]
    covariance = (centred * weight[:, None]) @ centred.mT
    eigenvalues, frame = torch.linalg.eigh(covariance)
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
    return Quadrics(frame, coefficients[..., 0], radius[:, 0], centroid, variance, eigenvalues.clamp_min(0))


def describe_quadrics(
    fits: Quadrics, offsets: Float[Tensor, "place 3"], ratio: Float[Tensor, " place"]
) -> tuple[Tensor, Tensor, Tensor]:
    """What each quadric says of a point at `offsets` from its place.

    Returns features [place, 10], candidate displacements [place, 3, 3] and the normal [place, 3].

    `offsets` is in the fits' units, and `ratio` is one of these in units of the results.
    """
    normal, first, second = fits.frame.unbind(2)
    height, u, v = (fits.frame.mT @ offsets[..., None])[..., 0].unbind(1)
    u, v = u / fits.radius, v / fits.radius
    shrink = REACH / (u * u + v * v).sqrt().clamp_min(REACH)
    u, v = u * shrink, v * shrink
    a, b, c, d, e, f = fits.coefficients.unbind(1)
    slope_u, slope_v = b + 2 * d * u + e * v, c + e * u + 2 * f * v
    tilted = normal - (slope_u[:, None] * first + slope_v[:, None] * second) / fits.radius[:, None]
    length = tilted.norm(dim=1)
    tilted = tilted / length[:, None]
    # The height above the quadric over the slope's secant is, to first order, the distance from it.
    offset = (a + b * u + c * v + d * u * u + e * u * v + f * v * v - height) / length * ratio
    gap = (fits.centroid - offsets) * ratio[:, None]
    plane = (gap * normal).sum(1)
    total = fits.eigenvalues.sum(1) + 1e-12
    signed = torch.where(offset < 0, -ratio, ratio)
    features = torch.stack(
        [
            safe_log(fits.variance * ratio.square()) / 2,
            torch.asinh(offset.abs()),
            torch.asinh(torch.where(offset < 0, -plane, plane)),
            safe_log(offset.square()) / 2,
            torch.asinh((d + f) * signed),
            torch.asinh((((d - f).square() + e.square()) * ratio.square() + 1e-12).sqrt()),
            torch.asinh(((slope_u.square() + slope_v.square()) * ratio.square() + 1e-12).sqrt()),
            (fits.radius * ratio).log(),
            safe_log(fits.eigenvalues[:, 0] / total) / 2,
            (fits.eigenvalues[:, 1] / total),
        ],
        -1,
    )
    vectors = torch.stack([plane[:, None] * normal, offset[:, None] * tilted, gap - plane[:, None] * normal], 1)
    return features, vectors, tilted


def safe_log(x: Tensor) -> Tensor:
    """log(x + 10⁻⁸)."""
    return torch.log(x + 1e-8)
