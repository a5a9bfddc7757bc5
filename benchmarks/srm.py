"""SRM's noise levels side by side: 4 × 4 Sudokus at an equal training budget, levels sampled and weighted in every way.

    python benchmarks/srm.py --digits mnist.npz --steps 2000 [--puzzles 200]
    python benchmarks/srm.py picture
    python benchmarks/srm.py hidden --model polygons      # what it predicts for hidden parts of real images

Rows: shared t (plain diffusion), independent t (Diffusion Forcing) and a uniform mean t (SRM) of three sharpnesses, with and
without the weight 1/p(t), with and without the states that sequential solving visits. All other fields are those of the
recipe `sudoku4`, the seed too. Rows already in the results are kept, and an interrupted training continues.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import torch
import tyro

from becalm.evaluation.sudoku import evaluate_walks, sample_levels
from becalm.images.counting_polygons.categorical import ON
from becalm.images.counting_polygons.layout import decode_layout
from becalm.images.counting_polygons.scenes import MAX_FIGURES
from becalm.images.digits import read_mnist
from becalm.images.sudoku import Puzzles
from becalm.nets.digit_classifier import DigitClassifier
from becalm.nets.precision import fast_matmul
from becalm.recipes.image_tasks import POLYGONS
from becalm.recipes.sudoku import SUDOKU4, Recipe, run
from becalm.systems.srm import SRM
from becalm.weights.store import load

HERE = Path(__file__).parent
WALKS = ("certainty", "random", "together")
BINS = 100


@dataclass(frozen=True)
class Draws:
    """How noise levels are sampled and weighted."""

    times: Literal["shared", "independent", "uniform_mean"]
    """As in the recipe."""
    sharpness: float = 1.0
    """Of `uniform_mean`."""
    weighting: Literal["density", "none"] = "none"
    """As in the recipe; for the others p(t) is 1."""
    sequential_share: float = 0.0
    """Share of the batch in states of sequential solving."""

    def name(self) -> str:
        """A folder's name."""
        sharp = f"{self.sharpness:g}-{self.weighting}-" if self.times == "uniform_mean" else ""
        return f"{self.times}-{sharp}{self.sequential_share:g}"


DRAWS = [Draws(kind, sequential_share=share) for kind, share in product(("shared", "independent"), (0.0, 0.5))] + [
    Draws("uniform_mean", sharpness, weighting, share)
    for sharpness, weighting, share in product((0.5, 1.0, 3.0), ("none", "density"), (0.0, 0.5))
]


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    show: tyro.conf.Positional[Literal["table", "picture", "hidden"]] = "table"
    """The table, which is trained for; only the picture of p(t) and of the mean t; or what polygons predict for hidden parts."""
    model: str = "polygons"
    """Of `hidden`: weights, by name or file."""
    digits: Path = Path("mnist.npz")
    """MNIST, an .npz file or the folder of its four IDX files."""
    steps: int = 2000
    """Training steps of each row."""
    puzzles: int = 200
    """Puzzles of each difficulty."""
    seed: int = 0
    """Decides weights, batches, puzzles and noise; rows of several seeds may stand side by side."""
    runs: Path = Path("runs/srm-levels")
    """Folder of the trainings."""
    results: Path = HERE / "results" / "srm.json"
    """File of the rows."""
    picture: Path = HERE.parent / "docs" / "images" / "srm_times.png"
    """Where the picture goes."""


def recipe_of(benchmark: Benchmark, draws: Draws) -> Recipe:
    """`sudoku4` with these levels, at this budget."""
    plan = replace(SUDOKU4.plan, steps=benchmark.steps)
    folder = benchmark.runs / f"{draws.name()}-{benchmark.steps}-{benchmark.seed}"
    return replace(SUDOKU4, digits=benchmark.digits, run=folder, seed=benchmark.seed, plan=plan, **asdict(draws))


def train_or_load(recipe: Recipe) -> SRM:
    """The model of a recipe; read from its file where it is there."""
    file = recipe.run / "sudoku4.safetensors"
    if not file.is_file():
        for record in run(recipe):
            print(
                f"{recipe.run.name}: {record['step']}/{recipe.plan.steps}, velocity {record['velocity']:.4f}",
                flush=True,
            )
    return load(file, SRM)


