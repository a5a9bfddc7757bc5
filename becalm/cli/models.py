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
        from becalm.weights.store import packaged

        found = packaged()
        if self.json:
            print(json.dumps(found))
            return
        name, task = (max(len(str(model[field])) for model in found) for field in ("name", "task"))
        for model in found:
            print(f"{model['name']:<{name}}  {model['task']:<{task}}  {model['file']}")
