"""becalm generate: new data out of noise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Generate:
    """Generate new shapes or images."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model (see `becalm models`) or a file of weights."""
    number: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 16
    """How many."""
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("generated")
    """Where to: a new folder, or an .npz; for images also .npy or an IDX file."""
    sampler: Literal["ancestral", "ddim", "dpm"] | None = None
    """Ancestral sampling; DDIM or DPM-Solver++(2M), which add no noise and need fewer steps. Left out, the model's own: ancestral
    for images and `lion`, dpm for the other models of shapes."""
    steps: int | None = None
    """Steps from noise to data. Left out, the model's own number: 250 for images, 25 for shapes, 1000 for `lion`. Time grows with
    the steps. About half of `mnist`'s images are clear digits, at 25 steps of ddim or dpm as at 250 of ancestral sampling."""
    label: str | None = None
    """Shapes: their class."""
    points: int = 2048
    """Shapes: points of each."""
    guidance: float = 0.0
    """Shapes: weight w of classifier-free guidance, û + w (û − û without a class)."""
    mesh: Literal["none", "obj", "ply", "stl"] = "none"
    """Shapes: write a surface of each beside its points: 0000.obj, 0000.stl, or 0000.mesh.ply."""
    picture: Path | None = None
    """Write all of them side by side to this .png file."""
    seed: int = 0
    """Seed of all random numbers; the same seed gives the same data."""
    device: str = "cpu"
    """Where to compute: cpu, cuda or mps."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Generate, write, print the summary."""
        from dataclasses import replace

        from becalm.cli import shapes
        from becalm.cli.progress import with_progress
        from becalm.core.files import InputError, check_outputs
        from becalm.images import image_files
        from becalm.tasks import generate
        from becalm.tasks.shapes import Shapes, load_on
        from becalm.weights.packaged import find_weights

        if self.number < 1 or (self.steps is not None and self.steps < 1):
            raise InputError("-n and --steps must be at least 1")
        model = load_on(self.model, self.device, generate.Generator)
        if model.makes == "images":
            image_files.check_target(self.output)
            check_outputs(
                (self.picture, self.output if self.output.is_file() else None), [find_weights(self.model)], self.force
            )
            if self.label is not None or self.mesh != "none" or self.guidance:
                raise InputError(f"{self.model}: makes images, without --label, --guidance and --mesh; leave them out")
        else:
            shapes.check_request(self, self.output)
        update, steps = self.sampler or model.default_sampler.update, self.steps or model.default_sampler.steps
        sampler = replace(model.default_sampler, update=update, steps=steps, guidance=self.guidance)
        reports = generate.steps(model, self.number, self.label, self.points, sampler, self.seed, self.device)
        result = with_progress(reports, "generating")
        if isinstance(result, Shapes):
            return shapes.write_result(result, self, self.output)
        result.save(self.output)
        if self.picture:
            result.draw(self.picture)
        shapes.print_summary({"images": len(result), **result.facts, "output": str(self.output)}, self.json)
