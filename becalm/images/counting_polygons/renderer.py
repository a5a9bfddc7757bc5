"""What paints a plan of Counting Polygons: one small network that has learned what each kind of drawing looks like."""

from collections.abc import Iterator
from math import isqrt

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.images.counting_polygons.layout import KINDS, plan, told
from becalm.images.counting_polygons.scenes import CORNERS, MOST, Polygons, plain, polygons
from becalm.images.counting_polygons.scenes import colour as vivid
from becalm.images.even_pixels import rgb_to_hsv
from becalm.nets.embed import sinusoids

NEAREST = 2
"""Drawings that are looked at for each pixel."""


class Painter(nn.Module):
    """Tells how far each pixel is covered: it sees where that lies in the nearest drawings, held upright, and their kinds.

    An implicit decoder (as of shapes: Mescheder et al. 2019). It colours with the mean of what the plan tells of colours, of the
    drawings' the hue alone.
    """

    def __init__(self, width: int = 64, frequencies: int = 5):
        super().__init__()
        self.config = {"width": width, "frequencies": frequencies}
        self.frequencies = frequencies
        widths = [4 * frequencies + 3 + KINDS, width, width, width]
        layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (nn.Linear(a, b), nn.SiLU())]
        self.covered = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(
        self, plan: Float[Tensor, "batch patch 25"], at: Float[Tensor, "batch pixel 2"], size: int
    ) -> Float[Tensor, "batch pixel 3"]:
        """Colours in [−1, 1] of the pixels at x, y, in units of the image's side, of which they have a share of 1/size."""
        side, present = isqrt(plan.shape[1]), told(plan)[0]
        count = max(int(present.sum(1).max()), 1)
        slots = present.float().topk(count, 1).indices
        plan = plan.gather(1, slots[..., None].expand(-1, -1, plan.shape[-1]))
        present, kind, way, radius, turn = told(plan)
        weight = present[..., None] / present.sum(1)[:, None, None].clamp_min(1)
        colour, ground = (weight * plan[..., -6:]).sum(1, keepdim=True).chunk(2, -1)
        colour = 2 * vivid(rgb_to_hsv((colour[:, None] + 1) / 2)[..., 0, 0, 0])[:, 0] - 1
        centre = torch.stack([slots % side, slots // side], -1) + 0.5 + way
        radius = radius.clamp_min(0.5)
        away = (at[:, :, None] * side - centre[:, None]) / radius[:, None]
        beyond = torch.where(present[:, None], (away.norm(dim=-1) - 1) * radius[:, None, :, 0], torch.inf)
        near = beyond.topk(min(NEAREST, count), -1, largest=False).indices

        def of(what: Tensor) -> Tensor:
            """What is known of the drawings, of those that are near each pixel."""
            return what[:, None].expand(-1, at.shape[1], *what.shape[1:]).gather(2, near)

        corners = (kind - MOST + CORNERS[0]).clamp_min(CORNERS[0])
        angle = torch.where(kind < MOST, 0.0, torch.atan2(turn[..., 1], turn[..., 0]) / corners)
        x, y = (part.gather(2, near) for part in away.unbind(-1))
        cos, sin = of(angle.cos()), of(angle.sin())
        upright = torch.stack([x * cos + y * sin, y * cos - x * sin], -1).clamp(-1.5, 1.5)
        pixel = of(side / (size * radius[..., 0]))[..., None]
        kinds = nn.functional.one_hot(of(kind), KINDS).to(upright)
        seen = torch.cat([upright, sinusoids(upright[..., None], self.frequencies, 4.0).flatten(-2), pixel, kinds], -1)
        alpha = torch.where(of(present), torch.sigmoid(self.covered(seen)[..., 0]), 0.0).amax(-1, keepdim=True)
        return alpha * colour + (1 - alpha) * ground

    @torch.inference_mode()
    def paint(self, plans: Float[Tensor, "batch patch 25"], size: int) -> Float[Tensor, "batch size size 3"]:
        """Whole images, one after the other."""
        steps = (torch.arange(size, device=plans.device) + 0.5) / size
        at = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(1, -1, 2)
        return torch.cat([self(one, at, size) for one in plans.split(1)]).view(-1, size, size, 3)


def examples(
    drawn: Polygons, pixels: int, generator: torch.Generator
) -> tuple[Float[Tensor, "batch pixel 2"], Float[Tensor, "batch pixel 3"]]:
    """Places of random pixels on and around the drawings of images, and their colours."""
    batch, size = drawn.images.shape[:2]

    def draw(*shape: int) -> Tensor:
        return torch.rand(batch, pixels, *shape, generator=generator)

    slot = (draw() * (drawn.count[:, None] + 2)).long()
    circle = drawn.circles.gather(1, slot[..., None].expand(-1, -1, 3))
    at = circle[..., :2] + circle[..., 2:] * (2.6 * draw(2) - 1.3)
    at = torch.where(draw(1) < 0.1, draw(2), at)
    pixel = (at * size).floor().clamp(0, size - 1)
    row, column = pixel[..., 1].long(), pixel[..., 0].long()
    return (pixel + 0.5) / size, drawn.images[torch.arange(batch)[:, None], row, column]


def fit(
    steps: int, generator: torch.Generator, size: int = 128, side: int = 16, batch: int = 48, pixels: int = 1024
) -> Iterator[tuple[Painter, float]]:
    """Train a painter on images without end; yields it and its mean squared error of colours after every step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        painter = Painter()
    optimiser = torch.optim.AdamW(painter.parameters(), weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        drawn = polygons(batch, generator, size, plain)
        at, colour = examples(drawn, pixels, generator)
        error = (painter(plan(drawn, side), at, size) - colour).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        cycle.step()
        yield painter, error.item()
