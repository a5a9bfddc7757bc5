"""Vary a shape: diffuse its latents part of the way to noise, and denoise them (diffuse–denoise)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.core.typing import Tensor
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shape_files import check_counts, read_boxed
from becalm.tasks.shapes import ENCODED_POINTS, Shapes, class_labels, in_batches, load_on


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
) -> Shapes:
    """`number` variations of a shape, in its size and place.

    `amount` is the noise level t it is diffused to: 0 gives the reconstruction, which is clean where the input was noisy or
    coarse, 1 another shape. `shape` is a path, a mesh or points (see `shape_files.read_points`), y up. Raises InputError.
    """
    return final_result(steps(model, shape, amount, number, label, points, sampler, seed, device))


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

    def make(rows: range) -> Tensor:
        latent = vary(lion, seen.expand(len(rows), -1, -1), amount, labels[: len(rows)], sampler, generator)
        return decode(lion.autoencoder, latent, points, generator)

    for report in in_batches(make, number, points):
        if report.result is not None:
            facts = {"amount": amount, "seed": seed, "seconds": round(time.time() - started, 2)}
            placed = report.result * frame.scale + frame.centre
            report = report._replace(result=Shapes(placed, facts, frame=frame))
        yield report
