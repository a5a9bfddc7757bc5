"""A closed surface about a cloud of points without normals: a wrap that thin sheets and thin legs survive.

Each point spreads a Gaussian as wide as its neighbourhood, flat where that is flat and long where it is long; their sum f
is above a level c in a thin layer about the surface, whichever way it faces. What the layer encloses is filled, the
outside of the whole is found by marching cubes, and every vertex then goes back to the points below it.

    f(x) = Σ_i exp(−(x − p_i)ᵀ C_i⁻¹ (x − p_i)),   C_i the covariance of p_i's neighbours, made full by a least width

Nothing has to be oriented, so a sheet of one layer, a solid leg of five points across and a body are all the same to it.
Its limits: cavities that nothing leads to are filled, gaps and holes narrower than about two layers (`Splats.layer`; 6 %
of the longest side at 2048 points) close, open sheets become closed ones at least a tenth of a layer thick, the surface
lies a little outside the points (by 0.5 % of a ball's radius at 800 of them or more, 1 % at 400; by about their spacing where
parts are as thin as that), edges are rounded and the tips of thin legs shortened by the points' spacing, and where points
sampled at random leave a gap wider than the spread of its neighbours (in one of nine balls tried) a body is open there and
stays hollow.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from becalm.core.files import InputError
from becalm.points.mesh import Mesh
from becalm.points.neighbours import knn

LEVEL = 0.3
NEIGHBOURS = 10
MAX_SHRINK = 3.0
"""Layers that a vertex may be moved at a time: where two sheets are close, f is above its level farther out."""


@dataclass(frozen=True)
class WrapSettings:
    """How finely to wrap."""

    cells: int = 96
    """Grid cells along the longest side."""
    flat: float = 0.22
    """Thickness of a point's Gaussian over its width, where its neighbours lie in a plane."""
    kept: float = 0.1
    """Share of the layer that vertices keep off the points, so that the two sides of a sheet do not meet."""
    smoothing: int = 12
    """Steps of Taubin's smoothing at the end."""


class Gaussians(NamedTuple):
    """The Gaussians."""

    points: np.ndarray
    """[n, 3]."""
    inverses: np.ndarray
    """[n, 3, 3]: C⁻¹."""
    reach: float
    """Where the widest of them has become e⁻⁴."""
    layer: float
    """Half thickness of {f > c} about a plane, typically."""


