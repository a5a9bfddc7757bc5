"""becalm complete: shapes that have a given part."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Complete:
    """Complete a part of a shape: its latent points are given, at noise level 0; the others and the global latent are sampled."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model of shapes (see `becalm models`) or a file of weights."""
    part: Annotated[Path, tyro.conf.Positional]
    """The part, a cloud or a mesh, y up, where it belongs in the shape's box from −1 to 1."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 8
    """How many completions."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("completed")
    """A new folder for PLY files, or a name that ends in .npz."""
    share: float = 0.5
    """Share of the whole surface that the part is, between 0 and 1."""
    label: str | None = None
    """The class of the shape."""
    points: int = 2048
    """Points of each shape."""
    steps: int = 50
    """Steps of the diffusion."""
    mesh: Literal["none", "obj", "ply", "stl"] = "none"
    """Write a surface of each beside its points: 0000.obj, 0000.stl, or 0000.mesh.ply."""
    picture: Path | None = None
    """Write all of them side by side to this .png file, the given part in another colour."""
    seed: int = 0
    """Seed of all random numbers; the same seed gives the same shapes."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Complete, write, print the summary."""
        from becalm.cli import shapes
        from becalm.cli.progress import with_progress
        from becalm.tasks import complete

        shapes.check_request(self, self.output, (self.part,))
        sampler = shapes.sampler_of(self.steps)
        reports = complete.steps(
            self.model, self.part, self.number, self.label, self.share, self.points, sampler, self.seed, self.device
        )
        shapes.write_result(with_progress(reports, "completing"), self, self.output)
