"""becalm decompress: the images of a compressed file, bit for bit."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Decompress:
    """Decompress a file of `becalm compress` with the model it was made with."""

    model: Annotated[str, tyro.conf.Positional]
    """The same packaged model or file of weights."""
    file: Annotated[Path, tyro.conf.Positional]
    """The compressed file."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=("-o",))] = None
    """A new folder of PNGs, .npy, .npz or an IDX file (a name with `idx`, .gz as well); left out, FILE.images, a folder."""
    device: str = "cpu"
    """Where the network computes: cpu, cuda or mps, as when compressing."""
    force: bool = False
    """Replace files that exist; folders must be new or empty, and inputs are never replaced."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Decode, check, write, report."""
        import numpy as np
        import torch

        from becalm.cli.progress import with_progress
        from becalm.compression import archive
        from becalm.core.files import check_outputs
        from becalm.images import image_files
        from becalm.tasks.decompress import steps
        from becalm.weights.packaged import find_weights

        started, output = time.time(), self.output or self.file.with_name(f"{self.file.name}.images")
        check_outputs([None if output.is_dir() else output], [self.file, find_weights(self.model)], self.force)
        image_files.check_target(output)
        header, _ = archive.unpack(archive.read(self.file), self.file)
        images = with_progress(steps(self.model, self.file, self.device), "decompressing")
        values = torch.from_numpy(images.astype(np.int32)).reshape(-1, *header.shape)
        image_files.write(output, values, header.levels)
        summary = {"images": len(images), "seconds": round(time.time() - started, 2), "output": str(output)}
        print(
            json.dumps(summary)
            if self.json
            else f"{len(images):,} images, every bit as it was, {summary['seconds']:.1f} seconds\nwritten {output}"
        )
