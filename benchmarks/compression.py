"""Lossless compression of a set of images: becalm's codec beside PNG, WebP, xz and bzip2, all measured in one run.

    python benchmarks/compression.py --model MODEL --images mnist.npz [--array x_test] [--steps 20 50] [--count 10000]

The codec's rows are real files, written, read again and decoded; the run fails where one bit differs. PNG and WebP are measured
twice: a file an image, and one sheet of all images, which spares them the headers. `bound` is that of the same T.
"""

import bz2
import io
import json
import lzma
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import tyro
from PIL import Image
from tqdm import tqdm

from becalm.compression import archive, bits_back
from becalm.core.likelihood import concatenate_bounds
from becalm.images import image_files
from becalm.systems.vdm import VDM, bound, images_to_variables, variables_to_images
from becalm.weights.store import load

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    model: str
    """A packaged VDM or a file of weights."""
    images: Path
    """A folder of images, .npy, .npz or an IDX file."""
    array: str | None = "x_test"
    """Which array of an .npz."""
    count: int = 10_000
    """The first so many images."""
    steps: tuple[int, ...] = (20, 50)
    """T of the codec, a row each."""
    batch: int = 64
    """Images that go through the network at once."""
    draws: int = 4
    """Draws an image for the bound."""
    output: Path = HERE / "results" / "compression.json"
    """Where the rows go."""


def main(asked: Benchmark) -> None:
    """Measure, print a table, write the rows."""
    model = load(asked.model, VDM)
    images = image_files.read(asked.images, image_files.Expected(*model.shape, model.levels), asked.array).values[
        : asked.count
    ]
    rows = [*general(images.numpy(), model.levels)]
    rows += [ours(model, images, steps, asked) for steps in asked.steps]
    for row in rows:
        row["bits_per_dim"] = 8 * row["bytes"] / images.numel()
    facts = {"model": asked.model, "fingerprint": archive.fingerprint(model), "images": str(asked.images.name)}
    facts |= {"count": len(images), "where": bits_back.surroundings()}
    asked.output.parent.mkdir(exist_ok=True)
    asked.output.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        bits = f"   bound {row['bound']:.4f} ± {row['bound_error']:.4f}" if "bound" in row else ""
        print(f"{row['method']:<24} {row['bytes']:>12,} bytes {row['bits_per_dim']:>9.4f} bits a number{bits}")


def general(values: np.ndarray, levels: int):
    """A row for each general-purpose compressor; values [image, height, width, colour]."""
    expected = image_files.Expected(*values.shape[1:], levels)
    shown = list(image_files.brightened(values, expected))
    raw = archive.raw(torch.from_numpy(values), levels)
    yield {"method": "plain bytes", "bytes": len(raw)}
    for name, options in (("PNG", {"optimize": True}), ("WebP", {"lossless": True, "quality": 100, "method": 6})):
        yield timed(f"{name}, a file an image", lambda o=options, n=name: sum(encoded(i, n, o) for i in shown))
        yield timed(f"{name}, one sheet", lambda o=options, n=name: encoded(sheet(shown), n, o))
    yield timed("bzip2 -9", lambda: len(bz2.compress(raw, 9)))
    yield timed("xz -9e", lambda: len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)))


def timed(method: str, work: Callable[[], int]) -> dict:
    """A row with the processor's seconds."""
    started = time.process_time()
    return {"method": method, "bytes": work(), "cpu_seconds": time.process_time() - started}


def encoded(image: np.ndarray, form: str, options: dict) -> int:
    """Bytes of an image in a lossless form; fails where it is not."""
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, form, **options)
        back = np.asarray(Image.open(file))
        grey = back[..., 0] if back.ndim > image.ndim else back
        if not np.array_equal(grey, image):
            raise AssertionError(f"{form} changed an image")
        return len(file.getvalue())


def sheet(shown: list[np.ndarray]) -> np.ndarray:
    """All images as one, a hundred in a row, black where there are no more."""
    rest = -len(shown) % 100
    cells = np.stack([*shown, *[np.zeros_like(shown[0])] * rest])
    rows = cells.reshape(-1, 100, *cells.shape[1:]).swapaxes(1, 2)
    return rows.reshape(-1, 100 * cells.shape[2], *cells.shape[3:])


def ours(model: VDM, images: torch.Tensor, steps: int, asked: Benchmark) -> dict:
    """The codec's row: written, read, decoded and compared, with the bound of the same steps."""
    chain, v = bits_back.chain(model.denoiser, model.levels, steps, model.start), images_to_variables(model, images)
    started, wall = time.process_time(), time.time()
    for coded in watched(bits_back.encode(chain, v, asked.batch), f"T = {steps}", lambda c: c.count, len(v)):
        pass
    between, wall_between = time.process_time(), time.time()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "images.bcz"
        archive.write(path, model, images, coded)
        size = path.stat().st_size
        header, again = archive.read(path)
    groups = [*watched(bits_back.decode(chain, again, (v.shape[1], v.shape[2])), "decoding", None, len(again.groups))]
    ended, wall_ended = time.process_time(), time.time()
    decoded = variables_to_images(model, torch.cat(groups[::-1]))
    archive.confirm(path, header, decoded)
    if not torch.equal(decoded, images.long()):
        raise AssertionError("an image came back changed")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        parts = [bound(model, part, steps, asked.draws, generator) for part in tqdm(v.split(128), "bound")]
    total = concatenate_bounds(parts).estimates()["total"]
    seconds = {"cpu_seconds": between - started, "cpu_seconds_back": ended - between}
    seconds |= {"seconds": wall_between - wall, "seconds_back": wall_ended - wall_between}
    first = 32 * (coded.initial - coded.unused)
    return {"method": f"becalm, T = {steps}", "bytes": size, "steps": steps, "first_bits": first, **seconds} | {
        "bound": total.bits,
        "bound_error": total.bits_error,
        "over_bound": 8 * size / images.numel() / total.bits - 1,
    }


def watched(items, words: str, done: Callable | None, total: int):
    """The items, with a bar on standard error."""
    with tqdm(total=total, desc=words, disable=None) as bar:
        for item in items:
            bar.update(1 if done is None else done(item) - bar.n)
            yield item


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
