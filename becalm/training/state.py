"""Checkpoint of a training run: weights, average, optimiser and step in one file, for exact resume."""

from pathlib import Path

import torch
from torch import nn

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Tensor


def save_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], step: int
) -> None:
    """Write weights, average, optimiser and step atomically."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step}
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    """Load a checkpoint into model, optimiser and average; return its step. Raises InputError for another model's file."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    try:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        for name, value in average.items():
            value.copy_(state["average"][name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path}: the state is of another model (start a new run): {str(error).splitlines()[0]}"
        ) from error
    return int(state["step"])
