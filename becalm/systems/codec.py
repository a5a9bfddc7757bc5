"""Lossless coding of images at the bound of a VDM of T steps: bits-back with a stack (ANS), one latent layer at a time.

Townsend et al. 2019 (bits back with ANS), Kingma et al. 2019 (Bit-Swap: the order), Kingma et al. 2021 (for VDM). The encoder
pops z₀ ~ q(z₀|x) off the stack, pushes x by p(x|z₀), and for t = 1 … T pops z_t ~ q(z_t|z_s) and pushes z_s by p(z_s|z_t); at
last z_T by N(0, I). What was popped is paid back: the stack grows by the bound of T equal steps. The decoder runs it backwards.

Latents lie on grids with cells of a fixed share of the narrowest Gaussian that codes them. The network's means decide the
frequencies: they must come out bit for bit alike on both sides, hence the same weights, groups, torch, processor and threads (see
`surroundings`). They are rounded to a sixteenth of a cell first, which costs nothing and hides differences too small to matter
for nearly all numbers, but not for all of millions.
"""

import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from becalm.core.denoiser import Denoiser
from becalm.core.likelihood import REACH, encoded
from becalm.core.process import posterior, transition
from becalm.core.typing import Int, Tensor
from becalm.systems.stack import Stack, Uneven, taken

CELLS = 8
"""Cells a standard deviation of the narrowest Gaussian of a layer: the file grows by about 0.01 % for their sake."""


class Layer(NamedTuple):
    """The latents at one t: z = cell · whole number; deviations count cells."""

    t: float
    """Time."""
    cell: float
    """Width of a cell."""
    factor: float
    """q's mean is `factor` times the layer below, or the data."""
    inward: float
    """Standard deviation of q, given the layer below."""
    outward: float
    """Standard deviation of p, given the layer above; of N(0, I) at the top."""


@dataclass(frozen=True)
class Coded:
    """Images as words, and what the decoder has to know beside the model."""

    count: int
    """Images."""
    steps: int
    """T."""
    groups: tuple[int, ...]
    """How many images went through the network at once, in the order of coding."""
    initial: int
    """Random words that lay on the stack at first: bits to pop before any were pushed."""
    unused: int
    """Those of them, from the bottom, that were never touched and are left out of `words`."""
    words: np.ndarray
    """The stack, uint32, bottom first."""


