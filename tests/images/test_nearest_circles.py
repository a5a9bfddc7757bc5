"""Circles: what is next to each variable is told exactly, and nothing that is not there."""

import math

import torch

from becalm.evaluation.image_tasks import POLYGONS
from becalm.images.counting_polygons.layout import told
from becalm.images.counting_polygons.nearest_circles import NEXT, RING, RINGS, TOLD, Circle, beside
from becalm.systems.srm import SRM

CIRCLE = Circle(1, 2.0, 4.0, 1.0)


def seen(circles: dict[int, tuple[float, float, float]], sigma: float = 0.0) -> torch.Tensor:
    """What is told of a square of 8 × 8 places: those given have a circle, all the others have none."""
    z, held = torch.zeros(1, 64, 4), torch.zeros(1, 64)
    for place, (x, y, radius) in circles.items():
        z[0, place] = (1 - sigma) * torch.tensor([9.0, 2 * x, 2 * y, 4 * radius - 1])
        held[0, place] = 0.9
    level = torch.full((1, 64), sigma)
    return beside(z, held, 1 - level, level, CIRCLE).unflatten(-1, (NEXT, RINGS + 3))[0]


def begins(told: torch.Tensor) -> torch.Tensor:
    """The distance that shares of rings tell."""
    return (told[..., :RINGS] * torch.arange(RINGS)).sum(-1) * RING


def test_two_circles_tell_each_other_how_far_off_they_begin_and_where():
    said = seen({9: (0.25, -0.5, 0.75), 28: (0.0, 0.5, 1.5)})  # at row 1, column 1 and row 3, column 4
    gap = torch.tensor([4 - 1.25, 3.5 - 0.5])
    assert math.isclose(begins(said[9, 0]), gap.norm() - 1.5, abs_tol=1e-5)
    assert math.isclose(begins(said[28, 0]), gap.norm() - 0.75, abs_tol=1e-5)
    torch.testing.assert_close(said[9, 0, RINGS : RINGS + 2], gap / gap.norm())
    torch.testing.assert_close(said[28, 0, RINGS : RINGS + 2], -gap / gap.norm())
    assert not said[9, 1:].any(), "its own circle is not next to it"


def test_a_place_without_a_circle_is_told_from_its_middle_the_nearest_first():
    said = seen({0: (0.0, 0.0, 0.5), 3: (0.0, 0.0, 0.5), 59: (0.0, 0.0, 0.5)})
    torch.testing.assert_close(begins(said[1]), torch.tensor([0.5, 1.5, 0, 0]))
    torch.testing.assert_close(said[1, :2, RINGS : RINGS + 2], torch.tensor([[-1.0, 0], [1, 0]]))
    assert not said[63 - 8, 1:].any(), "what begins further off than rings tell is not told"


def test_what_covers_a_place_begins_there():
    assert seen({9: (0.0, 0.0, 2.0)})[10, 0, 0] == 1


def test_an_unlikely_circle_is_not_there():
    z = torch.full((1, 64, 4), 1.0)
    assert not beside(z, torch.full((1, 64), 0.49), torch.ones(1, 64), torch.zeros(1, 64), CIRCLE).any()


def test_noise_is_told_and_what_it_shows_is_taken_for_less():
    said = seen({9: (0.4, 0.0, 0.75)}, sigma=0.2)
    share = 0.64 / 0.68
    assert math.isclose(said[11, 0, -1], 0.2, abs_tol=1e-6)
    assert math.isclose(begins(said[11, 0]), 2 - share * 0.4 - (share * 2 + 1) / 4, abs_tol=1e-5)


def test_circles_of_real_plans_never_overlap_and_mostly_touch():
    x = POLYGONS.real(20, torch.Generator().manual_seed(0))
    there, _, _, radius, _ = told(x)
    sure = torch.ones(20, 256)
    said = beside(x, there.float(), sure, 0 * sure, Circle(*POLYGONS.circle or []))
    nearest = said.unflatten(-1, (NEXT, -1))[..., 0, :][there]
    left = (begins(nearest) - radius[there][:, 0])[nearest[:, :RINGS].sum(-1) > 0.999]
    assert left.min() > -1e-4
    assert 0.5 < (left < 0.01).float().mean() < 0.95


def test_srm_shows_its_network_what_is_beside():
    extras = {"features": 1, "flags": 1, "summed": True, "near": True}
    model = SRM(4, POLYGONS.places(), [8, 1, 1, 1, 1], circle=list(CIRCLE), **extras)
    inputs: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    z, t = torch.zeros(1, 256, 4), torch.zeros(1, 256, 1)
    z[0, 40], t[0, 42] = torch.tensor([4.0, 0.4, 0, 3]), 1.0
    with torch.inference_mode():
        model(z, t)
    said = inputs[0][0, :, 4:-1].unflatten(-1, (NEXT, -1))
    assert inputs[0].shape[-1] == 4 + TOLD + 1
    assert math.isclose(begins(said[42, 0]), 2 - 0.2 - 1, abs_tol=1e-5), (
        "a circle of radius 1, a fifth of a place nearer"
    )
    assert not said[40].any()
