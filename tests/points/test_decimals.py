"""Decimals of coordinates in text: no fewer than the file's, as many as the noise justifies."""

import numpy as np
import pytest

from becalm.points.cloud import Cloud
from becalm.points.decimals import decimals_to_write, round_positions, rounding_step
from becalm.points.formats import read, write
from becalm.tasks.denoise import denoise
from tests.tasks.smoothing import Smoothing


def test_the_step_is_a_hundredth_of_the_noise():
    assert rounding_step(0.02, 0.015) == pytest.approx(1e-4)
    assert rounding_step(0.2, 30.0) == pytest.approx(1e-3)
    assert rounding_step(0.0, 1.0) is None and rounding_step(np.nan, 1.0) is None


def test_decimals_are_those_of_the_file_or_of_the_noise():
    values = np.array([5412000.125, 5412001.5, np.nan])
    assert [decimals_to_write(values, step) for step in (1.0, 0.1, 1e-5, 1e-12, None)] == [3, 3, 5, None, None]
    assert (
        decimals_to_write(np.random.default_rng(0).normal(size=99), 0.1) is None
    )  # all digits before, all digits after


def test_what_did_not_move_is_exact():
    before = np.array([[0.1234567, 1.5, 2.5]] * 2)
    after = before + np.array([[0, 0, 0], [0, 0.123456, 0.2]])
    assert round_positions(before, after, 0.01).tolist() == [[0.1234567, 1.5, 2.5], [0.1234567, 1.62, 2.7]]


@pytest.mark.parametrize("name", ["a.xyz", "a.csv", "a.ply"])
def test_text_comes_back_with_the_decimals_of_the_noise(tmp_path, name):
    """Three decimals and a noise of 10 mm give four, in all coordinates that moved; other columns are as they were written."""
    rng = np.random.default_rng(1)
    xyz = np.c_[rng.uniform(0, 5, (400, 2)), np.zeros(400)] + rng.normal(0, 0.01, (400, 3)) + [451_000, 5_412_000, 300]
    mark = {"a.csv": ",", "a.xyz": " ", "a.ply": " "}[name]
    rows = [mark.join([*(f"{value:.3f}" for value in point), "07.50"]) for point in xyz.tolist()]
    head = {"a.csv": "x,y,z,code\n", "a.xyz": ""}.get(name, "ply\nformat ascii 1.0\nelement vertex 400\n")
    if name == "a.ply":
        head += "".join(f"property double {field}\n" for field in ("x", "y", "z", "code")) + "end_header\n"
    (tmp_path / name).write_text(head + "\n".join(rows) + "\n")
    result = denoise(tmp_path / name, Smoothing())
    result.save(tmp_path / f"out-{name}")
    lines = (tmp_path / f"out-{name}").read_text()[len(head) :].splitlines()
    fields = [line.split(mark) for line in lines]
    assert all(field[3] == "07.50" for field in fields)
    assert {len(value.split(".")[1]) for field in fields for value in field[:3]} <= {3, 4}
    written = read(tmp_path / f"out-{name}").xyz
    assert 0 < np.abs(written - result.points).max() <= 0.51e-4


def test_points_that_a_person_moves_keep_all_digits(tmp_path):
    (tmp_path / "a.xyz").write_text("1.5 2.5 3.5\n4.5 5.5 6.5\n")
    cloud = read(tmp_path / "a.xyz")
    write(cloud.with_positions(cloud.xyz + 1 / 3), tmp_path / "b.xyz")
    assert np.array_equal(read(tmp_path / "b.xyz").xyz, cloud.xyz + 1 / 3)
    write(Cloud(np.full((2, 3), 1 / 3)), tmp_path / "c.xyz")
    assert (tmp_path / "c.xyz").read_text().startswith("0.3333333333333333 ")
