"""becalm interpolate: the shapes between two shapes."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Interpolate:
    """Go from one shape to another through shapes: noise is interpolated, of the global latent first, then of the points."""

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
    """Decides every random draw."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, encode, interpolate, decode, write."""
        import torch

        from becalm.cli import shapes
        from becalm.core.files import InputError
        from becalm.systems.lion_sparse import Lion, Way
        from becalm.systems.lion_sparse_autoencoder import Latent, decode
        from becalm.systems.lion_sparse_edit import interpolate
        from becalm.weights.store import load

        started = time.time()
        shapes.checked(self, self.output, (self.one, self.other))
        if not 2 <= self.number <= 1000 or self.steps < 1:
            raise InputError(f"-n {self.number}, --steps {self.steps}: give 2 to 1000 shapes, and a step or more")
        model, generator = load(self.model, Lion), torch.Generator().manual_seed(self.seed)
        label = torch.full((self.number,), shapes.label_of(model.classes, self.label))
        ends = [shapes.read_shape(path, 2048, self.seed)[0] for path in (self.one, self.other)]
        with torch.inference_mode():
            one, other = (model.autoencoder.encode(points, generator)[1] for points in ends)
        latent = interpolate(model, one, other, self.number, label, Way(self.steps), generator)

        def made_of(rows: range):
            some = Latent(*(part[list(rows)] for part in latent))
            return decode(model.autoencoder, some, self.points, generator)

        made = shapes.together(made_of, self.number, self.points)
        shapes.write_shapes(made, self.output, self.mesh)
        if self.picture:
            shapes.draw(made, self.picture, columns=self.number)
        told = {"shapes": len(made), "points": self.points, "output": str(self.output)}
        told |= {"seconds": round(time.time() - started, 2)}
        print(json.dumps(told) if self.json else "  ".join(f"{name} {value}" for name, value in told.items()))
