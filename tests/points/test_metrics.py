import time

import numpy as np
import pytest

from becalm.points.metrics import (
    chamfer,
    edge_error,
    hausdorff,
    point_to_mesh,
    point_to_surface,
    rmse,
    sharp_edges,
    shrinkage,
    unevenness,
    unit_sphere,
)
from becalm.points.triangles import (
    distance_squared,
    nearest_surface_points,
    squared_distances_to_points,
    squared_distances_to_triangles,
)

CUBE = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
FACES = np.concatenate([SIDES[:, [0, 1, 2]], SIDES[:, [0, 2, 3]]])
"""A cube of side 2, triangles turned outwards."""


def soup(seed, faces=300, points=200):
    """Triangles of very different sizes, thin and degenerate ones among them, and points about them."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(-2, 1.5, size=(faces, 1, 1)))
    triangles = rng.normal(size=(faces, 1, 3)) + size * rng.normal(size=(faces, 3, 3))
    triangles[:10, 2] = triangles[:10, 1]
    triangles[10:15] = triangles[10:15, :1]
    triangles[15:20, 2] = triangles[15:20, :2].mean(axis=1)
    return triangles, rng.normal(size=(points, 3))


def all_pairs(triangles, points):
    i, j = np.indices((len(points), len(triangles))).reshape(2, -1)
    return distance_squared(points[i], triangles[j]).reshape(len(points), len(triangles))


@pytest.mark.parametrize("seed", range(3))
def test_pruned_distances_are_those_of_all_pairs(seed):
    triangles, points = soup(seed)
    every = all_pairs(triangles, points)
    np.testing.assert_array_equal(squared_distances_to_triangles(points, triangles), every.min(axis=1))
    np.testing.assert_array_equal(squared_distances_to_points(triangles, points), every.min(axis=0))
    one = all_pairs(triangles[:1], points)
    np.testing.assert_array_equal(squared_distances_to_triangles(points, triangles[:1]), one[:, 0])


def test_no_point_of_a_triangle_is_nearer_than_its_distance():
    triangles, points = soup(5, faces=60, points=60)
    weights = np.random.default_rng(0).dirichlet([0.5] * 3, size=20_000)
    samples = np.einsum("sv,mvc->msc", weights, triangles)
    nearest = np.linalg.norm(samples - points[:, None], axis=2).min(axis=1)
    distance = np.sqrt(distance_squared(points, triangles))
    assert np.all(distance <= nearest + 1e-9)
    assert np.all(nearest <= distance + 0.05 * np.ptp(triangles, axis=(1, 2)) + 1e-9)


def test_agrees_with_point_cloud_utils(shared):
    oracle = pytest.importorskip("point_cloud_utils")
    mesh = np.load(shared("data/meshes/develop.cheburashka.npz"))
    vertices, faces = mesh["vertices"].astype(np.float64), mesh["faces"]
    rng = np.random.default_rng(0)
    points = vertices[rng.integers(len(vertices), size=2000)] + rng.normal(size=(2000, 3)) * 0.05
    want = oracle.closest_points_on_mesh(points, vertices, faces)[0] ** 2
    np.testing.assert_allclose(squared_distances_to_triangles(points, vertices[faces]), want, rtol=1e-3, atol=1e-9)


def test_large_meshes_take_seconds():
    u, v = np.meshgrid(np.arange(300), np.arange(300), indexing="ij")
    corner = (u * 301 + v).ravel()
    faces = np.concatenate([corner[:, None] + [0, 1, 302], corner[:, None] + [0, 302, 301]])
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 301), np.linspace(0, 2 * np.pi, 301), indexing="ij")
    sphere = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    points = np.random.default_rng(0).normal(size=(20_000, 3))
    points *= 1.03 / np.linalg.norm(points, axis=1, keepdims=True)
    start = time.process_time()
    value = point_to_surface(points, sphere, faces)
    assert time.process_time() - start < 50
    assert value == pytest.approx(0.03**2, rel=0.02)


def test_chamfer_by_hand_and_its_invariances():
    rng = np.random.default_rng(0)
    gen, ref = rng.normal(size=(70, 3)), rng.normal(size=(90, 3))
    squared = ((gen[:, None] - ref) ** 2).sum(2) / unit_sphere(ref)[1] ** 2
    want = squared.min(0).mean() + squared.min(1).mean()
    assert chamfer(gen, ref) == pytest.approx(want, rel=1e-12)
    assert chamfer(ref, ref) == 0
    assert chamfer(5 * gen[rng.permutation(70)] + 3, 5 * ref + 3) == pytest.approx(want, rel=1e-9)


def test_point_to_mesh_by_hand():
    vertices = np.array([[-1, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0]], float)
    faces = np.array([[0, 1, 2], [0, 3, 1]])
    points = np.array([[0, 0.5, 0.3], [0, 0.2, -0.1]])
    one_way = (0.3**2 + 0.1**2) / 2
    assert point_to_surface(points, vertices, faces) == pytest.approx(one_way)
    back = (0.1**2 + 0.1**2 + 0.2**2) / 2
    assert point_to_mesh(points, vertices, faces) == pytest.approx(one_way + back)
    assert point_to_mesh(7 * points - 2, 7 * vertices - 2, faces) == pytest.approx(one_way + back)


def test_hausdorff_and_unevenness():
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert unevenness(grid) == 0
    moved = grid.copy()
    moved[0] -= 1
    assert hausdorff(grid, grid) == 0
    assert hausdorff(moved, grid, 1.0) == pytest.approx(np.sqrt(3) / unit_sphere(grid)[1])
    rng = np.random.default_rng(0)
    assert 0.4 < unevenness(np.c_[rng.uniform(size=(4000, 2)), np.zeros(4000)]) < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_nearest_places_are_at_the_least_distance_and_on_their_triangle(seed):
    triangles, points = soup(seed)
    nearest = nearest_surface_points(points, triangles, chunk=64)
    squared = ((points - nearest.points) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared, squared_distances_to_triangles(points, triangles), rtol=1e-9, atol=1e-20)
    assert distance_squared(nearest.points, triangles[nearest.triangles]).max() < 1e-20


def test_nearest_places_on_a_cube_are_clipped_coordinates():
    points = np.random.default_rng(0).normal(size=(500, 3)) * 3
    points = points[np.abs(points).max(axis=1) > 1]
    np.testing.assert_allclose(nearest_surface_points(points, CUBE[FACES]).points, points.clip(-1, 1), atol=1e-12)


@pytest.mark.parametrize("faces", [FACES, FACES[:, ::-1]], ids=["outwards", "inwards"])
def test_shrinkage_is_signed_also_past_edges_and_corners(faces):
    outside = np.array([[0, 0, 1.5], [2, 2, 0.1], [2, 2, 2]])
    away = np.array([0.5, np.sqrt(2), np.sqrt(3)])
    radius = np.sqrt(3)
    for shift in (0.0, 50.0):
        for point, distance in zip(outside, away, strict=True):
            assert shrinkage(point[None] + shift, CUBE + shift, faces) == pytest.approx(distance / radius)
        assert shrinkage(np.array([[0.8, 0.1, 0.0]]) + shift, CUBE + shift, faces) == pytest.approx(-0.2 / radius)


def test_shrinkage_past_a_corner_where_one_triangle_faces_away():
    """Over a sharp spike the nearest vertex belongs to triangles on both sides of the point."""
    base = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [0.9, 0, 4.0]])
    faces = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    points = base[4] + np.array([[0.0, 0.0, 0.3], [0.2, 0.0, 0.3], [-0.2, 0.1, 0.3], [0.3, 0.0, 0.0]])
    for point in points:
        assert shrinkage(point[None], base, faces) > 0


def test_sharp_edges_of_a_cube_whose_faces_share_no_vertices_or_are_turned():
    apart, own = CUBE[FACES].reshape(-1, 3), np.arange(36).reshape(-1, 3)
    turned = FACES.copy()
    turned[::3] = turned[::3, ::-1]
    for vertices, faces in ((CUBE, FACES), (apart, own), (CUBE, turned)):
        edges = sharp_edges(vertices, faces)
        assert edges.shape == (12, 2, 3)
        assert np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1) == pytest.approx(2.0)
        assert len(sharp_edges(vertices, faces, degrees=91.0)) == 0


def test_edge_error_counts_only_points_that_belong_near_an_edge():
    home = np.array([[1, 0.95, 0], [1, 0, 0], [0, -1, 0.96]])
    points = home + np.array([[0.1, 0, 0], [0.5, 0, 0], [0, 0.02, 0]])
    assert edge_error(points, home, CUBE, FACES, width=0.06) == pytest.approx((0.1**2 + 0.02**2) / 2 / 3)
    assert np.isnan(edge_error(points, home, CUBE, FACES, width=0.01))
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert np.isnan(edge_error(points, home, flat, np.array([[0, 1, 2], [0, 2, 3]]), width=1.0))


def test_rmse_by_hand_and_unpaired():
    rng = np.random.default_rng(0)
    ref = rng.normal(size=(40, 3))
    shift = np.array([0.3, -0.4, 0])
    assert rmse(7 * (ref + shift), 7 * ref) == pytest.approx(0.5 / unit_sphere(ref)[1])
    assert rmse(ref[::-1], ref) > 0.5
    with pytest.raises(ValueError, match="not paired"):
        rmse(ref[:-1], ref)
