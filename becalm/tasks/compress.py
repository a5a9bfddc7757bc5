"""Compress images without loss by a model of them: `data = becalm.compress("mnist", images)`.

Bits-back coding (see `compression.bits_back`): as many bits as the model's bound of the same T. `becalm.decompress` with the same
model gives the images back.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from becalm.compression import archive, bits_back
from becalm.compression.ans import DecodingError
from becalm.core.device import device_of
from becalm.core.files import InputError
from becalm.systems.vdm import VDM
from becalm.tasks.image_models import check_at_least_one, read_images
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shapes import load_on, model_name


def compress(
    model: str | Path | nn.Module,
    images: Any,
    steps: int = 50,
    batch: int = 64,
    check: bool = False,
    array: str | None = None,
    device: str = "cpu",
) -> bytes:
    """Images as bytes, such as `becalm compress` writes to a file; `becalm.decompress` gives them back bit for bit.

    `images` is an array [image, height, width] or [image, height, width, colour] of whole numbers 0 … K − 1, or a path (see
    `becalm.likelihood`). Twice as many `steps` take twice as long and come nearer to the bound of infinitely many. At most
    `batch` images go through the network at once; `check` decompresses at once and compares. Raises InputError.
    """
    return final_result(iter_compress(model, images, steps, batch, check, array, device))


def iter_compress(
    model: str | Path | nn.Module,
    images: Any,
    steps: int = 50,
    batch: int = 64,
    check: bool = False,
    array: str | None = None,
    device: str = "cpu",
) -> Iterator[Progress]:
    """`compress`, with a report after each batch."""
    check_at_least_one(steps=steps, batch=batch)
    vdm, name = load_on(model, device, VDM).eval(), model_name(model)
    read, v = read_images(vdm, images, array)
    what = str(images) if isinstance(images, str | Path) else "images"
    codec = bits_back.make_codec(vdm.denoiser, vdm.levels, steps, vdm.start, device)
    work = len(v) * (2 if check else 1)
    try:
        for bits in bits_back.encode(codec, v, batch):
            yield Progress(bits.count / (work + 1))
    except FloatingPointError as error:
        raise InputError(f"{name}: cannot encode {what}: {error}; take another") from error
    if check:
        decoded, done = [], len(v)
        fault = f"{what}: do not come out as they went in on this machine; nothing was written"
        try:
            for part in bits_back.decode(codec, bits, (v.shape[1], v.shape[2])):
                decoded.append(part)
                done += len(part)
                yield Progress(done / (work + 1))
        except (DecodingError, FloatingPointError) as error:
            raise InputError(fault) from error
        if not torch.equal(torch.cat(decoded[::-1]), v):
            raise InputError(fault)
    yield Progress(1.0, None, archive.pack(vdm, read.values, bits, device_of(device)))


steps = iter_compress
"""The name that the generator of every task has."""
