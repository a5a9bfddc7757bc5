"""Even spacing: noise also pushes points along the surface, into clumps and gaps; here they give way to each other again.

Of the noise along a surface nothing can be seen in the surface itself, but much in the spacing: scans and samplings are more
regular than chance. A few steps down a repulsive energy undo what the noise's own size allows, within the tangent planes.
"""

import numpy as np
import torch

from becalm.core.typing import Float, Tensor
from becalm.points.neighbours import knn

NEAR, FLAT = 8, 24
"""Neighbours that push a point, and neighbours that tell its tangent plane."""

STEPS = (3, 3)
"""Steps with one set of neighbours, then with a new one."""

RATE = 0.5
"""Share of the push that a step follows."""

FREE = 0.3
"""σ in spacings at which a point is as much free to move as it is held where it was."""

HOLD = 0.1
"""How strongly a point is drawn back to where it began, beside the push."""

ROWS = 2**16
"""Points moved at a time, for memory's sake."""


def spread(xyz: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The points [n, 3] of a denoised surface, more evenly spaced; `sigma` [n] is the noise that each point had.

    With h the local spacing (mean distance to six neighbours, averaged over eight), u_ij = (x_i − x_j)/h within the tangent plane
    and m = s⁴/(s⁴ + FREE⁴), s = σ/h, a step is Δx = RATE h [m Σ_j u_ij exp(−2 |x_i − x_j|³/h³) − (1 − m + HOLD m) (x − x⁰)/h]:
    where σ is small against the spacing nothing moves, and no point goes farther than 2σ from where it was. Here no σ counts for
    more than 1.5 times their upper quartile: detail finer than the spacing looks noisy, and must not be spread out.
    """
    start = torch.as_tensor(xyz - xyz.mean(0), dtype=torch.float32)
    level = torch.as_tensor(np.minimum(sigma, 1.5 * np.quantile(sigma, 0.75)), dtype=torch.float32)
    distances, indices = knn(xyz, min(FLAT + 1, len(xyz)))
    rows = torch.arange(len(xyz)).split(ROWS)
    normals = torch.cat([normals_of(start[torch.as_tensor(indices[r])]) for r in rows])
    near = torch.as_tensor(distances[:, 1:7].mean(1), dtype=torch.float32).clamp_min(1e-30)
    neighbours = torch.as_tensor(indices[:, 1 : NEAR + 1])
    spacing, moved = near[neighbours].mean(1), torch.zeros_like(start)
    for again, steps in enumerate(STEPS):
        if again:
            now = (start + moved).double().numpy()
            neighbours = torch.as_tensor(knn(now, min(NEAR + 1, len(xyz)))[1][:, 1:])
        for _ in range(steps):
            now = start + moved
            push = torch.cat([pushed(now, r, neighbours[r], spacing[r], normals[r]) for r in rows])
            moved = held(moved, push, spacing, level)
    return xyz + moved.double().numpy()


def normals_of(around: Float[Tensor, "point k 3"]) -> Float[Tensor, "point 3"]:
    """The direction in which each neighbourhood has least variance; its sign carries no meaning."""
    away = around - around.mean(1, keepdim=True)
    return torch.linalg.eigh(away.mT @ away)[1][..., 0]


def pushed(now: Tensor, rows: Tensor, neighbours: Tensor, spacing: Tensor, normals: Tensor) -> Tensor:
    """Σ_j u_ij exp(−2 |u_ij|³) of the points numbered `rows`, within their tangent planes."""
    away = (now[rows][:, None] - now[neighbours]) / spacing[:, None, None]
    weight = torch.exp(-2 * away.square().sum(-1).pow(1.5))
    push = (weight[:, None] @ away)[:, 0]
    return push - (push * normals).sum(1, keepdim=True) * normals


def held(moved: Tensor, push: Tensor, spacing: Tensor, sigma: Tensor) -> Tensor:
    """The displacements after one step, no longer than 2σ."""
    quartic = (sigma / spacing).pow(4)
    free = (quartic / (quartic + FREE**4))[:, None]
    step = free * push * spacing[:, None] - (1 - free + HOLD * free) * moved
    moved = moved + RATE * step
    return moved * (2 * sigma[:, None] / moved.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)
