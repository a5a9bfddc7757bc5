"""A tour of what becalm does: five jobs on data that it makes itself, each with a paragraph, figures and a picture."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from becalm.core import densities, langevin
from becalm.core.files import atomic_file
from becalm.tasks.html import png_bytes
from becalm.tasks.progress import Progress
from becalm.weights.store import load

PUZZLE = "1....4.2..4..3.."
"""A Sudoku of 4 × 4 cells with one solution, row by row."""

CELL = 28
"""Pixels of a cell of its image."""


@dataclass(frozen=True)
class Stop:
    """One job of the tour."""

    title: str
    """What was done."""
    text: str
    """What it is and what the picture shows, in one paragraph."""
    code: str
    """The same in Python or on the command line."""
    facts: dict[str, str]
    """Figures: what is measured, and how much it is."""
    picture: bytes
    """A PNG."""
    caption: str
    """What the picture shows, for those who cannot see it."""
    seconds: float = 0.0
    """How long it took."""


@dataclass(frozen=True, eq=False)
class Tour:
    """All jobs of the tour."""

    stops: list[Stop] = field(default_factory=list)
    """In their order."""

    def save(self, path: Path | str) -> Path:
        """Write one HTML file that holds everything."""
        with atomic_file(Path(path)) as temporary:
            temporary.write_text(self._repr_html_(), encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        from becalm.tasks.tour_page import tour_html

        return tour_html(self.stops)


def tour(seed: int = 0) -> Tour:
    """Clean a scan, solve a Sudoku, make shapes, measure and compress digits, sample an energy: some minutes on a laptop."""
    for report in steps(seed):
        pass
    return report.result


def steps(seed: int = 0) -> Iterator[Progress]:
    """`tour` as a generator: reports whose state is (number, title, share of that job), and last the Tour."""
    stops: list[Stop] = []
    for number, (title, work) in enumerate(STOPS.items()):
        started = time.monotonic()
        yield Progress(number / len(STOPS), (number, title, 0.0))
        for report in work(seed):
            yield Progress((number + report.done) / len(STOPS), (number, title, report.done))
        stops.append(Stop(title, *report.result, seconds=time.monotonic() - started))
    yield Progress(1.0, (len(STOPS) - 1, title, 1.0), Tour(stops))


def follow_task(reports: Iterator[Progress], first: float = 0.0, last: float = 1.0) -> Iterator[Progress]:
    """The reports of a task whose progress is a part, from first to last, of a larger one; the last holds its result."""
    for report in reports:
        yield Progress(first + (last - first) * report.done, None, report.result)


def clean_scan(seed: int) -> Iterator[Progress]:
    """A simulated scan of a yard, denoised, against the scene that it was made from."""
    from becalm.points import Cloud, plot
    from becalm.shapes.simulated_scan import distance_to_scene, simulate, yard
    from becalm.tasks import denoise

    rng = np.random.default_rng(7 + seed)
    scene = yard(rng)
    scan = simulate(rng, beams=16_000, scene=scene)
    for report in follow_task(denoise.steps(Cloud(scan.xyz), outliers="flag"), last=0.95):
        yield report._replace(result=None)
    result = report.result
    fine = ~result.outlier & ~scan.outlier
    rms = [1e3 * float(np.sqrt(np.mean(distance_to_scene(scene, xyz[fine]) ** 2))) for xyz in (scan.xyz, result.points)]
    facts = {
        "points": f"{len(result.points):,}",
        "distance to the true surface, root mean square": f"{rms[0]:.1f} mm before, {rms[1]:.1f} mm after",
        "points flagged as outliers": f"{int(result.outlier.sum()):,}",
    }
    before, after = (cloud.local()[~result.outlier] for cloud in (result.original, result.cloud))
    picture = plot.png(before, after, "m")
    yield Progress(
        1.0, None, (*TEXTS["scan"], facts, picture, "The scan before and after, and a wall seen along its surface")
    )


def solve_sudoku(seed: int) -> Iterator[Progress]:
    """A Sudoku of 4 × 4 cells, the most certain cell first."""
    from becalm.tasks import solve

    image, mask, digits = draw_puzzle(PUZZLE)
    for report in follow_task(solve.steps(image, mask, digits=digits, seed=seed)):
        yield report._replace(result=None)
    result = report.result
    sure = result.certainty[result.order > 0]
    facts = {
        "cells solved": f"{int((result.order > 0).sum())} of {result.order.size}",
        "rules": "all hold" if result.valid else f"{len(result.conflicts)} cells break one",
        "read": " / ".join("".join(map(str, row)) for row in result.digits),
        "certainty when a cell was decided": f"{sure.min():.0%} to {sure.max():.0%}",
    }
    picture = png_bytes(result.save_picture) or b""
    yield Progress(
        1.0, None, (*TEXTS["sudoku"], facts, picture, "The solved Sudoku with the number of each cell's turn")
    )


def draw_puzzle(cells: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Image and mask, float32 [height, width], of a Sudoku with printed digits, and the digits as `solve` takes them."""
    from PIL import Image, ImageDraw, ImageFont

    side = round(len(cells) ** 0.5)
    image, font = Image.new("L", (side * CELL, side * CELL), 0), ImageFont.load_default(26)
    digits, mask = [], np.array([sign == "." for sign in cells], np.float32).reshape(side, side)
    for i, sign in enumerate(cells):
        if sign != ".":
            row, column = divmod(i, side)
            centre = (column + 0.5) * CELL, (row + 0.5) * CELL
            ImageDraw.Draw(image).text(centre, sign, fill=255, font=font, anchor="mm")
            digits.append(f"{row + 1},{column + 1}={sign}")
    return np.asarray(image, np.float32) / 255, mask, tuple(digits)


