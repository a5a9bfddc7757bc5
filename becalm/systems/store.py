"""Models as files: tensors in safetensors, with JSON metadata that says which model they are and where they come from."""

import json
from pathlib import Path

import torch
from torch import nn

from becalm.core.files import replacing
from becalm.systems.jets import Jets
from becalm.systems.spd import SPD

SYSTEMS = {"spd": SPD, "jets": Jets}
"""Constructors by name; a model's `config` attribute holds the arguments it was made with."""


def save(model: nn.Module, path: Path | str, metadata: dict) -> None:
    """Write a model of SYSTEMS with any further JSON metadata; the file is whole or the old one stays as it was."""
    from safetensors.torch import save_file

    names = [name for name, system in SYSTEMS.items() if type(model) is system]
    if not names:
        raise ValueError(f"{path}: a {type(model).__name__} cannot be stored; known are {', '.join(SYSTEMS)}")
    fields = {**metadata, "model": names[0], "config": model.config}
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(Path(path)) as temporary:
        save_file(state, temporary, {"becalm": json.dumps(fields)})


def load(path: Path | str) -> nn.Module:
    """Read a model, in evaluation mode. Raises ValueError naming the file and the field that is wrong."""
    state, fields = _read(Path(path))
    system, config = SYSTEMS.get(str(fields.get("model"))), fields.get("config")
    if system is None:
        raise ValueError(f"{path}: model: {fields.get('model')!r} is not known; known are {', '.join(SYSTEMS)}")
    if not isinstance(config, dict):
        raise ValueError(f"{path}: config: must be an object, found {config!r}")
    try:
        with torch.device("meta"):
            model = system(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: config: {error}") from error
    return filled(model, state, path).eval()


def filled(model: nn.Module, state: dict, path: Path | str) -> nn.Module:
    """The model with the tensors of a file. Raises ValueError naming the first that is missing, unknown or misshapen."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise ValueError(f"{path}: {name}: {'is missing' if name in expected else 'is not part of this model'}")
        found, want = state[name], expected[name]
        if found.shape != want.shape or found.dtype != want.dtype:
            raise ValueError(
                f"{path}: {name}: is {found.dtype} {list(found.shape)}, not {want.dtype} {list(want.shape)}"
            )
    model.load_state_dict(state, assign=True)
    return model


def metadata(path: Path | str) -> dict:
    """The JSON metadata of a stored model. Raises ValueError when it is not one."""
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[dict, dict]:
    """The tensors and the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            fields = json.loads((file.metadata() or {})["becalm"])
    except SafetensorError as error:
        raise ValueError(f"{path}: is not a safetensors file, or a damaged one ({error})") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: becalm: the metadata of a becalm model is missing or damaged") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: becalm: must be a JSON object")
    return state, fields
