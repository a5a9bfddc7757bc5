"""becalm import: checkpoints of other projects into files of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Import:
    """Read another project's checkpoint, without running anything it holds, and write it in our format."""

    source: Annotated[Literal["score-denoise"], tyro.conf.Positional]
    """Whose: score-denoise is SPD by its authors."""
    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The file: .pt as published, or .safetensors."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("spd.safetensors")
    """Where the model goes."""

    def run(self) -> None:
        """Read, convert, write."""
        from becalm.points.formats.files import check_target
        from becalm.weights.importer import read_official
        from becalm.weights.store import save

        check_target(self.output, self.checkpoint)
        model = read_official(self.checkpoint)
        save(
            model,
            self.output,
            {"task": "denoise clouds", "source": f"imported from {self.source}: {self.checkpoint.name}"},
        )
        print(f"{self.output}: SPD, {sum(p.numel() for p in model.parameters()):,} parameters")
