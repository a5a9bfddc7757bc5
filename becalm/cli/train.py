"""becalm train: run a recipe."""

import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import tyro

from becalm.core.files import InputError


@dataclass(frozen=True)
class Train:
    """Run a recipe; where its folder holds an earlier run, that one continues."""


@dataclass(frozen=True)
class Training:
    """A recipe with its fields as they were typed."""

    recipe: Any

    def run(self) -> None:
        """Print each record of the log as a line of JSON, on the first of several processes. What a recipe refuses is the input's
        fault."""
        from becalm.cli.progress import heartbeat
        from becalm.tasks.train import run_recipe

        # An interrupted run's queues are freed by Python's resource tracker, which would warn of each.
        os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
        first = os.environ.get("RANK", "0") == "0"
        status = [f"training in {self.recipe.run}: preparing"]
        try:
            with heartbeat(status) if first else nullcontext(), warnings.catch_warnings():
                warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
                for report in run_recipe(self.recipe):
                    if report.result is None and first:
                        status.append(f"{self.recipe.run}: step {report.state.get('step', '?')}")
                        print(json.dumps(report.state), flush=True)
        except ValueError as error:
            raise InputError(str(error)) from error

    def interruption(self) -> str:
        """What is said after an interruption: a run's folder has its log and its last saved state."""
        return f"interrupted; what the run has saved is in {self.recipe.run}"


def command() -> Callable[..., Training]:
    """A sub-command for each recipe; the recipe's fields are its options."""
    from becalm.tasks.train import recipes

    defaults = {name: known.recipe for name, known in recipes().items()}
    docstrings = {name: inspect.getdoc(recipe) or "" for name, recipe in defaults.items()}
    choices = tyro.extras.subcommand_type_from_defaults(defaults, docstrings, prefix_names=False)

    def train(recipe: tyro.conf.OmitSubcommandPrefixes[choices]) -> Training:  # type: ignore[valid-type]
        """Run a recipe; where its folder holds an earlier run, that one continues."""
        return Training(recipe)

    return train
