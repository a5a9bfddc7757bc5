"""LION against the oracle and against a diffusion of points: how good, how sharp, how fast.

    python benchmarks/lion.py MODEL [--rival POINTS] [--ldraw FILE] [--count 120] [-o results/lion.json]

Reconstruction: CD of decoded shapes over that between two samplings of the same shape, Hausdorff (95 %) likewise. Generation:
1-NNA, COV, MMD under CD and EMD, JSD and local thickness of as many shapes as the test set has classes in equal parts, beside
the row of as many training shapes (the oracle). Speed: seconds a shape of 2048 points, in batches of 16, on two cores.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from becalm.core.files import replacing
from becalm.points.metrics import chamfer, hausdorff
from becalm.recipes import lion as recipe_of
from becalm.shapes import metrics, sets
from becalm.systems import point_diffusion
from becalm.systems.lion import Lion, Way, generate
from becalm.systems.lion_autoencoder import decode
from becalm.systems.point_diffusion import PointDiffusion
from becalm.systems.store import load

POINTS = 2048
BATCH = 16


def reconstruction(model: Lion, test: sets.ShapeSet, seed: int) -> dict:
    """Decoded shapes against other points of the same shapes, over what two samplings differ by."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    points = sets.thinned(test.points[:64], 2 * POINTS, rng)
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


def drawn(model, label: torch.Tensor, steps: int, seed: int) -> tuple[np.ndarray, dict]:
    """Shapes of the classes `label`, and the seconds they took."""
    generator, made, wall, cpu = torch.Generator().manual_seed(seed), [], time.time(), time.process_time()
    for part in label.split(BATCH):
        if isinstance(model, Lion):
            latent = generate(model.prior, part, model.autoencoder.sizes.anchors, Way(steps), generator)
            made.append(decode(model.autoencoder, latent, POINTS, generator))
        else:
            made.append(point_diffusion.generate(model, part, POINTS, steps, generator))
    seconds = {"seconds a shape": (time.time() - wall) / len(label)}
    seconds["core seconds a shape"] = (time.process_time() - cpu) / len(label)
    return torch.cat(made).numpy(), seconds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rival", help="weights of lion_points")
    parser.add_argument("--ldraw", type=Path, help="ldraw_parts_4096.npz, for a model of LDraw's parts")
    parser.add_argument("--count", type=int, default=120, help="shapes to compare")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--emd-points", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "lion.json")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load(asked.model, Lion)
    test, train = (some(asked, part) for part in ("test", "train"))
    label = torch.from_numpy(test.labels) + 1
    settings = metrics.Settings(chamfer_points=POINTS, emd_points=asked.emd_points, seed=asked.seed)
    result: dict = {
        "model": asked.model,
        "steps": asked.steps,
        "reconstruction": reconstruction(model, test, asked.seed),
    }
    rows = []
    for name, path in (("lion", asked.model), ("points", asked.rival)):
        if path:
            shapes, seconds = drawn(load(path, Lion, PointDiffusion), label, asked.steps, asked.seed)
            set_ = replace(test, points=shapes.astype(np.float32), names=())
            rows.append(metrics.compare(name, sets.boxed(set_), test, settings) | seconds)
            print(json.dumps(rows[-1], default=float), flush=True)
    rows.append(metrics.oracle(test, train, settings))
    result["generation"] = rows
    print(json.dumps(result, indent=1, default=float))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(asked.output) as temporary:
        temporary.write_text(json.dumps(result, indent=1, default=float))


def some(asked: argparse.Namespace, part: str) -> sets.ShapeSet:
    """Test shapes to compare with, and training shapes for the oracle."""
    base = replace(recipe_of.FAMILIES, seen=POINTS, target=POINTS, seed=101, pool=asked.count)
    if asked.ldraw is None:
        return recipe_of.shapes_of(base, part, asked.count)  # type: ignore[arg-type]
    return recipe_of.some(sets.ldraw(asked.ldraw, part), asked.seed, asked.count)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