def make_shapes(seed: int) -> Iterator[Progress]:
    """Six shapes out of noise."""
    from becalm.tasks import generate

    for report in follow_task(generate.steps("lion_families", 6, seed=seed + 3)):
        yield report._replace(result=None)
    shapes = report.result
    facts = {"shapes": f"{len(shapes)}, of {shapes.points.shape[1]:,} points each", "steps": str(shapes.facts["steps"])}
    picture = png_bytes(lambda path: shapes.draw(path, columns=3)) or b""
    yield Progress(1.0, None, (*TEXTS["shapes"], facts, picture, "Six clouds of points that the model made"))


def measure_digits(seed: int) -> Iterator[Progress]:
    """Digits that a model makes, one of them shuffled: how many bits each needs; and the others compressed."""
    from becalm.tasks import compress, decompress, generate, likelihood

    sampler = replace(load("digits8").default_sampler, steps=40)
    for report in follow_task(generate.steps("digits8", 64, sampler=sampler, seed=seed), last=0.5):
        yield report._replace(result=None)
    digits = report.result.images
    shuffled = np.random.default_rng(seed).permutation(digits[0].reshape(-1)).reshape(digits[:1].shape)
    images = np.concatenate([digits, shuffled])
    measured = likelihood.likelihood("digits8", images, draws=16, seed=seed)
    yield Progress(0.6)
    for report in follow_task(compress.steps("digits8", digits, 25), 0.6, 0.95):
        yield report._replace(result=None)
    data = report.result
    exact = np.array_equal(np.asarray(decompress.decompress("digits8", data)).reshape(digits.shape), digits)
    bits = measured.per_image
    facts = {
        "bits a pixel, digits": f"{bits[:-1].mean():.2f} (written down as they are: {np.log2(17):.2f})",
        "bits a pixel, the shuffled one": f"{bits[-1]:.2f}",
        "compressed": f"{len(data):,} bytes for {digits.size:,} pixels, {8 * len(data) / digits.size:.2f} bits each",
        "and back": "bit for bit" if exact else "not exact on this machine",
    }
    picture = png_bytes(lambda path: measured.draw(path, 12)) or b""
    caption = "How many images need how many bits, and the images from the most bits to the fewest"
    yield Progress(1.0, None, (*TEXTS["digits"], facts, picture, caption))


