"""Displacements along rays, and coordinates that stand on steps."""

import numpy as np
import pytest

from becalm.points.cloud import ScanError
from becalm.points.quantisation import coordinate_steps, step_of
from becalm.points.rays import check_outside, move_along_rays, ray_directions


@pytest.fixture
def sheet() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.c_[rng.uniform(-1, 1, (3000, 2)), 0.01 * rng.standard_normal(3000)]


def test_points_stay_on_their_rays_and_reach_the_surface(sheet):
    eye, normals = np.array([0.5, 0, 3.0]), np.tile([0.0, 0, 1], (3000, 1))
    rays = ray_directions(sheet, eye)
    move = move_along_rays(-sheet * [0, 0, 1], rays, normals)
    there = sheet + move
    assert np.abs(there[:, 2]).max() < 1e-12
    assert np.linalg.norm(np.cross(there - eye, rays), axis=1).max() < 1e-9


def test_grazing_rays_do_not_throw_points_far_away():
    normals, move = np.array([[0.0, 0, 1]]), np.array([[0.0, 0, 1]])
    rays = np.array([[np.cos(0.01), 0, np.sin(0.01)]])
    assert np.linalg.norm(move_along_rays(move, rays, normals)) < 0.02


@pytest.mark.parametrize("viewpoint", [[np.inf, 0, 0], [0, 0], [np.nan, 0, 0]])
def test_a_viewpoint_that_cannot_be_is_refused(sheet, viewpoint):
    with pytest.raises(ScanError, match="viewpoint"):
        ray_directions(sheet, np.array(viewpoint))


def test_a_viewpoint_among_the_points_is_refused():
    cloud = np.random.default_rng(1).uniform(-1, 1, (20_000, 3))
    with pytest.raises(ScanError, match="inside"):
        check_outside(cloud, np.zeros(3))
    with pytest.raises(ScanError, match="on a point"):
        ray_directions(cloud, cloud[7])
    room = cloud / np.abs(cloud).max(1, keepdims=True)
    check_outside(room, np.zeros(3))
    check_outside(cloud + [5, 0, 0], np.zeros(3))


def test_steps_of_coordinates_are_found(sheet):
    rng = np.random.default_rng(2)
    assert step_of(rng.normal(size=5000)) == 0
    assert step_of(np.round(rng.normal(size=5000) / 0.1) * 0.1) == pytest.approx(0.1)
    assert coordinate_steps(sheet) == []
    terraces = sheet.copy()
    terraces[:, 2] = np.round(terraces[:, 2] / 0.008) * 0.008
    (found,) = coordinate_steps(terraces)
    assert (found.where, found.step) == ("z", pytest.approx(0.008))
    fine = np.round(sheet / 1e-6) * 1e-6
    assert coordinate_steps(fine) == []


def test_steps_of_disparity_are_found():
    rng = np.random.default_rng(3)
    pixel = rng.uniform(-0.5, 0.5, (8000, 2))
    depth = 1 / (np.round(rng.uniform(0.3, 0.6, 8000) / 0.002) * 0.002)
    cloud = np.c_[pixel * depth[:, None], depth]
    found = coordinate_steps(cloud, np.zeros(3))
    assert found
    assert found[0].step == pytest.approx(0.002 * np.median(depth) ** 2, rel=0.3)
