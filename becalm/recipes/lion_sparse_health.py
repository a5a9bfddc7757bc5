"""Checks of LION during training: how well shapes are reconstructed, and how distinguishable new ones are from real ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from becalm.core.sampler import Sampler
from becalm.points.metrics import chamfer
from becalm.shapes import set_metrics, sets
from becalm.shapes.augment import sample_points
from becalm.systems import lion_sparse, lion_sparse_autoencoder
from becalm.systems.lion_sparse import LionSparse
from becalm.systems.lion_sparse_autoencoder import Autoencoder
from becalm.training import log


def health(model: Autoencoder, test: sets.ShapeSet, seen: int) -> dict:
    """Chamfer distance of reconstructions from `seen` points over that of two samplings of the same shape: 1 is perfect."""
    generator, half = torch.Generator().manual_seed(0), test.points.shape[1] // 2
    points = sample_points(test.points[:12], 2 * half, generator)
    one, two = points.split(half, 1)
    device = next(model.parameters()).device
    with torch.no_grad():
        _, latent = model.encode(one[:, :seen].to(device), generator)
    decoded = lion_sparse_autoencoder.decode(model, latent, half, generator).cpu()
    pairs = zip(decoded.double().numpy(), one.double().numpy(), two.double().numpy(), strict=True)
    ratio = [chamfer(made, b) / chamfer(a, b) for made, a, b in pairs]
    return {"chamfer_over_floor": round(float(np.mean(ratio)), 3), "worst": round(float(np.max(ratio)), 3)}


def likeness(model: LionSparse, shapes: sets.ShapeSet, test: sets.ShapeSet, points: int = 256) -> dict:
    """1-NNA by Chamfer distance of new shapes against `test`, of the same classes, and of training shapes: the oracle.

    50 % is perfect, at 100 % the two sets can be separated; both are rough for so few shapes and points.
    """
    generator, count = torch.Generator().manual_seed(0), min(len(shapes), len(test))
    label = torch.from_numpy(test.labels[:count]) + 1
    device, anchors = next(model.parameters()).device, model.autoencoder.sizes.anchors
    latent = lion_sparse.generate(model.prior, label.to(device), anchors, Sampler(10), generator)
    made = lion_sparse_autoencoder.decode(model.autoencoder, latent, points, generator).cpu().numpy()
    train = sets.subsample(shapes, count, 0)
    sides = [made, *(sample_points(part.points[:count], points, generator).numpy() for part in (test, train))]
    new, real, oracle = (
        sets.normalize_boxes(replace(test, points=p, labels=test.labels[:count], names=())).points for p in sides
    )
    share = lambda part: set_metrics.one_nna(set_metrics.pairwise_distances(set_metrics.chamfer_matrix, part, real))  # noqa: E731
    return {"one_nna": round(100 * share(new), 1), "oracle": round(100 * share(oracle), 1)}


def with_checks(
    number: int, steps: Iterator[dict], every: int, check: Callable[[], dict], folder: Path
) -> Iterator[dict]:
    """The records of stage `number` and, every so many steps, those of `check`, which are appended to the log in `folder` too."""
    for record in steps:
        yield {"stage": number, **record}
        if record["step"] % every == 0:
            checked = {"step": record["step"], **check()}
            log.append_record(folder / "log.jsonl", checked)
            yield checked
