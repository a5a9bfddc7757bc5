"""Tensors with JSON facts in one safetensors file: written whole, checked when read, of kinds that are told apart.

Models, trajectories and states of training runs are such files; reading one never runs code.
"""

import json
from hashlib import sha256
from pathlib import Path

import torch

from becalm.core.files import InputError, atomic_file
from becalm.core.tensor_facts import SCHEMA, parse_facts
from becalm.core.typing import Tensor


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
            facts = parse_facts(path, file.metadata(), kind)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file, or a damaged one ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'no such file, or one that cannot be read'}") from error
    promised = facts.pop("sha256", None)
    if promised is not None and promised != checksum(tensors, {**facts, "schema": SCHEMA}):
        raise InputError(f"{path}: sha256: does not fit the content; the file is damaged, or was changed")
    return tensors, facts


def checksum(tensors: dict[str, Tensor], facts: dict) -> str:
    """SHA-256 over JSON facts and over names, types, shapes and bytes of tensors."""
    digest = sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
