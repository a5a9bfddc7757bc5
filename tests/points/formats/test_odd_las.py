"""LAS and LAZ as other programs write them: old versions, COPC, extra bytes, and what laspy does not keep."""

import struct

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.formats import check_format, check_writable, default_output
from becalm.tasks.denoise import denoise
from tests.tasks.smoothing import Smoothing

laspy = pytest.importorskip("laspy")


def las_data(extra=(), version="1.2", form=1):
    """A laspy file of 50 points."""
    header = laspy.LasHeader(version=version, point_format=form)
    header.scales, header.offsets = [0.001] * 3, [500_000, 5_400_000, 0]
    for parameters in extra:
        header.add_extra_dim(parameters)
    las = laspy.LasData(header)
    las.xyz = np.random.default_rng(0).random((50, 3)) * 10 + [500_000, 5_400_000, 300]
    return las


def las_10(path):
    las_data().write(path)
    patch(path, 25, b"\0")


def las_without_date(path):
    las_data().write(path)
    patch(path, 90, bytes(4))


def las_with_long_description(path):
    las = las_data()
    las.header.vlrs.append(laspy.VLR("user", 7, "d" * 32, b"xx"))
    las.write(path)
    patch(path, path.read_bytes().find(b"d" * 31), b"d" * 32)


def las_with_ranges(path):
    las = las_data([laspy.ExtraBytesParams("amp", "f4", "an amplitude")])
    las.amp = np.arange(50)
    las.write(path)
    start = path.read_bytes().find(b"amp\0") - 4
    patch(path, start + 3, b"\6")
    patch(path, start + 64, struct.pack("<d", -9))
    patch(path, start + 88, struct.pack("<d", 9))


def las_with_spaces(path):
    las = las_data([laspy.ExtraBytesParams("height above ground", "u2"), laspy.ExtraBytesParams("Größe", "u1")])
    las["height above ground"] = np.arange(50)
    las.write(path)


def las_with_undescribed_bytes(path):
    las_data().write(path)
    data = bytearray(path.read_bytes())
    (start,), size = struct.unpack_from("<I", data, 96), 28
    points = [data[start + size * i : start + size * (i + 1)] + bytes([i, 255 - i, 7]) for i in range(50)]
    data[105:107] = struct.pack("<H", size + 3)
    path.write_bytes(data[:start] + b"".join(points))


def las_with_scaled_bytes(path):
    scaled = laspy.ExtraBytesParams("range", "i2", scales=np.array([0.01]), offsets=np.array([1.0]))
    las = las_data([scaled, laspy.ExtraBytesParams("three", "3u1")], "1.4", 6)
    las.three = np.arange(150).reshape(50, 3)
    las.write(path)


def copc(path):
    las = las_data(version="1.4", form=6)
    las.header.vlrs.append(laspy.VLR("copc", 1, "COPC info VLR", bytes(160)))
    las.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR("copc", 1000, "EPT Hierarchy", bytes(32))])
    las.write(path)


def patch(path, place: int, value: bytes) -> None:
    """Overwrite a part of a file."""
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    path.write_bytes(data)


MAKERS = [
    *(las_10, las_without_date, las_with_long_description, las_with_ranges, las_with_spaces),
    *(las_with_undescribed_bytes, las_with_scaled_bytes),
]


@pytest.mark.parametrize("make", MAKERS)
def test_odd_files_come_back(tmp_path, make):
    path, out = tmp_path / "odd.las", tmp_path / "out.las"
    make(path)
    cloud = read(path)
    write(cloud, out, lambda line: None)
    if make is las_10:
        patch(out, 25, b"\0")
    assert out.read_bytes() == path.read_bytes()
    label = np.arange(50, dtype=np.uint8)
    moved = cloud.with_positions(cloud.xyz + np.array([0.5, 0, 0])).with_attributes({"label": label})
    write(moved, out, lambda line: None)
    back = read(out)
    assert np.abs(back.xyz - moved.xyz).max() < 1e-6
    assert list(back.attributes) == [*cloud.attributes, "label"]
    assert all(np.array_equal(back.attributes[name], values) for name, values in cloud.attributes.items())
    written = laspy.read(out)
    assert written.header.version == ("1.2" if make is las_10 else laspy.read(path).header.version)


