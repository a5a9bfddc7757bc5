"""Interpolate between two shapes through shapes: the noise that would give each is mixed, and denoised."""

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

MAX_SHAPES = 1000
"""Shapes of one path, at most: their latents are sampled together."""


def interpolate(
    model: str | Path | nn.Module,
    one: Any,
    other: Any,
    number: int = 8,
    label: str | None = None,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Shapes:
    """`number` shapes from `one` to `other`, both included, in the unit box.

    Each is a path, a mesh or points (see `shape_files.read_points`), of any size, y up. Raises InputError.
    """
    return final_result(steps(model, one, other, number, label, points, sampler, seed, device))


def steps(
    model: str | Path | nn.Module,
    one: Any,
    other: Any,
    number: int = 8,
    label: str | None = None,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[Progress]:
    """`interpolate`, with a report after each batch of decoded shapes."""
    from becalm.systems.lion import Latent
    from becalm.systems.lion_sparse import LionSparse
    from becalm.systems.lion_sparse_autoencoder import decode
    from becalm.systems.lion_sparse_edit import interpolate

    check_counts(number, points)
    if not 2 <= number <= MAX_SHAPES:
        raise InputError(f"number {number}: give 2 to {MAX_SHAPES} shapes")
    lion, started = load_on(model, device, LionSparse), time.time()
    labels, generator = class_labels(lion, label, number), torch.Generator().manual_seed(seed)
    ends = [torch.from_numpy(read_boxed(end, ENCODED_POINTS, seed)[0])[None] for end in (one, other)]
    with torch.inference_mode():
        first, last = (lion.autoencoder.encode(end.to(labels.device), generator)[1] for end in ends)
    path = interpolate(lion, first, last, number, labels, sampler, generator)

    def make(rows: range) -> Tensor:
        some = Latent(*(part[list(rows)] for part in path))
        return decode(lion.autoencoder, some, points, generator)

    for report in in_batches(make, number, points):
        if report.result is not None:
            facts = {"seed": seed, "seconds": round(time.time() - started, 2)}
            report = report._replace(result=Shapes(report.result, facts))
        yield report
