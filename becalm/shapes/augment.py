"""Training inputs of a shape: a sample of its points, a part of it, points with noise, or points moved within a grid's cells."""

import numpy as np
import torch

from becalm.core.typing import Float, Tensor
from becalm.nets.latent import gather_rows


def sample_points(points: np.ndarray, wanted: int, generator: torch.Generator) -> Float[Tensor, "batch point 3"]:
    """`wanted` points of each shape [batch, n, 3], in random order."""
    order = torch.rand(points.shape[:2], generator=generator).argsort(1)[:, :wanted]
    return gather_rows(torch.from_numpy(np.ascontiguousarray(points)), order)


def crop_by_plane(
    points: Float[Tensor, "batch point 3"], share: float, generator: torch.Generator
) -> Float[Tensor, "batch kept 3"]:
    """The points of each shape on one side of a random plane: `share` of them. The plane is one for all draws of a batch."""
    if share == 1:
        return points
    state = generator.get_state()
    normal = torch.randn(len(points), 1, 3, generator=generator)
    generator.set_state(state)
    order = (points * normal).sum(-1).argsort(1)[:, : round(share * points.shape[1])]
    return gather_rows(points, order)


def add_noise(points: Float[Tensor, "batch point 3"], generator: torch.Generator) -> Float[Tensor, "batch point 3"]:
    """The points with Gaussian noise, its deviation uniform up to 0.06 for each shape."""
    deviation = 0.06 * torch.rand(len(points), 1, 1, generator=generator)
    return points + deviation * torch.randn(points.shape, generator=generator)


def snap_to_grid(points: Float[Tensor, "batch point 3"], generator: torch.Generator) -> Float[Tensor, "batch point 3"]:
    """The points moved within the cells, of side 1/16 to 1/6, of a grid that lies anywhere: to the middle, or to any place."""
    cell = 1 / (6 + 10 * torch.rand(len(points), 1, 1, generator=generator))
    loose = torch.rand(len(points), 1, 1, generator=generator)
    corner = cell * torch.rand(len(points), 1, 3, generator=generator)
    place = 0.5 + (loose < 0.5) * (torch.rand(points.shape, generator=generator) - 0.5)
    return (((points - corner) / cell).floor() + place) * cell + corner
