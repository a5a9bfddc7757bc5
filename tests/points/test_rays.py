"""Displacements along rays, and coordinates that stand on steps."""

import numpy as np
import pytest

from becalm.points.cloud import Cloud, ScanError
from becalm.points.formats import read, write
from becalm.points.quantisation import coordinate_steps, step_of
from becalm.points.rays import (
    check_grid,
    check_outside,
    check_viewpoint,
    grid_fits,
    move_along_rays,
    ray_directions,
    sensor_places,
)


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


@pytest.mark.parametrize("step", [0.01, 0.001, 0.00025, 0.003048])
@pytest.mark.parametrize("extent", [2, 20, 100])
def test_the_rounding_of_a_file_is_found(step, extent):
    """However many steps there are, far from zero too; floating-point numbers of double precision stand on none."""
    values = np.random.default_rng(4).uniform(0, extent, 20_000) + 5_412_000
    assert step_of(np.round(values / step) * step) == pytest.approx(step, rel=1e-4)
    assert step_of(values) == 0
    assert step_of(values.astype(np.float32).astype(float)) == 0.5


def test_rounding_that_matters_against_the_noise_counts(sheet):
    fine = np.round(sheet / 1e-6) * 1e-6
    assert {found.where for found in coordinate_steps(fine, noise=1e-6)} == {"x", "y", "z"}
    assert coordinate_steps(fine, noise=1e-5) == []


def test_steps_of_disparity_are_found():
    rng = np.random.default_rng(3)
    pixel = rng.uniform(-0.5, 0.5, (8000, 2))
    depth = 1 / (np.round(rng.uniform(0.3, 0.6, 8000) / 0.002) * 0.002)
    cloud = np.c_[pixel * depth[:, None], depth]
    found = coordinate_steps(cloud, np.zeros(3))
    assert found
    assert found[0].step == pytest.approx(0.002 * np.median(depth) ** 2, rel=0.3)


def organised_grid(eye: np.ndarray) -> np.ndarray:
    """Noisy walls 2 and 3 units before a camera of 40 x 30 pixels at `eye`, organised [30, 40, 3]; one pixel saw nothing."""
    column, row = np.meshgrid(np.linspace(-0.5, 0.5, 40), np.linspace(-0.4, 0.4, 30))
    depth = np.where(column > 0.2, 3, 2) + 0.02 * np.random.default_rng(0).standard_normal(column.shape)
    grid = eye + depth[:, :, None] * np.stack([column, row, np.ones_like(row)], axis=2)
    grid[3, 4] = np.nan
    return grid


def write_pcd(path, grid: np.ndarray, viewpoint: str) -> None:
    rows, columns = grid.shape[:2]
    words = (
        "VERSION 0.7",
        "FIELDS x y z",
        "SIZE 8 8 8",
        "TYPE F F F",
        "COUNT 1 1 1",
        f"WIDTH {columns}",
        f"HEIGHT {rows}",
    )
    header = "\n".join([*words, f"VIEWPOINT {viewpoint} 1 0 0 0", f"POINTS {rows * columns}", "DATA binary", ""])
    path.write_bytes(header.encode() + grid.astype("<f8").tobytes())


def test_an_organised_pcd_says_where_its_sensor_was(tmp_path):
    eye, said = np.array([5.0, 6, 7]), []
    write_pcd(tmp_path / "a.pcd", organised_grid(eye), "5 6 7")
    assert np.array_equal(sensor_places(read(tmp_path / "a.pcd"), said.append)[7], eye) and not said
    write_pcd(tmp_path / "b.pcd", organised_grid(eye), "6 6 8.5")
    assert sensor_places(read(tmp_path / "b.pcd"), said.append) is None
    (line,) = said
    assert "b.pcd: its grid does not fit" in line
    write_pcd(tmp_path / "c.pcd", organised_grid(eye).reshape(1, -1, 3), "5 6 7")
    assert sensor_places(read(tmp_path / "c.pcd"), said.append) is None
    assert sensor_places(Cloud(np.ones((3, 3)), {"viewpoint": np.zeros((3, 3))}), said.append).shape == (3, 3)
    assert len(said) == 1


def test_a_viewpoint_that_the_grid_contradicts_is_refused(tmp_path):
    write_pcd(tmp_path / "a.pcd", organised_grid(np.array([5.0, 6, 7])), "0 0 0")
    cloud = read(tmp_path / "a.pcd")
    check_grid(cloud, np.array([5.0, 6, 7]))
    check_grid(Cloud(cloud.xyz), np.zeros(3))
    with pytest.raises(ScanError, match="--viewpoint 6 6 8.5: the file's grid does not fit"):
        check_grid(cloud, np.array([6, 6, 8.5]))


def test_a_shuffled_grid_fits_no_rays():
    grid = organised_grid(np.zeros(3))
    assert grid_fits([grid], np.zeros(3))
    shuffled = np.random.default_rng(0).permutation(grid.reshape(-1, 3)).reshape(grid.shape)
    assert not grid_fits([shuffled], np.zeros(3))


def e57_file(path, translation, *fields):
    """An E57 file of 50 points with a pose, and whole numbers in further fields."""
    pye57 = pytest.importorskip("pye57")
    columns = {f"cartesian{axis}": np.random.default_rng(0).normal(size=50) for axis in "XYZ"}
    with pye57.E57(str(path), mode="w") as file:
        file.write_scan_raw(columns | {name: np.arange(50) for name in fields}, translation=np.array(translation))
    return path


def test_an_e57_says_where_its_scanners_were(tmp_path):
    place = sensor_places(read(e57_file(tmp_path / "a.e57", [1.0, 2, 3])), print)
    assert np.array_equal(place, np.broadcast_to([1.0, 2, 3], (50, 3)))
    grid = read(e57_file(tmp_path / "grid.e57", [0.0, 0, 0], "rowIndex", "columnIndex"))
    assert np.array_equal(sensor_places(grid, print), np.zeros((50, 3)))


def test_an_e57_of_a_merged_cloud_has_no_scanner(tmp_path):
    assert sensor_places(read(e57_file(tmp_path / "a.e57", [0.0, 0, 0])), print) is None
    write(Cloud(np.random.default_rng(0).normal(size=(50, 3)) + 1e6), tmp_path / "own.e57")
    assert sensor_places(read(tmp_path / "own.e57"), print) is None


def test_a_viewpoint_at_infinity_is_refused(sheet):
    with pytest.raises(ScanError, match="infinity"):
        check_viewpoint(Cloud(sheet), np.array([0, 0, 1e9]))
    assert check_viewpoint(Cloud(sheet), np.array([0, 0, 3.0])).shape == (3000, 3)
