"""becalm evaluate: figures of a model on clouds whose truth is known."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Evaluate:
    """Denoise clouds sampled from a mesh with Gaussian noise, and tell how far from the truth the result is."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model or a file of weights."""
    mesh: Annotated[Path, tyro.conf.Positional]
    """A mesh: .npz with `vertices` [v, 3] and `faces` [f, 3]."""
    points: int = 10_000
    """Points of the clean cloud, sampled evenly."""
    noise: tuple[float, ...] = (0.01, 0.02, 0.03)
    """Standard deviations of the noise in radii of the cloud's sphere."""
    seed: int = 0
    """Decides the cloud and its noise."""
    json: bool = False
    """Print one JSON object a line."""

    def run(self) -> None:
        """One line a noise level: Chamfer distance and one-way squared distance to the surface, ×10⁴, before and after."""
        import numpy as np

        from becalm.points import mesh as meshes
        from becalm.points.metrics import chamfer, point_to_surface, unit_sphere
        from becalm.points.stage import last
        from becalm.systems.store import load

        model, mesh = load(self.model), meshes.unit_sphere(meshes.load(self.mesh))
        clean = meshes.poisson_disk(mesh, self.points, np.random.default_rng(self.seed)).points
        for level in self.noise:
            rng = np.random.default_rng([self.seed, round(level * 1e6)])
            noisy = clean + level * unit_sphere(clean)[1] * rng.normal(size=clean.shape)
            clean_again = last(model.sweeps(noisy))
            row = {"noise": level, "points": len(clean)}
            for name, cloud in (("before", noisy), ("after", clean_again)):
                row[f"chamfer_{name}"] = 1e4 * chamfer(cloud, clean)
                row[f"surface_{name}"] = 1e4 * point_to_surface(cloud, mesh.vertices, mesh.faces)
            print(json.dumps(row) if self.json else "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
