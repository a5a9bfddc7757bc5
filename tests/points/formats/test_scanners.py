"""LAS and E57: what only they have, and what hostile files would make their libraries do."""

import builtins
import struct
import time

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write

laspy = pytest.importorskip("laspy")
pye57 = pytest.importorskip("pye57")


def survey(path, count=500):
    """A LAS file with everything: extra dimensions (scaled and vectors), VLRs, EVLRs, colours."""
    random = np.random.default_rng(0)
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.scales, header.offsets = [0.001] * 3, [500_000, 5_400_000, 0]
    header.system_identifier = "a scanner"
    scaled = laspy.ExtraBytesParams("height", "i2", scales=np.array([0.1]), offsets=np.array([5.0]))
    for extra in (laspy.ExtraBytesParams("amplitude", "f4"), scaled, laspy.ExtraBytesParams("triple", "3u1")):
        header.add_extra_dim(extra)
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "WKT", b'PROJCS["made up"]\0'))
    las = laspy.LasData(header)
    las.xyz = random.random((count, 3)) * 100 + [500_000, 5_400_000, 300]
    las.gps_time, las.red = random.random(count) * 1e9, random.integers(0, 65535, count)
    las.return_number, las.number_of_returns = random.integers(1, 4, count), np.full(count, 3)
    las.classification, las.amplitude = random.integers(0, 32, count), random.random(count)
    las.height, las.triple = random.integers(0, 900, count) / 10, random.integers(0, 255, (count, 3))
    las.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR("me", 8, "extended", b"at the end")])
    las.write(path)


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_las_survives_byte_for_byte(tmp_path, suffix):
    path, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    survey(path)
    cloud = read(path)
    write(cloud, out)
    assert out.read_bytes() == path.read_bytes()
    write(cloud.with_positions(cloud.xyz + np.array([0.5, 0, 0])), out)
    before, after = laspy.read(path), laspy.read(out)
    assert np.array_equal(after.X, before.X + 500)
    assert np.array_equal(after.Y, before.Y)
    for name in before.point_format.dimension_names:
        assert name == "X" or np.array_equal(np.asarray(before[name]), np.asarray(after[name])), name
    assert np.array_equal(after.header.scales, before.header.scales)
    assert [vlr.record_data_bytes() for vlr in after.vlrs] == [vlr.record_data_bytes() for vlr in before.vlrs]
    assert after.evlrs[0].record_data == b"at the end"


def test_las_coordinates_that_do_not_fit_are_refused(tmp_path):
    survey(tmp_path / "in.las")
    cloud = read(tmp_path / "in.las")
    with pytest.raises(ScanError, match=r"y does not fit 32 bits at scale 0.001 and offset 5.4e\+06"):
        write(cloud.with_positions(cloud.xyz + np.array([0, 1e7, 0])), tmp_path / "out.las")
    xyz = cloud.xyz.copy()
    xyz[4] = np.nan
    with pytest.raises(ScanError, match="cannot hold 1 points without coordinates"):
        write(cloud.with_positions(xyz), tmp_path / "out.las")
    assert not (tmp_path / "out.las").exists()


@pytest.mark.parametrize(
    ("suffix", "offset", "value", "word"),
    [
        (".las", 247, struct.pack("<Q", 400_000_000), "promises 400,000,000 points, the file holds 50"),
        (".laz", 247, struct.pack("<Q", 400_000_000), "promise to unpack"),
        (".las", 100, struct.pack("<I", 2**32 - 1), "promises 4,294,967,295 VLRs"),
        (".las", 243, struct.pack("<I", 2**32 - 1), "promises 4,294,967,295 EVLRs"),
        (".las", 96, struct.pack("<I", 2**32 - 1), "points from 4,294,967,295"),
        (".las", 24, b"\x02", "LAS version 2.4"),
    ],
)
def test_las_promises_are_held_against_the_file(tmp_path, suffix, offset, value, word):
    path = tmp_path / f"in{suffix}"
    survey(path)
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(ScanError, match=word):
        read(path)
    assert time.process_time() - start < 5


def two_scans(path):
    """An E57 file of two scans with poses, the second with colours."""
    random = np.random.default_rng(0)
    file = pye57.E57(str(path), mode="w")
    for index in range(2):
        names = ("cartesianX", "cartesianY", "cartesianZ")
        data = {name: random.random(100) * 10 for name in names} | {"intensity": random.random(100).astype("f4")}
        if index:
            data |= {
                name: random.integers(0, 255, 100).astype("u1") for name in ("colorRed", "colorGreen", "colorBlue")
            }
        file.write_scan_raw(data, rotation=np.array([0.5, 0.5, 0.5, 0.5]), translation=np.array([5e5, 5e6, index]))
    file.close()


def test_e57_applies_the_poses_and_takes_them_back(tmp_path):
    path, out = tmp_path / "in.e57", tmp_path / "out.e57"
    two_scans(path)
    cloud = read(path)
    file = pye57.E57(str(path))
    scans = [file.read_scan(index, ignore_missing_fields=True) for index in range(2)]
    for axis, name in enumerate(("cartesianX", "cartesianY", "cartesianZ")):
        assert np.array_equal(cloud.xyz[:, axis], np.concatenate([scan[name] for scan in scans]))
    write(cloud, out)
    raw = [one.read_scan_raw(1) for one in (file, pye57.E57(str(out)))]
    assert all(np.array_equal(raw[0][name], raw[1][name]) for name in raw[0])
    write(cloud.with_positions(cloud.xyz + 0.25), out)
    back = read(out)
    assert np.abs(back.xyz - cloud.xyz - 0.25).max() < 4e-6
    assert pye57.E57(str(out)).get_header(1).translation.tolist() == [5e5, 5e6, 1]
    assert np.array_equal(back.attributes["red"][100:], cloud.attributes["red"][100:])


def test_e57_at_survey_coordinates_loses_nothing(tmp_path):
    random = np.random.default_rng(0)
    values = {"wild": np.array([np.nan, np.inf, -1e300] * 10), "whole": np.arange(30) - 2**40}
    cloud = Cloud(random.random((30, 3)) * 100 + [5e5, 5.4e6, 300], values)
    write(cloud, tmp_path / "out.e57")
    back = read(tmp_path / "out.e57")
    assert np.abs(back.xyz - cloud.xyz).max() < 2e-9
    assert all(np.array_equal(back.attributes[name], values[name], equal_nan=name == "wild") for name in values)
    xyz = cloud.xyz.copy()
    xyz[7] = np.nan
    write(cloud.with_positions(xyz), tmp_path / "hole.e57")
    assert np.flatnonzero(~read(tmp_path / "hole.e57").measured).tolist() == [7]


@pytest.mark.parametrize(("suffix", "package"), [(".las", "laspy"), (".laz", "laspy"), (".e57", "pye57")])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, suffix, package):
    path, real = tmp_path / f"scan{suffix}", builtins.__import__
    write(Cloud(np.random.default_rng(0).random((20, 3))), path)

    def without(name, *rest):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for act in (lambda: read(path), lambda: write(Cloud(np.zeros((1, 3))), tmp_path / f"out{suffix}")):
        with pytest.raises(ScanError, match=r"pip install becalm\[scan\]"):
            act()
