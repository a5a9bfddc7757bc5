"""Diffusion of the points themselves, the idea of PVD (Zhou et al., ICCV 2021): what LION's latents are measured against.

One network sees all noisy points of a shape, its class and the noise level, and tells the velocity of each; a rectified flow,
w(t) = 1. The network is a two-stream transformer, so that shapes of any number of points can be drawn.
"""

import torch
from torch import nn

from becalm.core import objective, times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import velocity
from becalm.core.process import corrupt, noise_like
from becalm.core.sample import dpm_solver_pp_2m, sample
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Int, Tensor
from becalm.core.walk import together
from becalm.nets.precision import fast_matmul
from becalm.nets.streams import TwoStream
from becalm.systems.lion_sparse import unit_guess


class PointDiffusion(nn.Module):
    """A denoiser of points; `shape` is widths of points and tokens, heads, rounds. `deviation` is that of a coordinate."""

    def __init__(self, classes: list[str], shape: list[int] | None = None, deviation: float = 0.5):
        super().__init__()
        made = tuple(shape or (96, 160, 4, 4))
        self.config = {"classes": classes, "shape": list(made), "deviation": deviation}
        self.classes, self.deviation = classes, deviation
        self.label = nn.Embedding(1 + len(classes), made[0])
        self.network = TwoStream(3, 3, made[0], made)  # type: ignore[arg-type]

    def forward(
        self, z: Float[Tensor, "batch point 3"], t: Float[Tensor, "#batch #point 1"], given: dict[str, Tensor]
    ) -> Float[Tensor, "batch point 3"]:
        """The velocity of points in units of their deviation, given `label` [batch], from 1; 0 is any."""
        guess, rest = unit_guess(t.float())
        level = t.float().expand(len(z), 1, 1)
        return guess * z + rest * self.network(z, level, self.label(given["label"]))


def losses(
    model: PointDiffusion,
    points: Float[Tensor, "batch point 3"],
    label: Int[Tensor, " batch"],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """|u − û|² a coordinate; a tenth of the classes is hidden."""
    x = points / model.deviation
    shown = torch.where(torch.rand(len(label), generator=generator).to(label.device) < 0.1, 0, label)
    t = times.stratified(len(x), 1, generator).to(x.device)
    z, eps = corrupt(x, t, Rectified(), generator)
    return {"loss": objective.squared_error(model(z, t, {"label": shown}), eps - x).mean()}


def generate(
    model: PointDiffusion,
    label: Int[Tensor, " batch"],
    points: int,
    steps: int = 25,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch point 3"]:
    """New shapes of the classes `label`, by DPM-Solver++(2M)."""
    z = noise_like(torch.empty(len(label), points, 3, device=label.device), generator)
    t, given = torch.ones(1, 1, 1, dtype=torch.float64, device=z.device), {"label": label}
    with torch.inference_mode(), fast_matmul(z.device.type):
        for state in sample(
            Denoiser(model, Rectified(), velocity), z, t, together(steps), dpm_solver_pp_2m(), given, generator
        ):
            z = state.z
    return z * model.deviation
