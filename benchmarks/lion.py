"""LION against the oracle and against a diffusion of points: how good, how sharp, how fast.

    python benchmarks/lion.py MODEL [--baseline PVD] [--ldraw FILE] [--count 120] [-o results/lion.json]

Reconstruction: CD of decoded shapes over that between two samplings of the same shape, Hausdorff (95 %) likewise. Generation:
1-NNA, COV, MMD under CD and EMD, JSD and local thickness of as many shapes as the test set has classes in equal parts, beside
the row of as many training shapes (the oracle). Speed: seconds a shape of 2048 points, in batches of 16, on two cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from becalm.core.files import atomic_file
from becalm.core.sampler import Sampler
from becalm.evaluation.shapes import BATCH, POINTS, evaluate, reference_sets
from becalm.points.metrics import chamfer, hausdorff
from becalm.shapes import set_metrics, sets
from becalm.systems.lion_sparse import LionSparse
from becalm.systems.lion_sparse_autoencoder import decode
from becalm.systems.pvd import PointDiffusion
from becalm.weights.store import load


def reconstruction(model: LionSparse, test: sets.ShapeSet, seed: int) -> dict:
    """Decoded shapes against other points of the same shapes, over what two samplings differ by."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    points = sets.thin_points(test.points[:64], 2 * POINTS, rng)
    one, two = points[:, :POINTS], points[:, POINTS:]
    with torch.no_grad():
        found = [
            decode(model.autoencoder, model.autoencoder.encode(part, generator)[1], POINTS, generator)
            for part in torch.from_numpy(one).split(BATCH)
        ]
    rows = {}
    for name, measure in (("CD", chamfer), ("Hausdorff", hausdorff)):
        trio = zip(torch.cat(found).double().numpy(), one.astype(float), two.astype(float), strict=True)
        ratio = np.array([measure(made, b) / measure(a, b) for made, a, b in trio])
        rows[name + " over floor"] = [float(ratio.mean()), float(np.quantile(ratio, 0.95))]
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--baseline", help="weights of pvd")
    parser.add_argument("--ldraw", type=Path, help="ldraw_parts_4096.npz, for a model of LDraw's parts")
    parser.add_argument("--count", type=int, default=120, help="shapes to compare")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--emd-points", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "lion.json")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load(asked.model, LionSparse)
    test, train = reference_sets("ldraw" if asked.ldraw else "families", asked.ldraw or Path(), asked.count)
    settings = set_metrics.Settings(chamfer_points=POINTS, emd_points=asked.emd_points, seed=asked.seed)
    result: dict = {
        "model": asked.model,
        "steps": asked.steps,
        "reconstruction": reconstruction(model, test, asked.seed),
    }
    models: dict = {"lion": model} | ({"points": load(asked.baseline, PointDiffusion)} if asked.baseline else {})
    rows = []
    for row in evaluate(models, test, train, Sampler(asked.steps), settings, asked.seed):
        rows.append(row)
        print(json.dumps(row, default=float), flush=True)
    result["generation"] = rows
    print(json.dumps(result, indent=1, default=float))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(asked.output) as temporary:
        temporary.write_text(json.dumps(result, indent=1, default=float))


if __name__ == "__main__":
    main()
