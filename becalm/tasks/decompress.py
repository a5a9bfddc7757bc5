"""The images of compressed bytes, bit for bit: `images = becalm.decompress("mnist", data)`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from becalm.compression import archive, bits_back
from becalm.compression.ans import DecodingError
from becalm.core.device import device_of
from becalm.core.files import InputError
from becalm.systems.vdm import VDM, variables_to_images
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shapes import load_on, model_name


def decompress(model: str | Path | nn.Module, data: bytes | str | Path, device: str = "cpu") -> np.ndarray:
    """The images that `becalm.compress` was given, from its bytes or from a file of `becalm compress`.

    [image, height, width] for grey images, else [image, height, width, colour]; uint8, or uint16 for more than 256 levels. The
    model is the one they were compressed with. Raises InputError.
    """
    return final_result(steps(model, data, device))


def steps(model: str | Path | nn.Module, data: bytes | str | Path, device: str = "cpu") -> Iterator[Progress]:
    """`decompress`, with a report after each batch."""
    what, data = ("data", data) if isinstance(data, bytes) else (data, archive.read(data))
    header, bits = archive.unpack(data, what)
    vdm, name = load_on(model, device, VDM).eval(), model_name(model)
    archive.check_model(what, header, vdm, name)
    height, width, colours = vdm.shape
    codec = bits_back.make_codec(vdm.denoiser, vdm.levels, bits.steps, vdm.start, device)
    parts, done = [], 0
    batches = bits_back.decode(codec, bits, (height * width, colours))
    try:
        for _ in range(len(bits.batches) + (bits.plain > 0)):
            with bits_back.torch_threads(header.threads):
                parts.append(next(batches))
            done += len(parts[-1])
            yield Progress(done / (bits.count + 1))
        next(batches, None)  # the decoder's last check
    except (DecodingError, FloatingPointError) as error:
        reason = archive.explain_mismatch(header, device_of(device))
        raise InputError(f"{what}: {error}; {reason}") from error
    images = variables_to_images(vdm, torch.cat(parts[::-1]))
    archive.check_images(what, header, images)
    values = images.numpy().astype(np.uint8 if vdm.levels <= 256 else np.uint16)
    yield Progress(1.0, None, values[..., 0] if colours == 1 else values)
