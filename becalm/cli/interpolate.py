"""becalm interpolate: the shapes between two shapes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Interpolate:
    """Interpolate between two shapes: the noise that gives each is mixed, of the global latent first, then of the points."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model of shapes (see `becalm models`) or a file of weights."""
    one: Annotated[Path, tyro.conf.Positional]
    """The first shape, a cloud or a mesh, y up; of any size."""
    other: Annotated[Path, tyro.conf.Positional]
    """The last shape."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 8
    """How many shapes, the two ends included."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("interpolated")
    """A new folder for PLY files, or a name that ends in .npz."""
    label: str | None = None
    """The class of both."""
    points: int = 2048
    """Points of each shape."""
    steps: int = 25
    """Steps of each diffusion."""
    mesh: Literal["none", "obj", "ply", "stl"] = "none"
    """Write a surface of each beside its points: 0000.obj, 0000.stl, or 0000.mesh.ply."""
    picture: Path | None = None
    """Write all of them side by side to this .png file."""
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Interpolate, write, print the summary."""
        from becalm.cli import shapes
        from becalm.cli.progress import with_progress
        from becalm.tasks import interpolate

        shapes.check_request(self, self.output, (self.one, self.other))
        sampler = shapes.sampler_of(self.steps)
        reports = interpolate.steps(
            self.model, self.one, self.other, self.number, self.label, self.points, sampler, self.seed, self.device
        )
        shapes.write_result(with_progress(reports, "interpolating"), self, self.output, self.number)
