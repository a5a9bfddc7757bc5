"""becalm evaluate: figures of a model where the truth is known."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Evaluate:
    """Measure a model: denoise clouds sampled from a mesh, solve Sudokus or make images that must count, or draw shapes."""

    model: Annotated[str, tyro.conf.Positional]
    """A packaged model or a file of weights."""
    benchmark: Annotated[str, tyro.conf.Positional]
    """`sudoku`, `even-pixels`, `polygons`, `families`, `ldraw`, or a mesh: .npz with `vertices` [v, 3] and `faces` [f, 3]."""
    points: int = 10_000
    """Mesh: points of the clean cloud, sampled evenly."""
    noise: tuple[float, ...] = (0.01, 0.02, 0.03)
    """Mesh: standard deviations of the noise in radii of the cloud's sphere."""
    digits: Path = Path("mnist.npz")
    """Sudoku: MNIST, an .npz file or the folder of its four IDX files; or `digits8`, scikit-learn's."""
    puzzles: int = 200
    """Sudoku: puzzles of each difficulty."""
    shared: bool = False
    """Sudoku: draw the digits that were learned from, as the reference does; else those of the test part."""
    steps_per_variable: int = 12
    """Sudoku: steps for each cell."""
    group: int = 1
    """Sudoku: cells that are started together."""
    overlap: float = 0.0
    """Sudoku: share of its steps that a cell runs along with the next, from 0 to below 1."""
    eta: float = 1.0
    """Sudoku: noise put back in each step."""
    variance: Literal["small", "large", "learned"] = "small"
    """Sudoku: variance of that noise: the lower bound, the upper bound, or where between the network learned it to be."""
    rounds: int = 10
    """Sudoku: rounds of the walk `refine`."""
    walks: tuple[Literal["certainty", "graph", "order", "random", "together", "refine"], ...] = ()
    """Sudoku and images: most certain first, most known neighbours first (sudoku), row by row, random order, all at once, most
    certain first and then `refine` (sudoku); the usual ones where none is named."""
    images: int = 200
    """Even pixels, polygons: images made by each walk."""
    picture: Path | None = None
    """Even pixels, polygons: a PNG to write with up to 64 of the images made by certainty."""
    shapes: int = 60
    """Families, ldraw: shapes that are drawn, and compared with as many that no model has seen."""
    data: Path = Path("ldraw_parts_4096.npz")
    """Ldraw: the file of LDraw's parts."""
    emd_points: int = 256
    """Families, ldraw: points of a shape for the earth mover's distance."""
    device: str = "cpu"
    """Sudoku and images: where to compute: cpu, cuda or mps."""
    seed: int = 0
    """Decides clouds, puzzles and noise."""
    json: bool = False
    """Print one JSON object a line."""

    def run(self) -> None:
        """One line of figures a noise level, or a set of puzzles and a walk."""
        self.check()
        benchmarks = {"sudoku": self.sudoku, "even-pixels": self.counted, "polygons": self.counted}
        benchmarks |= {"families": self.drawn, "ldraw": self.drawn}
        for row in benchmarks.get(self.benchmark, self.clouds)():
            print(json.dumps(row) if self.json else "  ".join(f"{k} {told(v)}" for k, v in row.items()), flush=True)

    def check(self) -> None:
        """Raise InputError, before any work, for what cannot be measured or written."""
        from becalm.core.files import InputError, check_outputs
        from becalm.weights.store import located

        for name in ("points", "puzzles", "images", "steps_per_variable", "emd_points", "group"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.shapes < 2:
            raise InputError(f"--shapes {self.shapes}: give 2 or more, which can be compared")
        if self.rounds < 0 or not 0 <= self.eta <= 1:
            raise InputError("--rounds must be at least 0, --eta from 0 to 1")
        if not 0 <= self.overlap < 1:
            raise InputError(f"--overlap {self.overlap}: must be from 0 to below 1")
        check_outputs([self.picture], [located(self.model), Path(self.benchmark), self.digits])

    def clouds(self):
        """Chamfer distance and one-way squared distance to the surface, ×10⁴, before and after."""
        import numpy as np

        from becalm.points import mesh as meshes
        from becalm.points.metrics import chamfer, point_to_surface, unit_sphere
        from becalm.points.progress import final_points
        from becalm.systems.jets import Jets
        from becalm.systems.sbd import SBD
        from becalm.systems.spd import SPD
        from becalm.weights.store import load

        model, mesh = load(self.model, Jets, SBD, SPD), meshes.unit_sphere(meshes.load(Path(self.benchmark)))
        clean = meshes.poisson_disk(mesh, self.points, np.random.default_rng(self.seed)).points
        for level in self.noise:
            rng = np.random.default_rng([self.seed, round(level * 1e6)])
            noisy = clean + level * unit_sphere(clean)[1] * rng.normal(size=clean.shape)
            clean_again = final_points(model.iter_denoise(noisy))
            row = {"noise": level, "points": len(clean)}
            for name, cloud in (("before", noisy), ("after", clean_again)):
                row[f"chamfer_{name}"] = 1e4 * chamfer(cloud, clean)
                row[f"surface_{name}"] = 1e4 * point_to_surface(cloud, mesh.vertices, mesh.faces)
            yield row

    def sudoku(self):
        """The share of valid grids by walk, with its interval and the classifier's own score on real grids."""
        from math import isqrt

        import torch

        from becalm.core.device import device_of
        from becalm.core.files import InputError
        from becalm.evaluation.sudoku import LEVELS, WALKS, evaluate_walks
        from becalm.images import digit_classifier, sudoku
        from becalm.images.digits import read_digits
        from becalm.systems.puzzles import sudoku_side
        from becalm.systems.solver import Pace
        from becalm.systems.srm import SRM
        from becalm.weights.store import load

        model = load(self.model, SRM).to(device_of(self.device))
        side, pixels = sudoku_side(model, self.model), isqrt(model.channels)
        training, test = (d.only(range(1, side + 1)) for d in read_digits(self.digits))
        if pixels > training.images.shape[1]:
            raise InputError(
                f"{self.model}: sees cells of {pixels} pixels; {self.digits} has {training.images.shape[1]}"
            )
        classifier = digit_classifier.fit(training, pixels, torch.Generator().manual_seed(0))
        pool, per_class = (training, 1000) if self.shared else (test, 400)
        digits = digit_classifier.clearest_digits(classifier, pool, per_class)
        puzzles = {
            name: sudoku.sample_puzzles(side, self.puzzles, given, digits, "test", self.seed)
            for name, given in LEVELS[side].items()
        }
        pace = Pace(self.steps_per_variable, self.group, self.overlap, None, self.eta, self.variance)
        walks = self.walks or WALKS
        for row in evaluate_walks(model, puzzles, classifier.read, walks, pace, self.rounds, seed=self.seed):
            yield row._asdict()

    def counted(self):
        """The share of images that keep the rule of the benchmark by walk, with its interval and that of real images."""
        from becalm.core.device import device_of
        from becalm.core.files import InputError
        from becalm.evaluation.images import WALKS, evaluate_walks
        from becalm.images.even_pixels import even_scores
        from becalm.recipes.image_tasks import TASKS, check_model, write_image_grid
        from becalm.systems.srm import SRM
        from becalm.weights.store import load

        task = TASKS[self.benchmark]
        model = check_model(load(self.model, SRM), task, self.model).to(device_of(self.device))
        if unknown := set(self.walks) - set(WALKS):
            raise InputError(
                f"--walks {' '.join(sorted(unknown))}: not for {task.name}; choose from {', '.join(WALKS)}"
            )
        walks = self.walks or WALKS
        for row, images in evaluate_walks(model, task, self.images, walks, seed=self.seed):  # type: ignore[arg-type]
            if self.picture and row.walk == "certainty":
                write_image_grid(images[:64], self.picture)
            deviations = even_scores(images)[2:] if self.benchmark == "even-pixels" else ()
            yield row._asdict() | dict(zip(("saturation", "value"), deviations, strict=False))

    def drawn(self):
        """1-NNA, COV, MMD, JSD and thickness of new shapes against held-out ones, and those of training shapes, the oracle."""
        from becalm.core.files import InputError
        from becalm.core.sampler import Sampler
        from becalm.evaluation.shapes import evaluate, reference_sets
        from becalm.shapes.set_metrics import Settings
        from becalm.tasks.generate import Generator
        from becalm.tasks.shapes import load_on

        model = load_on(self.model, "cpu", Generator)
        test, train = reference_sets(self.benchmark, self.data, self.shapes)
        if list(test.classes) != list(model.classes):
            raise InputError(f"{self.model}: knows {', '.join(model.classes)}; {self.benchmark} has other classes")
        settings = Settings(emd_points=self.emd_points, seed=self.seed)
        yield from evaluate({self.model: model}, test, train, Sampler(25), settings, self.seed)


def told(value) -> str:
    """A figure for people; of one with its interval, both."""
    if isinstance(value, tuple):
        return "{:.4g} [{:.4g}, {:.4g}]".format(*value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
