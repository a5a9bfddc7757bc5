"""Training by a recipe's name: `becalm.train("jets", steps=200)`."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from becalm.core.files import InputError
from becalm.tasks.html import summary_html
from becalm.tasks.progress import Progress, final_result
from becalm.training.distributed import own_device, process_count, process_group, process_number
from becalm.training.recipe_record import check_same_recipe


class Trainable(NamedTuple):
    """A recipe with its default fields, and the function that runs it."""

    recipe: Any
    """A frozen dataclass; one of its fields, `run`, is the folder of the run."""
    run: Callable[[Any], Iterator[dict]]
    """Trains by a recipe, yields the records of its log and writes the model into the run's folder."""


def recipes() -> dict[str, Trainable]:
    """Every recipe by name: the one table that `becalm.train` and the command `becalm train` share."""
    from becalm.recipes import (  # fmt: skip
        ddpm,
        digits8,
        ebm_toy,
        image_srm,
        jets,
        lion,
        lion_sparse,
        painter,
        pvd,
        reader,
        sbd,
        spd,
        srm,
        sudoku,
        vdm,
    )

    return {
        "jets": Trainable(jets.Recipe(), jets.run),
        "sbd": Trainable(sbd.Recipe(), sbd.run),
        "spd": Trainable(spd.Recipe(), spd.run),
        "srm": Trainable(srm.Recipe(), srm.run),
        "ncsn_digits8": Trainable(digits8.NCSN, digits8.run),
        "ebm_digits8": Trainable(digits8.EBM, digits8.run),
        "ebm_toy": Trainable(ebm_toy.Recipe(), ebm_toy.run),
        "even_pixels": Trainable(image_srm.EVEN_PIXELS, image_srm.run),
        "polygons": Trainable(image_srm.POLYGONS, image_srm.run),
        "painter": Trainable(painter.Recipe(), painter.run),
        "reader14": Trainable(reader.Recipe(), reader.run),
        "sudoku4": Trainable(sudoku.SUDOKU4, sudoku.run),
        "sudoku9": Trainable(sudoku.SUDOKU9, sudoku.run),
        "lion": Trainable(lion.Recipe(), lion.run),
        "lion_families": Trainable(lion_sparse.FAMILIES, lion_sparse.run),
        "lion_ldraw": Trainable(lion_sparse.LDRAW, lion_sparse.run),
        "lion_gpu": Trainable(lion_sparse.GPU, lion_sparse.run),
        "pvd": Trainable(pvd.Recipe(), pvd.run),
        "digits8": Trainable(vdm.DIGITS8, vdm.run),
        "mnist": Trainable(vdm.MNIST, vdm.run),
        "cifar10": Trainable(vdm.CIFAR10, vdm.run),
        "swirl": Trainable(vdm.SWIRL, vdm.run),
        "ddpm_digits8": Trainable(ddpm.DIGITS8, ddpm.run),
    }


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult:
    """What a run has left."""

    recipe: Any
    """The recipe with the values that it was run with."""
    records: list[dict]
    """The records of the log since this call began; a resumed run has the earlier ones in `log.jsonl`."""
    path: Path
    """The file of the trained model, which every command and `becalm.load` take."""

    @property
    def model(self) -> nn.Module:
        """The trained model, read from its file."""
        from becalm.weights.store import load

        return load(self.path)

    def __repr__(self) -> str:
        last = self.records[-1] if self.records else {}
        facts = ", ".join(f"{name} {format_value(value)}" for name, value in last.items())
        return f"TrainingResult({self.path}{': ' if facts else ''}{facts})"

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {"weights": self.path, "run": self.recipe.run}
        rows |= {name: format_value(value) for record in self.records[-1:] for name, value in record.items()}
        return summary_html(f"Trained: {self.path.stem}", rows)


