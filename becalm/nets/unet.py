"""Networks of an image and a noise level: VDM's U-Net without down-sampling, an ordinary U-Net, a residual MLP.

All map values [batch, row, column, channel] and one level per datum to `outputs` numbers per pixel, in channels_last. Under
autocast, activations between the first convolution and the last norm are bfloat16.
"""

import torch
from torch import nn
from torch.nn.functional import silu

from becalm.core.typing import Float, Tensor
from becalm.nets.embed import sinusoids

N_FREQUENCIES = 32
"""Number of frequencies in the embedding of the noise level."""

EPSILON = 1e-5
"""Added to variances in norms."""


class LevelMlp(nn.Module):
    """Embedding of one noise level per datum, scaled to 0 (cleanest) … 1 (noisiest) at the start of training."""

    def __init__(self, width: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(2 * N_FREQUENCIES + 1, width), nn.Linear(width, width)

    def forward(self, level: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        """The embedding of `level`."""
        level = level.to(self.enter.weight)[:, None]
        waves = sinusoids(level, N_FREQUENCIES, 64.0).to(level)
        return silu(self.leave(silu(self.enter(torch.cat([level, waves], -1)))))


class FusedGroupNormSiLU(torch.autograd.Function):
    """SiLU(GroupNorm(h)) for bfloat16 in channels_last, statistics in float32; two tensors are saved for the backward pass.

    PyTorch's backward of GroupNorm alone takes twice as long in bfloat16 on a CPU as this in all.
    """

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:  # type: ignore[override]
        """h [batch, pixel, channel]."""
        _, pixels, channels = h.shape
        count = pixels * channels // groups
        sums = torch.stack([h.sum(1, dtype=torch.float32), (h * h).sum(1, dtype=torch.float32)])
        mean, square = sums.unflatten(-1, (groups, -1)).sum(-1) / count
        root = torch.rsqrt((square - mean * mean).clamp_min(0) + EPSILON)
        mean, root = (part.repeat_interleave(channels // groups, 1) for part in (mean, root))
        inner = torch.addcmul((bias - mean * root * weight)[:, None].to(h), h, (root * weight)[:, None].to(h))
        ctx.save_for_backward(h, inner, mean, root, weight)
        ctx.groups = groups
        return silu(inner)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        """dh = root (w g − mean(w g) − ĥ mean(w g ĥ)), means over a group, g the gradient by the output of the norm."""
        h, inner, mean, root, weight = ctx.saved_tensors
        groups, (_, pixels, channels) = ctx.groups, h.shape
        g = torch.ops.aten.silu_backward(gradient, inner)
        total = g.sum(1, dtype=torch.float32)
        along = ((g * h).sum(1, dtype=torch.float32) - mean * total) * root
        shares = torch.stack([weight * total, weight * along]).unflatten(-1, (groups, -1)).mean(-1) / pixels
        plain, tilted = shares.repeat_interleave(channels // groups, 2)
        slope = -root * root * tilted
        rest = torch.addcmul((-root * plain - slope * mean)[:, None].to(h), h, slope[:, None].to(h))
        dh = torch.addcmul(rest, g, (root * weight)[:, None].to(h))
        return dh, along.sum(0), total.sum(0), None


class GroupNormSiLU(nn.Module):
    """SiLU(GroupNorm(h)) with groups of at least 4 channels and at most 32 groups."""

    def __init__(self, channels: int):
        super().__init__()
        self.groups = max(min(channels // 4, 32), 1)
        if channels % self.groups:
            raise ValueError(f"width {channels}: must be a multiple of {self.groups}")
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, h: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch channel row column"]:
        """The result has the dtype of h."""
        if h.dtype == torch.bfloat16 and torch.is_grad_enabled():
            rows = h.permute(0, 2, 3, 1)
            out = FusedGroupNormSiLU.apply(rows.flatten(1, 2), self.weight, self.bias, self.groups)
            return out.view(rows.shape).permute(0, 3, 1, 2)  # type: ignore[union-attr]
        return silu(nn.functional.group_norm(h, self.groups, self.weight, self.bias, EPSILON))


class Block(nn.Module):
    """Residual block: norm, 3 × 3, embedding added, norm, dropout, 3 × 3; initialised to the skip path."""

    def __init__(self, channels: int, outputs: int, embedding_width: int, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = GroupNormSiLU(channels), GroupNormSiLU(outputs)
        self.conv1, self.conv2 = nn.Conv2d(channels, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.level = nn.Linear(embedding_width, outputs, bias=False)
        self.past = nn.Conv2d(channels, outputs, 1) if channels != outputs else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        for last in (self.conv2, self.level):
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """h [batch, channel, row, column], embedding [batch, embedding_width]."""
        inner = self.conv1(self.norm1(h))
        inner = inner + self.level(embedding).to(inner)[:, :, None, None]
        return self.past(h) + self.conv2(self.dropout(self.norm2(inner)))


class Attention(nn.Module):
    """Residual self-attention over all pixels; initialised to the identity."""

    def __init__(self, channels: int, heads: int = 1):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(max(min(channels // 4, 32), 1), channels)
        self.ask, self.gather = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.zeros_(self.gather.weight)
        nn.init.zeros_(self.gather.bias)

    def forward(self, h: Tensor) -> Tensor:
        """h [batch, channel, row, column]."""
        rows = self.norm(h).permute(0, 2, 3, 1)
        qkv = self.ask(rows.flatten(1, 2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        return h + self.gather(out).view(rows.shape).permute(0, 3, 1, 2).to(h)


class FlatUNet(nn.Module):
    """VDM's U-Net (appendix B): no down-sampling; `depth` blocks, two with attention between, `depth` + 1 blocks with skips."""

    def __init__(
        self, place: tuple[int, int], inputs: int, outputs: int, width: int = 64, depth: int = 4, dropout: float = 0.0
    ):
        """`place` is (height, width), without restriction."""
        super().__init__()
        embedding_width = 4 * width
        self.embed, self.enter = LevelMlp(embedding_width), nn.Conv2d(inputs, width, 3, padding=1)
        self.down = nn.ModuleList(Block(width, width, embedding_width, dropout) for _ in range(depth))
        self.before, self.after = (Block(width, width, embedding_width, dropout) for _ in range(2))
        self.attend = Attention(width)
        self.up = nn.ModuleList(Block(2 * width, width, embedding_width, dropout) for _ in range(depth + 1))
        self.norm, self.leave = GroupNormSiLU(width), nn.Conv2d(width, outputs, 3, padding=1)
        use_channels_last(self)

    def forward(self, x: Float[Tensor, "batch row column channel"], level: Float[Tensor, " batch"]) -> Tensor:
        """[batch, row, column, outputs]."""
        embedding, h = self.embed(level), self.enter(x.permute(0, 3, 1, 2))
        skips = [h]
        for block in self.down:
            skips.append(h := block(h, embedding))
        h = self.after(self.attend(self.before(h, embedding)), embedding)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), embedding)
        return self.leave(self.norm(h)).permute(0, 2, 3, 1)


class UNet(nn.Module):
    """Ordinary U-Net: `depth` blocks at each resolution, halved between them, with attention at the lowest.

    With `patch` > 1 each square of patch × patch pixels is one position (pixel unshuffle): larger products, less memory traffic.
    """

    def __init__(
        self,
        place: tuple[int, int],
        inputs: int,
        outputs: int,
        widths: list[int] | None = None,
        depth: int = 2,
        patch: int = 1,
        dropout: float = 0.0,
    ):
        """`widths`: channels at each resolution, default 64 and 128. Raises ValueError where a side cannot be halved so often."""
        super().__init__()
        widths = widths or [64, 128]
        least, embedding_width = patch * 2 ** (len(widths) - 1), 4 * widths[0]
        if any(side % least for side in place):
            raise ValueError(f"unet: sides of {place[0]} × {place[1]} pixels are no multiples of {least}; use 'flat'")
        self.patch, self.embed = patch, LevelMlp(embedding_width)
        self.enter = nn.Conv2d(inputs * patch**2, widths[0], 3, padding=1)
        self.down, self.narrow = nn.ModuleList(), nn.ModuleList()
        self.up, self.widen = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            self.down.append(nn.ModuleList(Block(width, width, embedding_width, dropout) for _ in range(depth)))
            self.up.append(nn.ModuleList(Block(2 * width, width, embedding_width, dropout) for _ in range(depth)))
            if i + 1 < len(widths):
                self.narrow.append(nn.Conv2d(width, widths[i + 1], 2, stride=2))
                self.widen.append(nn.ConvTranspose2d(widths[i + 1], width, 2, stride=2))
        self.attend = Attention(widths[-1], max(widths[-1] // 64, 1))
        self.middle = Block(widths[-1], widths[-1], embedding_width, dropout)
        self.norm, self.leave = GroupNormSiLU(widths[0]), nn.Conv2d(widths[0], outputs * patch**2, 3, padding=1)
        use_channels_last(self)

    def forward(self, x: Float[Tensor, "batch row column channel"], level: Float[Tensor, " batch"]) -> Tensor:
        """[batch, row, column, outputs]."""
        embedding = self.embed(level)
        h = self.enter(nn.functional.pixel_unshuffle(x.permute(0, 3, 1, 2), self.patch))
        skips = []
        for i, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                skips.append(h := block(h, embedding))
            if i < len(self.narrow):
                h = self.narrow[i](h)
        h = self.middle(self.attend(h), embedding)
        for i in reversed(range(len(self.up))):
            for block in self.up[i]:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], 1), embedding)
            if i:
                h = self.widen[i - 1](h)
        return nn.functional.pixel_shuffle(self.leave(self.norm(h)), self.patch).permute(0, 2, 3, 1)


class Perceptron(nn.Module):
    """Residual MLP of all numbers of a datum: for vectors and small images."""

    def __init__(
        self, place: tuple[int, int], inputs: int, outputs: int, width: int = 512, depth: int = 3, dropout: float = 0.0
    ):
        """`depth` residual layers of `width`."""
        super().__init__()
        self.place, pixels = place, place[0] * place[1]
        self.embed, self.enter = LevelMlp(width), nn.Linear(pixels * inputs, width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, width)
            )
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, pixels * outputs))

    def forward(self, x: Float[Tensor, "batch row column channel"], level: Float[Tensor, " batch"]) -> Tensor:
        """[batch, row, column, outputs]."""
        embedding = self.embed(level)
        h = self.enter(x.flatten(1).to(self.enter.weight)) + embedding
        for layer in self.layers:
            h = h + layer(h + embedding)
        return self.leave(h).view(*x.shape[:3], -1)


def use_channels_last(network: nn.Module) -> None:
    """Convert the weights of convolutions to channels_last, the fastest layout on a CPU."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
