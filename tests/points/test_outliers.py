"""Mixed pixels: points that hang in the air between two surfaces, found by the sensor's rays."""

import numpy as np
import pytest

from becalm.points.neighbours import knn
from becalm.points.outliers import mixed_pixels
from becalm.shapes.simulated_scan import cast_rays, distance_to_scene, yard

EYE = np.array([0.0, 0.0, 2.0])


def directions(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)


def mixed_scan(seed: int, noise: float, step: float = 0.025) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scan of a yard whose beams are as wide as the raster: points [n, 3], which are mixed [n], and which are neither nor."""
    rng = np.random.default_rng(seed)
    scene, offsets = yard(rng), np.linspace(-0.5, 0.5, 5) * step
    a, e = (x.ravel() for x in np.meshgrid(np.arange(0, 2 * np.pi, step), np.arange(-1.2, 0.2, step)))
    parts = np.stack([cast_rays(scene, EYE, directions(a + x, e + y))[0] for x in offsets for y in offsets])
    seen = parts.max(0) < 10
    a, e, ranges = a[seen], e[seen], parts[:, seen].mean(0)
    sigma = noise * step * np.median(ranges)
    exact = EYE + ranges[:, None] * directions(a, e)
    away = distance_to_scene(scene, exact)
    mixed = away > np.maximum(step * ranges, 3 * sigma)
    points = exact + (sigma * rng.standard_normal(len(a)))[:, None] * directions(a, e)
    return points, mixed, ~mixed & (away > 0.3 * step * ranges)


def quality(found: np.ndarray, mixed: np.ndarray, unclear: np.ndarray) -> tuple[float, float]:
    """Recall and precision."""
    found = found & ~unclear
    return (found & mixed).sum() / mixed.sum(), (found & mixed).sum() / max(found.sum(), 1)


@pytest.mark.parametrize(("seed", "noise"), [(0, 0.1), (1, 0.6)])
def test_more_are_found_and_fewer_falsely_than_by_distances(seed, noise):
    points, mixed, unclear = mixed_scan(seed, noise)
    recall, precision = quality(mixed_pixels(points, np.broadcast_to(EYE, points.shape)), mixed, unclear)
    assert recall > 0.7 and precision > 0.8
    mean = knn(points, 21)[0][:, 1:].mean(1)  # Open3D's remove_statistical_outlier(20, 2.0)
    usual = quality(mean > mean.mean() + 2 * mean.std(), mixed, unclear)
    assert recall > usual[0] - 0.1 and precision > usual[1] + 0.3


def test_a_plane_seen_at_grazing_rays_has_none():
    a, e = (x.ravel() for x in np.meshgrid(np.arange(0, 1.5, 0.008), np.arange(-0.5, -0.1, 0.008)))
    rays = directions(a, e)
    ranges = -2 / rays[:, 2] + 0.01 * np.random.default_rng(0).standard_normal(len(a))
    assert not mixed_pixels(EYE + ranges[:, None] * rays, np.broadcast_to(EYE, (len(a), 3))).any()


def test_each_scan_of_many_is_looked_at_from_its_own_place():
    points = mixed_scan(0, 0.1, 0.03)[0]
    one = mixed_pixels(points, np.broadcast_to(EYE, points.shape))
    both = np.concatenate([points, points + 100])
    places = np.concatenate([np.broadcast_to(EYE, points.shape), np.broadcast_to(EYE + 100, points.shape)])
    found = mixed_pixels(both, places)
    assert one.sum() > 20 and (found == np.tile(one, 2)).mean() > 0.999
