"""Models as files: tensors in safetensors, with JSON metadata of the model's class, configuration and origin."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from becalm.core.files import InputError
from becalm.core.tensor_files import read_tensors, write_tensors
from becalm.nets.coverage import CoverageNetwork
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems.fields import EnergyModel, ScoreModel
from becalm.systems.jets import Jets
from becalm.systems.lion import Lion
from becalm.systems.lion_sparse import LionSparse
from becalm.systems.pvd import PointDiffusion
from becalm.systems.sbd import SBD
from becalm.systems.spd import SPD
from becalm.systems.srm import SRM
from becalm.systems.srm_digits import DigitSRM
from becalm.systems.srm_pixels import PixelSRM
from becalm.systems.srm_polygons import PolygonSRM
from becalm.systems.vdm import VDM
from becalm.weights.former_names import with_current_names
from becalm.weights.packaged import find_weights
from becalm.weights.renamed_modules import current_arguments, current_tensors

System = TypeVar("System", bound=nn.Module)

SYSTEMS = {
    "spd": SPD,
    "jets": Jets,
    "sbd": SBD,
    "srm": SRM,
    "srm_digits": DigitSRM,
    "srm_pixels": PixelSRM,
    "srm_polygons": PolygonSRM,
    "digit_classifier": DigitClassifier,
    "coverage": CoverageNetwork,
    "vdm": VDM,
    "score": ScoreModel,
    "energy": EnergyModel,
    "lion": LionSparse,
    "lion_paper": Lion,
    "points": PointDiffusion,
}
"""Systems by name; a model's `config` attribute holds the arguments of its `build`, or of its constructor if it has none."""

WORDS = {
    **dict.fromkeys(("spd", "jets", "sbd"), "a denoiser of scans"),
    **dict.fromkeys(("srm", "srm_digits", "srm_pixels", "srm_polygons"), "a reasoning model"),
    "digit_classifier": "a classifier of digits",
    "coverage": "a network of a benchmark",
    "vdm": "a diffusion model of images",
    **dict.fromkeys(("score", "energy"), "a model of two-dimensional data"),
    **dict.fromkeys(("lion", "lion_paper", "points"), "a generator of shapes"),
}
"""What each of them is, in words."""


def save(model: nn.Module, path: Path | str, metadata: dict, precision: torch.dtype = torch.float32) -> None:
    """Write a model of SYSTEMS with any further JSON metadata; the file is whole or the old one stays as it was.

    float32 weights are written in `precision`; `load` gives float32 again.
    """
    names = [name for name, system in SYSTEMS.items() if type(model) is system]
    if not names:
        raise InputError(f"{path}: {model_words(type(model))} cannot be stored; known are {', '.join(SYSTEMS)}")
    if model.config is None:
        raise InputError(f"{path}: a {names[0]} around a network of one's own cannot be stored; make it by `build`")
    fields = {**metadata, "model": names[0], "config": model.config}
    state = model.state_dict()
    state = {name: tensor.to(precision) if tensor.dtype == torch.float32 else tensor for name, tensor in state.items()}
    write_tensors(path, state, "becalm", fields)


def load(name: Path | str, *wanted: type[System]) -> System:
    """A packaged model by name, or one from a file, in evaluation mode; of the systems `wanted`, where any are named.

    Raises InputError naming file and field.
    """
    path = find_weights(name)
    state, fields = read_tensors(path, "becalm")
    try:
        fields, state = with_current_names(fields, state)
    except ValueError as error:
        raise InputError(f"{path}: config: {error}") from error
    system, config = SYSTEMS.get(str(fields.get("model"))), fields.get("config")
    if system is None:
        raise InputError(f"{path}: model: {fields.get('model')!r} is not known; known are {', '.join(SYSTEMS)}")
    if not isinstance(config, dict):
        raise InputError(f"{path}: config: must be an object, found {config!r}")
    try:
        with torch.device("meta"), at_most_parameters(2 * len(state) + 100):
            model = getattr(system, "build", system)(**current_arguments(system, config))
    except (TypeError, ValueError, RuntimeError, KeyError, IndexError, ArithmeticError, AttributeError) as error:
        raise InputError(f"{path}: config: {' '.join(str(error).split())[:200]}") from error
    if wanted and not isinstance(model, wanted):
        raise wrong_model(path, model, wanted)
    return assign_tensors(model, current_tensors(model, state), path).eval()  # type: ignore[return-value]


def wrong_model(name: object, model: object, wanted: Sequence[type]) -> InputError:
    """The error for a model of another kind than those `wanted`."""
    needed = " or ".join(model_words(kind) for kind in wanted)
    return InputError(
        f"{name}: is {model_words(type(model))}, of no use here: needed is {needed} (`becalm models` says which command takes "
        "which model)"
    )


def model_words(kind: type) -> str:
    """What a class of models is, in words: "a denoiser of scans (jets)"; the name of a class that is none of SYSTEMS."""
    names = [name for name, system in SYSTEMS.items() if kind is system]
    if kind.__name__ == "Generator":  # the protocol of becalm.tasks.generate
        return "a generator of shapes"
    return f"{WORDS[names[0]]} ({names[0]})" if names else f"a {kind.__name__}"


@contextmanager
def at_most_parameters(most: int) -> Iterator[None]:
    """Context in which ValueError is raised as soon as modules get more than so many parameters: a file of few tensors may ask
    for a network of millions of layers."""
    count = 0

    def check_count(module: nn.Module, name: str, parameter: object) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError("asks for far more layers than the file has tensors for")

    handle = register_module_parameter_registration_hook(check_count)
    try:
        yield
    finally:
        handle.remove()


def assign_tensors(model: System, state: dict, path: Path | str) -> System:
    """The model with the tensors of a file. Raises InputError for one that is missing, unknown, misshapen or not finite."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise InputError(f"{path}: {name}: {'is missing' if name in expected else 'is not part of this model'}")
        want = expected[name]
        if want.dtype == torch.float32 and state[name].dtype in (torch.float16, torch.bfloat16):
            state[name] = state[name].float()
        found = state[name]
        if found.shape != want.shape or found.dtype != want.dtype:
            raise InputError(
                f"{path}: {name}: is {found.dtype} {list(found.shape)}, not {want.dtype} {list(want.shape)}"
            )
    model.load_state_dict(state, assign=True)
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise InputError(f"{path}: {name}: has numbers that are not finite; the weights are damaged, get them anew")
    return model


def describe(path: Path | str) -> dict:
    """The metadata of a file of weights, and its numbers of tensors and parameters."""
    state, fields = read_tensors(path, "becalm")
    return {"file": str(path), **fields, "tensors": len(state), "parameters": sum(t.numel() for t in state.values())}
