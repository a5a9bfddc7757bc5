"""Networks between a cloud of points and a few latent points: a set encoder, and denoisers of latents.

A shape is M latent points, each a place and some features, beside one global vector. Anchors are the farthest points of the
cloud, chosen once when it is encoded; each looks at the points around it (cross-attention in relative coordinates), then at
the other anchors. The way back is `nets.mixture`. All is equivariant in the order of points and of latent points.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding

PARTS = 6
"""Modulations of a block: shift, scale and gate of attention, and the same of the mixing after it."""

BLUR = 0.3
"""Deviation, in reaches, with which a point may belong to another than the nearest latent point."""

FORM = 6
"""Features of a latent point that begin as the form of what belongs to it."""

LEAST, MOST = -10.0, 2.0
"""Bounds of log σ of a posterior."""


class Gaussian(NamedTuple):
    """A normal distribution, independent in each number."""

    mean: Tensor
    log_sigma: Tensor

    def draw(self, eps: Tensor) -> Tensor:
        """μ + σε, for standard normal noise."""
        return self.mean + self.log_sigma.exp() * eps

    def divergence(self) -> Tensor:
        """KL(self ‖ N(0, 1)) of each number: (σ² + μ² − 1)/2 − log σ, in nats."""
        return (torch.exp(2 * self.log_sigma) + self.mean.square() - 1) / 2 - self.log_sigma


def farthest(points: Float[Tensor, "batch point 3"], count: int) -> Int[Tensor, "batch anchor"]:
    """Indices of `count` points, each the farthest from those before it; the first is the farthest from the mean.

    Which points are chosen does not depend on their order. Raises ValueError where there are fewer than `count`.
    """
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"farthest: {count} of {points.shape[1]} points asked for")
    distance = (points - points.mean(1, keepdim=True)).square().sum(-1)
    chosen = [distance.argmax(1)]
    distance = torch.full_like(distance, torch.inf)
    row = torch.arange(len(points), device=points.device)
    for _ in range(count - 1):
        last = points[row, chosen[-1]][:, None]
        distance = torch.minimum(distance, (points - last).square().sum(-1))
        chosen.append(distance.argmax(1))
    return torch.stack(chosen, 1)


def picked(rows: Float[Tensor, "batch row channel"], index: Int[Tensor, "batch *pick"]) -> Tensor:
    """rows[b, index[b]]: [batch, *pick, channel]."""
    flat = index.flatten(1)[..., None].expand(-1, -1, rows.shape[-1])
    return rows.gather(1, flat).unflatten(1, index.shape[1:])


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with weights and bias 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Mixing(nn.Module):
    """Attention over all tokens, then a mixing of each one; modulated, as the blocks of `nets.transformer` are.

    Attention is written out: for so few tokens, bfloat16 makes the fused kernel's gradient five times as slow on a CPU.
    """

    def __init__(self, width: int, heads: int, ratio: int):
        super().__init__()
        self.heads = heads
        self.offset = nn.Parameter(torch.tensor([0.0, 0.0, 0.1])[:, None].repeat(2, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU("tanh"), nn.Linear(ratio * width, width))

    def forward(self, h: Tensor, modulation: Float[Tensor, "part #batch #token width"]) -> Tensor:
        """New tokens; the block adds its own offset to `modulation`, and changes its input by a little at first."""
        shift, scale, gate, shift2, scale2, gate2 = modulation + self.offset[:, None, None]
        h = h + gate * self.attention(self.norm(h) * (1 + scale) + shift)
        return h + gate2 * self.mix(self.norm(h) * (1 + scale2) + shift2)

    def attention(self, h: Tensor) -> Tensor:
        """Every token looks at every other."""
        q, k, v = self.attend(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weight = torch.softmax(q @ k.transpose(-1, -2) / k.shape[-1] ** 0.5, -1)
        return self.gather((weight @ v).transpose(1, 2).flatten(2))


class Gathering(nn.Module):
    """Cross-attention from each anchor to the points around it, told by their offsets from it.

    Around are the nearest 3n/2m of n points for m anchors, so that what is gathered depends little on how many points there are.
    """

    def __init__(self, width: int, heads: int, reach: float):
        super().__init__()
        self.heads, self.reach = heads, reach
        inner = width // 2
        self.near = nn.Sequential(nn.Linear(3, inner), nn.SiLU())
        self.ask, self.tell, self.gather = nn.Linear(width, inner), nn.Linear(inner, width), nn.Linear(inner, width)

    def forward(
        self,
        h: Float[Tensor, "batch anchor width"],
        anchors: Float[Tensor, "batch anchor 3"],
        points: Float[Tensor, "batch point 3"],
    ) -> Float[Tensor, "batch anchor width"]:
        """What each anchor gathers."""
        count = max(1, min(3 * points.shape[1] // (2 * anchors.shape[1]), points.shape[1]))
        near = torch.cdist(anchors, points).topk(count, largest=False).indices
        offset = (picked(points, near) - anchors[:, :, None]) / self.reach
        key, value = self.tell(self.near(offset)).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        query = self.ask(h).unflatten(-1, (self.heads, -1))[:, :, None]
        weight = torch.softmax((query * key).sum(-1, keepdim=True) / key.shape[-1] ** 0.5, 2)
        return self.gather((weight * value).sum(2).flatten(-2))


def belonging(
    places: Float[Tensor, "batch anchor 3"], points: Float[Tensor, "batch point 3"], blur: float
) -> Float[Tensor, "batch anchor point"]:
    """How much each point belongs to each place, ∝ exp(−|x − h|²/2 blur²), 1 in all for each point."""
    return torch.softmax(-torch.cdist(places, points).square() / (2 * blur**2), 1)


@torch.no_grad()
def moments(
    anchors: Float[Tensor, "batch anchor 3"], points: Float[Tensor, "batch point 3"], reach: float
) -> tuple[Float[Tensor, "batch anchor 3"], Float[Tensor, "batch anchor 6"]]:
    """The mean of the points that belong to each anchor, and six numbers of −log C/2, C their covariance in reaches.

    Deviations below a tenth of a reach count as that: it is what the posterior begins with.
    """
    with torch.autocast(points.device.type, enabled=False):
        weight = belonging(anchors, points, BLUR * reach)
        weight = weight / weight.sum(2, keepdim=True).clamp_min(1e-6)
        square = (points[..., None] * points[..., None, :]).flatten(2)
        mean = weight @ points
        covariance = (weight @ square).unflatten(2, (3, 3)) - mean[..., None] * mean[..., None, :]
        values, vectors = torch.linalg.eigh(covariance / reach**2)
        logs = (vectors * (-values.clamp_min(1 / 100).log() / 2)[..., None, :]) @ vectors.transpose(-1, -2)
    return mean, logs.flatten(2)[..., [0, 4, 8, 1, 2, 5]]


class Seen(NamedTuple):
    """What an encoder saw around each anchor."""

    place: Float[Tensor, "batch anchor 3"]
    """The mean of the points that belong to it."""
    form: Float[Tensor, "batch anchor 6"]
    """−log C/2 of their covariance."""
    tokens: Float[Tensor, "batch anchor width"]
    """What attention found."""


class Encoder(nn.Module):
    """q(z₀ | x) and q(h₀ | x, z₀) of a cloud: a vector of `globals_` numbers, and places and features of latent points.

    As in LION h₀ begins as a copy of what is there: places and the first features are mean and form of the points around.
    """

    def __init__(self, width: int, heads: int, depth: int, globals_: int, features: int, reach: float):
        super().__init__()
        self.place, self.form = CoordinateEmbedding(3, width), nn.Linear(FORM, width)
        self.gathering = Gathering(width, heads, reach)
        self.first = nn.ModuleList(Mixing(width, heads, 2) for _ in range(depth // 2))
        self.second = nn.ModuleList(Mixing(width, heads, 2) for _ in range(depth - depth // 2))
        self.pool = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.SiLU())
        self.tell = zeroed(nn.Linear(width, 2 * globals_))
        self.modulate = zeroed(nn.Linear(globals_, PARTS * width))
        self.norm, self.leave = nn.LayerNorm(width), zeroed(nn.Linear(width, 2 * (3 + features)))
        nn.init.normal_(self.leave.weight[3 + FORM : 3 + features], std=0.5 / width**0.5)

    def summary(self, points: Float[Tensor, "batch point 3"], count: int) -> tuple[Seen, Gaussian]:
        """What is seen around `count` anchors, and q(z₀ | x), which begins at N(0, e⁻⁶)."""
        anchors = picked(points, farthest(points, count))
        place, form = moments(anchors, points, self.gathering.reach)
        h = self.place(place) + self.form(form)
        h = h + self.gathering(h, place, points)
        still = h.new_zeros(PARTS, 1, 1, h.shape[-1])
        for block in self.first:
            h = block(h, still)
        mean, log_sigma = self.tell(self.pool(torch.cat([h.mean(1), h.amax(1)], -1))).float().chunk(2, -1)
        return Seen(place, form, h), Gaussian(mean, (log_sigma - 3).clamp(LEAST, MOST))

    def points_given(self, seen: Seen, z: Float[Tensor, "batch global"]) -> Gaussian:
        """q(h₀ | x, z₀)."""
        modulation, h = self.modulate(z)[:, None].unflatten(-1, (PARTS, -1)).movedim(-2, 0), seen.tokens
        for block in self.second:
            h = block(h, modulation)
        change, log_sigma = self.leave(self.norm(h)).float().chunk(2, -1)
        start = torch.cat([seen.place, seen.form, seen.form.new_zeros(*change.shape[:2], change.shape[-1] - 9)], -1)
        scale = change.new_tensor([0.1 * self.gathering.reach] * 3 + [1.0] * (change.shape[-1] - 3))
        least = change.new_tensor([math.log(0.06 * self.gathering.reach)] * 3 + [-3.0] * (change.shape[-1] - 3))
        return Gaussian(start + scale * change, torch.maximum(log_sigma + 0.5 + least, least).clamp_max(MOST))


class LatentDenoiser(nn.Module):
    """A transformer over the variables of a shape: z₀ in `rows` of `channels` numbers, and then latent points.

    The first have learned places; those of latent points are their noisy coordinates. Every variable has its own noise level,
    to which the class is added; 0 is no class.
    """

    def __init__(self, rows: int, channels: int, classes: int, shape: tuple[int, int, int]):
        super().__init__()
        width, heads, depth = shape
        self.rows = rows
        self.enter, self.place = nn.Linear(channels, width), CoordinateEmbedding(3, width)
        self.slots = nn.Parameter(0.5 * torch.randn(rows, width))
        self.spread = nn.Linear(rows * channels, width)
        self.level, self.label = LevelEmbedding(width), nn.Embedding(1 + classes, width)
        self.modulate = zeroed(nn.Linear(width, PARTS * width))
        self.blocks = nn.ModuleList(Mixing(width, heads, 3) for _ in range(depth))
        self.norm, self.leave = nn.LayerNorm(width), zeroed(nn.Linear(width, channels))

    def forward(
        self,
        z: Float[Tensor, "batch variable channel"],
        t: Float[Tensor, "batch variable 1"],
        label: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch variable channel"]:
        """What a linear guess of the velocity leaves over."""
        level = self.level(t)
        places = self.place(z[:, self.rows :, :3] / 2)
        slots = self.slots.expand(len(z), -1, -1).to(places.dtype)
        known = (1 - t[:, :1, 0]).to(z) * z[:, : self.rows].flatten(1)
        condition = level + (self.label(label) + self.spread(known))[:, None]
        h = self.enter(z) + torch.cat([slots, places], 1) + level
        modulation = self.modulate(nn.functional.silu(condition)).unflatten(-1, (PARTS, -1)).movedim(-2, 0)
        for block in self.blocks:
            h = block(h, modulation)
        return self.leave(self.norm(h)).float()


class GlobalDenoiser(nn.Module):
    """A residual network over z₀ [batch, 1, numbers], modulated by its noise level and class; 0 is no class."""

    def __init__(self, numbers: int, classes: int, width: int = 160, depth: int = 3):
        super().__init__()
        self.enter, self.level = nn.Linear(numbers, width), LevelEmbedding(width)
        self.label = nn.Embedding(1 + classes, width)
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.into = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.back = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.leave = zeroed(nn.Linear(width, numbers))

    def forward(
        self, z: Float[Tensor, "batch 1 number"], t: Float[Tensor, "batch 1 1"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 number"]:
        """What a linear guess of the velocity leaves over."""
        condition = nn.functional.silu(self.level(t)[:, 0] + self.label(label))
        h = self.enter(z[:, 0])
        for modulate, into, back in zip(self.modulate, self.into, self.back, strict=True):
            shift, scale = modulate(condition).chunk(2, -1)
            h = h + back(nn.functional.silu(into(self.norm(h) * (1 + scale) + shift)))
        return self.leave(self.norm(h)).float()[:, None]
