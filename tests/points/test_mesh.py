import numpy as np
import pytest

from becalm.points.mesh import Mesh, load, normals_and_areas, poisson_disk, sample, triangles, unit_sphere
from becalm.points.metrics import unevenness
from becalm.points.triangles import squared_distances_to_triangles

ROOF = Mesh(
    np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [0, 1, 3], [9, 9, 9]]),
    np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4]]),
)


def test_unit_sphere_ignores_unused_vertices():
    mesh = unit_sphere(ROOF)
    used = mesh.vertices[np.unique(mesh.faces)]
    assert np.allclose(used.min(0), -used.max(0))
    assert np.linalg.norm(used, axis=1).max() == pytest.approx(1)


@pytest.mark.parametrize("spread", [sample, poisson_disk])
def test_points_lie_on_the_mesh_with_its_normals(spread):
    points, normals = spread(ROOF, 2000, np.random.default_rng(0))
    assert points.shape == normals.shape == (2000, 3)
    assert squared_distances_to_triangles(points, triangles(ROOF)).max() < 1e-24
    flat = np.abs(points[:, 2]) < 1e-9
    assert np.allclose(normals[flat & (points[:, 0] > 0.01)], [0, 0, 1])


@pytest.mark.parametrize("spread", [sample, poisson_disk])
def test_shares_follow_areas(spread):
    points, _ = spread(ROOF, 7000, np.random.default_rng(1))
    areas = normals_and_areas(ROOF)[1]
    assert np.allclose(areas, [1, 1, 1.5])
    assert np.mean(points[:, 2] > 0) == pytest.approx(1.5 / 3.5, abs=0.02)
    assert points[points[:, 2] == 0].mean(0) == pytest.approx([1, 0.5, 0], abs=0.03)


def test_evenness_and_determinism():
    even, again = (poisson_disk(ROOF, 3000, np.random.default_rng(5)).points for _ in range(2))
    assert np.array_equal(even, again)
    assert unevenness(even) < 0.12
    assert unevenness(sample(ROOF, 3000, np.random.default_rng(5)).points) > 0.4


def test_faces_without_area_get_no_points():
    mesh = Mesh(ROOF.vertices, np.array([[0, 0, 1], [0, 1, 2], [2, 2, 2]]))
    points, normals = sample(mesh, 1000, np.random.default_rng(0))
    assert np.allclose(normals, [0, 0, 1])
    assert np.isfinite(points).all()


def test_refuses_what_is_no_mesh():
    with pytest.raises(ValueError, match="name vertices 0 to 7 of 6"):
        Mesh(ROOF.vertices, np.array([[0, 1, 7]]))
    with pytest.raises(ValueError, match="finite"):
        Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))


def test_reads_an_archive(tmp_path, shared):
    np.savez(tmp_path / "roof.npz", vertices=ROOF.vertices.astype(np.float32), faces=ROOF.faces.astype(np.int32))
    mesh = load(tmp_path / "roof.npz")
    assert mesh.vertices.dtype == np.float64
    assert np.array_equal(mesh.faces, ROOF.faces)
    real = unit_sphere(load(shared("data/meshes/develop.spot.npz")))
    assert (
        squared_distances_to_triangles(poisson_disk(real, 1000, np.random.default_rng(0)).points, triangles(real)).max()
        < 1e-24
    )
