"""becalm compress: images in, one small file out, at the length that the model's bound promises."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Compress:
    """Compress images without loss, by bits-back coding with a model of them; the same model decompresses."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model (see `becalm models`) or a file of weights."""
    images: Annotated[Path, tyro.conf.Positional]
    """A folder of images, an image, .npy, .npz or an IDX file, plain or gzip."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """The compressed file; left out, IMAGES.bcz beside the images."""
    array: str | None = None
    """Which array of an .npz, where several fit."""
    steps: int = 50
    """Steps T: twice as many take twice as long, and the file comes nearer to the bound of infinitely many."""
    batch: int = 64
    """Images that go through the network at once, at most; decompressing takes the same."""
    check: bool = False
    """Decompress at once and write only if every bit is right; takes twice as long."""
    device: str = "cpu"
    """Where the network computes: cpu, cuda or mps. Only the same kind of device can decompress the file."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Encode, write, report."""
        from becalm.cli.progress import with_progress
        from becalm.compression import archive
        from becalm.core.files import atomic_file, check_outputs
        from becalm.images.image_files import source_files
        from becalm.tasks.compress import steps
        from becalm.weights.packaged import find_weights

        started = time.time()
        output = self.output or self.images.with_name(f"{self.images.name}.bcz")
        check_outputs([output], (*source_files(self.images), find_weights(self.model)), self.force)
        reports = steps(self.model, self.images, self.steps, self.batch, self.check, self.array, self.device)
        data = with_progress(reports, "compressing")
        with atomic_file(output) as temporary:
            temporary.write_bytes(data)
        header, bits = archive.unpack(data, output)
        numbers = header.count * math.prod(header.shape)
        summary = {"images": header.count, "bytes": len(data), "bits_per_dim": 8 * len(data) / numbers}
        summary |= {"steps": header.steps, "first_bits": 32 * (bits.n_initial - bits.n_unused)}
        summary |= {"seconds": round(time.time() - started, 2), "output": str(output)}
        print(json.dumps(summary) if self.json else format_summary(summary))


def format_summary(summary: dict) -> str:
    """The summary for people."""
    return (
        f"{summary['images']:,} images in {summary['bytes']:,} bytes, {summary['bits_per_dim']:.4f} bits a number, "
        f"{summary['steps']} steps, {summary['seconds']:.1f} seconds\nwritten {summary['output']}"
    )
