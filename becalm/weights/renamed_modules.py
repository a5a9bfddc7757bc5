"""Files written under former names: arguments of constructors and tensors are read under those that the code has now.

A module says so itself, where a name changed: `former_arguments = {"current": "former"}` on the class of a model, and
`former_names = {"current": "former"}` on any module whose parameters, buffers or children were renamed.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn


def current_arguments(system: type, config: dict) -> dict:
    """The arguments of a constructor under their current names."""
    current = {former: name for name, former in getattr(system, "former_arguments", {}).items()}
    return {current.get(name, name): value for name, value in config.items()}


def current_tensors(model: nn.Module, state: dict) -> dict:
    """The tensors of a file under their current names; as they are where all of them are expected.

    A model whose tensors have changed in shape since has a method `adapt_former_weights`.
    """
    adapt: Any = getattr(model, "adapt_former_weights", None)
    state = adapt(state) if adapt else state
    if not set(state) - set(model.state_dict()):
        return state
    renamed = dict(renamed_tensors(model))
    return {renamed.get(name, name): tensor for name, tensor in state.items()}


def renamed_tensors(module: nn.Module, former: str = "", current: str = "") -> Iterator[tuple[str, str]]:
    """The former and the current name of each tensor of a module, whose own are `former` and `current`."""
    before = getattr(module, "former_names", {})
    for name in (*module._parameters, *module._buffers):
        yield former + before.get(name, name), current + name
    for name, child in module.named_children():
        yield from renamed_tensors(child, f"{former}{before.get(name, name)}.", f"{current}{name}.")
