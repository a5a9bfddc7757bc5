"""A denoiser: a network, the schedule it was trained with, and what its output means."""

from collections.abc import Callable

from torch import nn

from becalm.core.kinds import Kind
from becalm.core.process import Prediction
from becalm.core.typing import Float, Tensor


class Denoiser(nn.Module):
    """From noisy data to the pair (x, ε).

    The network is called as network(z, t, given); a schedule with weights is trained and averaged with it. `given` holds what
    is known beside z, tensors by name with the batch as their first axis.
    """

    def __init__(self, network: nn.Module | Callable, schedule, kind: Kind):
        super().__init__()
        self.network, self.schedule, self.kind = network, schedule, kind

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Tensor, given: dict[str, Tensor] | None = None
    ) -> Prediction:
        """z [batch, variables, channels] at noise levels t [batch, variables, 1] (or anything that broadcasts)."""
        return self.kind(self.network(z, t, given), z, t, self.schedule)
