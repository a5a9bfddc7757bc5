"""becalm likelihood: how many bits a model needs for images, in all and for each."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Likelihood:
    """Measure images by a model of them: bits a dimension ± standard error, the bound's terms, the images that fit least."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model (see `becalm models`) or a file of weights."""
    images: Annotated[Path, tyro.conf.Positional]
    """A folder of images, an image, .npy, .npz or an IDX file, plain or gzip."""
    array: str | None = None
    """Which array of an .npz, where several fit."""
    steps: int | None = None
    """Steps T of the bound; left out, infinitely many."""
    draws: int = 1
    """Noise levels and noises an image: more make each image's value more precise."""
    exact: bool = False
    """Also the likelihood by the probability-flow ODE, with its three errors; slow."""
    probes: int | None = None
    """For --exact: estimate the divergence by so many random vectors; left out, exactly up to 128 dimensions, else by 4."""
    flow_steps: int = 100
    """For --exact: steps of the solver, of order 4; its error is estimated by a second run with half as many."""
    csv: Path | None = None
    """Write the values of each image to this .csv file."""
    rank: int = 0
    """List so many images that fit least, the worst first."""
    picture: Path | None = None
    """Write a histogram of the images' values, with the images of --rank, to this .png file."""
    batch: int = 128
    """Images that go through the network at once."""
    seed: int = 0
    """Decides every random draw; the same seed gives the same values."""
    device: str = "cpu"
    """Where the network computes: cpu, cuda or mps."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the table."""

    def run(self) -> None:
        """Measure, write, report."""
        from becalm.cli.progress import with_progress
        from becalm.core.files import InputError, check_outputs
        from becalm.images.image_files import source_files
        from becalm.tasks.likelihood import FlowSettings, steps
        from becalm.weights.packaged import find_weights

        started = time.time()
        if self.rank < 0:
            raise InputError(f"--rank {self.rank}: must be at least 0")
        check_outputs((self.csv, self.picture), (*source_files(self.images), find_weights(self.model)), self.force)
        flow = FlowSettings(self.flow_steps, self.probes) if self.exact else None
        sampled = self.steps, self.draws, flow, self.batch, self.seed
        result = with_progress(steps(self.model, self.images, *sampled, self.array, self.device), "likelihood")
        if self.csv:
            result.save(self.csv)
        if self.picture:
            result.draw(self.picture, self.rank)
        seconds = round(time.time() - started, 2)
        print(json.dumps(self.summary(result) | {"seconds": seconds}) if self.json else self.text(result))

    def summary(self, result: Any) -> dict:
        """The result as a JSON object."""
        values = {"bits_per_dim": result.bits_per_dim, "bits_per_dim_error": null(result.standard_error)}
        values |= {"images": len(result.images), "dimensions": result.dimensions}
        values |= {"steps": self.steps, "draws": self.draws}
        terms = result.terms.items()
        values["terms"] = {name: {key: null(x) for key, x in term._asdict().items()} for name, term in terms}
        if result.flow:
            exact = {"bits_per_dim": result.flow.bits_per_dim, "bits_per_dim_error": null(result.flow.standard_error)}
            for name in ("end_error", "solver_error", "trace_error"):
                exact[name] = null(getattr(result.flow, name))
            settings = result.flow.settings
            values["exact"] = exact | {"probes": settings.probes, "flow_steps": settings.steps}
        values["rank"] = [{"image": name, "bits_per_dim": bits} for name, bits in self.worst_images(result)]
        return values

    def text(self, result: Any) -> str:
        """The result and the images of --rank, for people."""
        ranked = enumerate(self.worst_images(result), 1)
        return "\n".join([repr(result), *(f"{place:>4}. {bits:.4f}  {name}" for place, (name, bits) in ranked)])

    def worst_images(self, result: Any) -> list[tuple[str, float]]:
        """Names and bits a dimension of the images that fit least."""
        return [(result.images.names[i], float(result.per_image[i])) for i in result.worst(self.rank)]


def null(value: float) -> float | None:
    """A number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value
