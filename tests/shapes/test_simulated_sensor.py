"""Simulated scans: rays meet surfaces where they should, and errors are what their model says."""

from dataclasses import replace

import numpy as np
import pytest

from becalm.shapes import sensor_errors as errors
from becalm.shapes.scan_scenes import Scene, draw_near, object_source, random_place, random_scene, terrain, thin_plate
from becalm.shapes.scene_parts import ScenePoints, of_surface, plane, thin_volumes, volume_points
from becalm.shapes.sensor_patterns import camera, frame, line_scanner, point_spacing, random_raster, rotating_laser
from becalm.shapes.simulated_sensor import (
    MAX_RASTER_CELLS,
    ErrorModel,
    Hits,
    Region,
    first_hits,
    fitted_raster,
    random_errors,
    raster_cells,
    sensor_scan,
    view,
)

RASTERS = {
    "camera": camera,
    "mirror": rotating_laser,
    "spinning": lambda e, a: rotating_laser(e, a, 12.0),
    "line": line_scanner,
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", RASTERS)
def test_a_ray_leads_back_to_its_raster_cell(name, rng):
    eye = np.array([0.5, -0.2, 4.0])
    raster = RASTERS[name](eye, frame(-eye, rng)).scale_steps(0.01)
    points = rng.uniform(-1, 1, (200, 3))
    column, row = raster.project(points)
    start, direction = raster.rays(column, row)
    assert np.linalg.norm(direction, axis=1) == pytest.approx(1)
    away = points - start
    assert np.abs(away - np.einsum("nc,nc->n", away, direction)[:, None] * direction).max() < 1e-9


def wall(rng) -> Scene:
    return Scene([of_surface(plane(rng, 1.0), np.eye(3), 1.0, np.zeros(3), 4.0)], 1.5, True)


def scan_of_wall(rng, model: ErrorModel, count: int = 4000):
    eye = np.array([0.1, 0.2, 3.0])
    places = draw_near(wall(rng), np.zeros(3), 1.0, 15 * count, rng)
    raster = fitted_raster(camera(eye, frame(-eye, rng)), places.points, count)
    hits = first_hits(raster, places, 0.2)
    spacing = point_spacing(hits.start + hits.range[:, None] * hits.direction)
    return hits, view(hits, model, spacing, spacing, rng), spacing


def test_hits_lie_on_the_surface_and_are_as_many_as_asked(rng):
    hits, scan, _ = scan_of_wall(rng, ErrorModel(sigma=0.0))
    assert len(hits.range) == pytest.approx(4000, rel=0.03)
    assert np.abs(scan.clean[:, 2]).max() < 1e-9
    assert np.array_equal(scan.clean, scan.noisy)
    assert len(np.unique(np.c_[hits.column, hits.row], axis=0)) == len(hits.range)


def test_what_stands_before_hides_what_stands_behind(rng):
    high = of_surface(plane(rng, 0.3), np.eye(3), 1.0, np.array([0, 0, 1.0]), 0.36)
    scene = Scene([*wall(rng).parts, high], 1.5, True)
    places = draw_near(scene, np.zeros(3), 1.6, 60_000, rng)
    eye = np.array([0, 0, 3.0])
    hits = first_hits(fitted_raster(camera(eye, frame(-eye, rng)), places.points, 4000), places, 0.2)
    met = hits.start + hits.range[:, None] * hits.direction
    hidden = (np.abs(met[:, 2]) < 1e-6) & (np.abs(met[:, :2]).max(1) < 0.3)
    assert hidden.sum() < 0.01 * len(met)


def test_white_and_correlated_errors_have_their_size_and_their_length(rng):
    for share, expected in ((0.0, 0.0), (0.8, 0.8)):
        model = ErrorModel(sigma=0.6, correlated=share, length=(3.0, 3.0))
        hits, scan, spacing = scan_of_wall(rng, model)
        error = np.linalg.norm(scan.noisy - scan.clean, axis=1) * np.sign((scan.noisy - scan.clean)[:, 2]) / spacing
        assert error.std() == pytest.approx(0.6, rel=0.25)
        image = np.full((hits.row.max() - hits.row.min() + 1, hits.column.max() - hits.column.min() + 2), np.nan)
        image[hits.row - hits.row.min(), hits.column - hits.column.min()] = error
        a, b = image[:, :-1], image[:, 1:]
        both = np.isfinite(a) & np.isfinite(b)
        assert np.corrcoef(a[both], b[both])[0, 1] == pytest.approx(expected, abs=0.15)
        assert np.sqrt(scan.white**2 + scan.shared**2).mean() == pytest.approx(0.6 * spacing, rel=0.1)


@pytest.mark.parametrize("disparity", [False, True])
def test_quantised_ranges_stand_on_steps(disparity, rng):
    range_ = rng.uniform(1, 3, 5000)
    steps = errors.quantise_range(range_, 0.05, disparity)
    width = errors.quantum(range_, 0.05, disparity)
    assert (np.abs(steps - range_) < 0.75 * width).all()
    assert len(np.unique(steps)) < 150
    assert (steps - range_).std() == pytest.approx(np.sqrt(np.mean(width**2) / 12), rel=0.1)


def test_mixed_pixels_lie_between_the_two_sides_of_an_edge(rng):
    column, row = (x.ravel() for x in np.meshgrid(np.arange(20), np.arange(20)))
    range_ = np.where(column < 10, 1.0, 2.0)
    edge, across = errors.edges(column, row, range_, 0.5)
    assert set(column[edge]) == {9}
    assert (across[edge] == 2.0).all()


def test_growth_and_stripes(rng):
    range_ = np.array([1.0, 2.0, 4.0])
    assert errors.growth(range_, np.ones(3), 2.0, 0.0) == pytest.approx([0.25, 1, 4])
    assert errors.growth(range_, np.array([1.0, 0.5, 1.0]), 0.0, 1.0) == pytest.approx([1, 2, 1])
    row = np.repeat(np.arange(400), 5)
    for drift in (False, True):
        error = errors.stripes(row, rng, drift).reshape(400, 5)
        assert np.ptp(error, axis=1).max() == 0
        assert error.std() == pytest.approx(1, rel=0.2)
        assert (np.corrcoef(error[1:, 0], error[:-1, 0])[0, 1] > 0.8) == drift


def test_merged_views_are_off_each_other(rng):
    turn, shift = errors.misregistration(rng, 0.1, 2.0)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.abs(turn - np.eye(3)).max() < 0.2
    assert 0 < np.linalg.norm(shift) < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_every_scene_can_be_scanned(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, object_source(()))
    centre = random_place(scene, rng)
    scan = sensor_scan(Region(scene, centre, 0.7 * scene.radius, 3000), random_errors(rng), rng)
    assert len(scan.clean) > 300
    assert all(np.isfinite(part).all() for part in scan)
    assert (np.linalg.norm(scan.normals[scan.surface], axis=1) > 0.99).all()


def test_leaves_and_wires_are_no_surface():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(8):
        scene = terrain(rng, object_source(()))
        found.append(draw_near(scene, np.zeros(3), 2 * scene.radius, 2000, rng).surface.mean())
    assert min(found) < 0.7
    assert max(found) > 0.8


def test_some_rays_pass_between_leaves():
    """Of a crown over ground the thinner, the more of the ground is seen through it."""
    rng = np.random.default_rng(6)
    leaves = volume_points(rng.uniform(-1, 1, (20_000, 3)) + [0, 0, 2])
    ground = draw_near(wall(rng), np.zeros(3), 1.0, 20_000, rng)
    places = ScenePoints(*(np.concatenate(rows) for rows in zip(leaves, ground, strict=True)))
    eye, shares = np.array([0, 0, 12.0]), []
    for seed in range(6):
        thinner = thin_volumes(places, np.random.default_rng(seed))
        assert thinner.surface.sum() == ground.surface.sum(), "surfaces stay as they are"
        hits = first_hits(fitted_raster(camera(eye, frame(-eye, rng)), thinner.points, 2000), thinner, 0.2)
        shares.append(((~thinner.surface).sum(), hits.surface.mean()))
    leaves_left, seen = np.array(sorted(shares)).T
    assert leaves_left[-1] > 3 * leaves_left[0]
    assert seen[0] > seen[-1] + 0.2


def test_a_thin_plate_is_scanned_from_both_sides():
    rng = np.random.default_rng(7)
    scene = thin_plate(rng, object_source(()))
    scan = sensor_scan(Region(scene, np.zeros(3), 2.0, 5000), ErrorModel(sigma=0.0), rng)
    sides = [
        np.linalg.norm(part.draw(3000, rng).points[:, None] - scan.clean[::9], axis=2).min(0) for part in scene.parts
    ]
    first = (sides[0] < sides[1]).mean()
    assert 0.1 < first < 0.9


def test_views_of_too_wide_a_raster_are_left_out():
    none = np.zeros(2)
    far = np.array([0, 3_000_000])
    hits = Hits(far, far, *[none] * 6)
    assert raster_cells(hits) > MAX_RASTER_CELLS


def test_patterns_are_of_every_kind():
    rng = np.random.default_rng(5)
    uneven = [np.divide(*random_raster(rng, np.zeros(3), 1.0).step) for _ in range(200)]
    assert min(uneven) < 0.1
    assert replace(ErrorModel(), sigma=1.0).sigma == 1.0


def test_a_ray_has_several_returns_of_leaves_and_ends_at_the_ground(rng):
    eye = np.array([0.0, 0, 5])
    ground = np.c_[rng.uniform(-0.5, 0.5, (40_000, 2)), np.zeros(40_000)]
    leaves = np.c_[rng.uniform(-0.5, 0.5, (4_000, 2)), rng.uniform(0.2, 0.8, 4_000)]
    up, none = np.tile([0.0, 0, 1], (40_000, 1)), np.zeros((4_000, 3))
    surface = np.r_[np.ones(40_000, bool), np.zeros(4_000, bool)]
    scene = ScenePoints(np.concatenate([ground, leaves]), np.concatenate([up, none]), surface)
    raster = fitted_raster(camera(eye, frame(-eye, rng)), scene.points, 1500)
    once, often = (first_hits(raster, scene, 0.2, returns) for returns in (1, 9))
    rays = [h.column * 100_000 + h.row for h in (once, often)]
    assert len(np.unique(rays[0])) == len(rays[0]), "one return a ray"
    assert (~often.surface).sum() > 1.5 * (~once.surface).sum()
    assert often.surface.sum() > 3 * once.surface.sum(), "what leaves let pass meets the ground"
    order = np.lexsort((often.range, rays[1]))
    last = np.r_[rays[1][order][1:] != rays[1][order][:-1], True]
    assert not (often.surface[order] & ~last).any(), "nothing comes after the ground"
