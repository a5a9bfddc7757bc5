"""Clouds from and to other libraries' objects keep coordinates, colours, normals and attributes."""

import subprocess
import sys

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.interop import READERS, as_cloud


def coloured(count: int = 50) -> Cloud:
    rng = np.random.default_rng(0)
    colours = {name: rng.integers(0, 256, count).astype(np.uint8) for name in ("red", "green", "blue")}
    normals = {name: rng.normal(size=count).astype(np.float32) for name in ("nx", "ny", "nz")}
    xyz = rng.normal(size=(count, 3)) + [500_000, 5_400_000, 300]
    return Cloud(xyz, {"intensity": rng.integers(0, 999, count).astype(np.uint16), **colours, **normals})


def assert_same(cloud: Cloud, expected: Cloud, names: set[str] | None = None) -> None:
    assert np.array_equal(cloud.xyz, expected.xyz)
    names = set(expected.attributes) if names is None else names
    assert set(cloud.attributes) == names
    for name in names:
        assert np.array_equal(cloud.attributes[name], expected.attributes[name]), name


@pytest.mark.parametrize("library", ["open3d", "laspy", "trimesh", "pyvista"])
def test_there_and_back(library):
    pytest.importorskip(library, exc_type=ImportError)
    cloud = coloured()
    there = getattr(cloud, f"to_{library}")()
    for back in (getattr(Cloud, f"from_{library}")(there), as_cloud(there)):
        if library == "laspy":
            np.testing.assert_allclose(back.xyz, cloud.xyz, atol=1e-3)
            assert np.array_equal(back.attributes["red"], cloud.attributes["red"])
            assert np.array_equal(back.attributes["nx"], cloud.attributes["nx"])
        else:
            assert_same(back, cloud, {"red", "green", "blue"} if library == "trimesh" else None)
        with pytest.raises(ValueError, match="read-only"):
            back.xyz[0] = 0


def test_legacy_clouds_of_open3d():
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    cloud = coloured()
    legacy = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.array(cloud.xyz)))
    colours = np.stack([cloud.attributes[name] for name in ("red", "green", "blue")], 1)
    legacy.colors = o3d.utility.Vector3dVector(colours / 255)
    result = as_cloud(legacy)
    assert_same(result, cloud, {"red", "green", "blue"})
    np.asarray(legacy.points)[0] = 7
    assert not np.array_equal(result.xyz[0], [7, 7, 7]), "nothing is shared"


def test_meshes_of_trimesh_give_their_vertices():
    trimesh = pytest.importorskip("trimesh", exc_type=ImportError)
    box = trimesh.creation.box()
    assert np.array_equal(as_cloud(box).xyz, box.vertices)


def test_clouds_of_laspy_keep_their_header(tmp_path):
    laspy = pytest.importorskip("laspy", exc_type=ImportError)
    write(coloured(), tmp_path / "first.laz")
    las = laspy.read(tmp_path / "first.laz")
    las.header.system_identifier = "a scanner"
    cloud = Cloud.from_laspy(las)
    las.x = np.asarray(las.x) + 5
    write(cloud[::2], tmp_path / "second.laz")
    again = laspy.read(tmp_path / "second.laz")
    assert again.header.system_identifier == "a scanner"
    assert np.array_equal(again.xyz, read(tmp_path / "first.laz").xyz[::2]), (
        "what happened to the object later is not seen"
    )
    assert np.array_equal(cloud.to_laspy().xyz, cloud.xyz)


def test_points_of_any_kind(tmp_path):
    xyz = np.random.default_rng(0).normal(size=(30, 3))
    np.save(tmp_path / "a.npy", xyz)
    for points in (xyz, xyz.tolist(), Cloud(xyz), tmp_path / "a.npy", str(tmp_path / "a.npy")):
        assert np.array_equal(as_cloud(points).xyz, xyz)
    cloud = Cloud(xyz)
    assert as_cloud(cloud) is cloud
    for wrong in (xyz[:, :2], xyz[0], None, {"a": 1}, ["a"], 3.0):
        with pytest.raises(ScanError, match="points"):
            as_cloud(wrong)


def test_no_library_is_imported_unasked():
    code = "import becalm.points, becalm.points.interop, sys, numpy as np; becalm.points.interop.as_cloud(np.zeros((3, 3)));"
    code += f"print([n for n in {list(READERS)} if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