def sample_energy(seed: int) -> Iterator[Progress]:
    """Langevin dynamics in an energy of eight wells, from noise."""
    generator, truth, count = torch.Generator().manual_seed(seed), densities.eight_gaussians(), 300
    z = 2 * torch.randn(1500, 2, generator=generator, dtype=torch.float64)
    states = [z]
    for k, state in enumerate(langevin.ula(truth.score, z, step_size=0.005, steps=count, generator=generator)):
        if k + 1 in (20, count):
            states.append(state.z)
        if k % 30 == 0:
            yield Progress(k / count)
    centres = truth.sample(4000, generator)
    nearest = torch.cdist(states[-1], centres).amin(1)
    facts = {
        "samples": f"{len(z):,}, {count} steps each",
        "median distance to the nearest of 4,000 true samples": f"{float(nearest.median()):.3f}",
    }
    picture = png_bytes(lambda path: draw_chain(path, truth, states)) or b""
    yield Progress(
        1.0, None, (*TEXTS["energy"], facts, picture, "Samples at the start, after 20 steps, and at the end")
    )


def draw_chain(path: Path, truth: Any, states: list[torch.Tensor]) -> None:
    """Write a PNG of samples over the energy, a panel for each state."""
    from matplotlib.figure import Figure

    side = torch.linspace(-3.2, 3.2, 120, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    energy = -truth.log_prob(grid.reshape(-1, 2)).reshape(120, 120).clamp_min(-12)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for panel, z, title in zip(
        figure.subplots(1, 3), states, ("start: noise", "after 20 steps", "at the end"), strict=True
    ):
        panel.contourf(side, side, energy.clamp_max(12), 24, cmap="GnBu_r")
        panel.scatter(z[:, 0], z[:, 1], s=2, color="#b3541e")
        panel.set(title=title, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xticks=[], yticks=[])
    figure.savefig(path, format="png", dpi=120)


TEXTS = {
    "scan": (
        "A laser scanner measures each point a little beside the surface. becalm fits the surface around every point at several "
        "scales, weighs the fits by a small network, and moves the point onto it: no point is added, dropped or renumbered, "
        "and the noise level is measured, not asked for. The scan here is simulated, so that the truth is known.",
        "becalm denoise scan.laz",
    ),
    "sudoku": (
        "A model has learned what solved grids of handwritten digits look like. It first fills the cell of which it is most "
        "certain, takes it as given, and then looks for the next. In the picture the number in a cell says when it was filled; "
        "the greener it is, the more certain the model was.",
        "becalm solve puzzle.png --mask mask.png",
    ),
    "shapes": (
        "A model turns noise into clouds of points in two steps: first what the shape is as a whole, then where its parts lie. "
        "The same model varies a given shape, completes a part, and finds the shapes between two.",
        "becalm generate lion_families -n 6",
    ),
    "digits": (
        "A model of images gives an upper limit for the bits that an image needs. Digits like those it has learned from need "
        "few bits; one whose pixels are shuffled needs many, so it is found without an example of such a fault. The model also "
        "compresses images into a file and restores them exactly.",
        "becalm likelihood digits8 images.npy --rank 12",
    ),
    "energy": (
        "An energy is low where data are likely. Langevin dynamics goes downhill on it and adds noise in every step, so that "
        "points that begin anywhere end up as samples. All the rest of becalm is this, with a noise level that falls to zero "
        "and an energy whose slope was learned. Dark is low.",
        "for state in becalm.langevin.ula(score, z, step_size=0.005, steps=300): …",
    ),
}
"""A paragraph, and the command or code, of each job."""

STOPS: dict[str, Callable[[int], Iterator[Progress]]] = {
    "Clean a scan": clean_scan,
    "Solve a Sudoku": solve_sudoku,
    "Make six shapes": make_shapes,
    "Measure and compress digits": measure_digits,
    "Sample an energy": sample_energy,
}
"""Title of each job -> reports whose last result is all of a Stop but its title and time."""
