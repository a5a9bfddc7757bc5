"""Jets: exact on the surfaces they model, blind to rotation, and honest about noise."""

import numpy as np
import pytest
import torch

from becalm.points.estimate import noise_level
from becalm.points.neighbours import knn
from becalm.points.polyfit import (
    FEATURES_PER_SCALE,
    LOG_OFFSET,
    LOG_RADIUS,
    VECTORS_PER_SCALE,
    describe_quadrics,
    fit_jets,
    fit_quadrics,
    local_scale,
)

SCALES = (24, 48)


def fits(xyz: np.ndarray):
    points = torch.as_tensor(xyz, dtype=torch.float32)
    neighbours = torch.as_tensor(knn(xyz, max(SCALES))[1])
    scale = local_scale(points, neighbours)
    return fit_jets(points, neighbours, scale, torch.arange(len(points)), SCALES)


def surface(rng, bend: float) -> np.ndarray:
    uv = rng.uniform(-1, 1, (1500, 2))
    return np.c_[uv, bend * (uv[:, 0] ** 2 - 0.5 * uv[:, 0] * uv[:, 1])]


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_the_quadric_of_a_quadric_leaves_it_in_place(bend):
    rng = np.random.default_rng(0)
    found = fits(surface(rng, bend))
    offsets = found.vectors.unflatten(1, (len(SCALES), VECTORS_PER_SCALE))[:, :, 1].norm(dim=-1)
    assert offsets.median() < 0.004, "in units of the local scale"


def test_a_displaced_point_is_proposed_to_go_back():
    rng = np.random.default_rng(1)
    xyz = surface(rng, 0.0)
    middle = int(np.argmin(np.linalg.norm(xyz, axis=1)))
    xyz[middle, 2] += 0.02
    found = fits(xyz)
    plane = found.vectors[middle, VECTORS_PER_SCALE * 1] * found.scale[middle]
    assert plane[2] == pytest.approx(-0.02, rel=0.15)
    assert abs(found.normals[middle, 1, 2]) > 0.99


