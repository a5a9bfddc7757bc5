"""The whole state of a run as one file, so that a run that was cut continues exactly as if it had not been."""

from pathlib import Path

import torch
from torch import nn

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Tensor


def save_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], step: int
) -> None:
    """Write weights, average, optimiser and step; the old file is whole until the new one is."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step}
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    """Read a state into the run's parts and return its step. Raises InputError where the file is of another model."""
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