def seconds_per_step(recipe: Recipe) -> float:
    """The median over the log of a run."""
    lines = (recipe.run / "log.jsonl").read_text().splitlines()
    return float(torch.tensor([json.loads(line)["seconds_per_step"] for line in lines]).median())


def held_out_puzzles(benchmark: Benchmark) -> tuple[dict[str, Puzzles], DigitClassifier]:
    """Puzzles of held-out grids and any test digits, the same for every row, and the digit classifier that reads them."""
    digits = read_mnist(benchmark.digits)[1].only(range(1, SUDOKU4.side + 1)).shrink_to(SUDOKU4.pixels)
    groups = sample_levels(SUDOKU4.side, (), benchmark.puzzles, digits, benchmark.seed)
    return groups, load("reader14", DigitClassifier)


def measure_rows(benchmark: Benchmark, kept: list[dict]) -> Iterator[list[dict]]:
    """The rows of each of DRAWS that is not among those kept, one for each walk and difficulty."""
    groups, reader = held_out_puzzles(benchmark)
    for draws in DRAWS:
        key = asdict(draws) | {"steps": benchmark.steps, "seed": benchmark.seed}
        if any(row.items() >= key.items() for row in kept):
            continue
        recipe = recipe_of(benchmark, draws)
        model = train_or_load(recipe)
        key["seconds_per_step"] = seconds_per_step(recipe)
        yield [key | row._asdict() for row in evaluate_walks(model, groups, reader, WALKS, seed=benchmark.seed)]


def table(rows: list[dict]) -> str:
    """Markdown: a line a way to draw and budget, a column a walk and difficulty, per cent valid and the interval."""
    columns = list(dict.fromkeys((row["puzzles"], row["walk"]) for row in rows))
    lines = [
        "| t | sharpness | 1/p(t) | sequential | steps | seed | " + " | ".join(f"{k}, {w}" for k, w in columns) + " |"
    ]
    lines.append("|---" * (6 + len(columns)) + "|")
    fields = ("times", "sharpness", "weighting", "sequential_share", "steps", "seed")
    for key in dict.fromkeys(tuple(row[name] for name in fields) for row in rows):
        found = {(r["puzzles"], r["walk"]): r for r in rows if tuple(r[name] for name in fields) == key}
        kind, sharp, weighting, sequential_share, steps, seed = key
        mean = kind == "uniform_mean"
        said = [
            kind.replace("_", " "),
            f"{sharp:g}" if mean else "–",
            ("yes" if weighting == "density" else "no") if mean else "–",
        ]
        cells = [interval(found[c]) if c in found else "–" for c in columns]
        lines.append("| " + " | ".join([*said, f"{sequential_share:g}", f"{steps:,}", str(seed), *cells]) + " |")
    return "\n".join(lines)


def interval(row: dict) -> str:
    """A share in per cent with its 95 % interval."""
    return f"{100 * row['valid']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def densities(draws: Draws, cells: int = 16, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Histograms, of mean 1 in BINS bins, of t and of its mean over the cells, as the recipe draws them."""
    recipe = replace(SUDOKU4, times=draws.times, sharpness=draws.sharpness)
    t = sample_levels(recipe, count, cells, torch.Generator().manual_seed(0))[..., 0]
    histogram = partial(torch.histc, bins=BINS, min=0.0, max=1.0)
    return tuple(h / h.mean() for h in (histogram(t.flatten()), histogram(t.mean(1))))  # type: ignore[return-value]


