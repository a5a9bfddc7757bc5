"""A sampling trajectory as one safetensors file: states, noise levels, estimates and metadata."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from becalm.core.files import InputError
from becalm.core.tensor_files import read_tensors, write_tensors
from becalm.core.typing import Float, Tensor


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
    tensors = {"z": trajectory.z, "t": trajectory.t, "x": trajectory.x}
    write_tensors(path, tensors, "becalm.record", trajectory.facts)


def read(path: Path | str) -> Trajectory:
    """Read a trajectory. Raises InputError naming the file and the fault."""
    tensors, facts = read_tensors(path, "becalm.record")
    facts.pop("version", None)  # of files written before they had a schema
    missing = [name for name in ("z", "t", "x") if name not in tensors]
    if missing:
        raise InputError(f"{path}: {missing[0]}: is missing; the file is damaged")
    z, t, x = (tensors[name] for name in ("z", "t", "x"))
    if z.ndim != 4 or x.shape != z.shape or t.shape != (*z.shape[:3], 1):
        raise InputError(
            f"{path}: z {list(z.shape)}, t {list(t.shape)}, x {list(x.shape)}: the shapes do not fit each other"
        )
    return Trajectory(z, t, x, facts)
