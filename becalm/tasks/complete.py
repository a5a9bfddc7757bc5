"""Complete a part of a shape: its latent points are given, at noise level 0; the others and the global latent are sampled."""

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
from becalm.tasks.shape_files import check_counts, read_part
from becalm.tasks.shapes import ENCODED_POINTS, Shapes, class_labels, in_batches, load_on

DEFAULT_SAMPLER = Sampler(steps=50)
"""More steps than generation takes: the given part leaves less freedom."""


def complete(
    model: str | Path | nn.Module,
    part: Any,
    number: int = 8,
    label: str | None = None,
    share: int | float = 0.5,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Shapes:
    """`number` shapes that contain a given part, which is `share` of the surface of the whole.

    `part` is a path, a mesh or points (see `shape_files.read_points`), where it belongs in the shape's box from −1 to 1, y up.
    The result's `given` says which points lie on it. Raises InputError.
    """
    return final_result(steps(model, part, number, label, share, points, sampler, seed, device))


def steps(
    model: str | Path | nn.Module,
    part: Any,
    number: int = 8,
    label: str | None = None,
    share: int | float = 0.5,
    points: int = 2048,
    sampler: Sampler | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[Progress]:
    """`complete`, with a report after each batch of shapes."""
    from becalm.systems.lion_sparse import LionSparse
    from becalm.systems.lion_sparse_autoencoder import decode
    from becalm.systems.lion_sparse_edit import complete

    check_counts(number, points)
    if not 0 < share < 1:
        raise InputError(f"share {share}: must be between 0 and 1")
    lion, started = load_on(model, device, LionSparse), time.time()
    labels, generator = class_labels(lion, label, number), torch.Generator().manual_seed(seed)
    anchors = lion.autoencoder.sizes.anchors
    count = min(max(round(share * anchors), 1), anchors - 1)
    seen = torch.from_numpy(read_part(part, ENCODED_POINTS, seed))[None]
    with torch.inference_mode():
        _, latent = lion.autoencoder.encode(seen.to(labels.device), generator, count)

    def make(rows: range) -> Tensor:
        given = latent.h.expand(len(rows), -1, -1)
        whole = complete(lion.prior, given, anchors - count, labels[: len(rows)], sampler or DEFAULT_SAMPLER, generator)
        return decode(lion.autoencoder, whole, points, generator)

    for report in in_batches(make, number, points):
        if report.result is not None:
            near = torch.cdist(torch.from_numpy(report.result).float(), seen.expand(number, -1, -1)).amin(2)
            facts = {"given": count, "of": anchors, "seed": seed, "seconds": round(time.time() - started, 2)}
            on_part = (near < 2 * lion.autoencoder.patch_radius / 3).numpy()
            report = report._replace(result=Shapes(report.result, facts, on_part))
        yield report
