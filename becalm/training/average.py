"""Exponential moving average (EMA) of the weights, which is evaluated and stored."""

import torch
from torch import nn

from becalm.core.typing import Tensor


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """average ← d · average + (1 − d) · weights, with d = min(decay, (1 + step)/(10 + step)) to forget the first steps.

    Every floating-point entry of the state dict is averaged in place; integers (counters) are copied.
    """
    rate = min(decay, (1 + step) / (10 + step))
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - rate)
        else:
            average[name].copy_(value)


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """A detached copy of the state dict: the initial average."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
