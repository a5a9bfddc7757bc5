"""becalm export: the network of a denoiser as an ONNX file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Export:
    """Write the network of a denoiser of clouds or images as an ONNX file: one evaluation, for any batch."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model (see `becalm models`) or a file of weights."""
    output: Annotated[Path, tyro.conf.Positional]
    """The file to write, FILE.onnx."""
    force: bool = False
    """Replace the file where it exists."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Load, export, say what the network takes and gives."""
        from becalm.core.files import check_outputs
        from becalm.tasks.export import export
        from becalm.weights.packaged import find_weights

        check_outputs([self.output], [find_weights(self.model)], self.force)
        made = export(self.model, self.output)
        if self.json:
            print(json.dumps({"output": str(made.path), "inputs": made.inputs, "outputs": made.outputs}))
            return
        for name, shape in made.inputs.items():
            print(f"input   {name} [{', '.join(map(str, shape))}]")
        print(f"outputs {', '.join(made.outputs)}\nwritten {made.path}")
