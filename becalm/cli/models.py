"""becalm models: what is packaged."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Models:
    """List the packaged models: name, the commands that take it, what it is given."""

    json: bool = False
    """Print a JSON list of objects with name, task, verbs, takes, file and sha256."""

    def run(self) -> None:
        """Print the table."""
        from becalm.tasks.models import models

        listed = models()
        print(json.dumps([asdict(model) for model in listed], default=str) if self.json else listed)
