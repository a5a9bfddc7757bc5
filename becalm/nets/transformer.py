"""A transformer over variables: each token is one variable, modulated by its own noise level.

Adaptive normalisation is that of DiT (Peebles & Xie 2023) with its modulation computed once for all layers, each of which
adds an offset of its own (as in PixArt-α, 2023). The stack may be run several times with the same weights, the input being
added anew before each run: depth without parameters.
"""

from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import CoordinateEmbedding, IndexEmbedding, LevelEmbedding

PARTS = 6
"""Modulations of a block: shift, scale and gate of attention, and the same of the mixing after it."""

INCLINED = 3.0
"""What sharing a place adds to a logit of attention at first."""


class Shape(NamedTuple):
    """The size of a transformer."""

    width: int = 128
    """Numbers a token carries between layers."""
    heads: int = 4
    """Attention heads."""
    depth: int = 4
    """Blocks with weights of their own."""
    loops: int = 1
    """Times the blocks are run."""
    ratio: int = 4
    """Width within the mixing after attention, over the width."""


class Modulated(nn.Module):
    """A block of a network over variables: each gathers from others, then mixes its own numbers; both modulated per variable."""

    def __init__(self, width: int, ratio: int):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(PARTS, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mix = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU("tanh"), nn.Linear(ratio * width, width))

    def forward(
        self,
        h: Tensor,
        modulation: Float[Tensor, "part batch variable width"],
        kin: Float[Tensor, "table variable variable"] | None = None,
    ) -> Tensor:
        """New tokens; `modulation` is that of all layers, to which the block adds its offset; `kin` who shares which place."""
        shift, scale, gate, shift2, scale2, gate2 = modulation + self.offset[:, None, None]
        h = h + gate * self.gathered(self.norm(h) * (1 + scale) + shift, kin)
        return h + gate2 * self.mix(self.norm(h) * (1 + scale2) + shift2)

    def gathered(self, h: Tensor, kin: Tensor | None) -> Tensor:
        """What each variable learns from the others."""
        raise NotImplementedError


class Block(Modulated):
    """Attention over all variables.

    Each head has an inclination to variables that share a place with the one that looks; at first that of the first heads is
    strong, each to one table, so that a head gathers a row, a column or a box without having to find out what these are.
    """

    def __init__(self, width: int, heads: int, ratio: int, tables: int = 0):
        super().__init__(width, ratio)
        self.heads = heads
        kind = torch.arange(heads)[:, None] % (tables + 1)
        self.kinship = nn.Parameter(INCLINED * (kind == torch.arange(tables)).float()) if tables else None
        self.attend = nn.Linear(width, 3 * width)
        self.gather = nn.Linear(width, width)

    def gathered(self, h: Tensor, kin: Tensor | None) -> Tensor:
        """Every variable looks at every other, rather at its kin."""
        q, k, v = self.attend(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = None if kin is None else torch.tensordot(self.kinship, kin, 1).to(q)  # type: ignore[arg-type]
        return self.gather(attended(q, k, v, bias).transpose(1, 2).flatten(2))


def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Float[Tensor, "batch head variable width"]:
    """softmax(q kᵀ/√d + bias) v. To learn on a CPU it is written out: the fused one's derivative takes three times as long."""
    if q.is_cuda or not torch.is_grad_enabled():
        return nn.functional.scaled_dot_product_attention(q, k, v, bias)
    logits = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
    weights = torch.softmax(logits if bias is None else logits + bias, -1, dtype=torch.float32)
    return weights.to(v) @ v


class GrainHead(nn.Module):
    """What one small network tells of each grain of a variable, as of each pixel of a patch.

    It sees the grain as it is, noise and all, so that a token has to carry only what its grains have in common. Between its
    layers each grain is told the mean over all grains of the variable: what they have to make up together is shared out so.
    """

    def __init__(self, width: int, grains: int, grain: int, inner: int = 64, depth: int = 3):
        super().__init__()
        self.count, self.grain = grains, grain
        self.see, self.leave = nn.Linear(grain, inner), nn.Linear(inner, grain)
        self.place = nn.Parameter(torch.randn(grains, inner))
        self.tell = nn.Linear(width, 2 * depth * inner)
        self.mix = nn.ModuleList(nn.Linear(inner, inner) for _ in range(depth - 1))
        self.share = nn.ModuleList(nn.Linear(inner, inner, bias=False) for _ in range(depth - 1))
        for layer in (self.leave, *self.share):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, h: Float[Tensor, "batch variable width"], z: Float[Tensor, "batch variable channel"]
    ) -> Float[Tensor, "batch variable number"]:
        """A number for every one in the grains, which come first among the channels, from the token h."""
        first, *others = self.tell(h)[..., None, :].chunk(len(self.mix) + 1, -1)
        seen = z[..., : self.count * self.grain].unflatten(-1, (self.count, self.grain))
        grains = nn.functional.silu(modulated(self.see(seen), first) + self.place)
        for mix, share, told in zip(self.mix, self.share, others, strict=True):
            common = share(grains.mean(-2, keepdim=True))
            grains = grains + nn.functional.silu(modulated(mix(grains), told) + common)
        return self.leave(grains).flatten(-2)


