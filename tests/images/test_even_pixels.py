"""Even Pixels: real images are exactly even, one pixel more is not; colours agree with the standard library's."""

import colorsys

import pytest
import torch

from becalm.images.even_pixels import (
    even_pixels,
    even_scores,
    hsv_to_rgb,
    hue_histogram,
    rgb_to_hsv,
    split_error,
    to_unit,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [2, 16, 32])
def test_real_images_are_exactly_even(size):
    images = even_pixels(300, seeded(), size)
    assert images.shape == (300, size, size, 3) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1
    scores = even_scores(images)
    assert scores.even == 1 and scores.error == 0
    assert scores.saturation < 1e-6 and scores.value < 1e-6


def test_an_image_has_two_opposite_hues_and_its_half_is_random():
    images = even_pixels(200, seeded())
    histogram = hue_histogram(rgb_to_hsv(to_unit(images))[..., 0])
    assert ((histogram > 0).sum(1) == 2).all() and (histogram.max(1).values == 512).all()
    first = histogram.argmax(1)
    assert (histogram.gather(1, (first[:, None] + 128) % 256) == 512).all()
    assert first.unique().numel() > 80, "hues should spread over the bins below one half"
    share = (images == images[:, :1, :1]).all(-1).float().mean(0)
    assert abs(share[1:, 1:].mean() - 0.5) < 0.02 and share[1:, 1:].std() < 0.06


def test_a_generator_fixes_the_images():
    assert torch.equal(even_pixels(4, seeded(3)), even_pixels(4, seeded(3)))
    assert not torch.equal(even_pixels(4, seeded(3)), even_pixels(4, seeded(4)))


@pytest.mark.parametrize("moved", [1, 7, 100])
def test_error_counts_the_pixels_that_changed_sides(moved):
    images = even_pixels(20, seeded(1))
    for image in images:
        flat = image.view(-1, 3)
        same = (flat == flat[0]).all(1)
        flat[same.nonzero()[:moved, 0]] = flat[~same][0]
    scores = even_scores(images)
    assert scores.even == 0 and scores.error == moved


def test_small_noise_keeps_the_count_and_shows_in_the_deviations():
    images = even_pixels(50, seeded(2))
    scores = even_scores(images + 0.03 * torch.randn(images.shape, generator=seeded()))
    assert scores.even == 1 and 0.003 < scores.saturation < 0.03 and 0.003 < scores.value < 0.03


def test_white_noise_is_almost_never_even():
    scores = even_scores(torch.randn(200, 32, 32, 3, generator=seeded()))
    assert scores.even < 0.2 and scores.error > 5


def test_split_error_counts_around_the_circle():
    histogram = torch.zeros(3, 256, dtype=torch.long)
    histogram[0, [250, 122]] = torch.tensor([6, 4])  # peak near the seam
    histogram[1, [10, 202, 73, 74]] = torch.tensor([5, 1, 1, 3])  # p − 64 is counted, p + 63 too, p + 64 is not
    histogram[2, 0] = 10
    assert split_error(histogram).tolist() == [1, 2, 5]


def test_colours_agree_with_the_standard_library():
    rgb = torch.rand(1, 8, 8, 3, generator=seeded())
    rgb[0, 0, :4] = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]])
    expected = torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in rgb.view(-1, 3).tolist()])
    assert torch.allclose(rgb_to_hsv(rgb).view(-1, 3), expected, atol=1e-5)
    assert torch.allclose(hsv_to_rgb(rgb_to_hsv(rgb)), rgb, atol=1e-5)


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="size: 5"):
        even_pixels(1, seeded(), 5)
