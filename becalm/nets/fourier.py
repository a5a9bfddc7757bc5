"""Fourier features at high frequencies, from which a network reads the last bits of discretised data (VDM, appendix C)."""

import math

import torch

from becalm.core.typing import Float, Tensor


def fourier_frequencies(levels: int) -> tuple[float, float]:
    """Two frequencies, in units of π, for `levels` values on [−1, 1], 2/levels apart.

    The phase of levels/2 changes by π from one value to the next and shows the last bit; that of levels changes by 2π, is the
    same on all clean values and shows the noise between them. For 256 they are VDM's 2⁷ and 2⁸.
    """
    return levels / 2, float(levels)


def fourier_features(
    z: Float[Tensor, "*shape channel"], frequencies: tuple[float, ...]
) -> Float[Tensor, "*shape feature"]:
    """sin and cos of π f z for every f of `frequencies`: all sines, then all cosines, channel by channel, frequencies fastest.

    [..., 2 · channels · frequencies], float32 or better; z must not have been rounded (to bfloat16). f z is reduced
    modulo 2 before the multiplication by π, exactly where f is a power of two.
    """
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    turns = z[..., None] * torch.tensor(frequencies, dtype=z.dtype, device=z.device)
    angle = math.pi * (turns - 2 * torch.round(turns.detach() / 2)).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], -1)
