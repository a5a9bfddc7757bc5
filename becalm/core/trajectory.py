"""A sampling trajectory as one safetensors file: states, noise levels, estimates and metadata."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Float, Tensor

VERSION = 1
"""Version of the file layout."""


@dataclass(frozen=True)
class Trajectory:
    """The states of one sampling run, in order."""

    z: Float[Tensor, "step batch variable channel"]
    """The variables."""
    t: Float[Tensor, "step batch variable 1"]
    """Their noise levels."""
    x: Float[Tensor, "step batch variable channel"]
    """The estimate of the clean variables from which each state was computed."""
    facts: dict
    """Metadata, any JSON: schedule, seed, model."""


def record_steps(steps: Iterable, facts: dict | None = None) -> Trajectory:
    """The trajectory of all steps that `sample` yields. Raises ValueError where it yields none."""
    states = list(steps)
    if not states:
        raise ValueError("trajectory: no steps; all variables were given")
    z, t, x = (torch.stack(part) for part in zip(*((s.z, s.t, s.prediction.x) for s in states), strict=True))
    return Trajectory(z, t, x, facts or {})


def write(trajectory: Trajectory, path: Path | str) -> None:
    """Write a trajectory atomically."""
    from safetensors.torch import save

    tensors = {"z": trajectory.z, "t": trajectory.t, "x": trajectory.x}
    facts = json.dumps({**trajectory.facts, "version": VERSION})
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(
            save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {"becalm.record": facts})
        )


def read(path: Path | str) -> Trajectory:
    """Read a trajectory. Raises InputError naming the file and the fault."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["becalm.record"])
            z, t, x = (file.get_tensor(name) for name in ("z", "t", "x"))
    except (KeyError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: becalm.record: is missing or damaged; this is no trajectory") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path}: becalm.record: is no JSON object; this is no trajectory")
    if facts.pop("version", None) != VERSION:
        raise InputError(f"{path}: version: this becalm reads trajectories of version {VERSION}")
    if z.ndim != 4 or x.shape != z.shape or t.shape != (*z.shape[:3], 1):
        raise InputError(
            f"{path}: z {list(z.shape)}, t {list(t.shape)}, x {list(x.shape)}: the shapes do not fit each other"
        )
    return Trajectory(z, t, x, facts)
