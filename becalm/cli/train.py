"""becalm train: run a recipe."""

import json
import sys
from collections.abc import Callable


def commands() -> Callable:
    """A sub-command a recipe; each recipe's fields are its options."""
    import tyro

    from becalm.recipes import jets, spd

    def train(recipe: tyro.conf.Subcommand[jets.Recipe] | tyro.conf.Subcommand[spd.Recipe]) -> "Training":
        """Run a recipe: it continues where an earlier run of the same folder stopped."""
        return Training(recipe)

    return train


class Training:
    """A recipe that is about to run."""

    def __init__(self, recipe):
        self.recipe = recipe

    def run(self) -> None:
        """Show a line a record; the log in the run's folder has them all."""
        for record in sys.modules[type(self.recipe).__module__].run(self.recipe):
            print(json.dumps(record), flush=True)
