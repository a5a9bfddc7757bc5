"""Evaluate and plot learned densities of a few numbers: the density, the score as arrows, samples, one Langevin chain."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from becalm.core.compare import score_agreement, two_sample_test
from becalm.core.denoiser import Denoiser
from becalm.core.densities import Density
from becalm.core.files import atomic_file
from becalm.core.langevin import annealed_langevin, ula
from becalm.core.sample import sample
from becalm.core.scores import Score, score_at_level
from becalm.core.typing import Float, Tensor
from becalm.core.walk import together
from becalm.systems.ebm import EnergyScore, energy_at_level

HALF_SIDE = 3.6
"""Half the side of a plot."""


class LearnedDensity(NamedTuple):
    """A learned density at one noise level, and the true one."""

    denoiser: Denoiser
    """The learned score or energy."""
    t: Tensor
    """The noise level, [1, 1, 1]."""
    truth: Density
    """The density of the data at that level."""

    @property
    def score(self) -> Score:
        """The learned score, of [batch, 1, channels]."""
        return score_at_level(self.denoiser, self.t)


def sample_model(denoiser: Denoiser, many: bool, size: int, channels: int, generator: torch.Generator) -> Tensor:
    """Samples [size, channels] of a learned model: annealed Langevin down its ladder, or 600 plain steps from a wide Gaussian."""
    ladder = denoiser.schedule
    if many:
        z = ladder.sigma_max * torch.randn(size, 1, channels, generator=generator)
        t = torch.ones(1, 1, 1, dtype=torch.float64)
        states = sample(denoiser, z, t, together(ladder.steps), annealed_langevin(0.1, 50), generator=generator)
    else:
        z = 2 * torch.randn(size, 1, channels, generator=generator)
        states = ula(score_at_level(denoiser, torch.ones(1, 1, 1)), z, 4e-3, 600, generator=generator)
    for state in states:
        z = state.z
    return z[:, 0]


def evaluate_samples(
    learned: LearnedDensity, samples: Float[Tensor, "sample channel"], clean: Density
) -> dict[str, float]:
    """Cosine and relative Fisher divergence at the level, and the energy distance of samples to as many of the clean density."""
    generator = torch.Generator().manual_seed(20_260_101)
    x = learned.truth.sample(5_000, generator).float()[:, None]
    agreement = score_agreement(learned.score, x, learned.truth.score)
    test = two_sample_test(samples, clean.sample(len(samples), generator).float(), 999, generator)
    return {**agreement._asdict(), "distance": test.distance, "limit": test.critical_value}


def grid_points(count: int, half_side: float = HALF_SIDE) -> Float[Tensor, "place 2"]:
    """Points of a square grid, rows from below."""
    axis = torch.linspace(-half_side, half_side, count)
    return torch.cartesian_prod(axis, axis).flip(1)


def plot_density(
    learned: LearnedDensity, samples: Float[Tensor, "sample 2"], path: Path, generator: torch.Generator
) -> None:
    """Write a PNG of four panels: the density, the learned score as arrows, samples, and one Langevin chain."""
    figure, panels = new_figure(4)
    shades = learned.truth.log_prob(grid_points(160)).exp().reshape(160, 160)
    for panel, title in zip(panels, ("density", "learned score", "samples", "one Langevin chain"), strict=True):
        panel.set_title(title, fontsize=9)
        panel.imshow(
            shades,
            origin="lower",
            extent=[-HALF_SIDE, HALF_SIDE] * 2,
            cmap="Blues",
            alpha=1 - 0.6 * (title != "density"),
        )
    if isinstance(learned.denoiser.network, EnergyScore):
        panels[0].contour(*density_grid(learned), colors="tab:red", linewidths=0.6)
        panels[0].set_title("density; learned contours", fontsize=9)
    plot_arrows(panels[1], grid_points(24), lambda x: learned.score(x[:, None])[:, 0], "k")
    panels[2].plot(*samples.T, ",", color="tab:red", alpha=0.6)
    start = torch.tensor([[[-0.8 * HALF_SIDE, 0.7 * HALF_SIDE]]])
    chain = torch.stack([state.z[0, 0] for state in ula(learned.score, start, 2e-3, 400, generator=generator)])
    panels[3].plot(*chain.T, "-", color="tab:red", linewidth=0.6)
    panels[3].plot(*start[0, 0], "o", color="k", markersize=3)
    save_figure(figure, panels, path)


def plot_section(learned: LearnedDensity, points: Float[Tensor, "point 3"], path: Path) -> None:
    """Write a PNG of the section z = 0 of a surface: the score of its noisy points in closed form, and the learned one."""
    figure, panels = new_figure(2)
    near = points[points[:, 2].abs() < 0.1]
    truth = learned.truth
    fields: tuple[tuple[str, Score], ...] = (
        ("closed form", truth.score),
        ("learned", lambda x: learned.score(x[:, None])[:, 0]),
    )
    for panel, (title, score) in zip(panels, fields, strict=True):
        panel.set_title(title, fontsize=9)
        panel.plot(*near[:, :2].T, ".", color="tab:blue", markersize=2)
        flat = grid_points(26, 1.8)
        plot_arrows(panel, torch.cat([flat, torch.zeros(len(flat), 1)], 1), score, "k")
    save_figure(figure, panels, path)


def new_figure(count: int):
    """A figure of `count` square panels in a row, and the panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * count, 2.8), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count))


def save_figure(figure, panels: list, path: Path) -> None:
    """Write the figure as a PNG, its panels without ticks."""
    for panel in panels:
        panel.set(aspect="equal", xticks=[], yticks=[])
        if panel.images:
            panel.set(xlim=(-HALF_SIDE, HALF_SIDE), ylim=(-HALF_SIDE, HALF_SIDE))
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def plot_arrows(panel, places: Float[Tensor, "place channel"], score: Callable[[Tensor], Tensor], colour: str) -> None:
    """Plot a score along the first two axes as arrows, as long as the root of its length, so that small ones are seen."""
    with torch.no_grad():
        vectors = score(places)
    vectors = vectors / vectors.norm(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
    panel.quiver(*places[:, :2].T, *vectors[:, :2].T, color=colour, width=0.004, alpha=0.7)


def density_grid(learned: LearnedDensity) -> tuple[Tensor, Tensor, Tensor]:
    """A grid of points and the learned density e^{−E} there, normalised over the plot."""
    places = grid_points(160)
    with torch.no_grad():
        log = -energy_at_level(learned.denoiser, learned.t)(places[:, None])
    across, up = places.T.reshape(2, 160, 160)
    return across, up, log.softmax(0).reshape(160, 160)
