"""Networks between a point cloud and a few latent points: a set encoder, and denoisers of latents.

A shape is M latent points, each a position and some features, and one global vector. Anchors are chosen by farthest point
sampling once, when the cloud is encoded; each attends to the points around it (cross-attention in relative coordinates), then to
the other anchors. The decoder is in `nets.mixture`. All networks are equivariant to the order of points and of latent points.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.embed import CoordinateEmbedding, LevelEmbedding

MODULATIONS = 6
"""Modulations of a block: shift, scale and gate of the attention, and the same of the MLP after it."""

ASSIGNMENT_WIDTH = 0.3
"""Standard deviation, in patch radii, of the soft assignment of points to latent points."""

SHAPE_FEATURES = 6
"""Features of a latent point that begin as the logarithm of the whitening matrix of its points."""

MIN_LOG_SIGMA, MAX_LOG_SIGMA = -10.0, 2.0
"""Bounds of log σ of a posterior."""


class Gaussian(NamedTuple):
    """A normal distribution, independent in each dimension."""

    mean: Tensor
    log_sigma: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """μ + σε, for standard normal noise ε."""
        return self.mean + self.log_sigma.exp() * eps

    def kl(self) -> Tensor:
        """KL(self ‖ N(0, 1)) of each dimension: (σ² + μ² − 1)/2 − log σ, in nats."""
        return (torch.exp(2 * self.log_sigma) + self.mean.square() - 1) / 2 - self.log_sigma


def farthest_points(points: Float[Tensor, "batch point 3"], count: int) -> Int[Tensor, "batch anchor"]:
    """Indices of `count` points, each the farthest from those before it; the first is the farthest from the mean.

    The chosen points do not depend on the order of the cloud. Raises ValueError where there are fewer than `count`.
    """
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"farthest_points: {count} of {points.shape[1]} points asked for")
    distance = (points - points.mean(1, keepdim=True)).square().sum(-1)
    chosen = [distance.argmax(1)]
    distance = torch.full_like(distance, torch.inf)
    row = torch.arange(len(points), device=points.device)
    for _ in range(count - 1):
        last = points[row, chosen[-1]][:, None]
        distance = torch.minimum(distance, (points - last).square().sum(-1))
        chosen.append(distance.argmax(1))
    return torch.stack(chosen, 1)


def gather_rows(rows: Float[Tensor, "batch row channel"], index: Int[Tensor, "batch *pick"]) -> Tensor:
    """rows[b, index[b]]: [batch, *pick, channel]."""
    flat = index.flatten(1)[..., None].expand(-1, -1, rows.shape[-1])
    return rows.gather(1, flat).unflatten(1, index.shape[1:])


def zero_init(layer: nn.Linear) -> nn.Linear:
    """The layer with weights and bias 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class AttentionBlock(nn.Module):
    """Self-attention over all tokens, then an MLP of each; both modulated (adaptive layer norm), as in `nets.transformer`.

    Attention is written out: for so few tokens, bfloat16 makes the fused kernel's gradient five times as slow on a CPU.
    """

    former_names: ClassVar = {"modulation_bias": "offset", "qkv": "attend", "output": "gather", "mlp": "mix"}

    def __init__(self, width: int, heads: int, ratio: int):
        super().__init__()
        self.heads = heads
        self.modulation_bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.1])[:, None].repeat(2, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU("tanh"), nn.Linear(ratio * width, width))

    def forward(self, h: Tensor, modulation: Float[Tensor, "part #batch #token width"]) -> Tensor:
        """The tokens after the block; it adds its own bias to `modulation`, and changes its input by little at first."""
        shift, scale, gate, shift2, scale2, gate2 = modulation + self.modulation_bias[:, None, None]
        h = h + gate * self.attention(self.norm(h) * (1 + scale) + shift)
        return h + gate2 * self.mlp(self.norm(h) * (1 + scale2) + shift2)

    def attention(self, h: Tensor) -> Tensor:
        """Multi-head self-attention."""
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weight = torch.softmax(q @ k.transpose(-1, -2) / k.shape[-1] ** 0.5, -1)
        return self.output((weight @ v).transpose(1, 2).flatten(2))


