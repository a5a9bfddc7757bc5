"""Checkpoint of a training run: weights, average, optimiser and step in one file, for exact resume."""

import pickle
from pathlib import Path

import torch
from torch import nn

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Tensor

DAMAGE = (
    *(RuntimeError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    pickle.UnpicklingError,
)
"""What torch.load raises for damaged files."""


def save_state(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], step: int
) -> None:
    """Write weights, average, optimiser and step atomically."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step}
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    """Load a checkpoint into model, optimiser and average; return its step. Raises InputError for another model's file."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path}: is no state of a run, or a damaged one ({reason}); start a new run") from error
    try:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        for name, value in average.items():
            value.copy_(state["average"][name])
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: the state is of another model (start a new run): {str(error).splitlines()[0]}"
        ) from error
    return int(state["step"])
