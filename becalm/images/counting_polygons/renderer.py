"""Rendering layouts of Counting Polygons by a small network that has learned what each kind of drawing looks like."""

from collections.abc import Iterator
from math import isqrt

import torch

from becalm.core.typing import Float, Tensor
from becalm.images.counting_polygons.layout import decode_layout, encode_layout
from becalm.images.counting_polygons.scenes import (
    CORNERS,
    MAX_FIGURES,
    Polygons,
    figure_colour,
    plain_background,
    polygons,
)
from becalm.images.even_pixels import rgb_to_hsv
from becalm.nets.coverage import CoverageNetwork

N_NEAREST = 2
"""Drawings considered for each pixel."""


def render_pixels(
    network: CoverageNetwork,
    layout: Float[Tensor, "batch patch 25"],
    at: Float[Tensor, "batch pixel 2"],
    size: int,
) -> Float[Tensor, "batch pixel 3"]:
    """Colours in [−1, 1] of the pixels at x, y, in units of the image's side, of which they have a share of 1/size.

    A pixel is covered as far as by the nearest two drawings, each seen in its own upright frame. Colours are the mean of what
    the patches with drawings say, of the drawings' colour the hue alone.
    """
    side, present = isqrt(layout.shape[1]), decode_layout(layout).present
    count = max(int(present.sum(1).max()), 1)
    slots = present.float().topk(count, 1).indices
    layout = layout.gather(1, slots[..., None].expand(-1, -1, layout.shape[-1]))
    present, kind, offset, radius, turn = decode_layout(layout)
    weight = present[..., None] / present.sum(1)[:, None, None].clamp_min(1)
    colour, ground = (weight * layout[..., -6:]).sum(1, keepdim=True).chunk(2, -1)
    colour = 2 * figure_colour(rgb_to_hsv((colour[:, None] + 1) / 2)[..., 0, 0, 0])[:, 0] - 1
    centre = torch.stack([slots % side, slots // side], -1) + 0.5 + offset
    radius = radius.clamp_min(0.5)
    position = (at[:, :, None] * side - centre[:, None]) / radius[:, None]
    gap = torch.where(present[:, None], (position.norm(dim=-1) - 1) * radius[:, None, :, 0], torch.inf)
    nearest = gap.topk(min(N_NEAREST, count), -1, largest=False).indices

    def of_nearest(values: Tensor) -> Tensor:
        """Values [batch, drawing, …] of the drawings that are nearest to each pixel."""
        return values[:, None].expand(-1, at.shape[1], *values.shape[1:]).gather(2, nearest)

    corners = (kind - MAX_FIGURES + CORNERS[0]).clamp_min(CORNERS[0])
    angle = torch.where(kind < MAX_FIGURES, 0.0, torch.atan2(turn[..., 1], turn[..., 0]) / corners)
    x, y = (part.gather(2, nearest) for part in position.unbind(-1))
    cos, sin = of_nearest(angle.cos()), of_nearest(angle.sin())
    upright = torch.stack([x * cos + y * sin, y * cos - x * sin], -1).clamp(-1.5, 1.5)
    pixel = of_nearest(side / (size * radius[..., 0]))[..., None]
    covered = network(upright, pixel, of_nearest(kind))
    alpha = torch.where(of_nearest(present), covered, 0.0).amax(-1, keepdim=True)
    return alpha * colour + (1 - alpha) * ground


@torch.inference_mode()
def render(
    network: CoverageNetwork, layouts: Float[Tensor, "batch patch 25"], size: int
) -> Float[Tensor, "batch size size 3"]:
    """Whole images, one after the other."""
    steps = (torch.arange(size, device=layouts.device) + 0.5) / size
    at = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(1, -1, 2)
    return torch.cat([render_pixels(network, one, at, size) for one in layouts.split(1)]).view(-1, size, size, 3)


def sample_pixels(
    scenes: Polygons, pixels: int, generator: torch.Generator
) -> tuple[Float[Tensor, "batch pixel 2"], Float[Tensor, "batch pixel 3"]]:
    """Positions of random pixels, nine in ten on and around the drawings, and their colours."""
    batch, size = scenes.images.shape[:2]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(batch, pixels, *shape, generator=generator)

    slot = (uniform() * (scenes.count[:, None] + 2)).long()
    circle = scenes.circles.gather(1, slot[..., None].expand(-1, -1, 3))
    at = circle[..., :2] + circle[..., 2:] * (2.6 * uniform(2) - 1.3)
    at = torch.where(uniform(1) < 0.1, uniform(2), at)
    pixel = (at * size).floor().clamp(0, size - 1)
    row, column = pixel[..., 1].long(), pixel[..., 0].long()
    return (pixel + 0.5) / size, scenes.images[torch.arange(batch)[:, None], row, column]


def fit(
    steps: int, generator: torch.Generator, size: int = 128, side: int = 16, batch: int = 48, pixels: int = 1024
) -> Iterator[tuple[CoverageNetwork, float]]:
    """Train a network on random images; yields it and its mean squared error of colours after every step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        network = CoverageNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        scenes = polygons(batch, generator, size, plain_background)
        at, colour = sample_pixels(scenes, pixels, generator)
        error = (render_pixels(network, encode_layout(scenes, side), at, size) - colour).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        cycle.step()
        yield network, error.item()
