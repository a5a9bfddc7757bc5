"""Vary a shape: diffuse its latents part of the way to noise, and denoise them (diffuse–denoise)."""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.core.typing import Float, Tensor
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shape_files import check_counts, describe, read_boxed
from becalm.tasks.shapes import ENCODED_POINTS, Shapes, class_labels, in_batches, load_on

Warn = Callable[[str], object]
"""What is called with each line of warning."""

OWN_SHAPES, FAR = 8, (1.6, 1.25)
"""So many shapes that the model makes say how well it reconstructs what it knows; a shape is far from that where one of its own
`reconstruction_errors` is FAR times the largest of these. Measured: held-out shapes of both packaged models have up to 1.19 times
the second of the model's own; with `lion_families` a yard has 1.3 times, a table with things on it and a valley 1.6 times."""


def vary(
    model: str | Path | nn.Module,
    shape: Any,
    amount: int | float = 0.5,
    number: int = 8,
    label: str | None = None,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
    warn: Warn = warnings.warn,
) -> Shapes:
    """`number` variations of a shape, in its size and place.

    `amount` is the noise level t it is diffused to: 0 gives the reconstruction, which is clean where the input was noisy or
    coarse, 1 another shape. `shape` is a path, a mesh or points (see `shape_files.read_points`), y up. `warn` is called
    with one line where the shape lies far from what the model knows. Raises InputError.
    """
    return final_result(steps(model, shape, amount, number, label, points, sampler, seed, device, warn))


def steps(
    model: str | Path | nn.Module,
    shape: Any,
    amount: int | float = 0.5,
    number: int = 8,
    label: str | None = None,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
    warn: Warn = warnings.warn,
) -> Iterator[Progress]:
    """`vary`, with a report after each batch of shapes."""
    from becalm.systems.lion_sparse import LionSparse
    from becalm.systems.lion_sparse_autoencoder import decode
    from becalm.systems.lion_sparse_edit import vary

    check_counts(number, points)
    if not 0 <= amount <= 1:
        raise InputError(f"amount {amount}: must be from 0 to 1")
    lion, started = load_on(model, device, LionSparse), time.time()
    labels, generator = class_labels(lion, label, number), torch.Generator().manual_seed(seed)
    boxed, frame = read_boxed(shape, ENCODED_POINTS, seed)
    seen = torch.from_numpy(boxed)[None].to(labels.device)

    known = reconstruction_errors(lion, own_shapes(lion, labels[:1], sampler, seed), seed).amax(0).tolist()
    error, fineness = reconstruction_errors(lion, seen, seed)[0].tolist()
    if error > FAR[0] * known[0] or fineness > FAR[1] * known[1]:
        warn(
            f"{describe(shape)}: lies far from what the model knows, expect little of the result: its reconstruction is off by "
            f"{error / 2:.1%} of its size and {fineness:.1f} times the spacing of its points, those of the model's own shapes by "
            f"{known[0] / 2:.1%} and {known[1]:.1f} at most"
        )

    def make(rows: range) -> Tensor:
        latent = vary(lion, seen.expand(len(rows), -1, -1), amount, labels[: len(rows)], sampler, generator)
        return decode(lion.autoencoder, latent, points, generator)

    for report in in_batches(make, number, points):
        if report.result is not None:
            facts = {
                "amount": amount,
                "seed": seed,
                "reconstruction_error": round(error / 2, 4),
                "seconds": round(time.time() - started, 2),
            }
            placed = report.result * frame.scale + frame.centre
            report = report._replace(result=Shapes(placed, facts, frame=frame))
        yield report


def own_shapes(model: Any, label: Tensor, sampler: Sampler | None, seed: int) -> Float[Tensor, "shape point 3"]:
    """Shapes of a class that the model makes itself, with their boxes in [−1, 1]³: stand-ins for what it was trained on."""
    from becalm.systems.lion_sparse import generate

    generator = torch.Generator().manual_seed(seed)
    latent = generate(model.prior, label.expand(OWN_SHAPES), model.autoencoder.sizes.anchors, sampler, generator)
    made = sample_decoded(model.autoencoder, latent, ENCODED_POINTS, generator)
    low, high = made.amin(1, keepdim=True), made.amax(1, keepdim=True)
    return (made - (low + high) / 2) / ((high - low).amax(2, keepdim=True) / 2).clamp_min(1e-6)


def reconstruction_errors(model: Any, points: Float[Tensor, "shape point 3"], seed: int) -> Float[Tensor, "shape 2"]:
    """Distance from the points of shapes to the nearest sample of the density that the autoencoder makes of them.

    Its mean, in their boxes' units, and its median over the median spacing of the shape's own points, which is about 1 where
    the reconstruction is as fine as the sample.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        latent = model.autoencoder.encode(points, generator)[1]
        again = sample_decoded(model.autoencoder, latent, points.shape[1], generator)
        away = torch.cdist(points.float(), again.float()).amin(2)
        between = torch.cdist(points.float(), points.float())
        spacing = between.masked_fill(between < 1e-6, torch.inf).amin(2).median(1).values
    return torch.stack([away.mean(1), away.median(1).values / spacing], 1)


def sample_decoded(
    autoencoder: Any, latent: Any, points: int, generator: torch.Generator
) -> Float[Tensor, "shape point 3"]:
    """Points of the density that latents are decoded into, as they are sampled, before they move onto the surface."""
    from becalm.systems.lion_sparse_autoencoder import decode_density, sample_density

    density = decode_density(autoencoder, latent)
    return sample_density(density, latent, autoencoder.patch_radius, points, generator)
