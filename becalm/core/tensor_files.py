"""Tensors with JSON facts in one safetensors file: written whole, checked when read, of kinds that are told apart.

Models, trajectories and states of training runs are such files; reading one never runs code.
"""

import json
from hashlib import sha256
from pathlib import Path

import torch

from becalm.core.files import InputError, atomic_file
from becalm.core.typing import Tensor

SCHEMA = 1
"""Version of the layout of these files; a file of a greater one is refused."""

KINDS = {
    "becalm": "the weights of a becalm model",
    "becalm.record": "a trajectory of becalm",
    "becalm.state": "the state of a training run of becalm",
}
"""What a file is, by the key of its facts."""


def write_tensors(path: Path | str, tensors: dict[str, Tensor], kind: str, facts: dict) -> None:
    """Write tensors and JSON facts of a kind of KINDS; the file is whole, or the old one stays as it was. Raises OSError."""
    from safetensors.torch import save

    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    facts = json.loads(json.dumps({**facts, "schema": SCHEMA}))  # as it is read: lists for tuples, text for keys
    facts["sha256"] = checksum(kept, facts)
    content = save(kept, {kind: json.dumps(facts)})
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path | str, kind: str) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the facts of a file of a kind of KINDS.

    Raises InputError for one that is damaged, of a newer version, or of another kind, and says which.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            entries = file.metadata() or {}
            if kind not in entries:
                raise InputError(f"{path}: is {describe_kind(entries)}, not {KINDS[kind]}")
            facts = json.loads(entries[kind])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file, or a damaged one ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'no such file, or one that cannot be read'}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {kind}: is damaged; it is no JSON") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path}: {kind}: must be a JSON object")
    schema = facts.pop("schema", SCHEMA)
    if schema != SCHEMA:
        raise InputError(f"{path}: schema: is {schema!r}, of a newer becalm; this one reads {SCHEMA} (update becalm)")
    promised = facts.pop("sha256", None)
    if promised is not None and promised != checksum(tensors, {**facts, "schema": schema}):
        raise InputError(f"{path}: sha256: does not fit the content; the file is damaged, or was changed")
    return tensors, facts


def describe_kind(entries: dict[str, str]) -> str:
    """What a safetensors file with these entries is."""
    found = [what for key, what in KINDS.items() if key in entries]
    return found[0] if found else "a safetensors file of another program"


def checksum(tensors: dict[str, Tensor], facts: dict) -> str:
    """SHA-256 over JSON facts and over names, types, shapes and bytes of tensors."""
    digest = sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
