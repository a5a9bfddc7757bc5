"""Lossless compression of a set of images: becalm.compress beside PNG, WebP, xz and bzip2, all measured in one run.

    python benchmarks/compression.py --model MODEL --images mnist.npz [--array x_test] [--steps 20 50] [--count 10000]

The codec's rows are the bytes of files, decompressed again; the run fails where one bit differs. PNG and WebP are measured
twice: a file an image, and one sheet of all images, which spares them the headers. `bound` is that of the same T.
"""

import bz2
import io
import json
import lzma
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from becalm.cli.progress import with_progress
from becalm.compression import archive, bits_back
from becalm.images import image_files
from becalm.systems.vdm import VDM
from becalm.tasks import compress, decompress, likelihood
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


def main(settings: Benchmark) -> None:
    """Measure, print a table, write the rows."""
    model = load(settings.model, VDM)
    images = image_files.read(
        settings.images, image_files.ImageFormat(*model.shape, model.levels), settings.array
    ).values[: settings.count]
    rows = [*other_rows(images.numpy(), model.levels)]
    rows += [codec_row(model, images, timesteps, settings) for timesteps in settings.steps]
    for row in rows:
        row["bits_per_dim"] = 8 * row["bytes"] / images.numel()
    facts = {"model": settings.model, "fingerprint": archive.fingerprint(model), "images": str(settings.images.name)}
    facts |= {"count": len(images), "where": bits_back.environment()}
    settings.output.parent.mkdir(exist_ok=True)
    settings.output.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        bits = f"   bound {row['bound']:.4f} ± {row['bound_error']:.4f}" if "bound" in row else ""
        print(f"{row['method']:<24} {row['bytes']:>12,} bytes {row['bits_per_dim']:>9.4f} bits a number{bits}")


def other_rows(values: np.ndarray, levels: int):
    """A row for each general-purpose compressor; values [image, height, width, colour]."""
    expected = image_files.ImageFormat(*values.shape[1:], levels)
    pictures = list(image_files.to_brightness(values, expected))
    raw = bits_back.image_bytes(torch.from_numpy(values), levels)
    yield {"method": "plain bytes", "bytes": len(raw)}
    for name, options in (("PNG", {"optimize": True}), ("WebP", {"lossless": True, "quality": 100, "method": 6})):
        yield timed_row(
            f"{name}, a file an image", lambda o=options, n=name: sum(encoded_size(i, n, o) for i in pictures)
        )
        yield timed_row(f"{name}, one sheet", lambda o=options, n=name: encoded_size(contact_sheet(pictures), n, o))
    yield timed_row("bzip2 -9", lambda: len(bz2.compress(raw, 9)))
    yield timed_row("xz -9e", lambda: len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)))


def timed_row(method: str, work: Callable[[], int]) -> dict:
    """A row with the processor's seconds."""
    started = time.process_time()
    return {"method": method, "bytes": work(), "cpu_seconds": time.process_time() - started}


def encoded_size(image: np.ndarray, form: str, options: dict) -> int:
    """Bytes of an image in a lossless form; fails where it is not."""
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, form, **options)
        back = np.asarray(Image.open(file))
        grey = back[..., 0] if back.ndim > image.ndim else back
        if not np.array_equal(grey, image):
            raise AssertionError(f"{form} changed an image")
        return len(file.getvalue())


def contact_sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """All images as one, a hundred in a row, black where there are no more."""
    rest = -len(pictures) % 100
    cells = np.stack([*pictures, *[np.zeros_like(pictures[0])] * rest])
    rows = cells.reshape(-1, 100, *cells.shape[1:]).swapaxes(1, 2)
    return rows.reshape(-1, 100 * cells.shape[2], *cells.shape[3:])


def codec_row(model: VDM, images: torch.Tensor, timesteps: int, settings: Benchmark) -> dict:
    """Compressed, decompressed and compared, with the bound of the same T."""
    values, label = images.numpy(), f"T = {timesteps}"
    clocks = [(time.process_time(), time.time())]
    data = with_progress(compress.steps(model, values, timesteps, settings.batch), label)
    clocks.append((time.process_time(), time.time()))
    decoded = with_progress(decompress.steps(model, data), f"{label}, decoding")
    clocks.append((time.process_time(), time.time()))
    if not np.array_equal(decoded.reshape(values.shape), values):
        raise AssertionError("an image came back changed")
    bits = archive.unpack(data)[1]
    measured = with_progress(likelihood.steps(model, values, timesteps, settings.draws), f"{label}, bound")
    (cpu, wall), (cpu_back, wall_back) = ([b - a for a, b in zip(*pair, strict=True)] for pair in pairwise(clocks))
    return {
        "method": f"becalm, T = {timesteps}",
        "bytes": len(data),
        "steps": timesteps,
        "first_bits": 32 * (bits.n_initial - bits.n_unused),
        "cpu_seconds": cpu,
        "cpu_seconds_back": cpu_back,
        "seconds": wall,
        "seconds_back": wall_back,
        "bound": measured.bits_per_dim,
        "bound_error": measured.standard_error,
        "over_bound": 8 * len(data) / images.numel() / measured.bits_per_dim - 1,
    }


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
