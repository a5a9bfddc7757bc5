"""Conversion of other projects' checkpoints, read without executing any code in them."""

import argparse
import pickle
from pathlib import Path

import torch

from becalm.core.files import InputError
from becalm.core.typing import Tensor
from becalm.systems.spd import SPD
from becalm.weights.store import assign_tensors


def read_official(path: Path | str) -> SPD:
    """SPD from its authors' checkpoint (github.com/luost26/score-denoise), as published (.pt) or as .safetensors.

    A pickle may name `argparse.Namespace` and nothing else besides tensors. Raises InputError naming file and field.
    """
    path = Path(path)
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    try:
        converted = rename_tensors(state)
    except (LookupError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: state_dict: not that of score-denoise ({error})") from error
    model = SPD(blocks=1 + max(int(name.split(".")[2]) for name in converted if name.startswith("score.blocks.")),
                hidden=len(converted["score.norm.weight"]))  # fmt: skip
    assign_tensors(model, converted, path)
    return model.eval()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file, or a damaged one ({error})") from error


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused: it is damaged, or would run code when read ({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path}: is not a PyTorch checkpoint, or a damaged one ({_first_line(error)})") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: state_dict: is missing, or holds other things than tensors")
    return state


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return (lines or str(error).splitlines() or [type(error).__name__])[0][:200]


def rename_tensors(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official tensors under the names of our modules.

    Maps of concatenations fall apart: a first edge layer W [f_i, f_j, f_j − f_i] into U = W_i − W_d, V = W_j + W_d
    (in unit 0, W (f_j − f_i) into −W, W), and the maps of [offset, features] side by side into `offset` and `context`.
    """
    state = {}
    for unit in range(4):
        state |= _feature_unit(official, f"feature_net.transforms.{unit}.linear", f"feature_net.convs.{unit}", unit)
    blocks = sum(name.endswith(".fc_c.weight") for name in official)
    given = ["score_net.conv_p", *(f"score_net.blocks.{b}.fc_c" for b in range(blocks))]
    weight = torch.cat([official[f"{name}.weight"].squeeze(-1) for name in given])
    state |= {"score.offset.weight": weight[:, :3].clone(), "score.context.weight": weight[:, 3:].clone()}
    state["score.context.bias"] = torch.cat([official[f"{name}.bias"] for name in given])
    ours = {"bn_0": "norm0", "bn_1": "norm1", "fc_0": "inner", "fc_1": "outer"}
    pairs = {
        f"score_net.blocks.{b}.{old}.": f"score.blocks.{b}.{new}." for b in range(blocks) for old, new in ours.items()
    }
    for old, new in (pairs | {"score_net.bn_out.": "score.norm.", "score_net.conv_out.": "score.out."}).items():
        state |= {new + name[len(old) :]: _as_matrix(value) for name, value in official.items() if name.startswith(old)}
    return state


def _as_matrix(value: Tensor) -> Tensor:
    """The weight of a kernel-1 convolution as a matrix; other tensors unchanged."""
    return value.squeeze(-1) if value.ndim == 3 else value


def _feature_unit(official: dict[str, Tensor], linear: str, conv: str, unit: int) -> dict[str, Tensor]:
    first, middle, last = (
        official[f"{conv}.{name}.linear.weight"] for name in ("layer_first", "layers.0", "layer_last")
    )
    growth, channels = len(first), official[f"{linear}.weight"].shape[0]
    own, other, difference = first.split(channels, 1) if unit else (0 * first, 0 * first, first)
    ours = f"features.convolutions.{unit}"
    bias = [official[f"{conv}.{name}.linear.bias"] for name in ("layer_first", "layers.0", "layer_last")]
    return {
        f"features.maps.{unit}.weight": official[f"{linear}.weight"],
        f"features.maps.{unit}.bias": official[f"{linear}.bias"],
        f"{ours}.own.weight": torch.cat([own - difference, middle[:, growth:], last[:, 2 * growth :]]),
        f"{ours}.own.bias": torch.cat(bias),
        f"{ours}.other.weight": other + difference,
        f"{ours}.middle.weight": middle[:, :growth].clone(),
        f"{ours}.last.weight": last[:, : 2 * growth].clone(),
    }
