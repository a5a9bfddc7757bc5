"""Formats whose columns are fixed: PTX, with the scanners' poses, and the float32 of KITTI and nuScenes."""

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.rays import sensor_places
from tests.points.formats.odd_scans import BYTES, FIXED, PLACE, POINTS, TURN, float_rows, ptx_scan


@pytest.mark.parametrize("name", FIXED)
def test_the_points_are_read_and_written_back(tmp_path, name):
    suffix, make = FIXED[name]
    path, out = tmp_path / f"odd{suffix}", tmp_path / f"out{suffix}"
    path.write_bytes(make())
    cloud = read(path)
    assert np.array_equal(cloud.xyz, POINTS)
    write(cloud, out)
    assert out.read_bytes() == path.read_bytes()
    xyz = cloud.xyz.copy()
    xyz[3:9] += 0.25
    write(cloud.with_positions(xyz), out)
    back = read(out)
    assert np.abs(back.xyz - xyz).max() < 1e-6
    assert np.array_equal(back.xyz[9:], cloud.xyz[9:])
    assert list(back.attributes) == list(cloud.attributes)
    assert all(np.array_equal(back.attributes[key], values) for key, values in cloud.attributes.items())
    with pytest.warns(UserWarning, match="cannot hold label; left out"):
        write(cloud.with_attributes({"label": BYTES}), out)


def test_a_scan_of_ptx_has_its_place_and_keeps_its_grid(tmp_path):
    path, out = tmp_path / "odd.ptx", tmp_path / "out.ptx"
    points = POINTS.copy()
    points[7] = np.nan
    path.write_bytes(ptx_scan(points[:20], 4) + ptx_scan(points[20:], 5, place=-PLACE))
    cloud = read(path)
    assert np.flatnonzero(~cloud.measured).tolist() == [7]
    assert np.array_equal(cloud.source.header.scans[1].place, -PLACE)
    with pytest.warns(UserWarning, match="20 points that were removed are written as missing returns"):
        write(cloud[::2], out)
    back = read(out)
    assert len(back) == 40
    assert np.flatnonzero(back.measured).tolist() == list(range(0, 40, 2))
    assert np.array_equal(back.xyz[::2], POINTS[::2])
    path.write_bytes(ptx_scan(points, 8, " 0.25 1 2 255"))
    cloud = read(path)
    grey = cloud.with_attributes({"blue": np.full(40, 7, np.uint8)})
    write(grey, out)
    assert read(out).attributes["blue"].tolist() == [7] * 40


def test_the_scanner_of_ptx_is_known(tmp_path):
    path = tmp_path / "odd.ptx"
    path.write_bytes(ptx_scan(POINTS[:20], 4) + ptx_scan(POINTS[20:], 5, place=-PLACE))
    assert np.array_equal(sensor_places(read(path), pytest.fail), np.repeat([PLACE, -PLACE], 20, axis=0))
    path.write_bytes(FIXED["PTX without a pose"][1]())
    assert sensor_places(read(path), pytest.fail) is None
    angle, height = np.meshgrid(np.linspace(0, 1, 8), np.linspace(-0.5, 0.5, 5), indexing="ij")
    rays = np.stack([np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height)], axis=2)
    local = rays.reshape(-1, 3) * 4
    path.write_bytes(ptx_scan(local @ TURN, 8, place=np.zeros(3)))
    assert not sensor_places(read(path), pytest.fail).any()


def test_any_cloud_can_become_ptx(tmp_path):
    colours = {"intensity": BYTES / 40, "red": BYTES, "green": BYTES, "blue": BYTES}
    write(Cloud(POINTS, colours), tmp_path / "out.ptx")
    back = read(tmp_path / "out.ptx")
    assert np.array_equal(back.xyz, POINTS)
    assert all(np.array_equal(back.attributes[name], values) for name, values in colours.items())


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (ptx_scan(POINTS, 8).rsplit(b"\n", 2)[0], "scan 1 promises 40 points, the file holds 39"),
        (ptx_scan(POINTS, 8) + b"1 2 3 4\n", "scan 2 does not begin with columns, rows"),
        (ptx_scan(POINTS, 8, " 1 2"), "have 5 values, PTX has 3, 4 or 7"),
        (b"1\n1\n" + b"0 0 0\n" * 4 + b"0 0 0 0\n" * 4 + b"1 2 3 4\n", "scan 1 does not begin"),
    ],
)
def test_what_is_no_ptx_is_refused(tmp_path, data, word):
    (tmp_path / "odd.ptx").write_bytes(data)
    with pytest.raises(ScanError, match=word):
        read(tmp_path / "odd.ptx")


def test_what_is_no_float32_is_refused(tmp_path):
    path = tmp_path / "odd.bin"
    for data in (float_rows(BYTES)[:-3], b"\x89PNG\r\n\x1a\n" * 40, bytes(range(256)) * 5, float_rows(BYTES * 1e30)):
        path.write_bytes(data)
        with pytest.raises(ScanError, match="is no scan of float32"):
            read(path)
    with pytest.raises(ScanError, match="float32 is too coarse"):
        write(Cloud(POINTS + [500_000, 5_400_000, 0]), path)