def test_wave_packets_that_laz_would_change_are_said(tmp_path):
    las, lines = las_data(version="1.4", form=10), []
    las.write(tmp_path / "one.las")
    las.scanner_channel = np.arange(50) % 2
    las.write(tmp_path / "two.las")
    for name in ("one", "two"):
        write(read(tmp_path / f"{name}.las"), tmp_path / f"{name}.laz", lines.append)
    assert [line.split(": ")[0] for line in lines] == [str(tmp_path / "two.laz")] and "write .las" in lines[0]


def test_a_scale_that_leaves_few_points_is_named(tmp_path):
    header = laspy.LasHeader(version="1.2", point_format=1)
    header.scales, header.offsets = [1.0] * 3, [0, 0, 0]
    las = laspy.LasData(header)
    las.xyz = np.random.default_rng(0).random((400, 3)) * 1.4 + [500_000, 5_400_000, 300]
    las.write(tmp_path / "m.las")
    with pytest.raises(ScanError, match=r"8 distinct finite points; .*the scale 1 of the file rounds its 400 points"):
        denoise(tmp_path / "m.las", Smoothing())


def test_copc_becomes_plain_laz(tmp_path):
    path = tmp_path / "odd.copc.laz"
    copc(path)
    cloud, said = read(path), []
    assert default_output(path) == tmp_path / "odd.denoised.laz"
    assert default_output(tmp_path / "a.b.PLY") == tmp_path / "a.b.denoised.PLY"
    check_writable(cloud, tmp_path / "out.laz")
    for refuse in (check_format, lambda target: write(cloud, target)):
        with pytest.raises(ScanError, match="COPC is not written; name it out.laz for plain LAZ"):
            refuse(tmp_path / "out.copc.laz")
    write(cloud.with_positions(cloud.xyz + 0.5), tmp_path / "out.laz", said.append)
    assert "COPC is written as plain LAZ, without its index" in said[0]
    assert b"copc" not in (tmp_path / "out.laz").read_bytes()
    assert np.abs(read(tmp_path / "out.laz").xyz - cloud.xyz - 0.5).max() < 1e-6


def test_what_cannot_be_read_is_told_with_a_way_out(tmp_path):
    path = tmp_path / "odd.las"
    las_data().write(path)
    patch(path, 25, b"\5")
    with pytest.raises(ScanError, match="LAS version 1.5.*save it as 1.4"):
        read(path)
    path = tmp_path / "odd.laz"
    las_data().write(path)
    patch(path, path.read_bytes().find(b"laszip encoded") - 2 + 54, b"\1\0")
    with pytest.raises(ScanError, match="first compressor .pointwise, without chunks."):
        read(path)


def test_an_output_is_refused_before_the_work(tmp_path):
    xyz = np.random.default_rng(0).random((100, 3))
    xyz[50] = np.nan
    with pytest.raises(ScanError, match="LAS cannot hold 1 points without coordinates"):
        check_writable(Cloud(xyz), tmp_path / "out.las")
    with pytest.raises(ScanError, match="unknown suffix"):
        check_writable(Cloud(xyz), tmp_path / "out.odd")
    with pytest.raises(ScanError, match="does not exist"):
        check_writable(Cloud(xyz), tmp_path / "none" / "out.ply")
    las_data().write(tmp_path / "in.las")
    cloud = read(tmp_path / "in.las")
    far = cloud.xyz.copy()
    far[30, 1] += 1e7
    with pytest.raises(ScanError, match="y does not fit 32 bits"):
        check_writable(cloud.with_positions(far), tmp_path / "out.las")
    check_writable(cloud, tmp_path / "out.las")
    assert [path.name for path in tmp_path.iterdir()] == ["in.las"]


def test_names_in_capitals_become_those_of_las(tmp_path):
    values = np.arange(50, dtype=np.uint16)
    cloud = Cloud(
        np.random.default_rng(0).random((50, 3)), dict.fromkeys(("Red", "Green", "Blue", "Intensity"), values)
    )
    write(cloud, tmp_path / "out.las")
    las = laspy.read(tmp_path / "out.las")
    assert las.point_format.id == 7
    assert all(np.array_equal(las[name], values) for name in ("red", "green", "blue", "intensity"))
