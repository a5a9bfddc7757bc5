"""becalm vary: shapes like a given one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Vary:
    """Variations of a shape by diffuse–denoise; `--amount 0` gives its reconstruction, clean where it was noisy or voxels."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model of shapes (see `becalm models`) or a file of weights."""
    shape: Annotated[Path, tyro.conf.Positional]
    """A cloud or a mesh, y up; of any size."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 8
    """How many."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("varied")
    """A new folder for PLY files, or a name that ends in .npz; in the size and at the place of the given shape."""
    amount: float = 0.5
    """Noise level it is diffused to: 0 gives the reconstruction, 1 another shape."""
    label: str | None = None
    """The class of the shape."""
    points: int = 2048
    """Points of each shape."""
    steps: int = 25
    """Steps of each diffusion."""
    mesh: Literal["none", "obj", "ply", "stl"] = "none"
    """Write a surface of each beside its points: 0000.obj, 0000.stl, or 0000.mesh.ply."""
    picture: Path | None = None
    """Write all of them side by side to this .png file."""
    seed: int = 0
    """Seed of all random numbers; the same seed gives the same shapes."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Vary, write, print the summary."""
        from becalm.cli import shapes
        from becalm.cli.denoise import warn
        from becalm.cli.progress import with_progress
        from becalm.tasks import vary

        shapes.check_request(self, self.output, (self.shape,))
        sampler = shapes.sampler_of(self.steps)
        reports = vary.steps(
            self.model,
            self.shape,
            self.amount,
            self.number,
            self.label,
            self.points,
            sampler,
            self.seed,
            self.device,
            warn,
        )
        shapes.write_result(with_progress(reports, "varying"), self, self.output)