def test_turning_moving_and_scaling_changes_no_feature():
    rng = np.random.default_rng(2)
    xyz = surface(rng, 0.3) + 0.01 * rng.normal(size=(1500, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    here, there = fits(xyz), fits(5 * xyz @ turn + 3)
    assert here.features.shape == (1500, FEATURES_PER_SCALE * len(SCALES))
    close = torch.isclose(here.features, there.features, rtol=1e-2, atol=1e-2).float().mean()
    assert close > 0.995, "float32 turns a sign where an offset is 0"
    turned = here.vectors @ torch.as_tensor(turn, dtype=torch.float32)
    assert torch.isclose(turned, there.vectors, atol=2e-3).float().mean() > 0.995


@pytest.mark.parametrize("place", [np.zeros((64, 3)), np.c_[np.arange(64.0), np.zeros((64, 2))]], ids=["point", "line"])
def test_degenerate_neighbourhoods_give_finite_fits(place):
    found = fits(place + 0.0)
    assert torch.isfinite(found.features).all()
    assert torch.isfinite(found.vectors).all()


@pytest.mark.parametrize("sigma", [0.003, 0.01, 0.02, 0.04])
def test_the_noise_level_is_told_within_a_fifth(sigma):
    rng = np.random.default_rng(3)
    sphere = rng.normal(size=(8000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    found = noise_level(sphere + sigma * rng.normal(size=sphere.shape))
    assert found == pytest.approx(sigma, rel=0.2)


def test_no_noise_is_told_to_be_little():
    rng = np.random.default_rng(4)
    sphere = rng.normal(size=(8000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    assert noise_level(sphere) < 1e-3
    assert noise_level(7 * sphere) == pytest.approx(7 * noise_level(sphere), rel=1e-3)


def test_features_are_their_closed_forms_on_a_curved_strip():
    """On z = c u² all second-order features are known: d + f = c s R², with s the local unit and R the radius in it."""
    rng = np.random.default_rng(5)
    uv = rng.uniform(-1, 1, (6000, 2))
    uv[0] = 0
    curvature = 0.4
    xyz = np.c_[uv, curvature * uv[:, 0] ** 2]
    fits_, k = fits(xyz), len(SCALES) - 1
    scale = float(fits_.scale[0])
    radius = knn(xyz, max(SCALES))[0][0, -1] / scale
    features = fits_.features.unflatten(1, (len(SCALES), FEATURES_PER_SCALE))[0, k]
    plane, quadric, _ = fits_.vectors.unflatten(1, (len(SCALES), VECTORS_PER_SCALE))[0, k].norm(dim=-1)
    bend = curvature * scale * radius**2
    assert float(features[LOG_RADIUS]) == pytest.approx(np.log(radius), abs=1e-4)
    assert float(features[LOG_OFFSET]) == pytest.approx(float((quadric.square() + 1e-8).log()) / 2, abs=1e-3)
    assert float(features[1]) == pytest.approx(np.arcsinh(float(quadric)), abs=1e-5)
    assert abs(float(features[2])) == pytest.approx(np.arcsinh(float(plane)), rel=1e-3)
    assert abs(float(features[4])) == pytest.approx(np.arcsinh(bend), rel=0.05)
    assert float(features[5]) == pytest.approx(np.arcsinh(bend), rel=0.05)
    assert float(features[6]) < 0.2 * bend, "the slope at the apex"
    assert 0.3 < float(features[9]) < 0.5, "the middle eigenvalue over the sum, ½ in a disc"
    assert float(features[0]) < np.log(0.02 * bend), "next to no residual"


def test_scales_nest_and_weights_fall_off():
    """The weighted plane of one scale does not see points beyond its radius, and hardly those at its rim."""
    rng = np.random.default_rng(6)
    xyz = surface(rng, 0.0)
    order = knn(xyz, max(SCALES))[1][0]
    lifted = {}
    for place in (3, SCALES[0] - 1, SCALES[0]):
        moved = xyz.copy()
        moved[order[place], 2] += 0.02
        offsets = fits(moved).vectors.unflatten(1, (len(SCALES), VECTORS_PER_SCALE))[0, 0, 0].norm()
        lifted[place] = float(offsets)
    assert lifted[3] > 3 * lifted[SCALES[0] - 1] > 0
    assert lifted[SCALES[0]] < 1e-4


def test_one_fit_describes_every_point_near_its_place():
    """Seen from a point beside its place, a fit of an exact quadric tells the distance to the surface, and its normal."""
    rng = np.random.default_rng(7)
    uv = rng.uniform(-1, 1, (4000, 2))
    uv[0] = 0
    xyz = torch.as_tensor(np.c_[uv, 0.2 * uv[:, 0] ** 2 - 0.1 * uv[:, 1] ** 2])
    near = torch.as_tensor(knn(xyz.numpy(), 192)[1][:1])
    unit, own = torch.tensor([0.1]), 0.05
    fit = fit_quadrics(xyz, near, xyz[:1], unit, (192,))[0]
    beside = np.array([0.08, 0.05])
    slope = np.array([-0.4 * beside[0], 0.2 * beside[1], 1.0])
    normal = slope / np.linalg.norm(slope)
    point = np.r_[beside, 0.2 * beside[0] ** 2 - 0.1 * beside[1] ** 2] + 0.01 * normal
    offset = torch.as_tensor(point / 0.1, dtype=torch.float32)[None]
    _, vectors, normals = describe_quadrics(fit, offset, unit / own)
    assert np.allclose(vectors[0, 1].numpy() * own, -0.01 * normal, atol=3e-4)
    assert abs(float(normals[0].double() @ torch.as_tensor(normal))) > 0.9995


def test_the_unit_in_which_a_fit_was_made_does_not_matter():
    rng = np.random.default_rng(8)
    xyz = torch.as_tensor(surface(rng, 0.3))
    near = torch.as_tensor(knn(xyz.numpy(), 24)[1][:50])
    offsets = 0.03 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    seen = []
    for unit in (0.05, 0.2):
        fit = fit_quadrics(xyz, near, xyz[:50], torch.full((50,), unit), (24,))[0]
        seen.append(describe_quadrics(fit, offsets / unit, torch.full((50,), unit / 0.1)))
    for a, b in zip(*seen, strict=True):
        assert torch.isclose(a, b, atol=2e-3).float().mean() > 0.99
