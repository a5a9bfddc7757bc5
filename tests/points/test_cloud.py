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
    assert cloud.finite.sum() == len(cloud) - 1


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
    moved = cloud.moved(cloud.xyz + 1)
    assert moved.attributes["n"] is cloud.attributes["n"]
    assert np.array_equal(moved.origin, cloud.origin)
    assert list(cloud.with_attributes({"d": np.zeros(len(cloud))}).attributes) == ["i", "n", "d"]


def test_arrays_are_read_only_and_the_caller_s_stay_writable():
    mine = np.zeros((4, 3))
    cloud = Cloud(mine)
    with pytest.raises(ValueError, match="read-only"):
        cloud.xyz[0] = 1
    mine[0] = 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cloud(np.zeros((4, 2))),
        lambda: Cloud(np.zeros((4, 3)), {"a": np.zeros(3)}),
        lambda: utm().moved(np.zeros((4, 3))),
        lambda: utm().select(np.array([0, 1])),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make):
    with pytest.raises(ScanError):
        make()


def test_no_finite_point_gives_origin_zero():
    assert np.array_equal(Cloud(np.full((3, 3), np.nan)).origin, np.zeros(3))
    assert np.isfinite(Cloud(np.full((1, 3), 1e308)).origin).all()
