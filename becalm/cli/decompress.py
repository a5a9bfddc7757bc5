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
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, decode, check, write, report."""
        import torch
        from tqdm import tqdm

        from becalm.compression import archive, bits_back
        from becalm.core.files import InputError
        from becalm.images import image_files
        from becalm.systems.vdm import VDM, variables_to_images
        from becalm.weights.store import load, located

        started, output = time.time(), self.output or self.file.with_name(f"{self.file.name}.images")
        if output.resolve() in (self.file.resolve(), located(self.model).resolve()):
            raise InputError(f"{output}: is the input, and inputs are never overwritten; give another name")
        image_files.check_target(output)
        header, coded = archive.read(self.file)
        model = load(self.model, VDM)
        archive.fitting(self.file, header, model, self.model)
        height, width, colours = model.shape
        chain, groups = bits_back.chain(model.denoiser, model.levels, coded.steps, model.start), []
        try:
            with (
                bits_back.threads(header.threads),
                tqdm(total=coded.count, desc="decompressing", unit="image", disable=None) as bar,
            ):
                for group in bits_back.decode(chain, coded, (height * width, colours)):
                    groups.append(group)
                    bar.update(len(group))
        except (bits_back.Uneven, FloatingPointError) as error:
            raise InputError(f"{self.file}: {error}; {archive.difference(header)}") from error
        images = variables_to_images(model, torch.cat(groups[::-1]))
        archive.confirm(self.file, header, images)
        image_files.write(output, images, model.levels)
        summary = {"images": len(images), "seconds": round(time.time() - started, 2), "output": str(output)}
        print(
            json.dumps(summary)
            if self.json
            else f"{len(images):,} images, every bit as it was, {summary['seconds']:.1f} seconds\nwritten {output}"
        )
