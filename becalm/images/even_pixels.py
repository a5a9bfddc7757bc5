"""Even Pixels: images whose pixels split exactly in half between two opposite hues (Wewer et al. 2025, appendix).

No pixel says anything about its neighbours; only the count over the whole image is constrained. Images are
[batch, height, width, 3], red, green, blue in [-1, 1], on the 8-bit grid; colours in HSV have hue in turns, in [0, 1).
"""

from typing import NamedTuple

import torch

from becalm.core.typing import Float, Int, Tensor

SATURATION, VALUE = 1.0, 0.7
"""Of every pixel of a real image."""

BINS = 256
"""Of a hue histogram: bin k is centred on the hue k/256."""


class EvenScores(NamedTuple):
    """Means over the images."""

    even: float
    """Share of the images whose error is exactly 0."""
    error: float
    """Pixels on the wrong side of a split in half."""
    saturation: float
    """Standard deviation of S within an image: 0 for real ones."""
    value: float
    """Standard deviation of V within an image: 0 for real ones."""


def even_pixels(batch: int, generator: torch.Generator, size: int = 32) -> Float[Tensor, "batch height width 3"]:
    """Images of size² pixels of which a random half has hue h and the other h + ½, h uniform on the bins below ½.

    Errors: ValueError for an odd size, which has no half.
    """
    if size < 2 or size % 2:
        raise ValueError(f"size: {size} is not a positive even number, so the pixels cannot be split in half")
    device = generator.device
    hue = torch.randint(BINS // 2, (batch, 1), generator=generator, device=device) / BINS
    rank = torch.rand(batch, size * size, generator=generator, device=device, dtype=torch.float64).argsort(1)
    hue = (hue + 0.5 * (rank < size * size // 2)).view(batch, size, size)
    colour = torch.stack([hue, torch.full_like(hue, SATURATION), torch.full_like(hue, VALUE)], -1)
    return from_bytes((hsv_to_rgb(colour) * 255).round())


def from_bytes(levels: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Levels 0 … 255 to [-1, 1]."""
    return levels / 127.5 - 1


def to_unit(images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images in [-1, 1] to [0, 1], clipped and rounded as an 8-bit file would be."""
    return ((images.float() + 1) * 127.5).clamp(0, 255).round() / 255


def hsv_to_rgb(hsv: Float[Tensor, "batch height width 3"]) -> Float[Tensor, "batch height width 3"]:
    """Colours in [0, 1]: channel n ∈ {5, 3, 1} is V − V S clamp(min(k, 4 − k), 0, 1), k = (n + 6H) mod 6."""
    hue, saturation, value = hsv.split(1, -1)
    k = (hsv.new_tensor([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)


def rgb_to_hsv(rgb: Float[Tensor, "batch height width 3"]) -> Float[Tensor, "batch height width 3"]:
    """Colours in [0, 1]: V = max, S = (max − min)/max, H from the sector of the greatest channel; grey has H = 0."""
    red, green, blue = rgb.unbind(-1)
    value, sector = rgb.max(-1)
    spread = value - rgb.min(-1).values
    rise = torch.stack([green - blue, blue - red, red - green], -1).gather(-1, sector[..., None])[..., 0]
    hue = ((rise / spread.clamp_min(1e-12) + 2 * sector) / 6) % 1.0
    hue = torch.where((spread > 0) & (hue < 1), hue, 0.0)  # a negative hue of one rounding error becomes 1
    return torch.stack([hue, spread / value.clamp_min(1e-12), value], -1)


def hue_histogram(hue: Float[Tensor, "batch height width"]) -> Int[Tensor, "batch 256"]:
    """Pixels in each hue bin."""
    bins = ((hue * BINS).round().long() % BINS).flatten(1)
    return torch.zeros(len(hue), BINS, dtype=torch.long, device=hue.device).scatter_add_(1, bins, torch.ones_like(bins))


def split_error(histogram: Int[Tensor, "batch 256"]) -> Int[Tensor, " batch"]:
    """|c − n/2|, where c of the n pixels have a hue nearer to the commonest than to its opposite.

    The peaks are the fullest bin p and p + 128; the borders lie midway, so c counts the 128 bins from p − 64 on.
    """
    peak = histogram.argmax(1, keepdim=True)
    near = (peak - BINS // 4 + torch.arange(BINS // 2, device=histogram.device)) % BINS
    return (histogram.gather(1, near).sum(1) - histogram.sum(1) // 2).abs()


def even_scores(images: Float[Tensor, "batch height width 3"]) -> EvenScores:
    """The benchmark's four numbers; images off [-1, 1] are clipped. Real images score (1, 0, 0, 0)."""
    hue, saturation, value = rgb_to_hsv(to_unit(images)).unbind(-1)
    error = split_error(hue_histogram(hue))
    deviations = (channel.flatten(1).std(1, correction=0).mean().item() for channel in (saturation, value))
    return EvenScores((error == 0).float().mean().item(), error.float().mean().item(), *deviations)