def layers(denoiser: Denoiser, steps: int) -> list[Layer]:
    """The T + 1 layers at equal steps of t, float64."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    schedule = denoiser.schedule
    alpha, sigma = (part.detach() for part in schedule(t)[1:])
    factor, inward = (part.detach() for part in transition(t[1:], t[:-1], schedule))
    # σ_s √(1 − e^{γ_s − γ_t}) = (σ_s/σ_t) times what q has, and 1 for the prior
    outward = torch.cat([inward / sigma[1:] * sigma[:-1], torch.ones(1, dtype=torch.float64)])
    factor, inward = torch.cat([alpha[:1], factor]), torch.cat([sigma[:1], inward])
    cell = torch.minimum(inward, outward) / CELLS
    rows = torch.stack([t, cell, factor, inward / cell, outward / cell], 1).tolist()
    return [Layer(*row) for row in rows]


def encode(
    denoiser: Denoiser, v: Int[Tensor, "image variable channel"], levels: int, steps: int, batch: int = 64
) -> Iterator[Coded]:
    """Code images of values 0 … K − 1; yields the work so far after every group, and last of all the whole.

    Groups grow to `batch` images as the stack grows, so that only the first image's latents cost bits of their own. Raises
    ValueError for values outside or steps below 1.
    """
    if steps < 1 or batch < 1:
        raise ValueError(f"steps {steps} and batch {batch} must be at least 1")
    encoded(v, levels)
    chain, stack, done, groups = layers(denoiser, steps), Stack.random(), 0, []
    peak = max(taken(v[0].numel(), a.inward) + taken(v[0].numel(), b.inward) for a, b in pairwise(chain))
    while done < len(v):
        size = max(1, min(batch, (stack.height + stack.initial) // peak, len(v) - done))
        push_images(denoiser, chain, stack, v[done : done + size], levels)
        stack.settle()
        groups.append(size)
        done += size
        words, unused = stack.written()
        yield Coded(done, steps, tuple(groups), stack.initial, unused, words)


def decode(
    denoiser: Denoiser, coded: Coded, shape: tuple[int, int], levels: int
) -> Iterator[Int[Tensor, "image variable channel"]]:
    """The images of every group, the last group first; `shape` is variables and channels.

    Raises Uneven where what is left in the end is not what the encoder began with.
    """
    chain, stack = layers(denoiser, coded.steps), Stack.read(coded.words, coded.initial, coded.unused)
    for size in reversed(coded.groups):
        yield pop_images(denoiser, chain, stack, (size, *shape), levels)
        stack.settle()
    if not stack.as_at_first():
        raise Uneven("the bits do not come out even")


def push_images(denoiser: Denoiser, chain: list[Layer], stack: Stack, v: Tensor, levels: int) -> None:
    """Code one group."""
    z = stack.pop_sampled(data_mean(v, chain[0], levels), chain[0].inward)
    stack.push_level(v.flatten().numpy(), *decoder(z, chain[0], denoiser, levels))
    for below, here in pairwise(chain):
        higher = stack.pop_sampled(z * (here.factor * below.cell / here.cell), here.inward)
        stack.push_normal(z, reverse_mean(denoiser, higher, here, below, v.shape), below.outward)
        z = higher
    stack.push_normal(z, np.zeros(len(z)), chain[-1].outward)


def pop_images(denoiser: Denoiser, chain: list[Layer], stack: Stack, shape: tuple[int, ...], levels: int) -> Tensor:
    """Decode one group: every line of `push_images` undone, from the last to the first."""
    z = stack.pop_normal(np.zeros(math.prod(shape)), chain[-1].outward)
    for below, here in reversed(list(pairwise(chain))):
        lower = stack.pop_normal(reverse_mean(denoiser, z, here, below, shape), below.outward)
        stack.push_sampled(z, lower * (here.factor * below.cell / here.cell), here.inward)
        z = lower
    v = torch.from_numpy(stack.pop_level(*decoder(z, chain[0], denoiser, levels))).reshape(shape)
    stack.push_sampled(z, data_mean(v, chain[0], levels), chain[0].inward)
    return v


def data_mean(v: Tensor, first: Layer, levels: int) -> np.ndarray:
    """α₀x in cells, flat."""
    return encoded(v, levels, torch.float64).flatten().numpy() * (first.factor / first.cell)


def reverse_mean(denoiser: Denoiser, z: np.ndarray, here: Layer, below: Layer, shape) -> np.ndarray:
    """The mean of p(z_s|z_t), flat, in cells of the layer below; raises FloatingPointError where it is not finite."""
    whole = torch.from_numpy(z * here.cell).reshape(shape)
    t, s = (torch.full((len(whole), 1, 1), layer.t, dtype=torch.float64) for layer in (here, below))
    with torch.inference_mode():
        x = denoiser(whole.float(), t).x.double()
        mean = posterior(whole, x, t, s, denoiser.schedule)[0].flatten().numpy() / below.cell
    if not np.isfinite(mean).all():
        raise FloatingPointError(f"the network's mean at t = {here.t:g} is not finite")
    return mean


def decoder(z: np.ndarray, first: Layer, denoiser: Denoiser, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """p(x|z₀) ∝ exp(−½e^{−γ₀}(z₀/α₀ − x)²): the level with which the table of each number begins, and the table.

    The table holds the levels within REACH deviations, or all where these are fewer.
    """
    width = math.exp(float(denoiser.schedule(torch.zeros((), dtype=torch.float64)).gamma.detach()) / 2)
    y = z * (first.cell / first.factor)
    span = min(levels, 2 * math.ceil(REACH * width * levels / 2) + 1)
    start = np.clip(np.rint((y + 1) * levels / 2 - 0.5) - span // 2, 0, levels - span).astype(np.int64)
    values = (2.0 * (start[:, None] + np.arange(span)) + 1) / levels - 1
    away = ((y[:, None] - values) / width) ** 2 / 2
    return start, np.exp(away.min(1, keepdims=True) - away)


def surroundings() -> dict:
    """What decides, beside weights and input, the last bits of what is computed, and so whether a file decodes."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "constriction": version("constriction"),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
