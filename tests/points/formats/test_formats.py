"""Every format: what goes in comes out, and any bytes give a Cloud or a ScanError."""

import io
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.points import Cloud, ScanError, read, write
from becalm.points.formats import FORMATS
from tests.points.formats.meshes import MAKERS as MESHES
from tests.points.formats.odd_scans import FIXED
from tests.points.formats.samples import CASES, FOREIGN, OWN, PLY_LISTS, TEXTS, cloud_of, saved


def quiet_read(path: Path) -> Cloud:
    return read(path, lambda text: None)


def put(folder: Path, suffix: str, data: bytes) -> Path:
    path = folder / f"scan{suffix}"
    path.write_bytes(data)
    return path


def same_attributes(one: Cloud, other: Cloud) -> bool:
    return list(one.attributes) == list(other.attributes) and all(
        values.dtype == other.attributes[name].dtype and values.tobytes() == other.attributes[name].tobytes()
        for name, values in one.attributes.items()
    )


@pytest.mark.parametrize(("suffix", "index"), CASES)
def test_unmoved_is_byte_for_byte(tmp_path, suffix, index):
    data = OWN[suffix][index]
    cloud = quiet_read(put(tmp_path, suffix, data))
    out = tmp_path / f"out{suffix}"
    write(cloud, out)
    if suffix == ".npz":
        before, after = np.load(io.BytesIO(data)), np.load(out)
        assert before.files == after.files
        assert all(before[name].tobytes() == after[name].tobytes() for name in before.files)
    elif b"list uchar int near" not in data and b"list ushort uchar w" not in data:
        assert out.read_bytes() == data
    assert same_attributes(cloud, quiet_read(out))


@pytest.mark.parametrize(("suffix", "index"), [*CASES, *((suffix, -1) for suffix in FOREIGN)])
def test_moved_and_labelled_keeps_the_attributes(tmp_path, suffix, index):
    data = OWN[suffix][index] if suffix in OWN else saved(suffix)
    cloud = quiet_read(put(tmp_path, suffix, data))
    label = np.arange(len(cloud), dtype=np.uint8)
    moved = cloud.with_positions(cloud.xyz + np.array([0.25, -0.5, 1.0])).with_attributes(
        {"label2": label} if suffix != ".npy" else {}
    )
    out = tmp_path / f"out{suffix}"
    write(moved, out, lambda text: None)
    back = quiet_read(out)
    scale = np.nanmax(np.abs(cloud.local())) + 1.75
    assert np.nanmax(np.abs(back.xyz - moved.xyz)) <= 2e-5 * scale
    assert np.array_equal(back.measured, moved.measured)
    for name, values in cloud.attributes.items():
        assert np.array_equal(back.attributes[name], values, equal_nan=values.dtype.kind == "f"), name
    assert suffix == ".npy" or np.array_equal(next(reversed(back.attributes.values())), label)


@pytest.mark.parametrize(("suffix", "index"), [*CASES, *((suffix, -1) for suffix in FOREIGN)])
def test_a_part_is_written_in_order(tmp_path, suffix, index):
    cloud = quiet_read(put(tmp_path, suffix, OWN[suffix][index] if suffix in OWN else saved(suffix)))
    mask = cloud.measured & (np.arange(len(cloud)) % 2 == 0)
    out = tmp_path / f"out{suffix}"
    write(cloud.select(mask), out, lambda text: None)
    back = quiet_read(out)
    assert np.array_equal(back.xyz, cloud.xyz[mask])
    for name, values in cloud.attributes.items():
        assert np.array_equal(back.attributes[name], values[mask], equal_nan=values.dtype.kind == "f"), name


@pytest.mark.parametrize("target", [suffix for suffix in FORMATS if suffix not in (".bin", *MESHES)])
@pytest.mark.parametrize("suffix", [".ply", ".las", ".xyz", ".e57"])
def test_other_formats_keep_what_they_can(tmp_path, suffix, target):
    source = tmp_path / f"one{suffix}"
    write(cloud_of(), source, lambda text: None)
    cloud, out = quiet_read(source), tmp_path / f"two{target}"
    write(cloud, out, lambda text: None)
    back = quiet_read(out)
    assert np.abs(back.xyz - cloud.xyz).max() < 2e-9
    kept = {} if target in (".npy", ".pts", ".ptx") else cloud_of().attributes
    for name, values in kept.items():
        found = [array for key, array in back.attributes.items() if key.removesuffix("_value") == name]
        assert any(np.array_equal(array.astype(values.dtype), values) for array in found), name


