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

from becalm.compression.ans import Stack, Uneven, taken
from becalm.core.denoiser import Denoiser
from becalm.core.likelihood import DECODER_REACH, check_finite_ends, encode_levels
from becalm.core.process import posterior, transition
from becalm.core.typing import Int, Tensor

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
class Chain:
    """What coding goes by, the same on both sides."""

    denoiser: Denoiser
    """The network with its schedule."""
    levels: int
    """K."""
    width: float
    """e^{γ₀/2}, the deviation of z₀/α₀ from x."""
    layers: tuple[Layer, ...]
    """Those of t₀ … t_T."""


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


def chain(denoiser: Denoiser, levels: int, steps: int, start: float = 0.0) -> Chain:
    """T equal steps of t from `start` to 1, as the bound has them. Raises ValueError for T < 1 or an infinite end of γ."""
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
    schedule = denoiser.schedule
    check_finite_ends(schedule, start)
    t = start + (1 - start) * torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    gamma, alpha, sigma = (part.detach() for part in schedule(t))
    factor, inward = (part.detach() for part in transition(t[1:], t[:-1], schedule))
    # σ_s √(1 − e^{γ_s − γ_t}) is σ_s/σ_t times the deviation of q; N(0, I) has 1
    outward = torch.cat([inward / sigma[1:] * sigma[:-1], sigma.new_ones(1)])
    factor, inward = torch.cat([alpha[:1], factor]), torch.cat([sigma[:1], inward])
    cell = torch.minimum(inward, outward) / CELLS
    rows = torch.stack([t, cell, factor, inward / cell, outward / cell], 1).tolist()
    return Chain(denoiser, levels, math.exp(float(gamma[0]) / 2), tuple(Layer(*row) for row in rows))


def encode(chain: Chain, v: Int[Tensor, "image variable channel"], batch: int = 64) -> Iterator[Coded]:
    """Code images of values 0 … K − 1; yields the work so far after every group, and last of all the whole.

    Groups grow to `batch` images as the stack grows, so that only the first image's latents cost bits of their own. Raises
    ValueError for values outside.
    """
    encode_levels(v, chain.levels)
    stack, done, groups, size = Stack.random(), 0, [], v[0].numel()
    peak = max(taken(size, a.inward) + taken(size, b.inward) for a, b in pairwise(chain.layers))
    while done < len(v):
        many = max(1, min(batch, (stack.height + stack.initial) // peak, len(v) - done))
        push_images(chain, stack, v[done : done + many])
        stack.settle()
        groups.append(many)
        done += many
        words, unused = stack.written()
        yield Coded(done, len(chain.layers) - 1, tuple(groups), stack.initial, unused, words)


def decode(chain: Chain, coded: Coded, shape: tuple[int, int]) -> Iterator[Int[Tensor, "image variable channel"]]:
    """The images of every group, the last group first; `shape` is variables and channels.

    Raises Uneven where what is left in the end is not what the encoder began with.
    """
    stack = Stack.read(coded.words, coded.initial, coded.unused)
    for many in reversed(coded.groups):
        yield pop_images(chain, stack, (many, *shape))
        stack.settle()
    if not stack.as_at_first():
        raise Uneven("the bits do not come out even")


def push_images(chain: Chain, stack: Stack, v: Tensor) -> None:
    """Code one group."""
    first, last = chain.layers[0], chain.layers[-1]
    z = stack.pop_sampled(data_mean(chain, v), first.inward)
    stack.push_level(v.flatten().numpy(), *decoder(chain, z))
    for below, here in pairwise(chain.layers):
        higher = stack.pop_sampled(z * (here.factor * below.cell / here.cell), here.inward)
        stack.push_normal(z, reverse_mean(chain, higher, here, below, v.shape), below.outward)
        z = higher
    stack.push_normal(z, np.zeros(len(z)), last.outward)


def pop_images(chain: Chain, stack: Stack, shape: tuple[int, ...]) -> Tensor:
    """Decode one group: every line of `push_images` undone, from the last to the first."""
    first, last = chain.layers[0], chain.layers[-1]
    z = stack.pop_normal(np.zeros(math.prod(shape)), last.outward)
    for below, here in reversed(list(pairwise(chain.layers))):
        lower = stack.pop_normal(reverse_mean(chain, z, here, below, shape), below.outward)
        stack.push_sampled(z, lower * (here.factor * below.cell / here.cell), here.inward)
        z = lower
    v = torch.from_numpy(stack.pop_level(*decoder(chain, z))).reshape(shape)
    stack.push_sampled(z, data_mean(chain, v), first.inward)
    return v


def data_mean(chain: Chain, v: Tensor) -> np.ndarray:
    """α₀x in cells, flat."""
    first = chain.layers[0]
    return encode_levels(v, chain.levels, torch.float64).flatten().numpy() * (first.factor / first.cell)


def reverse_mean(chain: Chain, z: np.ndarray, here: Layer, below: Layer, shape) -> np.ndarray:
    """The mean of p(z_s|z_t), flat, in cells of the layer below; raises FloatingPointError where it is not finite."""
    whole = torch.from_numpy(z * here.cell).reshape(shape)
    t, s = (torch.full((len(whole), 1, 1), layer.t, dtype=torch.float64) for layer in (here, below))
    with torch.inference_mode():
        x = chain.denoiser(whole.float(), t).x.double()
        mean = posterior(whole, x, t, s, chain.denoiser.schedule)[0].flatten().numpy() / below.cell
    if not np.isfinite(mean).all():
        raise FloatingPointError(f"the network's mean at t = {here.t:g} is not finite")
    return mean


def decoder(chain: Chain, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p(x|z₀) ∝ exp(−½e^{−γ₀}(z₀/α₀ − x)²): the level with which the table of each number begins, and the table.

    The table holds the levels within REACH deviations, or all where these are fewer.
    """
    first, levels = chain.layers[0], chain.levels
    y = z * (first.cell / first.factor)
    span = min(levels, 2 * math.ceil(DECODER_REACH * chain.width * levels / 2) + 1)
    start = np.clip(np.rint((y + 1) * levels / 2 - 0.5) - span // 2, 0, levels - span).astype(np.int64)
    values = (2.0 * (start[:, None] + np.arange(span)) + 1) / levels - 1
    away = ((y[:, None] - values) / chain.width) ** 2 / 2
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
