"""A small convolutional network that classifies the digit in a cell."""

from math import isqrt

import torch
from torch import nn
from torch.nn import functional as F

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.precision import fast_matmul


class DigitClassifier(nn.Module):
    """Classifies square grey cells of one side: four convolutions with batch normalisation, two of them of stride 2.

    Strides, not pooling: on a CPU, max-pooling takes several times as long as the convolutions do.
    """

    def __init__(self, side: int, width: int = 32):
        super().__init__()
        self.config = {"side": side, "width": width}
        self.side = side
        widths, strides, kernels = (1, width, 2 * width, 2 * width, 4 * width), (2, 1, 2, 1), (5, 3, 3, 3)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, k, stride=s, padding=k // 2, bias=False)
            for a, b, k, s in zip(widths, widths[1:], kernels, strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in widths[1:])
        self.classes = nn.Linear(4 * width * ((side + 3) // 4) ** 2, 10)

    def forward(self, cells: Float[Tensor, "*any channel"]) -> Float[Tensor, "*any digit"]:
        """Log-probabilities of the digits 0 to 9 for cells of h·h numbers in [−1, 1], −1 the paper."""
        if cells.shape[-1] != self.side**2:
            raise ValueError(
                f"cells: {isqrt(cells.shape[-1])} pixels a side, but this classifier was fitted to {self.side}"
            )
        h = cells.reshape(-1, 1, self.side, self.side)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = F.relu(norm(convolution(h)))
        return self.classes(h.flatten(1)).float().log_softmax(-1).reshape(*cells.shape[:-1], 10)

    @torch.inference_mode()
    def probabilities(self, cells: Float[Tensor, "*any channel"]) -> Float[Tensor, "*any digit"]:
        """The probabilities of the digits 1 to 9 in every cell, given that it holds no 0, on the device of the cells."""
        own = cells.to(next(self.parameters()).device)
        with fast_matmul(own.device.type):
            parts = [self(part)[:, 1:].softmax(1) for part in own.reshape(-1, cells.shape[-1]).split(1024)]
        return torch.cat(parts).reshape(*cells.shape[:-1], -1).to(cells.device)

    @torch.inference_mode()
    def read(self, cells: Float[Tensor, "*any channel"]) -> Int[Tensor, "*any"]:
        """The digit in every cell, 1 to 9: no cell of a Sudoku holds a 0, so the runner-up stands in for it."""
        with fast_matmul(cells.device.type):
            parts = [self(part)[:, 1:].argmax(1) + 1 for part in cells.reshape(-1, cells.shape[-1]).split(1024)]
        return torch.cat(parts).reshape(cells.shape[:-1])


def init_weights(classifier: DigitClassifier, generator: torch.Generator) -> None:
    """Draw weights as He et al. (2015), the same for the same generator; biases are 0."""
    for weight in classifier.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(classifier.classes.bias)