def modulated(h: Float[Tensor, "*token width"], told: Float[Tensor, "*other twice"]) -> Float[Tensor, "*token width"]:
    """h (1 + scale) + shift, with both halves of what is told."""
    scale, shift = told.chunk(2, -1)
    return h * (1 + scale) + shift


class Transformer(nn.Module):
    """From noisy variables, their levels and their places to `outputs` numbers for each.

    Places are numbers from tables of the given sizes, or coordinates on `axes` axes. Where the first channels of a
    variable are `grains` = (count, size) grains, a `GrainHead`, `grain_depth` deep, adds its part to the first outputs.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        sizes: tuple[int, ...] = (),
        axes: int = 0,
        shape: Shape | None = None,
        grains: tuple[int, int] = (0, 0),
        grain_depth: int = 3,
    ):
        super().__init__()
        shape = shape or Shape()
        if bool(sizes) == bool(axes):
            raise ValueError("Transformer: give either the sizes of place tables or a number of coordinate axes")
        width = shape.width
        self.loops = shape.loops
        self.enter = nn.Sequential(nn.Linear(channels, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.place = IndexEmbedding(sizes, width) if sizes else CoordinateEmbedding(axes, width)
        self.level = LevelEmbedding(width)
        self.modulate = nn.Linear(width, PARTS * width)
        self.blocks = nn.ModuleList(Block(width, shape.heads, shape.ratio, len(sizes)) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, outputs))
        self.grains = GrainHead(width, *grains, depth=grain_depth) if all(grains) else None
        self.begin()

    def begin(self) -> None:
        """Gates begin open by a little and the answer at zero, so that a fresh network changes next to nothing."""
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        for block in self.blocks:
            with torch.no_grad():
                block.offset[[2, 5]] = 0.1  # type: ignore[index]
        last = self.leave[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(
        self, z: Float[Tensor, "batch variable channel"], t: Float[Tensor, "batch variable 1"], places: Tensor
    ) -> Float[Tensor, "loop batch variable output"]:
        """The answer after each run of the stack; the last one counts. `places` [variable, tables or axes]."""
        level = self.level(t)
        told = self.enter(z) + self.place(places) + level
        modulation = self.modulate(nn.functional.silu(level)).unflatten(-1, (PARTS, -1)).movedim(-2, 0)
        kin = (places[:, None] == places).movedim(-1, 0).to(told) if isinstance(self.place, IndexEmbedding) else None
        h, answers = torch.zeros_like(told), []
        for _ in range(self.loops):
            h = h + told
            for block in self.blocks:
                h = block(h, modulation, kin)
            said = self.leave(token := self.norm(h))
            if self.grains is not None:
                fine = self.grains(token, z)
                said = said + nn.functional.pad(fine, (0, said.shape[-1] - fine.shape[-1]))
            answers.append(said)
        return torch.stack(answers)
