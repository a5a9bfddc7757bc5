"""Lossless coding of images at the bound of a VDM of T steps: bits-back coding with an ANS stack, one layer of latents at a time.

Townsend et al. 2019 (bits back with ANS), Kingma et al. 2019 (Bit-Swap: the order), Kingma et al. 2021 (for VDM). The encoder
pops z₀ ~ q(z₀|x) off the stack, pushes x by p(x|z₀), and for t = 1 … T pops z_t ~ q(z_t|z_s) and pushes z_s by p(z_s|z_t); at
last it pushes z_T by N(0, I). Since the decoder gets the popped bits back, the stack grows by the bound of T equal steps. The
decoder runs every line backwards. The first images are compressed by LZMA; the next one pops the bits of these.

Latents lie on grids whose bins are a fixed fraction of the narrowest Gaussian that codes them. The network's means decide the
frequencies: they must come out bit for bit alike on both sides, hence the same weights, batches, torch, processor and threads:
see `environment`. They are rounded to a sixteenth of a bin first, which costs nothing and hides differences too small to matter
for nearly all numbers, but not for all of millions.
"""

import lzma
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

from becalm.compression.ans import RESERVE_BITS, AnsStack, DecodingError, words_of_samples
from becalm.core.denoiser import Denoiser
from becalm.core.likelihood import DECODER_REACH, check_finite_ends, encode_levels
from becalm.core.process import posterior, transition
from becalm.core.typing import Int, Tensor