def draw_picture(path: Path) -> None:
    """Write the picture: left p(t), right that of the mean, a line a way to draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    middles = (torch.arange(BINS) + 0.5) / BINS
    for draws in [d for d in DRAWS if d.sequential_share == 0 and d.weighting == "none"]:
        label = draws.times.replace("_", " ") + (
            f", sharpness {draws.sharpness:g}" if draws.times == "uniform_mean" else ""
        )
        for axis, height in zip(axes, densities(draws), strict=True):
            axis.plot(middles, height, label=label, linewidth=1.2)
    for axis, title in zip(axes, ("t of a cell", "mean of t over the 16 cells"), strict=True):
        axis.set(title=f"density of the {title}", xlabel="t", ylim=(0.05, 12), yscale="log")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def predict_hidden(model: SRM, number: int, seed: int) -> Iterator[str]:
    """How often the content of one patch of held-out layouts is predicted right given the others, and how often whether there
    is any."""
    generator = torch.Generator().manual_seed(seed)
    x = POLYGONS.sample_patches(number, generator)
    flags = x[..., : POLYGONS.n_categories]
    present, kind = flags.amax(-1) > 2, flags.argmax(-1)
    chance = torch.rand(present.shape, generator=generator)
    for name, those in {"a number": kind < MAX_FIGURES, "a figure": kind >= MAX_FIGURES, "nothing": ~present}.items():
        those = those & present if name != "nothing" else those
        patch = (chance * those).argmax(1)[:, None]
        unknown = torch.zeros(present.shape).scatter(1, patch, 1.0)[..., None]
        z = torch.where(unknown > 0, torch.randn(x.shape, generator=generator), x)
        with torch.inference_mode(), fast_matmul("cpu"):
            answer = model(z, unknown.double()).value[..., : POLYGONS.n_categories].float()
        held, said = answer.sum(-1).gather(1, patch) > 2, answer.argmax(-1).gather(1, patch)
        seen = (held == (name != "nothing")).double().mean()
        right = f", which in {100 * (said == kind.gather(1, patch)).double().mean():.0f} %" if name != "nothing" else ""
        yield f"hidden: {name:8}  detected in {100 * seen:.0f} %{right}"


def predict_half(model: SRM, number: int, seed: int) -> str:
    """Predictions for held-out layouts of which half of the drawings and other patches are given, beside the truth: how many
    figures and numbers are expected, with the right corners, and nearer to a drawing than any other can be."""
    generator = torch.Generator().manual_seed(seed)
    x = POLYGONS.sample_patches(number, generator)
    there, kind, way, radius, _ = decode_layout(x)
    figure = there & (kind >= MAX_FIGURES)
    known = (torch.rand(there.shape, generator=generator) < 0.5) | (figure & (figure.cumsum(1) == 1))
    z = torch.where(known[..., None], x, torch.randn(x.shape, generator=generator))
    with torch.inference_mode(), fast_matmul("cpu"):
        share = model(z, (~known)[..., None].double()).value[..., : POLYGONS.n_categories].float() / ON
    share = share.clamp_min(0) * ~known[..., None]
    corners = kind.where(figure, torch.tensor(0)).amax(1)[:, None, None].expand(-1, len(there[0]), 1)
    row = torch.arange(POLYGONS.side) + 0.5
    middle = torch.stack(torch.meshgrid(row, row, indexing="xy"), -1).flatten(0, 1)
    distance = torch.cdist(middle.expand(number, -1, -1), middle + way)
    near = (distance < 1.6 * radius.mT - 0.5) & (there & known)[:, None]
    figures, numbers = share[..., MAX_FIGURES:].sum() / number, share[..., :MAX_FIGURES].sum() / number
    right, wrong = share.gather(2, corners).sum() / figures / number, (share.sum(-1) * near.any(-1)).sum() / share.sum()
    real = [float((part & ~known).sum() / number) for part in (figure, there & ~figure)]
    return (
        f"half known: {figures:.2f} figures expected, {real[0]:.2f} hidden, {100 * right:.1f} % with the right corners; "
        f"{numbers:.2f} numbers, {real[1]:.2f} hidden; {100 * wrong:.1f} % too near"
    )


def main(benchmark: Benchmark) -> None:
    """Train, measure, keep and print, or draw."""
    torch.set_num_threads(1)
    if benchmark.show == "hidden":
        model = load(benchmark.model, SRM)
        print(*predict_hidden(model, 300, 99), predict_half(model, 300, 99), sep="\n")
        return
    draw_picture(benchmark.picture)
    if benchmark.show == "picture":
        return
    rows = json.loads(benchmark.results.read_text()) if benchmark.results.is_file() else []
    for found in measure_rows(benchmark, rows):
        rows = rows + found
        benchmark.results.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
