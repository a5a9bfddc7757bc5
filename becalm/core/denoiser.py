"""Denoiser: a network, its noise schedule, and the kind of its output."""

from collections.abc import Callable

from torch import nn

from becalm.core.kinds import Kind
from becalm.core.process import Prediction
from becalm.core.typing import Float, Tensor


class Denoiser(nn.Module):
    """Predicts (x, ε) from noisy data.

    The network is called as network(z, t, given) and returns its target, or an `Output`. A learned schedule is part of the
    module's parameters. `given` holds the conditioning: tensors by name, batch first.
    """

    def __init__(self, network: nn.Module | Callable, schedule, kind: Kind):
        super().__init__()
        self.network, self.schedule, self.kind = network, schedule, kind

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Prediction:
        """z [batch, variables, channels] at noise levels t [batch, variables, 1] (or anything that broadcasts)."""
        return self.kind(self.network(z, t, given), z, t, self.schedule)