def format_value(value: Any) -> str:
    """A value of a record in four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def train(name: str, **changes: Any) -> TrainingResult:
    """Train by the recipe `name` and return where the model lies; fields of the recipe and of its plan are keyword arguments.

    Where the run's folder holds the state of an interrupted run, that one continues. Raises InputError for an unknown
    recipe or field.
    """
    return final_result(steps(name, **changes))


def steps(name: str, **changes: Any) -> Iterator[Progress]:
    """`train` as a generator: a report with each record of the log as its state, then one with the TrainingResult."""
    table = recipes()
    if name not in table:
        raise InputError(f"{name}: no such recipe; there are {', '.join(table)}")
    return run_recipe(change_fields(table[name].recipe, changes, name))


def run_recipe(recipe: Any) -> Iterator[Progress]:
    """Run a recipe object: a report with each record of the log as its state, then one with the TrainingResult.

    Under `torchrun` its processes train together; only the first one writes into the run's folder. Raises InputError for the
    folder of a run that was begun with another recipe.
    """
    if getattr(recipe, "batch", 1) < 1:
        raise InputError(f"--batch {recipe.batch}: must be at least 1")
    run = {type(known.recipe): known.run for known in recipes().values()}[type(recipe)]
    records = []
    with process_group(getattr(recipe, "device", "cpu")), own_folder(recipe.run) as folder:
        if process_number() == 0:
            check_same_recipe(recipe, recipe.run)
        for record in run(replace(own_share(recipe, process_count()), run=folder)):
            records.append(record)
            yield Progress(share_done(recipe, record), record)
        path = max(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime_ns)  # models are written last
    yield Progress(1.0, result=TrainingResult(recipe, records, recipe.run / path.name))


@contextmanager
def own_folder(run: Path) -> Iterator[Path]:
    """The folder of a run on the first process; on the others one that is removed at the end."""
    if process_number() == 0:
        yield run
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


BATCH_FIELDS = ("batch", "prior_batch", "clouds", "patches")
"""Fields of recipes that say how many data a step takes."""


def own_share(recipe: Any, processes: int) -> Any:
    """The recipe of one of several processes: its share of the data of a step, and its own device.

    Raises InputError where the data of a step cannot be divided by the number of processes.
    """
    changes: dict[str, Any] = {}
    for name in BATCH_FIELDS:
        size = getattr(recipe, name, 0)
        if size % processes:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} {size}: is shared by {processes} processes; give a multiple of {processes}")
        if size:
            changes[name] = size // processes
    if hasattr(recipe, "device"):
        changes["device"] = own_device(recipe.device)
    return replace(recipe, **changes)


def share_done(recipe: Any, record: dict) -> float:
    """The share of a recipe's optimiser steps, over all of its stages, that lies before a record."""
    first = getattr(recipe, "plan", recipe)
    stages = [getattr(first, "steps", 0), getattr(recipe, "prior_steps", 0)]
    before = stages[0] if record.get("stage") in (2, "prior") else 0
    return min((before + record.get("step", 0)) / max(sum(stages), 1), 1.0)


def change_fields(recipe: Any, changes: dict[str, Any], name: str = "recipe") -> Any:
    """A recipe with some fields changed; those of a dataclass in it, such as the plan, are given by their own names.

    Text becomes a Path where the field is one. Raises InputError that lists the fields where there is no such field.
    """
    own = {field.name: field for field in fields(recipe)}
    parts = {key: getattr(recipe, key) for key in own if is_dataclass(getattr(recipe, key))}
    inner = {key: {f.name for f in fields(part)} - own.keys() for key, part in parts.items()}
    unknown = changes.keys() - own.keys() - set().union(*inner.values())
    if unknown:
        known = [key for key in own if key not in parts] + [key for names in inner.values() for key in sorted(names)]
        raise InputError(f"{name}: {min(unknown)}: no such field; there are {', '.join(known)}")
    values = {key: convert_field(value, str(own[key].type)) for key, value in changes.items() if key in own}
    for key, part in parts.items():
        of_part = {field: value for field, value in changes.items() if field in inner[key]}
        if of_part:
            values[key] = replace(values.get(key, part), **of_part)
    return replace(recipe, **values)


def convert_field(value: Any, annotation: str) -> Any:
    """A value as its field wants it: text as a Path where the field's type is a path."""
    return Path(value) if isinstance(value, str) and "Path" in annotation else value
