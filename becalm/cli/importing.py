"""becalm import: convert another project's checkpoint into a file of weights of becalm."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Import:
    """Convert another project's checkpoint into a becalm file. Nothing in the checkpoint is run."""

    source: Annotated[Literal["score-denoise"], tyro.conf.Positional]
    """The project that the checkpoint is from: score-denoise is SPD by its authors."""
    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The checkpoint: .pt as published, or .safetensors."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("spd.safetensors")
    """The file to write."""
    force: bool = False
    """Replace the file where it exists; the checkpoint is never replaced."""

    def run(self) -> None:
        """Read, convert, write."""
        from becalm.core.files import check_outputs
        from becalm.weights.importer import read_official
        from becalm.weights.store import save

        check_outputs([self.output], [self.checkpoint], self.force)
        model = read_official(self.checkpoint)
        save(
            model,
            self.output,
            {"task": "denoise clouds", "source": f"imported from {self.source}: {self.checkpoint.name}"},
        )
        print(f"{self.output}: SPD, {sum(p.numel() for p in model.parameters()):,} parameters")
