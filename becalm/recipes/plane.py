"""What a learned density of a few numbers is worth, and its pictures: density, score as arrows, samples, a way of Langevin's."""

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
from becalm.systems.ebm import Energy, energy_at

REACH = 3.6
"""Half the side of a picture."""


class Learned(NamedTuple):
    """A learned density at one level of noise, beside the true one."""

    denoiser: Denoiser
    """What was learned."""
    t: Tensor
    """The level that is looked at, [1, 1, 1]."""
    truth: Density
    """The density of the data at that level."""

    @property
    def score(self) -> Score:
        """The learned score, of [batch, 1, channels]."""
        return score_at_level(self.denoiser, self.t)


def draw_samples(denoiser: Denoiser, many: bool, size: int, channels: int, generator: torch.Generator) -> Tensor:
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


def measures(learned: Learned, samples: Float[Tensor, "sample channel"], clean: Density) -> dict[str, float]:
    """Cosine and relative Fisher divergence at the level, and the energy distance of samples to as many of the clean density."""
    generator = torch.Generator().manual_seed(20_260_101)
    x = learned.truth.sample(5_000, generator).float()[:, None]
    found = score_agreement(learned.score, x, learned.truth.score)
    test = two_sample_test(samples, clean.sample(len(samples), generator).float(), 999, generator)
    return {**found._asdict(), "distance": test.distance, "limit": test.critical_value}


def grid(count: int, reach: float = REACH) -> Float[Tensor, "place 2"]:
    """The places of a square grid, rows from below."""
    axis = torch.linspace(-reach, reach, count)
    return torch.cartesian_prod(axis, axis).flip(1)


def draw(learned: Learned, samples: Float[Tensor, "sample 2"], path: Path, generator: torch.Generator) -> None:
    """Write a PNG of four panels: the density, the learned score as arrows, samples, and one chain's way."""
    figure, panels = sheet(4)
    shades = learned.truth.log_prob(grid(160)).exp().reshape(160, 160)
    for panel, title in zip(panels, ("density", "learned score", "samples", "one Langevin chain"), strict=True):
        panel.set_title(title, fontsize=9)
        panel.imshow(
            shades, origin="lower", extent=[-REACH, REACH] * 2, cmap="Blues", alpha=1 - 0.6 * (title != "density")
        )
    if isinstance(learned.denoiser.network, Energy):
        panels[0].contour(*grid_of(learned), colors="tab:red", linewidths=0.6)
        panels[0].set_title("density; learned contours", fontsize=9)
    arrows(panels[1], grid(24), lambda x: learned.score(x[:, None])[:, 0], "k")
    panels[2].plot(*samples.T, ",", color="tab:red", alpha=0.6)
    start = torch.tensor([[[-0.8 * REACH, 0.7 * REACH]]])
    way = torch.stack([state.z[0, 0] for state in ula(learned.score, start, 2e-3, 400, generator=generator)])
    panels[3].plot(*way.T, "-", color="tab:red", linewidth=0.6)
    panels[3].plot(*start[0, 0], "o", color="k", markersize=3)
    written(figure, panels, path)


def draw_section(learned: Learned, points: Float[Tensor, "point 3"], path: Path) -> None:
    """Write a PNG of a surface's section z = 0: the true score of its noisy points, in closed form, and the learned one."""
    figure, panels = sheet(2)
    near = points[points[:, 2].abs() < 0.1]
    truth = learned.truth
    fields: tuple[tuple[str, Score], ...] = (
        ("closed form", truth.score),
        ("learned", lambda x: learned.score(x[:, None])[:, 0]),
    )
    for panel, (title, score) in zip(panels, fields, strict=True):
        panel.set_title(title, fontsize=9)
        panel.plot(*near[:, :2].T, ".", color="tab:blue", markersize=2)
        flat = grid(26, 1.8)
        arrows(panel, torch.cat([flat, torch.zeros(len(flat), 1)], 1), score, "k")
    written(figure, panels, path)


def sheet(count: int):
    """A figure with `count` square panels in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * count, 2.8), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count))


def written(figure, panels: list, path: Path) -> None:
    """Write the figure, its panels without ticks."""
    for panel in panels:
        panel.set(aspect="equal", xticks=[], yticks=[])
        if panel.images:
            panel.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH))
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")


def arrows(panel, places: Float[Tensor, "place channel"], score: Callable[[Tensor], Tensor], colour: str) -> None:
    """Arrows along the first two axes, their lengths as the root of the score's, so that near and far are seen."""
    with torch.no_grad():
        found = score(places)
    found = found / found.norm(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
    panel.quiver(*places[:, :2].T, *found[:, :2].T, color=colour, width=0.004, alpha=0.7)


def grid_of(learned: Learned) -> tuple[Tensor, Tensor, Tensor]:
    """Places and the learned density e^{−E}, normalised over the picture."""
    places = grid(160)
    with torch.no_grad():
        log = -energy_at(learned.denoiser, learned.t)(places[:, None])
    across, up = places.T.reshape(2, 160, 160)
    return across, up, log.softmax(0).reshape(160, 160)
