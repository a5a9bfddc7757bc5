"""A cloud: read-only, float64, an origin from the finite points, and parts that keep it."""

import numpy as np
import pytest

from becalm.points import Cloud, ScanError


def utm(count: int = 100) -> Cloud:
    xyz = np.random.default_rng(0).random((count, 3)) * 10 + [500_000, 5_400_000, 300]
    xyz[3] = np.nan
    return Cloud(xyz, {"i": np.arange(count, dtype=np.uint16), "n": np.ones((count, 3), np.float32)})


def test_local_coordinates_fit_float32():
    cloud = utm()
    there = cloud.local().astype(np.float32).astype(np.float64) + cloud.origin
    assert np.nanmax(np.abs(there - cloud.xyz)) < 1e-6
    assert np.abs(cloud.origin - [500_005, 5_400_005, 305]).max() < 1
    assert cloud.measured.sum() == len(cloud) - 1


def test_a_part_keeps_origin_attributes_and_order():
    cloud = utm()
    mask = np.arange(len(cloud)) % 3 == 0
    part = cloud.select(mask)
    assert np.array_equal(part.origin, cloud.origin)
    assert np.array_equal(part.xyz, cloud.xyz[mask], equal_nan=True)
    assert np.array_equal(part.attributes["i"], cloud.attributes["i"][mask])
    assert len(cloud.select(np.zeros(len(cloud), bool))) == 0


def test_moved_changes_only_coordinates():
    cloud = utm()
    moved = cloud.with_positions(cloud.xyz + 1)
    assert moved.attributes["n"] is cloud.attributes["n"]
    assert np.array_equal(moved.origin, cloud.origin)
    assert list(cloud.with_attributes({"d": np.zeros(len(cloud))}).attributes) == ["i", "n", "d"]


def test_arrays_are_read_only_and_the_caller_s_stay_writable():
    mine, values = np.zeros((4, 3)), np.arange(4)
    cloud = Cloud(mine, {"a": values, "b": values[::-1]})
    with pytest.raises(ValueError, match="read-only"):
        cloud.xyz[0] = 1
    mine[0], values[0] = 1, 9
    assert not cloud.xyz.any()
    assert cloud.attributes["a"][0] == cloud.attributes["b"][-1] == 0


def test_a_read_only_view_of_writable_memory_is_copied_and_read_only_memory_is_shared():
    mine = np.zeros((4, 3))
    view = mine.view()
    view.flags.writeable = False
    assert not np.shares_memory(Cloud(view).xyz, mine)
    bytes_ = np.frombuffer(mine.tobytes()).reshape(4, 3)
    assert np.shares_memory(Cloud(bytes_).xyz, bytes_)
    cloud = Cloud(mine)
    assert cloud.with_attributes({"a": np.arange(4)}).xyz is cloud.xyz


def test_a_cloud_is_an_array_of_positions():
    cloud = utm()
    assert np.asarray(cloud) is cloud.xyz
    assert np.asarray(cloud, np.float32).dtype == np.float32
    assert np.array(cloud, copy=True).flags.writeable
    assert np.nanmean(cloud) == np.nanmean(cloud.xyz)


def test_clouds_compare_by_identity():
    cloud = utm()
    assert cloud == cloud and cloud != utm()
    assert len({cloud, cloud, utm()}) == 2
    assert "100 points" in repr(cloud) and "n" in repr(cloud)


@pytest.mark.parametrize(
    "rows", [slice(2, 50), slice(None, None, 7), slice(None, None, -1), np.array([5, 2, 2]), np.array([1, 4]), [0, 1]]
)
def test_rows_are_those_of_the_array(rows):
    cloud = utm()
    part = cloud[rows]
    assert np.array_equal(part.xyz, cloud.xyz[rows], equal_nan=True)
    assert np.array_equal(part.attributes["i"], cloud.attributes["i"][rows])
    assert np.array_equal(part.origin, cloud.origin)
    with pytest.raises(ValueError, match="read-only"):
        part.attributes["i"][0] = 1


def test_parts_in_order_keep_their_file_and_others_are_written_anew(tmp_path):
    from becalm.points import read, write

    (tmp_path / "a.xyz").write_text("# scanned on Monday\n1.50 2 3\n4 5 6\n7 8 9\n")
    cloud = read(tmp_path / "a.xyz")
    for rows, text in ((slice(1), "1.50 2 3\n"), (np.array([2, 0]), "7.0 8.0 9.0\n1.5 2.0 3.0\n")):
        write(cloud[rows], tmp_path / "b.xyz")
        assert (tmp_path / "b.xyz").read_text().endswith(text)
    mask = np.array([True, False, True])
    assert np.array_equal(cloud[mask].xyz, cloud.select(mask).xyz)


@pytest.mark.parametrize("rows", [np.array(3), np.array([0.5]), np.zeros((2, 2), int), np.zeros(4, bool)])
def test_other_rows_are_refused(rows):
    with pytest.raises(ScanError):
        utm()[rows]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cloud(np.zeros((4, 2))),
        lambda: Cloud(np.zeros((4, 3)), {"a": np.zeros(3)}),
        lambda: utm().with_positions(np.zeros((4, 3))),
        lambda: utm().select(np.array([0, 1])),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make):
    with pytest.raises(ScanError):
        make()


def test_no_finite_point_gives_origin_zero():
    assert np.array_equal(Cloud(np.full((3, 3), np.nan)).origin, np.zeros(3))
    assert np.isfinite(Cloud(np.full((1, 3), 1e308)).origin).all()
