"""The recipe that a run was begun with, kept in its folder, so that no other recipe continues the run."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from becalm.core.files import InputError, atomic_file
from becalm.training.state import state_files

NAME = "recipe.json"
"""The file in the folder of a run."""

FREE = {
    "run",
    "workers",
    "device",
    "compiled",
    "steps",
    "prior_steps",
    "log_every",
    "save_every",
    "keep_states",
    "check",
}
"""Fields that may change from one part of a run to the next: where and how it is computed, and for how long."""


def check_same_recipe(recipe: Any, run: Path) -> None:
    """Record a recipe in the folder of a new run; raise InputError where that of a run with states is another one."""
    path, own = run / NAME, recipe_fields(recipe)
    if path.exists() and any(state_files(folder) for folder in (run, *run.glob("*/"))):
        try:
            old = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: is damaged; start a new run in another folder with --run") from error
        other = [name for name in own if name in old and old[name] != own[name] and name not in FREE]
        if other:
            pairs = ", ".join(f"{option(name)} {old[name]}, not {own[name]}" for name in other)
            raise InputError(f"{run}: was begun with {pairs}; give these again, or start a new run with another --run")
        return
    run.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(own, indent=1), encoding="utf-8")


def option(name: str) -> str:
    """A field as the option of the command."""
    return "recipe" if name == "recipe" else f"--{name.replace('_', '-')}"


def recipe_fields(recipe: Any) -> dict[str, Any]:
    """The fields of a recipe and of the dataclasses in it, by their own names, as JSON has them; `recipe` is its kind."""
    found: dict[str, Any] = {"recipe": type(recipe).__module__.rpartition(".")[2]}
    for part in (recipe, *(getattr(recipe, f.name) for f in fields(recipe) if is_dataclass(getattr(recipe, f.name)))):
        for field in fields(part):
            value = getattr(part, field.name)
            if not is_dataclass(value):
                found.setdefault(field.name, str(value.absolute()) if isinstance(value, Path) else value)
    return json.loads(json.dumps(found, default=str))