@st.composite
def damage(draw, data: bytes) -> bytes:
    """data after a few flips, cuts, repetitions and numbers at their limits."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        size = draw(st.integers(1, 40))
        word = draw(
            st.sampled_from([b"", b"\0", b"\xff" * 4, b"99999999999", b"-1", b"nan", b"1e308", b"\n", b" ", b","])
        )
        cases = {
            "put": data[:at] + word + data[at:],
            "over": data[:at] + word + data[at + len(word) :],
            "cut": data[:at],
            "drop": data[:at] + data[at + size :],
            "repeat": data[:at] + data[at : at + size] * 3 + data[at + size :],
            "grow": data + data[:size],
        }
        data = cases[draw(st.sampled_from(sorted(cases)))]
    return data


@pytest.mark.parametrize("suffix", [*OWN, *FOREIGN, ".ptx", ".bin", *MESHES])
def test_any_bytes_give_a_cloud_or_a_scan_error(tmp_path_factory, suffix):
    folder = tmp_path_factory.mktemp("damaged")
    fixed = [make() for known, make in FIXED.values() if known == suffix]
    samples = OWN.get(suffix) or fixed or ([MESHES[suffix]()] if suffix in MESHES else [saved(suffix)])

    @settings(max_examples=60, deadline=2000, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.sampled_from(samples).flatmap(damage))
    def check(data):
        path = put(folder, suffix, data)
        tracemalloc.start()
        try:
            cloud = quiet_read(path)
            assert len(cloud) > 0
        except ScanError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 200e6

    check()


@pytest.mark.parametrize("suffix", [*OWN, *FOREIGN])
def test_every_beginning_of_a_file_is_refused_or_read(tmp_path, suffix):
    for data in OWN.get(suffix) or [saved(suffix)]:
        for stop in range(1, len(data), max(1, len(data) // 25)):
            try:
                assert len(quiet_read(put(tmp_path, suffix, data[:stop])))
            except ScanError as error:
                assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", FORMATS)
def test_bad_input_in_one_line(tmp_path, suffix):
    for data, word in [(b"", "empty"), (b"\x89PNG\r\n\x1a\n" * 40, f"scan{suffix}")]:
        with pytest.raises(ScanError, match=word) as caught:
            quiet_read(put(tmp_path, suffix, data))
        assert "\n" not in str(caught.value)
    with pytest.raises(ScanError, match="no such file"):
        read(tmp_path / f"none{suffix}")
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    with pytest.raises(ScanError, match="is a directory"):
        read(folder)
    with pytest.raises(ScanError, match="is a directory"):
        write(cloud_of(), folder)
    with pytest.raises(ScanError, match="does not exist"):
        write(cloud_of(), tmp_path / "none" / f"scan{suffix}")


def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ScanError, match=r"unknown suffix '.fbx', known are .ply .pcd .las"):
        read(put(tmp_path, ".fbx", b"v 1 2 3"))
    with pytest.raises(ScanError, match="unknown suffix"):
        write(cloud_of(), tmp_path / "scan")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.fbx"]


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".xyz", ".npy", ".npz", ".e57"])
def test_only_nan_is_refused(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    write(Cloud(np.full((20, 3), np.nan)), path)
    with pytest.raises(ScanError, match="none of its 20 points has finite coordinates"):
        read(path)


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".xyz", b"1 2\n3 4\n"),
        (".csv", b"x,y\n1,2\n"),
        (".ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 2\n"),
        (".pcd", b"FIELDS x y\nSIZE 4 4\nTYPE F F\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ascii\n1 2\n"),
    ],
)
def test_two_dimensions_are_refused(tmp_path, suffix, data):
    with pytest.raises(ScanError, match="2-D points"):
        read(put(tmp_path, suffix, data))
    np.save(tmp_path / "flat.npy", np.zeros((5, 2)))
    with pytest.raises(ScanError, match="2-D points"):
        read(tmp_path / "flat.npy")


def test_attacks_cost_neither_time_nor_memory(tmp_path):
    """A small file that promises a large one, for each reader that could believe it."""
    ply = b"ply\nformat %s 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\n%send_header\n"
    pcd = b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 %d\nWIDTH 1\nHEIGHT 1\nPOINTS %d\nDATA %s\n"
    listed = b"property list uchar int a\n"
    bomb = io.BytesIO()
    np.savez_compressed(bomb, xyz=np.zeros((4_000_000, 3)))
    deep = b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000
    attacks = [
        (".ply", ply % (b"binary_little_endian", 3_000_000_000, b"") + b"\0" * 64),
        (".ply", ply % (b"ascii", 3_000_000_000, b"") + b"1 2 3\n"),
        (".ply", ply % (b"binary_little_endian", 1 << 62, listed) + b"\0" * 64),
        (".ply", ply % (b"binary_little_endian", 1, listed) + b"\0" * 12 + b"\xff" * 9),
        (".pcd", pcd % (1, 1 << 62, b"binary")),
        (".pcd", pcd % (1 << 40, 1, b"binary")),
        (".pcd", pcd % (1, 1 << 28, b"binary_compressed") + np.array([3, 3 << 28], "<u4").tobytes() + b"\xff" * 3),
        (".pts", b"9" * 4000 + b"\n" + b"8" * 4000),
        (".xyz", b"1 " * 700_000),
        (".xyz", b"1 2 3\n" + b"1" * 3_000_000),
        (".xyz", b"\n" * 3_000_000),
        (".npz", bomb.getvalue()),
        (".npy", deep),
    ]
    for suffix, data in attacks:
        path = put(tmp_path, suffix, data)
        start = time.process_time()
        tracemalloc.start()
        with pytest.raises(ScanError):
            quiet_read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - start < 10, data[:100]
        assert peak < 200e6, data[:100]


def test_warnings_are_python_s_own_unless_said_otherwise(tmp_path):
    with pytest.warns(UserWarning, match="list property") as caught:
        read(put(tmp_path, ".ply", PLY_LISTS))
    assert ["near" in str(one.message) for one in caught] == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(put(tmp_path, ".xyz", TEXTS[".xyz"]))


def test_real_scans_come_through(shared, tmp_path):
    for name, count in [("CSite3_orig-utm", 377_028), ("learn13", 307_200), ("milk_cartoon_all_small_clorox", 307_200)]:
        path = shared(f"data/scans/{name}.pcd")
        cloud, out = read(path), tmp_path / "out.pcd"
        assert len(cloud) == count
        write(cloud, out)
        assert out.read_bytes() == path.read_bytes()
        moved = cloud.with_positions(cloud.xyz + 1e-3)
        write(moved, out, lambda text: None)
        back = read(out)
        assert np.nanmax(np.abs(back.xyz - moved.xyz)) < 1e-6
        assert np.array_equal(back.measured, cloud.measured)
        assert same_attributes(cloud, back)
