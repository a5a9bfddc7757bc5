"""becalm complete: shapes that have a given part."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Complete:
    """Complete a part of a shape: its latent points are given, at noise level 0; the others and the global latent are drawn."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model of shapes (see `becalm models`) or a file of weights."""
    part: Annotated[Path, tyro.conf.Positional]
    """The part, a cloud or a mesh, y up, where it belongs in the shape's box from −1 to 1."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 8
    """How many completions."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("completed")
    """A new folder for PLY files, or a name that ends in .npz."""
    share: float = 0.5
    """How much of the whole surface the part is, between 0 and 1."""
    label: str | None = None
    """The class of the shape."""
    points: int = 2048
    """Points of each shape."""
    steps: int = 50
    """Steps of the diffusion."""
    mesh: Literal["none", "obj", "ply", "stl"] = "none"
    """Write a surface of each beside its points: 0000.obj, 0000.stl, or 0000.mesh.ply."""
    picture: Path | None = None
    """Write all of them side by side to this .png file, what is given in another colour."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same shapes."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, encode, complete, decode, write."""
        import numpy as np
        import torch

        from becalm.cli import shapes
        from becalm.core.files import InputError
        from becalm.systems.lion_sparse import Lion, Way
        from becalm.systems.lion_sparse_autoencoder import decode
        from becalm.systems.lion_sparse_edit import complete
        from becalm.weights.store import load

        started = time.time()
        shapes.checked(self, self.output, (self.part,))
        if not 0 < self.share < 1 or self.steps < 1:
            raise InputError(
                f"--share {self.share}, --steps {self.steps}: give a share between 0 and 1, a step or more"
            )
        model, generator = load(self.model, Lion), torch.Generator().manual_seed(self.seed)
        label = torch.full((self.number,), shapes.label_of(model.classes, self.label))
        anchors = model.autoencoder.sizes.anchors
        some = min(max(round(self.share * anchors), 1), anchors - 1)
        part = shapes.part_of_shape(self.part, 2048, self.seed)
        with torch.inference_mode():
            _, seen = model.autoencoder.encode(part, generator, some)

        def made_of(rows: range):
            given = seen.h.expand(len(rows), -1, -1)
            latent = complete(model.prior, given, anchors - some, label[: len(rows)], Way(self.steps), generator)
            return decode(model.autoencoder, latent, self.points, generator)

        made = shapes.together(made_of, self.number, self.points)
        shapes.write_shapes(made, self.output, self.mesh)
        if self.picture:
            near = torch.cdist(torch.from_numpy(made).float(), part.expand(self.number, -1, -1)).amin(2)
            shapes.draw(made, self.picture, np.asarray(near < 2 * model.autoencoder.reach / 3))
        told = {"shapes": len(made), "given": some, "of": anchors, "output": str(self.output)}
        told |= {"seconds": round(time.time() - started, 2)}
        print(json.dumps(told) if self.json else "  ".join(f"{name} {value}" for name, value in told.items()))
