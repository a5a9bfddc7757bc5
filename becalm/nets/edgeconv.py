"""The two networks of score-based point-cloud denoising: dense edge convolutions, and a score per anchor.

Luo & Hu, "Score-Based Point Cloud Denoising", ICCV 2021, §§ 3.2 and 3.3. Linear maps of concatenations are written as
sums of linear maps, so that terms of one point only are computed once for the point and not for each edge.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear

from becalm.core.typing import Float, Int, Tensor


def nearest_features(f: Float[Tensor, "patch point channel"], k: int) -> Int[Tensor, "patch point k"]:
    """The k nearest other points in feature space, nearest first: all pairs by a matrix product, in float32.

    Rounding of |a|² − 2ab + |b|² is undone by ranking a few more candidates by |a − b|² itself.
    """
    with torch.no_grad(), torch.autocast(f.device.type, enabled=False):
        f = (f - f.mean(1, keepdim=True)).float()
        squares = f.square().sum(-1)
        distance = torch.baddbmm(squares[:, None, :], f, f.mT, alpha=-2)
        distance.masked_fill_(torch.eye(f.shape[1], dtype=torch.bool, device=f.device), torch.inf)
        candidates = distance.topk(min(k + 4, f.shape[1] - 1), largest=False, sorted=False).indices
        exact = (gather_neighbours(f, candidates) - f[:, :, None]).square().sum(-1)
        return candidates.gather(-1, exact.topk(min(k, exact.shape[-1]), largest=False).indices)


def gather_neighbours(
    f: Float[Tensor, "patch point channel"], edges: Int[Tensor, "patch point k"]
) -> Float[Tensor, "patch point k c"]:
    """The values of the neighbours at the ends of the edges."""
    patches, points, channels = f.shape
    rows = edges + points * torch.arange(patches, device=f.device)[:, None, None]
    return f.reshape(-1, channels).index_select(0, rows.reshape(-1)).reshape(*edges.shape, channels)


class EdgeConv(nn.Module):
    """Dense edge convolution over the dynamic graph of nearest features, channels → channels + 3·growth.

    y₁ = ReLU(U f_i + V f_j), y₂ = ReLU(W₂ y₁ + U₂ f_i), y₃ = W₃ [y₂, y₁] + U₃ f_i; max over edges of [y₃, y₂, y₁, f_i].
    The paper's first edge layer acts on [f_i, f_j, f_j − f_i], which spans the same functions as (U, V).
    """

    def __init__(self, channels: int, growth: int, neighbours: int):
        super().__init__()
        self.neighbours = neighbours
        self.own = nn.Linear(channels, 3 * growth)
        self.other = nn.Linear(channels, growth, bias=False)
        self.middle = nn.Linear(growth, growth, bias=False)
        self.last = nn.Linear(2 * growth, growth, bias=False)

    def forward(self, f: Float[Tensor, "patch point channel"]) -> Float[Tensor, "patch point more"]:
        own1, own2, own3 = self.own(f).chunk(3, -1)
        y1 = (gather_neighbours(self.other(f), nearest_features(f, self.neighbours)) + own1[:, :, None]).relu()
        y2 = (self.middle(y1) + own2[:, :, None]).relu()
        y3 = self.last(torch.cat([y2, y1], -1))
        return torch.cat([y3.amax(2) + own3, y2.amax(2), y1.amax(2), f], -1)


class FeatureNetwork(nn.Module):
    """Four units of a pointwise linear map and an EdgeConv: h [60] of each point from its patch (paper § 3.2)."""

    def __init__(self, channels: int = 24, growth: int = 12, neighbours: int = 16, units: int = 4):
        super().__init__()
        self.width = channels + 3 * growth
        self.maps = nn.ModuleList(nn.Linear(self.width if u else 3, channels) for u in range(units))
        self.convolutions = nn.ModuleList(EdgeConv(channels, growth, neighbours) for _ in range(units))

    def forward(self, patches: Float[Tensor, "patch point 3"]) -> Float[Tensor, "patch point feature"]:
        h = self.convolutions[0](self.maps[0](patches))
        for to_channels, convolve in zip(self.maps[1:], self.convolutions[1:], strict=True):  # type: ignore
            h = convolve(to_channels(h).relu())
        return h


class Block(nn.Module):
    """The residual part of one block: F₁ ReLU(norm₁ F₀ ReLU(norm₀ n)), with F₁ initialised to zero."""

    def __init__(self, hidden: int):
        super().__init__()
        self.norm0, self.norm1 = nn.BatchNorm1d(hidden), nn.BatchNorm1d(hidden)
        self.inner, self.outer = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        nn.init.zeros_(self.outer.weight)

    def forward(self, n: Float[Tensor, "sample hidden"]) -> Float[Tensor, "sample hidden"]:
        return self.outer(self.norm1(self.inner(self.norm0(n).relu())).relu())


class ScoreNetwork(nn.Module):
    """S_i(x) from the offset x − x_i and the anchor's features h_i (paper § 3.3): n ← n + Block(n) + Fc [x − x_i, h_i].

    `offset` and `context` are the first linear map and every block's Fc, concatenated.
    """

    def __init__(self, features: int = 60, hidden: int = 128, blocks: int = 4):
        super().__init__()
        self.offset = nn.Linear(3, (blocks + 1) * hidden, bias=False)
        self.context = nn.Linear(features, (blocks + 1) * hidden)
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(blocks))
        self.norm, self.out = nn.BatchNorm1d(hidden), nn.Linear(hidden, 3)

    def forward(
        self, offset: Float[Tensor, "anchor k 3"], features: Float[Tensor, "anchor feature"]
    ) -> Float[Tensor, "anchor k 3"]:
        inputs = (self.offset(offset) + self.context(features)[:, None]).flatten(0, 1)
        n, *rest = inputs.chunk(len(self.blocks) + 1, -1)
        for block, more in zip(self.blocks, rest, strict=True):
            n = n + block(n) + more
        return self.out(self.norm(n).relu()).reshape(offset.shape)


class FrozenScoreNetwork(NamedTuple):
    """The weights of a ScoreNetwork in evaluation mode: running statistics folded into the linear maps, all of one dtype."""

    offset: list[Tensor]
    context: list[tuple[Tensor, Tensor]]
    blocks: list[tuple[Tensor, ...]]
    scale: Tensor
    shift: Tensor
    out: tuple[Tensor, Tensor]


@torch.no_grad()
def freeze(net: ScoreNetwork, dtype: torch.dtype) -> FrozenScoreNetwork:
    """Fold the normalisations: norm₁ and the bias of F₁ into the maps next to them, norm₀ into one scale and shift."""
    parts = len(net.blocks) + 1
    biases = list(net.context.bias.chunk(parts))
    blocks = []
    residuals: list[Block] = list(net.blocks)  # type: ignore
    for i, block in enumerate(residuals):
        scale0, shift0 = _batch_norm_affine(block.norm0)
        scale1, shift1 = _batch_norm_affine(block.norm1)
        inner = block.inner.weight * scale1[:, None], block.inner.bias * scale1 + shift1
        biases[i + 1] = biases[i + 1] + block.outer.bias
        blocks.append(tuple(a.to(dtype) for a in (scale0, shift0, *inner, block.outer.weight.T.contiguous())))
    offset = [w.T.contiguous().to(dtype) for w in net.offset.weight.chunk(parts)]
    context = [(w.to(dtype), b.to(dtype)) for w, b in zip(net.context.weight.chunk(parts), biases, strict=True)]
    out = net.out.weight.to(dtype), net.out.bias.to(dtype)
    scale, shift = _batch_norm_affine(net.norm)
    return FrozenScoreNetwork(offset, context, blocks, scale.to(dtype), shift.to(dtype), out)


def _batch_norm_affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """The scale and shift of a batch norm in evaluation mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def frozen_scores(
    net: FrozenScoreNetwork,
    offset: Float[Tensor, "anchor k 3"],
    features: Float[Tensor, "anchor feature"],
    chunk: int = 2048,
) -> Float[Tensor, "anchor k 3"]:
    """ScoreNetwork.forward in evaluation mode, float32 in and out, `chunk` samples at a time, which fit in the cache."""
    result = torch.empty_like(offset)
    size = max(1, chunk // offset.shape[1])
    for start in range(0, len(offset), size):
        rows = slice(start, start + size)
        result[rows] = _frozen_scores(net, offset[rows].to(net.scale.dtype), features[rows].to(net.scale.dtype))
    return result


def _frozen_scores(net: FrozenScoreNetwork, offset: Tensor, features: Tensor) -> Tensor:
    k, flat = offset.shape[1], offset.flatten(0, 1)
    n = None
    for i, (weight, bias) in enumerate(net.context):
        own = linear(features, weight, bias)
        if n is None:
            n = flat @ net.offset[i]
        else:
            scale, shift, inner, inner_bias, outer = net.blocks[i - 1]
            u = linear(torch.addcmul(shift, n, scale).relu_(), inner, inner_bias).relu_()
            n.addmm_(u, outer).addmm_(flat, net.offset[i])
        n.unflatten(0, (-1, k)).add_(own[:, None])
    assert n is not None
    return linear(torch.addcmul(net.shift, n, net.scale).relu_(), *net.out).reshape(offset.shape)