class NeighbourAttention(nn.Module):
    """Cross-attention from each anchor to the points around it, whose keys and values are functions of their offsets from it.

    The neighbours are the nearest 3n/2m of n points for m anchors, so that the result depends little on how many points there
    are.
    """

    former_names: ClassVar = {"offset_mlp": "near", "query": "ask", "key_value": "tell", "output": "gather"}

    def __init__(self, width: int, heads: int, patch_radius: float):
        super().__init__()
        self.heads, self.patch_radius = heads, patch_radius
        inner = width // 2
        self.offset_mlp = nn.Sequential(nn.Linear(3, inner), nn.SiLU())
        self.query, self.key_value = nn.Linear(width, inner), nn.Linear(inner, width)
        self.output = nn.Linear(inner, width)

    def forward(
        self,
        h: Float[Tensor, "batch anchor width"],
        anchors: Float[Tensor, "batch anchor 3"],
        points: Float[Tensor, "batch point 3"],
    ) -> Float[Tensor, "batch anchor width"]:
        """What each anchor, with token h, reads from its neighbours."""
        count = max(1, min(3 * points.shape[1] // (2 * anchors.shape[1]), points.shape[1]))
        near = torch.cdist(anchors, points).topk(count, largest=False).indices
        offset = (gather_rows(points, near) - anchors[:, :, None]) / self.patch_radius
        key, value = self.key_value(self.offset_mlp(offset)).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        query = self.query(h).unflatten(-1, (self.heads, -1))[:, :, None]
        weight = torch.softmax((query * key).sum(-1, keepdim=True) / key.shape[-1] ** 0.5, 2)
        return self.output((weight * value).sum(2).flatten(-2))


def assignment_weights(
    anchors: Float[Tensor, "batch anchor 3"], points: Float[Tensor, "batch point 3"], width: float
) -> Float[Tensor, "batch anchor point"]:
    """q(a | x) ∝ exp(−|x − a|²/2 width²): the soft assignment of each point to the anchors, which sums to 1 over them."""
    return torch.softmax(-torch.cdist(anchors, points).square() / (2 * width**2), 1)


@torch.no_grad()
def assigned_moments(
    anchors: Float[Tensor, "batch anchor 3"], points: Float[Tensor, "batch point 3"], patch_radius: float
) -> tuple[Float[Tensor, "batch anchor 3"], Float[Tensor, "batch anchor 6"]]:
    """Mean of the points assigned to each anchor, and −log C/2 as six numbers (xx yy zz xy xz yz), C their covariance.

    C is in patch radii; standard deviations below a tenth of a radius count as that, with which the posterior begins.
    """
    with torch.autocast(points.device.type, enabled=False):
        weight = assignment_weights(anchors, points, ASSIGNMENT_WIDTH * patch_radius)
        weight = weight / weight.sum(2, keepdim=True).clamp_min(1e-6)
        square = (points[..., None] * points[..., None, :]).flatten(2)
        mean = weight @ points
        covariance = (weight @ square).unflatten(2, (3, 3)) - mean[..., None] * mean[..., None, :]
        values, vectors = torch.linalg.eigh(covariance / patch_radius**2)
        logs = (vectors * (-values.clamp_min(1 / 100).log() / 2)[..., None, :]) @ vectors.transpose(-1, -2)
    return mean, logs.flatten(2)[..., [0, 4, 8, 1, 2, 5]]


class AnchorFeatures(NamedTuple):
    """What an encoder computes at each anchor."""

    mean: Float[Tensor, "batch anchor 3"]
    """Mean of the points assigned to it."""
    log_whitening: Float[Tensor, "batch anchor 6"]
    """−log C/2 of their covariance C: the logarithm of the matrix that whitens them."""
    tokens: Float[Tensor, "batch anchor width"]
    """Its token after attention."""


class Encoder(nn.Module):
    """q(z₀ | x) and q(h₀ | x, z₀) of a cloud: a vector of `globals_` numbers, and positions and features of latent points.

    As in LION h₀ begins as a copy of the input: positions and the first features are mean and covariance of the points around.
    """

    former_names: ClassVar = {
        "embed_mean": "place",
        "embed_whitening": "form",
        "neighbours": "gathering",
        "global_blocks": "first",
        "point_blocks": "second",
        "global_head": "tell",
        "point_head": "leave",
    }

    def __init__(self, width: int, heads: int, depth: int, globals_: int, features: int, patch_radius: float):
        super().__init__()
        self.embed_mean, self.embed_whitening = CoordinateEmbedding(3, width), nn.Linear(SHAPE_FEATURES, width)
        self.neighbours = NeighbourAttention(width, heads, patch_radius)
        self.global_blocks = nn.ModuleList(AttentionBlock(width, heads, 2) for _ in range(depth // 2))
        self.point_blocks = nn.ModuleList(AttentionBlock(width, heads, 2) for _ in range(depth - depth // 2))
        self.pool = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.SiLU())
        self.global_head = zero_init(nn.Linear(width, 2 * globals_))
        self.modulate = zero_init(nn.Linear(globals_, MODULATIONS * width))
        self.norm, self.point_head = nn.LayerNorm(width), zero_init(nn.Linear(width, 2 * (3 + features)))
        nn.init.normal_(self.point_head.weight[3 + SHAPE_FEATURES : 3 + features], std=0.5 / width**0.5)

    def encode_global(self, points: Float[Tensor, "batch point 3"], count: int) -> tuple[AnchorFeatures, Gaussian]:
        """Features of `count` anchors, and q(z₀ | x), which begins at N(0, e⁻⁶)."""
        anchors = gather_rows(points, farthest_points(points, count))
        mean, log_whitening = assigned_moments(anchors, points, self.neighbours.patch_radius)
        h = self.embed_mean(mean) + self.embed_whitening(log_whitening)
        h = h + self.neighbours(h, mean, points)
        no_modulation = h.new_zeros(MODULATIONS, 1, 1, h.shape[-1])
        for block in self.global_blocks:
            h = block(h, no_modulation)
        mu, log_sigma = self.global_head(self.pool(torch.cat([h.mean(1), h.amax(1)], -1))).float().chunk(2, -1)
        return AnchorFeatures(mean, log_whitening, h), Gaussian(mu, (log_sigma - 3).clamp(MIN_LOG_SIGMA, MAX_LOG_SIGMA))

    def encode_points(self, anchors: AnchorFeatures, z: Float[Tensor, "batch global"]) -> Gaussian:
        """q(h₀ | x, z₀)."""
        modulation, h = self.modulate(z)[:, None].unflatten(-1, (MODULATIONS, -1)).movedim(-2, 0), anchors.tokens
        for block in self.point_blocks:
            h = block(h, modulation)
        change, log_sigma = self.point_head(self.norm(h)).float().chunk(2, -1)
        extra = change.shape[-1] - 3 - SHAPE_FEATURES
        empty = anchors.mean.new_zeros(*change.shape[:2], extra)
        start = torch.cat([anchors.mean, anchors.log_whitening, empty], -1)
        radius, features = self.neighbours.patch_radius, change.shape[-1] - 3
        scale = change.new_tensor([0.1 * radius] * 3 + [1.0] * features)
        least = change.new_tensor([math.log(0.06 * radius)] * 3 + [-3.0] * features)
        return Gaussian(start + scale * change, torch.maximum(log_sigma + 0.5 + least, least).clamp_max(MAX_LOG_SIGMA))


class LatentDenoiser(nn.Module):
    """A transformer over the variables of a shape: z₀ as `rows` variables of `channels` numbers, then the latent points.

    The variables of z₀ have learned position vectors; those of latent points come from their noisy coordinates. Every variable
    has its own noise level, to which the class embedding is added; class 0 stands for no class.
    """

    former_names: ClassVar = {
        "embed": "enter",
        "embed_position": "place",
        "global_positions": "slots",
        "embed_global": "spread",
        "head": "leave",
    }

    def __init__(self, rows: int, channels: int, classes: int, shape: tuple[int, int, int]):
        super().__init__()
        width, heads, depth = shape
        self.rows = rows
        self.embed, self.embed_position = nn.Linear(channels, width), CoordinateEmbedding(3, width)
        self.global_positions = nn.Parameter(0.5 * torch.randn(rows, width))
        self.embed_global = nn.Linear(rows * channels, width)
        self.level, self.label = LevelEmbedding(width), nn.Embedding(1 + classes, width)
        self.modulate = zero_init(nn.Linear(width, MODULATIONS * width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, 3) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), zero_init(nn.Linear(width, channels))

    def forward(
        self,
        z: Float[Tensor, "batch variable channel"],
        t: Float[Tensor, "batch variable 1"],
        label: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch variable channel"]:
        """The residual of the velocity over its best linear estimate (`lion_sparse.velocity_preconditioning`)."""
        level = self.level(t)
        positions = self.embed_position(z[:, self.rows :, :3] / 2)
        global_positions = self.global_positions.expand(len(z), -1, -1).to(positions.dtype)
        z_known = (1 - t[:, :1, 0]).to(z) * z[:, : self.rows].flatten(1)
        condition = level + (self.label(label) + self.embed_global(z_known))[:, None]
        h = self.embed(z) + torch.cat([global_positions, positions], 1) + level
        modulation = self.modulate(nn.functional.silu(condition)).unflatten(-1, (MODULATIONS, -1)).movedim(-2, 0)
        for block in self.blocks:
            h = block(h, modulation)
        return self.head(self.norm(h)).float()


class GlobalDenoiser(nn.Module):
    """A residual MLP over z₀ [batch, 1, numbers], modulated by its noise level and class; class 0 stands for no class."""

    former_names: ClassVar = {"embed": "enter", "up": "into", "down": "back", "head": "leave"}

    def __init__(self, numbers: int, classes: int, width: int = 160, depth: int = 3):
        super().__init__()
        self.embed, self.level = nn.Linear(numbers, width), LevelEmbedding(width)
        self.label = nn.Embedding(1 + classes, width)
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = zero_init(nn.Linear(width, numbers))

    def forward(
        self, z: Float[Tensor, "batch 1 number"], t: Float[Tensor, "batch 1 1"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 number"]:
        """The residual of the velocity over its best linear estimate (`lion_sparse.velocity_preconditioning`)."""
        condition = nn.functional.silu(self.level(t)[:, 0] + self.label(label))
        h = self.embed(z[:, 0])
        for modulate, up, down in zip(self.modulate, self.up, self.down, strict=True):
            shift, scale = modulate(condition).chunk(2, -1)
            h = h + down(nn.functional.silu(up(self.norm(h) * (1 + scale) + shift)))
        return self.head(self.norm(h)).float()[:, None]
