"""becalm vary: shapes like a given one."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Vary:
    """Diffuse–denoise a shape: variations of it; with `--amount 0` a noisy one or one of voxels comes back clean."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model of shapes (see `becalm models`) or a file of weights."""
    shape: Annotated[Path, tyro.conf.Positional]
    """A cloud or a mesh, y up; of any size."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 8
    """How many."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("varied")
    """A new folder for PLY files, or a name that ends in .npz; in the size and at the place of the given shape."""
    amount: float = 0.5
    """How far it is diffused: 0 gives back the reconstruction, 1 another shape."""
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
    """Decides every random draw; the same seed gives the same shapes."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, encode, diffuse, denoise, decode, write."""
        import torch

        from becalm.cli import shapes
        from becalm.core.files import InputError
        from becalm.systems.lion_sparse import Lion, Way
        from becalm.systems.lion_sparse_autoencoder import decode
        from becalm.systems.lion_sparse_edit import vary
        from becalm.weights.store import load

        started = time.time()
        shapes.checked(self, self.output, (self.shape,))
        if not 0 <= self.amount <= 1 or self.steps < 1:
            raise InputError(
                f"--amount {self.amount}, --steps {self.steps}: give an amount from 0 to 1, a step or more"
            )
        model, generator = load(self.model, Lion), torch.Generator().manual_seed(self.seed)
        label = torch.full((self.number,), shapes.label_of(model.classes, self.label))
        points, (middle, half) = shapes.read_shape(self.shape, 2048, self.seed)

        def made_of(rows: range):
            seen = points.expand(len(rows), -1, -1)
            latent = vary(model, seen, self.amount, label[: len(rows)], Way(self.steps), generator)
            return decode(model.autoencoder, latent, self.points, generator)

        made = shapes.together(made_of, self.number, self.points)
        shapes.write_shapes(made * half + middle, self.output, self.mesh)
        if self.picture:
            shapes.draw(made, self.picture)
        told = {"shapes": len(made), "amount": self.amount, "output": str(self.output)}
        told |= {"seconds": round(time.time() - started, 2)}
        print(json.dumps(told) if self.json else "  ".join(f"{name} {value}" for name, value in told.items()))
