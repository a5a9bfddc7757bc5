"""becalm models: what is packaged."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Models:
    """List the packaged models."""

    json: bool = False
    """Print a JSON list of objects with name, task, file and sha256."""

    def run(self) -> None:
        """Look into the package's weights."""
        from becalm.systems.store import packaged

        found = packaged()
        if self.json:
            print(json.dumps(found))
            return
        for model in found:
            print(f"{model['name']:<8} {model['task']:<28} {model['file']}")
