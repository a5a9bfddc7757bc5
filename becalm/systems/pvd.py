"""Diffusion of the points themselves, after PVD (Zhou et al., ICCV 2021): the baseline of LION's latents.

One network sees all noisy points of a shape, its class and the noise level, and predicts the velocity of each; a rectified flow,
w(t) = 1. The network is a two-stream transformer, so that shapes of any number of points can be generated.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import nn

from becalm.core import objective, times
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import velocity
from becalm.core.process import corrupt, noise_like
from becalm.core.sampler import Sampler
from becalm.core.schedule import Rectified
from becalm.core.typing import Float, Int, Tensor
from becalm.nets.streams import TwoStream
from becalm.systems.lion import CLASS_DROPOUT, run_sampler, with_guidance
from becalm.systems.lion_sparse import velocity_preconditioning


class PointDiffusion(nn.Module):
    """A denoiser of points; `shape` is that of `TwoStream`, `std` the standard deviation of a coordinate."""

    former_arguments: ClassVar = {"std": "deviation"}
    makes = "shapes"
    default_sampler = Sampler(steps=25, update="dpm")

    def __init__(self, classes: list[str], shape: list[int] | None = None, std: float = 0.5):
        super().__init__()
        made = tuple(shape or (96, 160, 4, 4))
        self.config = {"classes": classes, "shape": list(made), "std": std}
        self.classes, self.std = classes, std
        self.label = nn.Embedding(1 + len(classes), made[0])
        self.network = TwoStream(3, 3, made[0], made)  # type: ignore[arg-type]

    def forward(
        self, z: Float[Tensor, "batch point 3"], t: Float[Tensor, "#batch #point 1"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch point 3"]:
        """The velocity of points in units of `std`, given classes from 1; 0 is any."""
        skip, scale = velocity_preconditioning(t.float())
        level = t.float()[:, :1].expand(len(z), 1, 1)
        return skip * z + scale * self.network(z, level, self.label(label))

    def generate(
        self,
        label: Int[Tensor, " batch"],
        points: int,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield new shapes [batch, points, 3] of the classes `label` (see `tasks.generate.Generator`)."""
        yield generate(self, label, points, sampler, generator)


def losses(
    model: PointDiffusion,
    points: Float[Tensor, "batch point 3"],
    label: Int[Tensor, " batch"],
    generator: torch.Generator,
    t: Float[Tensor, "batch 1 1"] | None = None,
) -> dict[str, Tensor]:
    """|u − û|² a coordinate; a tenth of the classes is hidden. Times t where None: stratified over the batch."""
    x = points / model.std
    label = torch.where(torch.rand(len(label), generator=generator).to(label.device) < CLASS_DROPOUT, 0, label)
    t = (times.stratified(len(x), 1, generator) if t is None else t).to(x.device)
    z, eps = corrupt(x, t, Rectified(), generator)
    return {"loss": objective.squared_error(model(z, t, label), eps - x).mean()}


def generate(
    model: PointDiffusion,
    label: Int[Tensor, " batch"],
    points: int,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch point 3"]:
    """New shapes of the classes `label` (from 1; 0 is any)."""
    sampler = sampler or model.default_sampler
    z = noise_like(torch.empty(len(label), points, 3, device=label.device), generator)
    t = torch.ones(1, 1, 1, dtype=torch.float64, device=z.device)
    denoiser = Denoiser(with_guidance(model, label, sampler.guidance), Rectified(), velocity)
    return run_sampler(denoiser, z, t, sampler, generator) * model.std
