"""Polygons: drawings stay apart and have the right areas; the reader is right on real images and not fooled by others."""

from dataclasses import replace
from math import cos, pi, sin

import pytest
import torch

from becalm.images.counting_polygons import layout
from becalm.images.counting_polygons.reader import polygon_scores, read_polygons
from becalm.images.counting_polygons.scenes import (
    COVERED_SHARE,
    DRAWING_SCALE,
    MAX_RADIUS,
    coverage,
    inside_digit,
    inside_figure,
    place_circles,
    plain_background,
    polygons,
    rarest_hue,
    sample_scene,
    smooth_background,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(counts: list[int], corners: list[int], seed: int = 0, keep: int | None = None) -> torch.Tensor:
    """Red figures and numbers on grey; of the figures only the first `keep`."""
    numbers = torch.tensor([counts, corners]).T.contiguous()
    circles = place_circles(numbers[:, 0] + 2, seeded(seed))
    circles[:, 2 + (9 if keep is None else keep) :, 2] = 0
    alpha = coverage(circles, numbers, torch.rand(len(counts), 9, generator=seeded(seed)), 128, None)[..., None]
    return alpha * torch.tensor([0.8, -1, -1]) + (1 - alpha) * 0.1


def test_circles_are_inside_and_apart_and_fill_their_share():
    number = torch.randint(3, 12, (200,), generator=seeded())
    circles = place_circles(number, seeded(1)).double()
    centre, radius = circles[..., :2], circles[..., 2]
    exists = torch.arange(11) < number[:, None]
    assert torch.equal(radius > 0, exists)
    inside = (centre >= radius[..., None] - 1e-6) & (centre <= 1 - radius[..., None] + 1e-6)
    assert inside[exists].all()
    apart = (centre[:, :, None] - centre[:, None]).norm(dim=-1) - radius[:, None] - radius[:, :, None]
    pair = exists[:, None] & exists[:, :, None] & ~torch.eye(11, dtype=torch.bool)
    assert apart[pair].min() > -1e-6
    assert radius[exists].max() <= MAX_RADIUS + 1e-6
    wanted = 0.8 * (COVERED_SHARE / (pi * number.double())).sqrt().clamp_max(MAX_RADIUS)
    assert (radius >= 0.95 * wanted[:, None])[exists].all(), "relaxation should leave little to shrink"


def test_places_are_spread_over_the_image_and_seeded():
    centre = place_circles(torch.full((500,), 5), seeded())[:, :5, :2]
    assert (centre.mean((0, 1)) - 0.5).abs().max() < 0.03
    assert (centre[:, 0].mean(0) - centre[:, 4].mean(0)).abs().max() < 0.07, "slots should be alike"
    assert torch.equal(polygons(3, seeded(5), 64).images, polygons(3, seeded(5), 64).images)


@pytest.mark.parametrize("corners", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("inner", [None, 0.25])
def test_area_of_a_figure_is_the_closed_form(corners, inner):
    circles = torch.zeros(1, 11, 3)
    circles[0, 2] = torch.tensor([0.5, 0.4, 0.3])
    numbers = torch.tensor([[1, corners]])
    covered = coverage(circles, numbers, torch.full((1, 9), 0.3), 128, inner).sum().item()
    valley = cos(pi / corners) if inner is None else inner
    assert covered == pytest.approx(corners * valley * sin(pi / corners) * (DRAWING_SCALE * 0.3 * 128) ** 2, rel=5e-3)


def test_figures_turn_and_digits_differ():
    u = torch.linspace(-1, 1, 101)[None, None]
    v = u.transpose(1, 2)
    square = inside_figure(u, v, torch.tensor([4, 4]), torch.tensor([0.0, pi / 4]), None)
    assert square[0, 50, 99] and not square[0, 15, 15]  # a corner to the right
    assert not square[1, 50, 99] and square[1, 16, 16]  # corners on the diagonals
    digits = inside_digit(u, v, torch.arange(1, 10)).flatten(1).float()
    assert (torch.cdist(digits, digits) + 99 * torch.eye(9)).min() > 8


@pytest.mark.parametrize("background", [plain_background, smooth_background])
def test_images_are_in_range_and_the_figures_have_the_rarest_hue(background):
    data = polygons(20, seeded(), 96, background)
    assert data.images.shape == (20, 96, 96, 3) and data.images.abs().max() <= 1
    assert (data.images.min(-1).values < -0.999).flatten(1).any(1).all(), "saturation 1 somewhere"
    assert background(2, 16, seeded())[..., 1].max() <= 0.6


def test_rarest_hue_is_opposite_a_single_one():
    hue = torch.tensor([0.25, 0.75])[:, None, None].expand(-1, 8, 8)
    assert torch.equal(rarest_hue(hue), torch.tensor([0.75, 0.25]))


def test_every_count_and_every_corner_is_drawn():
    data = polygons(100, seeded(), 16)
    assert data.count.unique().tolist() == list(range(1, 10)) and data.corners.unique().tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("background", [plain_background, smooth_background])
@pytest.mark.parametrize("inner", [None, 0.25])
def test_the_reader_is_right_on_real_images(background, inner):
    real = polygons(20, seeded(2), 128, background, inner)
    noisy = real.images + 0.03 * torch.randn(real.images.shape, generator=seeded())
    scores = polygon_scores(noisy, real, inner)
    assert scores.read_right == 1
    assert scores.are_numbers_consistent >= 0.95 and scores.both >= 0.95


def test_wrong_numbers_are_inconsistent():
    real = polygons(6, seeded(3))
    other = replace(real, count=real.count % 9 + 1)
    assert polygon_scores(real.images, other).read_right == 0
    reading = read_polygons(drawn([4, 6, 7], [5, 3, 7], keep=3))
    assert reading.count.tolist() == [3, 3, 3] and reading.corners.tolist() == [5, 3, 7]
    assert reading.numbers.tolist() == [[4, 5], [3, 6], [7, 7]]
    assert reading.uniform.all() and not reading.consistent().any()


def test_a_layout_encodes_what_is_centred_where():
    data = polygons(50, seeded(3), background=plain_background)
    rows = layout.encode_layout(data, 16)
    exists = data.circles[..., 2] > 0
    image, (x, y, radius) = exists.nonzero()[:, 0], data.circles[exists].T
    column, row = (x * 16).long(), (y * 16).long()
    kind = torch.cat([data.count[:, None], data.corners[:, None], 7 + data.corners[:, None].expand(-1, 9)], 1)[exists]
    at = rows[image, 16 * row + column]
    flags = torch.nn.functional.one_hot(kind - 1, layout.N_KINDS)
    assert torch.equal(at[:, :14], 4.0 * flags), "no two of them share a patch"
    assert (rows[..., :14].sum((1, 2)) == 4 * exists.sum(1)).all(), "and there is nothing else"
    nothing = rows[..., :14].amax(-1) == 0
    assert not rows[nothing].any()
    present, shown, way, size, turn = layout.decode_layout(at)
    assert present.all() and torch.equal(shown, kind - 1)
    torch.testing.assert_close(size[:, 0], 16 * radius, atol=1e-4, rtol=0)
    torch.testing.assert_close(way[:, 0], 16 * x - column - 0.5, atol=1e-4, rtol=0)
    torch.testing.assert_close(way[:, 1], 16 * y - row - 0.5, atol=1e-4, rtol=0)
    figure = kind > 9
    phase = (data.corners[:, None] * data.turn)[exists[:, 2:]]
    torch.testing.assert_close(turn[figure], torch.stack([phase.cos(), phase.sin()], 1))
    assert not turn[~figure].any()
    inside = data.images[image[figure], (y * 128).long()[figure], (x * 128).long()[figure]]
    torch.testing.assert_close(at[figure][:, 19:22], inside)
    torch.testing.assert_close(at[:, 22:], data.images[image, 0, 0])


def test_a_scene_on_a_plain_ground_is_the_one_that_is_drawn():
    data, seen = polygons(8, seeded(4), background=plain_background), sample_scene(8, seeded(4), 1, plain_background)
    assert torch.equal(layout.encode_layout(data, 16), layout.encode_layout(seen, 16))


def test_numbers_count_in_either_order():
    reading = read_polygons(drawn([3, 7], [7, 3]))
    assert reading.numbers.tolist() == [[3, 7], [3, 7]] and reading.consistent().all()


def test_mixed_figures_are_not_uniform():
    left, right = drawn([2, 5], [4, 4], seed=1), drawn([2, 5], [6, 6], seed=1)
    x = place_circles(torch.tensor([4, 7]), seeded(1))[:, 2, :2] * 128
    for image, other, (column, row) in zip(left, right, x.round().int().tolist(), strict=True):
        near = slice(max(row - 20, 0), row + 20), slice(max(column - 20, 0), column + 20)
        image[near] = other[near]  # the first figure, and at most parts of others, become hexagons
    assert not read_polygons(left).uniform.any()


def test_discs_are_no_figures():
    images = drawn([2], [5])
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    images[:] = 0.1
    images[0, (x - 40) ** 2 + (y - 40) ** 2 < 200] = torch.tensor([0.8, -1, -1])
    reading = read_polygons(images)
    assert reading.count.item() == 1 and reading.corners.item() == 0 and not reading.uniform.item()
    assert reading.numbers.tolist() == [[-1, -1]]


@pytest.mark.parametrize("size", [32, 128])
def test_noise_and_empty_images_are_read_as_nothing_consistent(size):
    images = torch.cat([torch.zeros(2, size, size, 3), torch.randn(6, size, size, 3, generator=seeded())])
    reading = read_polygons(images)
    assert not reading.consistent().any() and not reading.uniform.any()
