"""Nearest circles: exact gaps and directions, and nothing that is not there."""

import math

import torch

from becalm.images.counting_polygons.layout import N_KINDS, OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT, decode_layout
from becalm.images.counting_polygons.nearest_circles import (
    BIN_WIDTH,
    N_BINS,
    N_FEATURES,
    N_NEAREST,
    CircleChannels,
    nearest_circle_features,
)
from becalm.recipes.image_tasks import POLYGONS
from becalm.systems.srm_polygons import PolygonSRM

CHANNELS = CircleChannels(1, 2.0, 4.0, 1.0)


def features_of(circles: dict[int, tuple[float, float, float]], sigma: float = 0.0) -> torch.Tensor:
    """Features in a square of 8 × 8 places: those given have a circle, all the others have none."""
    z, probability = torch.zeros(1, 64, 4), torch.zeros(1, 64)
    for place, (x, y, radius) in circles.items():
        z[0, place] = (1 - sigma) * torch.tensor([9.0, 2 * x, 2 * y, 4 * radius - 1])
        probability[0, place] = 0.9
    level = torch.full((1, 64), sigma)
    return nearest_circle_features(z, probability, 1 - level, level, CHANNELS).unflatten(-1, (N_NEAREST, N_BINS + 3))[0]


def gap_of(features: torch.Tensor) -> torch.Tensor:
    """The gap that the weights of bins encode."""
    return (features[..., :N_BINS] * torch.arange(N_BINS)).sum(-1) * BIN_WIDTH


def test_two_circles_get_each_other_s_gap_and_direction():
    features = features_of({9: (0.25, -0.5, 0.75), 28: (0.0, 0.5, 1.5)})  # at row 1, column 1 and row 3, column 4
    gap = torch.tensor([4 - 1.25, 3.5 - 0.5])
    assert math.isclose(gap_of(features[9, 0]), gap.norm() - 1.5, abs_tol=1e-5)
    assert math.isclose(gap_of(features[28, 0]), gap.norm() - 0.75, abs_tol=1e-5)
    torch.testing.assert_close(features[9, 0, N_BINS : N_BINS + 2], gap / gap.norm())
    torch.testing.assert_close(features[28, 0, N_BINS : N_BINS + 2], -gap / gap.norm())
    assert not features[9, 1:].any(), "its own circle is not next to it"


def test_without_a_circle_the_middle_counts_and_the_nearest_comes_first():
    features = features_of({0: (0.0, 0.0, 0.5), 3: (0.0, 0.0, 0.5), 59: (0.0, 0.0, 0.5)})
    torch.testing.assert_close(gap_of(features[1]), torch.tensor([0.5, 1.5, 0, 0]))
    torch.testing.assert_close(features[1, :2, N_BINS : N_BINS + 2], torch.tensor([[-1.0, 0], [1, 0]]))
    assert not features[63 - 8, 1:].any(), "what gap_of further off than rings tell is not told"


def test_what_covers_a_place_has_gap_zero():
    assert features_of({9: (0.0, 0.0, 2.0)})[10, 0, 0] == 1


def test_an_unlikely_circle_is_not_there():
    z = torch.full((1, 64, 4), 1.0)
    assert not nearest_circle_features(
        z, torch.full((1, 64), 0.49), torch.ones(1, 64), torch.zeros(1, 64), CHANNELS
    ).any()


def test_noise_shrinks_what_is_read_and_is_a_feature():
    features = features_of({9: (0.4, 0.0, 0.75)}, sigma=0.2)
    share = 0.64 / 0.68
    assert math.isclose(features[11, 0, -1], 0.2, abs_tol=1e-6)
    assert math.isclose(gap_of(features[11, 0]), 2 - share * 0.4 - (share * 2 + 1) / 4, abs_tol=1e-5)


def test_circles_of_real_layouts_never_overlap_and_mostly_touch():
    x = POLYGONS.sample_patches(20, torch.Generator().manual_seed(0))
    there, _, _, radius, _ = decode_layout(x)
    sure, channels = torch.ones(20, 256), CircleChannels(N_KINDS, OFFSET_SCALE, RADIUS_SCALE, RADIUS_SHIFT)
    features = nearest_circle_features(x, there.float(), sure, 0 * sure, channels)
    nearest = features.unflatten(-1, (N_NEAREST, -1))[..., 0, :][there]
    left = (gap_of(nearest) - radius[there][:, 0])[nearest[:, :N_BINS].sum(-1) > 0.999]
    assert left.min() > -1e-4
    assert 0.5 < (left < 0.01).float().mean() < 0.95


def test_the_network_of_srm_sees_the_features():
    model = PolygonSRM.build(channels=4, places=POLYGONS.places(), shape=[8, 1, 1, 1, 1], features=1)
    inputs: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    z, t = torch.zeros(1, 256, 4), torch.zeros(1, 256, 1)
    z[0, 40], t[0, 42] = torch.tensor([4.0, 0.2 * OFFSET_SCALE, 0, RADIUS_SCALE - RADIUS_SHIFT]), 1.0
    with torch.inference_mode():
        model(z, t)
    features = inputs[0][0, :, 4:-1].unflatten(-1, (N_NEAREST, -1))
    assert inputs[0].shape[-1] == 4 + N_FEATURES + 1
    assert math.isclose(gap_of(features[42, 0]), 2 - 0.2 - 1, abs_tol=1e-5), (
        "a circle of radius 1, a fifth of a place nearer"
    )
    assert not features[40].any()
