"""States of a training run for exact resume: weights, average, optimiser and step, each state one safetensors file."""

import warnings
from pathlib import Path

import torch
from torch import nn

from becalm.core.files import InputError
from becalm.core.tensor_files import read_tensors, write_tensors
from becalm.core.typing import Tensor

FOLDER = "states"
"""Folder of the states in that of a run."""


def state_tensors(model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the weights, their average and the optimiser's moments, by names `model.…`, `average.…`, `optimiser.….…`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for parameter, moments in optimiser.state.items():
        tensors |= {f"optimiser.{names[id(parameter)]}.{key}": value for key, value in moments.items()}
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def restore_state(
    tensors: dict[str, Tensor], model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]
) -> None:
    """Put tensors of `state_tensors` back in place. Raises ValueError where they are those of another model."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.get(part, {})[rest] = value
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups, moments = optimiser.state_dict()["param_groups"], {}
    for number, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        start = names[id(parameter)] + "."
        own = {k.removeprefix(start): v for k, v in parts["optimiser"].items() if k.rpartition(".")[0] + "." == start}
        moments |= {number: own} if own else {}
    try:
        model.load_state_dict(parts["model"])
        for name, value in average.items():
            value.copy_(parts["average"][name])
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"the state is of another model (start a new run): {str(error).splitlines()[0]}") from error


def save_state(run: Path, tensors: dict[str, Tensor], step: int, keep: int) -> None:
    """Write the state of a step into a run's folder, then delete all but the last `keep` states."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / f"{step:08d}.safetensors", tensors, "becalm.state", {"step": step})
    for path in state_files(run)[keep:]:
        path.unlink(missing_ok=True)


def state_files(run: Path) -> list[Path]:
    """The states in a run's folder, the latest first."""
    return sorted((run / FOLDER).glob("*.safetensors"), reverse=True)


def load_state(run: Path) -> tuple[dict[str, Tensor], int, Path] | None:
    """The latest whole state in a run's folder: tensors, step and file; None where there is no state.

    A damaged one is named in a warning, and the one before it is taken. Raises InputError where none is whole.
    """
    files = state_files(run)
    faults = []
    for path in files:
        try:
            tensors, facts = read_tensors(path, "becalm.state")
            if not isinstance(facts.get("step"), int):
                raise InputError(f"{path}: step: is missing; the file is damaged")
        except InputError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warnings.warn(f"{fault}; the run continues from step {facts['step']}", stacklevel=2)
        return tensors, facts["step"], path
    if faults:
        raise InputError(f"{faults[0]}; no other state is whole, start a new run in another folder")
    if (run / "state.pt").exists():
        raise InputError(f"{run / 'state.pt'}: is of an older version of becalm; start a new run in another folder")
    return None
