"""becalm train: run a recipe."""

import json
from collections.abc import Callable
from typing import Annotated

import tyro


def command() -> Callable:
    """A sub-command a recipe; each recipe's fields are its options."""
    from becalm.recipes import jets, sbd, spd, sudoku

    choices = (
        Annotated[jets.Recipe, tyro.conf.subcommand("jets", prefix_name=False)]
        | Annotated[sbd.Recipe, tyro.conf.subcommand("sbd", prefix_name=False)]
        | Annotated[spd.Recipe, tyro.conf.subcommand("spd", prefix_name=False)]
        | Annotated[sudoku.Recipe, tyro.conf.subcommand("sudoku4", default=sudoku.SMALL, prefix_name=False)]
        | Annotated[sudoku.Recipe, tyro.conf.subcommand("sudoku9", default=sudoku.LARGE, prefix_name=False)]
    )

    def train(recipe: tyro.conf.OmitSubcommandPrefixes[choices]) -> "Training":  # type: ignore[valid-type]
        """Run a recipe; where its folder holds an earlier run, that one continues."""
        runs = {jets.Recipe: jets.run, sbd.Recipe: sbd.run, spd.Recipe: spd.run, sudoku.Recipe: sudoku.run}
        return Training(recipe, runs[type(recipe)])

    return train


class Training:
    """A recipe that is about to run."""

    def __init__(self, recipe, work: Callable):
        self.recipe, self.work = recipe, work

    def run(self) -> None:
        """Show a line a record; the log in the run's folder has them all."""
        for record in self.work(self.recipe):
            print(json.dumps(record), flush=True)
