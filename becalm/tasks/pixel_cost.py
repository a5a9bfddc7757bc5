"""Where the bits of an image go: its variational bound split by pixel, and the loss over the noise level γ."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from becalm.core import likelihood
from becalm.core.process import noise_like
from becalm.core.times import stratified
from becalm.core.typing import Float, Int, Tensor
from becalm.images.image_files import ImageSet
from becalm.systems.vdm import VDM, encode_levels
from becalm.tasks.image_models import check_at_least_one, read_images
from becalm.tasks.progress import Progress, final_result
from becalm.tasks.shapes import load_on


@dataclass(frozen=True, eq=False)
class PixelCost:
    """The bound on −log₂ p of images by pixel, and what it was estimated from."""

    images: ImageSet
    """The images with their names."""
    bits: np.ndarray
    """Bits of each pixel [image, height, width], all colours together; their sum is the bound of the image."""
    gamma: np.ndarray
    """Noise levels γ at which the loss was looked at [draw, image]."""
    loss: np.ndarray
    """Loss at each of them, ½|ε − ε̂|² in bits a dimension [draw, image]: the bound's part of a unit of γ."""
    schedule: np.ndarray
    """The model's schedule: t and γ(t) [101, 2]."""

    @property
    def bits_per_dim(self) -> np.ndarray:
        """Bits a dimension of each image [image]."""
        return self.bits.sum((1, 2)) / self.images.values[0].numel()

    def loss_curve(self, bins: int | None = None) -> np.ndarray:
        """Mean γ and mean loss [bin, 2] of equally many draws each, by ascending γ.

        By default a bin has 8 draws or more, and there are 24 at most.
        """
        order = np.argsort(self.gamma, axis=None)
        count = bins or max(min(len(order) // 8, 24), 1)
        parts = np.array_split(order, min(count, len(order)))
        return np.array([[self.gamma.flat[rows].mean(), self.loss.flat[rows].mean()] for rows in parts])


def pixel_cost(
    model: str | Path | nn.Module, images: Any, draws: int = 8, batch: int = 128, seed: int = 0, device: str = "cpu"
) -> PixelCost:
    """The variational bound of images in continuous time, as `becalm.likelihood` computes it, kept apart by pixel.

    `draws` noise levels an image, stratified: more make the map less noisy. Arguments otherwise as there. Raises InputError.
    """
    return final_result(steps(model, images, draws, batch, seed, device))


def steps(
    model: str | Path | nn.Module, images: Any, draws: int = 8, batch: int = 128, seed: int = 0, device: str = "cpu"
) -> Iterator[Progress]:
    """`pixel_cost`, with a report after each draw of a batch."""
    check_at_least_one(draws=draws, batch=batch)
    vdm, generator = load_on(model, device, VDM).eval(), torch.Generator().manual_seed(seed)
    read, v = read_images(vdm, images)
    parts, batches = [], v.split(batch)
    for k, rows in enumerate(batches):
        for i, part in enumerate(batch_costs(vdm, rows, draws, generator)):
            yield Progress((k + (i + 1) / draws) / (len(batches) + 1))
        parts.append(part)
    bits, gamma, loss = (np.concatenate([part[i] for part in parts], axis=axis) for i, axis in enumerate((0, 1, 1)))
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    with torch.no_grad():
        curve = torch.stack([t, vdm.schedule(t[:, None, None]).gamma.flatten()], 1).double().numpy()
    yield Progress(1.0, None, PixelCost(read, bits.reshape(len(read), *vdm.shape[:2]), gamma, loss, curve))


def batch_costs(
    model: VDM, v: Int[Tensor, "image variable channel"], draws: int, generator: torch.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Bits by pixel [image, variable], γ and loss [draw, image] of a batch, after each draw; the last is complete."""
    x, schedule, dimensions, scale = encode_levels(model, v), model.schedule, v[0].numel(), math.log(2)
    likelihood.check_finite_ends(schedule, model.start)
    prior = likelihood.prior_kl(x, schedule) / v.shape[1]
    gammas, losses, total = [], [], torch.zeros(v.shape[:2], dtype=torch.float64, device=x.device)
    for k, u in enumerate(stratified(draws * len(x), 1, generator).reshape(draws, len(x), 1, 1).to(x.device)):
        with torch.no_grad():
            total += decoder_nats(model, x, generator)  # first, as in `variational_bound`: the same draws
            t, weight = likelihood.continuous_time_weight(schedule, u, model.start)
            error = squared_noise_error(model, x, t, generator)
            total += weight[:, None] * error
        gammas.append(schedule(t).gamma[:, 0, 0].detach().double().cpu().numpy())
        losses.append((error.sum(1) / (2 * dimensions * scale)).cpu().numpy())
        bits = (total / (k + 1) + prior[:, None].detach()) / scale
        yield bits.cpu().numpy(), np.stack(gammas), np.stack(losses)


def squared_noise_error(
    model: VDM, x: Float[Tensor, "image variable channel"], t: Float[Tensor, "image 1 1"], generator: torch.Generator
) -> Float[Tensor, "image variable"]:
    """(ε − ε̂)² of each pixel at one draw of ε, summed over colours."""
    eps, (_, alpha, sigma) = noise_like(x, generator), model.schedule(t)
    guess = model.denoiser(alpha.to(x) * x + sigma.to(x) * eps, t).eps
    return (eps.double() - guess.double()).square().sum(2)


def decoder_nats(
    model: VDM, x: Float[Tensor, "image variable channel"], generator: torch.Generator
) -> Float[Tensor, "image variable"]:
    """−log p(x|z₀) of each pixel at one draw of z₀, summed over colours."""
    gamma = model.schedule(x.new_full((), model.start, dtype=torch.float64)).gamma
    y = x.double() + torch.exp(gamma / 2) * noise_like(x, generator).double()
    return -likelihood.decoder_log_prob(x, y, gamma, model.levels).sum(2)
