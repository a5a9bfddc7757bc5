"""Binary scans as other programs write them: read, and written back with the names and types that they had."""

import builtins

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from tests.points.formats.odd_scans import POINTS, SCANS, XYZ, pcd, records


@pytest.mark.parametrize("name", SCANS)
def test_the_points_are_read_and_written_back(tmp_path, name):
    suffix, make = SCANS[name]
    path, out = tmp_path / f"odd{suffix}", tmp_path / f"out{suffix}"
    path.write_bytes(make())
    cloud = read(path, lambda line: None)
    assert np.array_equal(cloud.xyz, POINTS)
    write(cloud, out)
    assert out.read_bytes() == path.read_bytes()
    moved = cloud.with_positions(cloud.xyz + 0.25).with_attributes({"label": np.arange(40, dtype=np.uint8)})
    write(moved, out, lambda line: None)
    back = read(out, lambda line: None)
    assert np.abs(back.xyz - moved.xyz).max() < 1e-6
    for key, values in cloud.attributes.items():
        assert np.array_equal(back.attributes[key], values)
    assert "label" in back.attributes


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("PCD of PDAL with colours", [b"FIELDS X Y Z Red Green Blue label\n", b"TYPE F F F U U U U\n"]),
        ("PCD with a bool of PCL", [b"FIELDS x y z valid label\n", b"TYPE F F F B U\n"]),
        ("PLY in capitals, turned", [b"property float Z\nproperty uchar red\nproperty float X\n"]),
        ("NPY records in capitals", [b"('X', '<f4'), ('Y', '<f4'), ('Z', '<f4'), ('Intensity', '|u1'), ('label'"]),
    ],
)
def test_names_and_types_stay_where_a_field_is_added(tmp_path, name, parts):
    suffix, make = SCANS[name]
    (tmp_path / f"odd{suffix}").write_bytes(make())
    cloud = read(tmp_path / f"odd{suffix}")
    write(cloud.with_attributes({"label": np.arange(40, dtype=np.uint8)}), tmp_path / f"out{suffix}")
    data = (tmp_path / f"out{suffix}").read_bytes()
    assert all(part in data for part in parts)


def test_faces_are_said_to_be_kept(tmp_path):
    (tmp_path / "odd.ply").write_bytes(SCANS["PLY with faces"][1]())
    with pytest.warns(UserWarning, match="'vertex_indices' of element 'face' is kept as it is"):
        read(tmp_path / "odd.ply")


def test_types_are_kept_where_asked(tmp_path):
    shift = np.array([500_000, 5_400_000, 0])
    rows = records(**XYZ)
    for axis, value in zip("xyz", shift, strict=True):
        rows[axis] += value
    (tmp_path / "odd.pcd").write_bytes(pcd("x y z", "4 4 4", "F F F", rows.tobytes()))
    cloud = read(tmp_path / "odd.pcd")
    moved = cloud.with_positions(cloud.xyz + 0.01)
    with pytest.warns(UserWarning, match=r"as double, .* up to 0.01 \(--keep-types keeps float32"):
        write(moved, tmp_path / "out.pcd")
    assert b"SIZE 8 8 8" in (tmp_path / "out.pcd").read_bytes()
    write(moved, tmp_path / "kept.pcd", keep_types=True)
    assert b"SIZE 4 4 4" in (tmp_path / "kept.pcd").read_bytes()


def test_compressed_points_are_compressed_again(tmp_path, monkeypatch):
    lzf = pytest.importorskip("lzf")
    rows = np.ones(40, records(**XYZ).dtype)
    plain = rows.tobytes()
    packed = lzf.compress(plain)
    head = np.array([len(packed), len(plain)], "<u4").tobytes()
    path = tmp_path / "odd.pcd"
    path.write_bytes(pcd("x y z", "4 4 4", "F F F", head + packed, "binary_compressed"))
    cloud = read(path)
    write(cloud.with_positions(cloud.xyz + np.array([0, 0, 0.5])), tmp_path / "out.pcd")
    assert (tmp_path / "out.pcd").stat().st_size < path.stat().st_size + 40
    assert np.array_equal(read(tmp_path / "out.pcd").xyz, cloud.xyz + [0, 0, 0.5])
    write(cloud.with_positions(np.random.default_rng(0).random((40, 3))), tmp_path / "noise.pcd")
    assert read(tmp_path / "noise.pcd").xyz.std() > 0.2
    for damaged in (head + b"\xff" * len(packed), np.array([len(packed), 481], "<u4").tobytes() + packed):
        path.write_bytes(pcd("x y z", "4 4 4", "F F F", damaged, "binary_compressed"))
        with pytest.raises(ScanError, match="damaged|promises"):
            read(path)
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *rest: real("no_such_module" if name == "lzf" else name, *rest)
    )
    with pytest.raises(ScanError, match=r"pip install becalm\[scan\]"):
        write(cloud.with_positions(cloud.xyz + 1), tmp_path / "again.pcd")


def test_a_cloud_of_zeros_only_is_none(tmp_path):
    write(Cloud(np.zeros((40, 3))), tmp_path / "zero.ply")
    with pytest.raises(ScanError, match="none of its 40 points has"):
        read(tmp_path / "zero.ply")
