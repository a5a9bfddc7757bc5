"""becalm compress: images in, one small file out, at the length that the model's bound promises."""

import json
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
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Read, code, write, report."""
        import torch
        from tqdm import tqdm

        from becalm.compression import archive, bits_back
        from becalm.core.files import InputError, check_outputs
        from becalm.images import image_files
        from becalm.systems.vdm import VDM, images_to_variables
        from becalm.weights.store import load, located

        started = time.time()
        output = self.output or self.images.with_name(f"{self.images.name}.bcz")
        check_outputs([output], (*image_files.sources(self.images), located(self.model)))
        if self.steps < 1 or self.batch < 1:
            raise InputError("--steps and --batch must be at least 1")
        model = load(self.model, VDM)
        images = image_files.read(self.images, image_files.Expected(*model.shape, model.levels), self.array).values
        v, chain = (
            images_to_variables(model, images),
            bits_back.chain(model.denoiser, model.levels, self.steps, model.start),
        )
        try:
            with tqdm(total=len(v), desc="compressing", unit="image", disable=None) as bar:
                for coded in bits_back.encode(chain, v, self.batch):
                    bar.update(coded.count - bar.n)
        except FloatingPointError as error:
            raise InputError(f"{self.model}: cannot code {self.images}: {error}; take another") from error
        if self.check:
            parts = bits_back.decode(chain, coded, (v.shape[1], v.shape[2]))
            again = list(tqdm(parts, "checking", len(coded.groups), disable=None))
            if not torch.equal(torch.cat(again[::-1]), v):
                raise InputError(f"{self.images}: do not come out as they went in on this machine; nothing was written")
        archive.write(output, model, images, coded)
        size = output.stat().st_size
        summary = {"images": len(images), "bytes": size, "bits_per_dim": 8 * size / images.numel()}
        summary |= {"steps": self.steps, "first_bits": 32 * (coded.initial - coded.unused)}
        summary |= {"seconds": round(time.time() - started, 2), "output": str(output)}
        print(json.dumps(summary) if self.json else told(summary))


def told(summary: dict) -> str:
    """The summary for people."""
    return (
        f"{summary['images']:,} images in {summary['bytes']:,} bytes, {summary['bits_per_dim']:.4f} bits a number, "
        f"{summary['steps']} steps, {summary['seconds']:.1f} seconds\nwritten {summary['output']}"
    )
