"""becalm generate: new data out of noise."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Generate:
    """Draw new data from a model of them."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model (see `becalm models`) or a file of weights."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 16
    """How many."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """Where to: a new folder, or an .npz; for images also .npy or an IDX file. Left out, generated, a folder here."""
    sampler: Literal["ancestral", "ddim", "dpm"] | None = None
    """Ancestral, as the model is defined; DDIM or DPM-Solver++(2M), which put back no noise and need fewer steps. Left out,
    ancestral for images, dpm for shapes."""
    steps: int | None = None
    """Steps from noise to data. Left out, 250, and for shapes 25."""
    label: str | None = None
    """Shapes: their class."""
    points: int = 2048
    """Shapes: points of each."""
    guidance: float = 0.0
    """Shapes: how much the class is heeded beyond what is likely, w of û + w (û − û without a class)."""
    mesh: Literal["none", "obj", "ply", "stl"] = "none"
    """Shapes: write a surface of each beside its points: 0000.obj, 0000.stl, or 0000.mesh.ply."""
    picture: Path | None = None
    """Write all of them side by side to this .png file."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same data."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Load, draw, write, report."""
        from becalm.cli.shapes import generate_shapes
        from becalm.core.files import InputError
        from becalm.evaluation.shapes import DenseLion, Lion, PointDiffusion
        from becalm.systems.vdm import VDM
        from becalm.weights.store import load

        kinds = {VDM: images, **dict.fromkeys((Lion, DenseLion, PointDiffusion), generate_shapes)}
        started = time.time()
        if self.number < 1 or (self.steps is not None and self.steps < 1):
            raise InputError("-n and --steps must be at least 1")
        model = load(self.model, *kinds)
        output = self.output or Path("generated")
        summary = kinds[type(model)](model, self, output)
        summary |= {"seed": self.seed, "seconds": round(time.time() - started, 2), "output": str(output)}
        print(json.dumps(summary) if self.json else "  ".join(f"{name} {value}" for name, value in summary.items()))


def images(model, asked: Generate, output: Path) -> dict:
    """Images of a VDM: every one ends in a draw from p(x|z₀)."""
    import torch
    from tqdm import tqdm

    from becalm.core.files import InputError, check_outputs
    from becalm.core.sampler import Sampler
    from becalm.images import image_files
    from becalm.systems.vdm import decode_images, generate
    from becalm.weights.store import located

    image_files.check_target(output)
    check_outputs((asked.picture, output if output.is_file() else None), [located(asked.model)])
    if asked.label is not None or asked.mesh != "none" or asked.guidance:
        raise InputError(f"{asked.model}: is a model of images, without --label, --guidance and --mesh; leave them out")
    sampler, steps = asked.sampler or "ancestral", asked.steps or 250
    generator = torch.Generator().manual_seed(asked.seed)
    states = generate(model, asked.number, Sampler(steps, sampler), generator)
    for step in tqdm(states, "generating", steps, disable=None):
        pass
    if not torch.isfinite(step.z).all():
        raise InputError(f"{asked.model}: gives numbers that are not finite: damaged weights? take others")
    with torch.no_grad():
        drawn = decode_images(model, step.z, generator)
    image_files.write(output, drawn, model.levels)
    if asked.picture:
        image_files.grid(asked.picture, drawn, model.levels)
    return {"images": len(drawn), "sampler": sampler, "steps": steps}
