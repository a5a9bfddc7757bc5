"""Even spacing: denoised points repel each other within their tangent planes until clumps and gaps have gone.

Noise along a surface cannot be seen in the surface itself, but it makes the spacing uneven, and scans and samplings are more
regular than chance. A few steps of gradient descent on a repulsive energy, as long as the noise allows, undo that.
"""

import numpy as np
import torch

from becalm.core.typing import Float, Tensor
from becalm.points.neighbours import knn

REPULSION_NEIGHBOURS, PLANE_NEIGHBOURS = 8, 24
"""Neighbours that repel a point, and neighbours from which its tangent plane is estimated."""

STEPS = (3, 3)
"""Steps with one set of neighbours, then with a new one."""

STEP_SIZE = 0.5
"""Share of an update that a step takes."""

HALF_MOBILITY = 0.3
"""σ in spacings at which a point's mobility is ½."""

ATTRACTION = 0.1
"""Weight of the pull back to the starting position, relative to the repulsion."""

CHUNK = 2**16
"""Points processed at a time, to bound memory."""


def equalize_spacing(xyz: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The points [n, 3] of a denoised surface, more evenly spaced; `sigma` [n] is the noise that each point had.

    With h the local spacing (mean distance to six neighbours, averaged over eight), u_ij = (x_i − x_j)/h within the tangent plane
    and the mobility m = s⁴/(s⁴ + HALF_MOBILITY⁴), s = σ/h, a step is
    Δx = STEP_SIZE · h [m Σ_j u_ij exp(−2 |x_i − x_j|³/h³) − (1 − m + ATTRACTION · m) (x − x⁰)/h]:
    where σ is small against the spacing nothing moves, and no point moves farther than 2σ. σ is clipped to 1.5 times its mean
    over the neighbours: detail finer than the spacing has residuals like noise, and must not be spread out.
    """
    distances, indices = knn(xyz, min(PLANE_NEIGHBOURS + 1, len(xyz)))
    start = torch.as_tensor(xyz - xyz.mean(0), dtype=torch.float32)
    level = torch.as_tensor(np.minimum(sigma, 1.5 * sigma[indices].mean(1)), dtype=torch.float32)
    rows = torch.arange(len(xyz)).split(CHUNK)
    normals = torch.cat([plane_normals(start[torch.as_tensor(indices[r])]) for r in rows])
    near = torch.as_tensor(distances[:, 1:7].mean(1), dtype=torch.float32).clamp_min(1e-30)
    neighbours = torch.as_tensor(indices[:, 1 : REPULSION_NEIGHBOURS + 1])
    spacing, moved = near[neighbours].mean(1), torch.zeros_like(start)
    for again, steps in enumerate(STEPS):
        if again:
            now = (start + moved).double().numpy()
            neighbours = torch.as_tensor(knn(now, min(REPULSION_NEIGHBOURS + 1, len(xyz)))[1][:, 1:])
        for _ in range(steps):
            now = start + moved
            push = torch.cat([tangential_repulsion(now, r, neighbours[r], spacing[r], normals[r]) for r in rows])
            moved = clamped_update(moved, push, spacing, level)
    return xyz + moved.double().numpy()


def plane_normals(neighbourhoods: Float[Tensor, "point k 3"]) -> Float[Tensor, "point 3"]:
    """The direction in which each neighbourhood has least variance, up to its sign."""
    centred = neighbourhoods - neighbourhoods.mean(1, keepdim=True)
    return torch.linalg.eigh(centred.mT @ centred)[1][..., 0]


def tangential_repulsion(
    points: Tensor, rows: Tensor, neighbours: Tensor, spacing: Tensor, normals: Tensor
) -> Float[Tensor, "row 3"]:
    """Σ_j u_ij exp(−2 |u_ij|³) of the points numbered `rows`, projected onto their tangent planes, in spacings."""
    away = (points[rows][:, None] - points[neighbours]) / spacing[:, None, None]
    weight = torch.exp(-2 * away.square().sum(-1).pow(1.5))
    push = (weight[:, None] @ away)[:, 0]
    return push - (push * normals).sum(1, keepdim=True) * normals


def clamped_update(
    moved: Float[Tensor, "point 3"], push: Float[Tensor, "point 3"], spacing: Tensor, sigma: Tensor
) -> Float[Tensor, "point 3"]:
    """The displacements `moved` after one more step under the repulsion `push`, clamped to a length of 2σ."""
    quartic = (sigma / spacing).pow(4)
    mobility = (quartic / (quartic + HALF_MOBILITY**4))[:, None]
    step = mobility * push * spacing[:, None] - (1 - mobility + ATTRACTION * mobility) * moved
    moved = moved + STEP_SIZE * step
    return moved * (2 * sigma[:, None] / moved.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