LZMA = ({"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0},)
"""How the first images are compressed."""

MAX_PLAIN = 64
"""Images that are compressed so at most."""

BINS_PER_STD = 8
"""Bins a standard deviation of the narrowest Gaussian of a layer: the grid lengthens the file by about 0.01 %."""


class Layer(NamedTuple):
    """The latents at one t: z = bin_width · whole number; standard deviations count bins."""

    t: float
    """Time."""
    bin_width: float
    """Width of a bin."""
    q_factor: float
    """The mean of q(z_t | below) is q_factor times the layer below, or times the data."""
    q_std: float
    """Standard deviation of q(z_t | below)."""
    p_std: float
    """Standard deviation of p(z_t | above); of N(0, I) at the top."""


@dataclass(frozen=True)
class Codec:
    """The model as a hierarchy of latents, the same for encoder and decoder."""

    denoiser: Denoiser
    """The network with its schedule."""
    levels: int
    """K."""
    decoder_std: float
    """e^{γ₀/2}, the standard deviation of z₀/α₀ − x."""
    layers: tuple[Layer, ...]
    """Those of t₀ … t_T."""
    device: torch.device
    """Where the network computes."""


@dataclass(frozen=True)
class Bitstream:
    """Encoded images: the words of the stack, and what the decoder has to know beside the model."""

    count: int
    """Images."""
    plain: int
    """The first so many of them are compressed by LZMA, into the words at the bottom of the stack."""
    steps: int
    """T."""
    batches: tuple[int, ...]
    """How many of the others went through the network at once, in the order of encoding."""
    n_initial: int
    """Initial words of the stack: random bits to pop before any were pushed."""
    n_unused: int
    """Those of them, from the bottom, that were never popped and are left out of `words`."""
    words: np.ndarray
    """The stack, uint32, bottom first."""


def make_codec(denoiser: Denoiser, levels: int, steps: int, start: float = 0.0, device: str = "cpu") -> Codec:
    """T equal steps of t from `start` to 1, as the bound has them. Raises ValueError for T < 1 or an infinite end of γ."""
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")
    schedule = denoiser.schedule
    check_finite_ends(schedule, start)
    t = start + (1 - start) * torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=device)
    gamma, alpha, sigma = (part.detach().cpu() for part in schedule(t))
    factor, q_std = (part.detach().cpu() for part in transition(t[1:], t[:-1], schedule))
    # σ_s √(1 − e^{γ_s − γ_t}) is σ_s/σ_t times the standard deviation of q; N(0, I) has 1
    p_std = torch.cat([q_std / sigma[1:] * sigma[:-1], sigma.new_ones(1)])
    factor, q_std = torch.cat([alpha[:1], factor]), torch.cat([sigma[:1], q_std])
    width = torch.minimum(q_std, p_std) / BINS_PER_STD
    rows = torch.stack([t.cpu(), width, factor, q_std / width, p_std / width], 1).tolist()
    layers = tuple(Layer(*row) for row in rows)
    return Codec(denoiser, levels, math.exp(float(gamma[0]) / 2), layers, torch.device(device))


def encode(codec: Codec, v: Int[Tensor, "image variable channel"], batch: int = 64) -> Iterator[Bitstream]:
    """Encode images of levels 0 … K − 1; yields the bitstream so far after the first images and every batch.

    The first images are compressed by LZMA, as many as make the bits that the latents of one more take. Batches grow to `batch`
    images as the stack grows. Raises ValueError for values outside.
    """
    encode_levels(v, codec.levels)  # checks the values
    size, batches = v[0].numel(), list[int]()
    peak = max(words_of_samples(size, a.q_std) + words_of_samples(size, b.q_std) for a, b in pairwise(codec.layers))
    plain, first = compress_first(v, codec.levels, peak + RESERVE_BITS // 32)
    stack, done = AnsStack.fresh(first), plain

    def bitstream() -> Bitstream:
        words, n_unused = stack.message()
        return Bitstream(done, plain, len(codec.layers) - 1, tuple(batches), stack.n_initial, n_unused, words)

    yield bitstream()
    while done < len(v):
        count = max(1, min(batch, stack.height // peak, len(v) - done))
        push_images(codec, stack, v[done : done + count])
        stack.unload_words()
        batches.append(count)
        done += count
        yield bitstream()


def decode(codec: Codec, bits: Bitstream, shape: tuple[int, int]) -> Iterator[Int[Tensor, "image variable channel"]]:
    """The images of every batch, the last batch first, and then the first images; `shape` is variables and channels.

    Raises DecodingError where what is left in the end are not these and the initial bits.
    """
    stack = AnsStack.from_message(bits.words, bits.n_initial, bits.n_unused)
    for count in reversed(bits.batches):
        yield pop_images(codec, stack, (count, *shape))
        stack.unload_words()
    first = stack.first_words()
    if bits.plain:
        yield decompress_first(first, (bits.plain, *shape), codec.levels)
    elif len(first):
        raise DecodingError("the bits do not come out even")


def compress_first(v: Tensor, levels: int, least: int) -> tuple[int, np.ndarray]:
    """How many of the images [image, variable, channel] compress to `least` words at least, and these words; all where fewer."""
    plain, packed = 0, b""
    for plain in range(1, len(v) + 1):
        packed = lzma.compress(image_bytes(v[:plain], levels), lzma.FORMAT_RAW, filters=LZMA)
        if len(packed) >= 4 * least or plain == MAX_PLAIN:
            break
    # A last word that is not 0, of which the coder's state is made.
    return plain, np.append(np.frombuffer(packed + bytes(-len(packed) % 4), "<u4"), 1).astype(np.uint32)


def decompress_first(words: np.ndarray, shape: tuple[int, ...], levels: int) -> Tensor:
    """The inverse of `compress_first`. Raises DecodingError for other words."""
    dtype, decoder = level_type(levels), lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA)
    length = math.prod(shape) * dtype.itemsize
    try:
        data = decoder.decompress(words[:-1].astype("<u4").tobytes(), length)
    except lzma.LZMAError as error:
        raise DecodingError(f"the first images are damaged ({error})") from error
    values = np.frombuffer(data, dtype)
    if len(data) != length or words[-1] != 1 or int(values.max(initial=0)) >= levels:
        raise DecodingError("the first images do not come out")
    return torch.from_numpy(values.astype(np.int64)).reshape(shape)


def image_bytes(images: Int[Tensor, "*any"], levels: int) -> bytes:
    """Images as bytes, 8 bits a number for up to 256 levels, else 16, little-endian."""
    return images.cpu().numpy().astype(level_type(levels)).tobytes()


def level_type(levels: int) -> np.dtype:
    """The type of a number of an image."""
    return np.dtype("u1" if levels <= 256 else "<u2")


def push_images(codec: Codec, stack: AnsStack, v: Tensor) -> None:
    """Encode one batch."""
    bottom, top = codec.layers[0], codec.layers[-1]
    z = stack.pop_samples(data_mean(codec, v), bottom.q_std)
    stack.push_categorical(v.flatten().numpy(), *decoder_weights(codec, z))
    for below, here in pairwise(codec.layers):
        above = stack.pop_samples(z * (here.q_factor * below.bin_width / here.bin_width), here.q_std)
        stack.push_gaussian(z, reverse_mean(codec, above, here, below, v.shape), below.p_std)
        z = above
    stack.push_gaussian(z, np.zeros(len(z)), top.p_std)


def pop_images(codec: Codec, stack: AnsStack, shape: tuple[int, ...]) -> Tensor:
    """Decode one batch: the inverse of every line of `push_images`, from the last to the first."""
    bottom, top = codec.layers[0], codec.layers[-1]
    z = stack.pop_gaussian(np.zeros(math.prod(shape)), top.p_std)
    for below, here in reversed(list(pairwise(codec.layers))):
        lower = stack.pop_gaussian(reverse_mean(codec, z, here, below, shape), below.p_std)
        stack.push_samples(z, lower * (here.q_factor * below.bin_width / here.bin_width), here.q_std)
        z = lower
    v = torch.from_numpy(stack.pop_categorical(*decoder_weights(codec, z))).reshape(shape)
    stack.push_samples(z, data_mean(codec, v), bottom.q_std)
    return v


def data_mean(codec: Codec, v: Tensor) -> np.ndarray:
    """α₀x in bins of the lowest layer, flat."""
    bottom = codec.layers[0]
    return encode_levels(v, codec.levels, torch.float64).flatten().numpy() * (bottom.q_factor / bottom.bin_width)


def reverse_mean(codec: Codec, z: np.ndarray, here: Layer, below: Layer, shape) -> np.ndarray:
    """The mean of p(z_s|z_t), flat, in bins of the layer below; raises FloatingPointError where it is not finite."""
    latent = torch.from_numpy(z * here.bin_width).reshape(shape).to(codec.device)
    t, s = (latent.new_full((len(latent), 1, 1), layer.t) for layer in (here, below))
    with torch.inference_mode():
        x = codec.denoiser(latent.float(), t).x.double()
        mean = posterior(latent, x, t, s, codec.denoiser.schedule)[0].flatten().cpu().numpy() / below.bin_width
    if not np.isfinite(mean).all():
        raise FloatingPointError(f"the network's mean at t = {here.t:g} is not finite")
    return mean


def decoder_weights(codec: Codec, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p(x|z₀) ∝ exp(−½e^{−γ₀}(z₀/α₀ − x)²): the first level of each number's row, and the rows of weights [number, level].

    A row has the levels within DECODER_REACH standard deviations, or all where these are fewer.
    """
    bottom, levels = codec.layers[0], codec.levels
    y = z * (bottom.bin_width / bottom.q_factor)
    span = min(levels, 2 * math.ceil(DECODER_REACH * codec.decoder_std * levels / 2) + 1)
    first = np.clip(np.rint((y + 1) * levels / 2 - 0.5) - span // 2, 0, levels - span).astype(np.int64)
    values = (2.0 * (first[:, None] + np.arange(span)) + 1) / levels - 1
    energy = ((y[:, None] - values) / codec.decoder_std) ** 2 / 2
    return first, np.exp(energy.min(1, keepdims=True) - energy)


def environment(device: torch.device | None = None) -> dict:
    """What decides, beside weights and input, the last bits of what the network computes, and so whether a file decodes."""
    where = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "constriction": version("constriction"),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if device is None or device.type == "cpu":
        return where
    return where | {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """`count` threads for torch while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
