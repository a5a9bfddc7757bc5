"""A network over variables that fill a square, as the patches of an image do: convolutions and attention in turn."""

import math

import torch
from torch import nn
from torch.nn.functional import conv2d, silu

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding
from becalm.nets.transformer import N_MODULATIONS, AttentionBlock, ModulatedBlock, Shape, open_gates

CONTEXT_SCALE = 10.0
"""Counts are divided by it before they are embedded as coordinates."""


def radial_kernels(radius: int, ring_width: float) -> Float[Tensor, "kernel down across"]:
    """Basis of kernels of side 2 radius + 1: tent functions of the distance, `ring_width` apart; each alone and times the
    cosine and the sine of the direction."""
    at = torch.arange(-radius, radius + 1, device="cpu").float()  # also where modules are made without data, on "meta"
    down, across = torch.meshgrid(at, at, indexing="ij")
    distance = (down.square() + across.square()).sqrt()
    centres = torch.arange(math.ceil(radius / ring_width) + 1, device="cpu")[:, None, None]
    ring = (1 - (distance / ring_width - centres).abs()).clamp_min(0)
    direction = torch.stack([torch.ones_like(distance), down / distance.clamp_min(1), across / distance.clamp_min(1)])
    return (ring[:, None] * direction).flatten(0, 1)


class ConvBlock(ModulatedBlock):
    """A 3 × 3 convolution plus a depthwise radial convolution, then an MLP; both modulated per place.

    The radial kernel of each channel is a learned combination of `kernels` [kernel, down, across]: few weights reach far, by
    distance and direction.
    """

    def __init__(self, width: int, mlp_ratio: int, kernels: Tensor):
        super().__init__(width, mlp_ratio)
        self.kernels = kernels
        self.local_conv = nn.Conv2d(width, width, 3, padding=1)
        self.radial_weights = nn.Parameter(torch.zeros(width, len(kernels)))

    def mix_variables(self, h: Float[Tensor, "batch place width"], same_place: Tensor | None) -> Tensor:
        """Both convolutions over the square of places."""
        side = math.isqrt(h.shape[1])
        planes = h.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        kernel = torch.tensordot(self.radial_weights, self.kernels.to(self.radial_weights), 1)[:, None].to(planes)
        radial = conv2d(planes, kernel, padding=self.kernels.shape[-1] // 2, groups=len(kernel))
        return (self.local_conv(planes) + radial).permute(0, 2, 3, 1).flatten(1, 2)


class ConvAttention(nn.Module):
    """From noisy patches, their levels and their coordinates to `outputs` numbers for each.

    The patches fill a square in row-major order; `shape.depth` pairs of a ConvBlock and an AttentionBlock follow each other. The
    last `n_context` channels are counts, the same for all patches: embedded as sinusoids, as a linear function hardly separates
    three from four, they are added to every token and, by layers of their own, to the output.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        shape: Shape,
        n_context: int = 0,
        radius: int = 5,
        ring_width: float = 0.8,
    ):
        super().__init__()
        if shape.loops != 1:
            raise ValueError(f"ConvAttention: {shape.loops} loops: it is run once")
        width, self.n_context, kernels = shape.width, n_context, radial_kernels(radius, ring_width)
        self.level, self.place = LevelEmbedding(width), CoordinateEmbedding(2, width)
        self.modulate = nn.Linear(width, N_MODULATIONS * width)
        self.enter = nn.Linear(channels - n_context, width)
        layers = CoordinateEmbedding(n_context, width), nn.SiLU(), nn.Linear(width, width)
        self.context_in = nn.Sequential(*layers) if n_context else None
        self.context_out = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU()) if n_context else None
        self.add = nn.Linear(width, outputs) if n_context else None
        blocks = [
            (ConvBlock(width, 1, kernels), AttentionBlock(width, shape.heads, shape.mlp_ratio))
            for _ in range(shape.depth)
        ]
        self.blocks = nn.ModuleList(block for pair in blocks for block in pair)
        self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, outputs)
        for layer in (self.modulate, self.leave, self.add):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        open_gates(self.blocks)

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"], places: Tensor
    ) -> Float[Tensor, "1 batch variable output"]:
        """The output, with a first axis for the one run there is; `places` [variable, 2], coordinates."""
        level = self.level(t)
        modulation = self.modulate(silu(level)).unflatten(-1, (N_MODULATIONS, -1)).movedim(-2, 0)
        h = self.enter(z[..., : z.shape[-1] - self.n_context]) + self.place(places) + level
        output: Tensor | float = 0.0
        if self.context_in and self.context_out and self.add:
            context = self.context_in(z[:, :1, -self.n_context :] / CONTEXT_SCALE)
            h, output = h + context, self.add(self.context_out(context))
        for block in self.blocks:
            h = block(h, modulation)
        return (output + self.leave(self.norm(h)))[None]
