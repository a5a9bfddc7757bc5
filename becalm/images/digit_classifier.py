"""The judge that reads cells: a small convolutional network fitted to digits, deterministic given a generator."""

from math import pi

import torch
from torch import nn
from torch.nn import functional as F

from becalm.core.typing import Float, Int, Tensor
from becalm.images.digits import Digits, top_per_class
from becalm.images.grid import shrink, side_of
from becalm.nets.precision import fast_matmul

BATCH = 128
RATE = 1e-2
"""Highest learning rate of the one-cycle schedule."""


class Judge(nn.Module):
    """Reads square grey cells of one side: four convolutions with batch normalisation, two of them of stride 2.

    Strides, not pooling: on a CPU, max-pooling takes several times as long as the convolutions do.
    """

    def __init__(self, side: int, width: int = 32):
        super().__init__()
        self.config = {"side": side, "width": width}
        self.side = side
        widths, strides, reach = (1, width, 2 * width, 2 * width, 4 * width), (2, 1, 2, 1), (5, 3, 3, 3)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, k, stride=s, padding=k // 2, bias=False)
            for a, b, k, s in zip(widths, widths[1:], reach, strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in widths[1:])
        self.classes = nn.Linear(4 * width * ((side + 3) // 4) ** 2, 10)

    def forward(self, cells: Float[Tensor, "*any channel"]) -> Float[Tensor, "*any digit"]:
        """Log-probabilities of the digits 0 to 9 for cells of h·h numbers in [−1, 1], −1 the paper."""
        if side_of(cells) != self.side:
            raise ValueError(f"cells: {side_of(cells)} pixels a side, but this judge was fitted to {self.side}")
        h = cells.reshape(-1, 1, self.side, self.side)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = F.relu(norm(convolution(h)))
        return self.classes(h.flatten(1)).float().log_softmax(-1).reshape(*cells.shape[:-1], 10)

    @torch.inference_mode()
    def read(self, cells: Float[Tensor, "*any channel"]) -> Int[Tensor, "*any"]:
        """The digit in every cell, 1 to 9: no cell of a Sudoku holds a 0, so the runner-up stands in for it."""
        with fast_matmul(cells.device.type):
            parts = [self(part)[:, 1:].argmax(1) + 1 for part in cells.reshape(-1, cells.shape[-1]).split(1024)]
        return torch.cat(parts).reshape(cells.shape[:-1])

    @torch.inference_mode()
    def confidence(self, digits: Digits) -> Float[Tensor, "digit"]:
        """Log-odds that each digit is what its label says, which are never equal for want of digits near certainty."""
        cells = shrink(digits.images.flatten(1), self.side) * 2 - 1
        said = torch.cat([self(part) for part in cells.split(1024)])
        own = torch.arange(10) == digits.labels[:, None]
        return said[own] - said.masked_fill(own, -torch.inf).logsumexp(1)


def fit(digits: Digits, side: int, generator: torch.Generator, epochs: int | None = None, width: int = 32) -> Judge:
    """A judge of cells of a side, fitted to slightly moved copies of these digits; the same for the same generator.

    Cross-entropy by AdamW under a one-cycle learning rate; 4 epochs, or as many as show 30 000 digits. Fit it to
    digits that are in no puzzle, unless the reference's protocol, which shares them, is what is wanted.
    """
    with torch.random.fork_rng(devices=[]):
        # torch's own initialisation draws from the global generator, which stays as it was
        judge = Judge(side, width)
    _initialise(judge, generator)
    epochs = epochs or max(4, -(-30_000 // len(digits)))
    steps = -(-epochs * len(digits) // BATCH)
    optimiser = torch.optim.AdamW(judge.parameters(), weight_decay=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.25)
    order = torch.cat([torch.randperm(len(digits), generator=generator) for _ in range(epochs)])
    for step in range(steps):
        chosen = order[step * BATCH : (step + 1) * BATCH]
        # moved first, made smaller afterwards: what is read later has not been blurred twice either
        cells = shrink(moved(digits.images[chosen], generator).flatten(1), side) * 2 - 1
        with fast_matmul("cpu"):
            output = judge(cells)
        loss = F.nll_loss(output, digits.labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return judge.eval().requires_grad_(False)


def clearest(judge: Judge, digits: Digits, most: int) -> Digits:
    """Of each class so many digits of which the judge is surest, at the side that it reads."""
    return top_per_class(digits, judge.confidence(digits), most).shrunk(judge.side)


def moved(
    images: Float[Tensor, "digit height width"], generator: torch.Generator
) -> Float[Tensor, "digit height width"]:
    """Copies turned by up to 10°, sheared and stretched by up to a tenth and shifted by up to a fourteenth of the side."""
    u = torch.rand(6, len(images), generator=generator) * 2 - 1
    angle = u[0] * pi / 18
    row = torch.stack([torch.cos(angle) * (1 + u[1] / 10), -torch.sin(angle) + u[2] / 10, u[3] / 7], 1)
    column = torch.stack([torch.sin(angle), torch.cos(angle) * (1 + u[4] / 10), u[5] / 7], 1)
    places = F.affine_grid(torch.stack([row, column], 1), [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], places, align_corners=False)[:, 0]


def _initialise(judge: Judge, generator: torch.Generator) -> None:
    for weight in judge.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(judge.classes.bias)