def wrap_points(points: np.ndarray, settings: WrapSettings | None = None) -> Mesh:
    """The outside of the surface that points [n, 3] lie on, as a closed mesh; a second for 2048 points on one core.

    Needs scikit-image (the extra `mesh`). Raises InputError: fewer than 20 distinct points, or one that is not finite.
    """
    from skimage.measure import marching_cubes

    settings = settings or WrapSettings()
    xyz = np.asarray(points, np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not np.isfinite(xyz).all():
        raise InputError(f"points: {xyz.shape} must be [n, 3] and finite")
    xyz = np.unique(xyz, axis=0)
    if len(xyz) < 2 * NEIGHBOURS:
        raise InputError(f"points: {len(xyz)} distinct ones make no surface; give {2 * NEIGHBOURS} or more")
    side = float(np.ptp(xyz, axis=0).max()) / settings.cells
    gaussians = fit_gaussians(xyz, side, settings)
    low = xyz.min(axis=0) - gaussians.reach - 2 * side
    counts = np.ceil((xyz.max(axis=0) + gaussians.reach + 2 * side - low) / side).astype(int) + 1
    field = fill_enclosed(sum_on_grid(gaussians, low, side, counts))
    vertices, faces, _, _ = marching_cubes(field, LEVEL, gradient_direction="ascent")
    mesh = Mesh(low + side * vertices.astype(np.float64), faces)
    for _ in range(2):
        mesh = shrink_to_points(mesh, xyz, gaussians.layer, settings.kept)
    return taubin_smooth(mesh, settings.smoothing)


def fit_gaussians(points: np.ndarray, side: float, settings: WrapSettings) -> Gaussians:
    """Gaussians of points [n, 3] for a grid of a cell size: never thinner than the grid can hold."""
    distance, near = knn(points, NEIGHBOURS)
    away = points[near] - points[near].mean(axis=1, keepdims=True)
    variance, axes = np.linalg.eigh(np.einsum("nkc,nkd->ncd", away, away) / NEIGHBOURS)
    typical = float(np.median(distance[:, -1]))
    wide = np.clip(distance[:, -1:], 0.4 * typical, 1.6 * typical)  # one stray point must not wrap the rest
    thin = np.maximum(settings.flat * wide, 0.8 * side)
    variance = np.clip(4 * variance, thin**2, np.maximum(wide, thin) ** 2)
    inverses = np.einsum("nci,ni,ndi->ncd", axes, 1 / variance, axes)
    height = np.log(NEIGHBOURS / LEVEL)  # f on a plane is λπσ², and λπd² the number of neighbours within d; σ = d here
    layer = float(np.median(thin)) * np.sqrt(height)
    return Gaussians(points, inverses, 2 * float(np.sqrt(variance.max())), layer)


def sum_on_grid(gaussians: Gaussians, low: np.ndarray, side: float, counts: np.ndarray) -> np.ndarray:
    """f on the nodes low + side·(i, j, k), [counts]; terms below e⁻⁴ are left out."""
    span = np.arange(-int(gaussians.reach / side) - 1, int(gaussians.reach / side) + 2)
    stencil = np.stack(np.meshgrid(span, span, span, indexing="ij"), -1).reshape(-1, 3)
    stencil = stencil[(stencil**2).sum(1) <= (gaussians.reach / side + 1) ** 2]
    total, rows = np.zeros(int(counts.prod())), max(1, 2_000_000 // len(stencil))
    for start in range(0, len(gaussians.points), rows):
        points, inverses = gaussians.points[start : start + rows], gaussians.inverses[start : start + rows]
        node: np.ndarray = np.rint((points - low) / side).astype(np.int64)
        offset = (node * side + low - points)[:, None] + stencil * side
        power = np.einsum("nsc,nsc->ns", np.matmul(offset, inverses), offset)
        at = np.clip(node[:, None] + stencil, 0, counts - 1)
        place: np.ndarray = np.ravel_multi_index(tuple(np.moveaxis(at, -1, 0)), tuple(counts))  # type: ignore
        kept = power < 4
        total += np.bincount(place[kept], np.exp(-power[kept]), len(total))
    return total.reshape(tuple(counts))


def fill_enclosed(field: np.ndarray) -> np.ndarray:
    """f with everything that cannot be reached from the border below the level raised above it."""
    from scipy.ndimage import binary_dilation, label

    below: np.ndarray = label(field < LEVEL)[0]  # type: ignore
    outside: np.ndarray = below == below[0, 0, 0]
    enclosed = ~outside & (field < 2 * LEVEL)
    return np.where(enclosed & np.logical_not(binary_dilation(outside)), 2 * LEVEL, field)


def shrink_to_points(mesh: Mesh, points: np.ndarray, layer: float, kept: float) -> Mesh:
    """The mesh with each vertex moved inwards to the nearest points below it, but for `kept` of the layer.

    The height is the mean of the highest three of eight neighbours along the vertex's normal: on a thin leg those of the
    near side. Heights are smoothed over the mesh, which keeps single points from denting it.
    """
    normals = vertex_normals(mesh)
    near = points[knn(points, 8, mesh.vertices)[1]]
    depth = np.einsum("vkc,vc->vk", mesh.vertices[:, None] - near, normals)
    inwards = np.sort(depth, axis=1)[:, :3].mean(axis=1) - kept * layer
    inwards = np.clip(inwards, 0, MAX_SHRINK * layer)
    average = _averaging_matrix(mesh)
    for _ in range(3):
        inwards = average @ inwards
    return Mesh(mesh.vertices - inwards[:, None] * normals, mesh.faces)


def taubin_smooth(mesh: Mesh, steps: int) -> Mesh:
    """The mesh with bumps of a few edges' length taken off: x + λLx then x − μLx, λ = 0.5, μ = 0.53 (Taubin 1995)."""
    average, x = _averaging_matrix(mesh), mesh.vertices
    for _ in range(steps):
        x = x + 0.5 * (average @ x - x)
        x = x - 0.53 * (average @ x - x)
    return Mesh(x, mesh.faces)


def _averaging_matrix(mesh: Mesh):
    """A sparse matrix [v, v]: the mean over a vertex and its neighbours."""
    from scipy.sparse import csr_array, diags_array, eye_array

    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    size = (len(mesh.vertices),) * 2
    linked = csr_array((np.ones(len(rows)), (rows, columns)), shape=size)
    linked.sum_duplicates()
    linked.data[:] = 1
    linked = linked + eye_array(size[0])
    return diags_array(1 / np.asarray(linked.sum(axis=1)).ravel()) @ linked


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals [v, 3]: the mean of those of the faces about a vertex, weighted by area."""
    corners = mesh.vertices[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat, weights = mesh.faces.ravel(), np.repeat(cross, 3, axis=0)
    total = np.stack([np.bincount(flat, weights[:, c], len(mesh.vertices)) for c in range(3)], axis=1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)


def point_normals(points: np.ndarray, mesh: Mesh, k: int = 12) -> np.ndarray:
    """Unit normals [n, 3] of points by PCA of their neighbours, turned to the side on which the wrap's nearest vertex lies."""
    near = points[knn(points, k)[1]]
    away = near - near.mean(axis=1, keepdims=True)
    axis = np.linalg.eigh(np.einsum("nkc,nkd->ncd", away, away))[1][:, :, 0]
    outwards = vertex_normals(mesh)[knn(mesh.vertices, 1, points)[1][:, 0]]
    return axis * np.where(np.einsum("nc,nc->n", axis, outwards) < 0, -1.0, 1.0)[:, None]
