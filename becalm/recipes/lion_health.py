"""The health of LION while it learns: how well shapes are decoded, and whether new ones are told from real ones."""

from dataclasses import replace

import numpy as np
import torch

from becalm.points.metrics import chamfer
from becalm.shapes import set_metrics, sets
from becalm.shapes.augment import chosen
from becalm.systems import lion_sparse, lion_sparse_autoencoder
from becalm.systems.lion_sparse import Lion
from becalm.systems.lion_sparse_autoencoder import Autoencoder


def health(model: Autoencoder, test: sets.ShapeSet, seen: int) -> dict:
    """Chamfer distance of shapes, decoded from `seen` points, over that of two samplings of the same shape: 1 is perfect."""
    generator, half = torch.Generator().manual_seed(0), test.points.shape[1] // 2
    points = chosen(test.points[:12], 2 * half, generator)
    one, two = points.split(half, 1)
    device = next(model.parameters()).device
    with torch.no_grad():
        _, latent = model.encode(one[:, :seen].to(device), generator)
    found = lion_sparse_autoencoder.decode(model, latent, half, generator).cpu()
    pairs = zip(found.double().numpy(), one.double().numpy(), two.double().numpy(), strict=True)
    ratio = [chamfer(made, b) / chamfer(a, b) for made, a, b in pairs]
    return {"chamfer_over_floor": round(float(np.mean(ratio)), 3), "worst": round(float(np.max(ratio)), 3)}


def likeness(model: Lion, shapes: sets.ShapeSet, test: sets.ShapeSet, points: int = 256) -> dict:
    """1-NNA by Chamfer distance of new shapes against `test`, of the same classes, and of shapes to learn from: the oracle.

    50 % is perfect, 100 % is told apart with ease; both are rough for so few shapes and points.
    """
    generator, count = torch.Generator().manual_seed(0), min(len(shapes), len(test))
    label = torch.from_numpy(test.labels[:count]) + 1
    device, anchors = next(model.parameters()).device, model.autoencoder.sizes.anchors
    latent = lion_sparse.generate(model.prior, label.to(device), anchors, lion_sparse.Way(10), generator)
    made = lion_sparse_autoencoder.decode(model.autoencoder, latent, points, generator).cpu().numpy()
    known = sets.some(shapes, count, 0)
    sides = [made, *(chosen(part.points[:count], points, generator).numpy() for part in (test, known))]
    new, real, oracle = (
        sets.boxed(replace(test, points=p, labels=test.labels[:count], names=())).points for p in sides
    )
    share = lambda part: set_metrics.one_nna(set_metrics.distances(set_metrics.chamfers, part, real))  # noqa: E731
    return {"one_nna": round(100 * share(new), 1), "oracle": round(100 * share(oracle), 1)}
