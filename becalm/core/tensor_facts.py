"""The JSON facts of a safetensors file, read without its tensors: what it is, of which version, and what it says of itself."""

import json
from pathlib import Path
from typing import Any

from becalm.core.files import InputError

SCHEMA = 1
"""Version of the layout of these files; a file of a greater one is refused."""

KINDS = {
    "becalm": "the weights of a becalm model",
    "becalm.record": "a trajectory of becalm",
    "becalm.state": "the state of a training run of becalm",
}
"""What a file is, by the key of its facts."""


def read_facts(path: Path | str, kind: str) -> dict:
    """The facts of a file of a kind of KINDS; its tensors are not read, nor is its checksum held against them.

    Raises InputError for one that is damaged, of a newer version, or of another kind, and says which.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            facts = parse_facts(path, file.metadata(), kind)
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file, or a damaged one ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'no such file, or one that cannot be read'}") from error
    facts.pop("sha256", None)
    return facts


def parse_facts(path: Path | str, entries: dict[str, str] | None, kind: str) -> dict[str, Any]:
    """The facts among the entries of a safetensors file's header, with its `sha256` where it has one. Raises InputError."""
    entries = entries or {}
    if kind not in entries:
        raise InputError(f"{path}: is {describe_kind(entries)}, not {KINDS[kind]}")
    try:
        facts = json.loads(entries[kind])
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {kind}: is damaged; it is no JSON") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path}: {kind}: must be a JSON object")
    schema = facts.pop("schema", SCHEMA)
    if schema != SCHEMA:
        raise InputError(f"{path}: schema: is {schema!r}, of a newer becalm; this one reads {SCHEMA} (update becalm)")
    return facts


def describe_kind(entries: dict[str, str]) -> str:
    """What a safetensors file with these entries is."""
    found = [what for key, what in KINDS.items() if key in entries]
    return found[0] if found else "a safetensors file of another program"
