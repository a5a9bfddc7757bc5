"""The surface in a decoded density: points move from the cloud around it onto its ridge.

Pieces of surface that neighbouring latent points decode overlap, and do not quite agree; points sampled from all of them form a
layer that is thicker than any piece. A ridge of the density is where it falls in the direction in which it is thinnest
(Ozertem & Erdogmus, "Locally defined principal curves and surfaces", JMLR 2011).
"""

from typing import NamedTuple

import torch

from becalm.core.typing import Float, Tensor
from becalm.nets.mixture import PatchDensity
from becalm.systems.lion import Latent

SMOOTHING = 0.2
"""Standard deviation, in patch radii, by which the density is smoothed first: how far pieces of one surface disagree."""

SHEET_RATIO = (0.6, 0.9)
"""Ratio of the density's two least deviations up to which points move onto the ridge, and from which on they stay."""

STEPS = 2
"""Steps towards the ridge."""


class Gaussians(NamedTuple):
    """The Gaussians that make up the density of each shape, in the shape's coordinates."""

    log_weight: Float[Tensor, "batch component"]
    """ln of share / √det covariance."""
    mean: Float[Tensor, "batch component 3"]
    """Their means."""
    precision: Float[Tensor, "batch component 3 3"]
    """The inverse of their covariances."""


def smoothed_gaussians(patch: PatchDensity, latent: Latent, patch_radius: float) -> Gaussians:
    """The Gaussians of all latent points, each covariance raised by that of `SMOOTHING`."""
    mixture = patch.mixture
    unwhiten = torch.matrix_exp(-patch.log_whitening)[:, :, None]
    lower = torch.diag_embed(mixture.log_scale.exp())
    lower[..., 1, 0], lower[..., 2, 0], lower[..., 2, 1] = mixture.lower.unbind(-1)
    root = unwhiten @ torch.linalg.inv(lower)
    covariance = root @ root.mT + SMOOTHING**2 * torch.eye(3, device=root.device)
    offset = patch.offset[:, :, None] + (unwhiten @ mixture.mean[..., None])[..., 0]
    mean = latent.h[..., None, :3] + patch_radius * offset
    log_weight = patch.log_share[..., None] + mixture.log_share - torch.logdet(covariance) / 2
    precision = torch.linalg.inv(covariance) / patch_radius**2
    return Gaussians(log_weight.flatten(1), mean.flatten(1, 2), precision.flatten(1, 2))


def move_to_ridge(points: Float[Tensor, "batch point 3"], density: Gaussians) -> Float[Tensor, "batch point 3"]:
    """The points after `STEPS` steps along the direction in which the density is thinnest, to the mean of the Gaussians there.

    Where the density is about as thin in a second direction, in rods and at corners, points stay.
    """
    log_weight, mean, precision = (part.double() for part in density)
    pull = (precision @ mean[..., None])[..., 0]
    constant = log_weight - (pull * mean).sum(-1) / 2
    x = points.double()
    for _ in range(STEPS):
        squares = (x[..., :, None] * x[..., None, :]).flatten(2)
        logits = constant[:, None] + x @ pull.mT - squares @ precision.flatten(2).mT / 2
        share = logits.float().softmax(2).double()
        here = (share @ precision.flatten(2)).unflatten(2, (3, 3))
        step = torch.linalg.solve(here, share @ pull) - x
        values, directions = torch.linalg.eigh(here)
        thinnest = directions[..., 2]
        low, high = SHEET_RATIO
        weight = ((high - (values[..., 1] / values[..., 2]).sqrt()) / (high - low)).clamp(0, 1)
        x = x + (weight * (step * thinnest).sum(-1))[..., None] * thinnest
    return x.to(points)
