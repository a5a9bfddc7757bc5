"""An implicit decoder of drawings (as of shapes: Mescheder et al. 2019): how far a pixel is covered, from where it lies."""

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import sinusoids


class CoverageNetwork(nn.Module):
    """An MLP from a position in the frame of a drawing, the pixel's size and the drawing's kind to the share covered."""

    def __init__(self, width: int = 64, frequencies: int = 5, kinds: int = 14):
        super().__init__()
        self.config = {"width": width, "frequencies": frequencies, "kinds": kinds}
        self.frequencies, self.kinds = frequencies, kinds
        widths = [4 * frequencies + 3 + kinds, width, width, width]
        layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (nn.Linear(a, b), nn.SiLU())]
        self.covered = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(
        self, position: Float[Tensor, "*any 2"], pixel: Float[Tensor, "*any 1"], kind: Int[Tensor, "*any"]
    ) -> Float[Tensor, "*any"]:
        """Share covered, in (0, 1); position and pixel size in units of the drawing's radius, the drawing held upright."""
        encoded = sinusoids(position[..., None], self.frequencies, 4.0).flatten(-2)
        one_hot = nn.functional.one_hot(kind, self.kinds).to(position)
        return torch.sigmoid(self.covered(torch.cat([position, encoded, pixel, one_hot], -1))[..., 0])
