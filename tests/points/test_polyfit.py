"""Jets: exact on the surfaces they model, blind to rotation, and honest about noise."""

import numpy as np
import pytest
import torch

from becalm.points.estimate import noise_level
from becalm.points.neighbours import knn
from becalm.points.polyfit import FEATURES_PER_SCALE, VECTORS_PER_SCALE, fit_jets, local_scale

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
