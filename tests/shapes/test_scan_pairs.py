"""Pairs of one's own: what is read, what is held out, and what is refused."""

import numpy as np
import pytest

from becalm.core.files import InputError
from becalm.points import Cloud, write
from becalm.points.mesh import Mesh
from becalm.shapes import meshfiles, scan_pairs


def wave(n: int, seed: int = 0) -> np.ndarray:
    xy = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    return np.c_[xy, 0.1 * np.sin(3 * xy[:, 0])]


@pytest.fixture
def folder(tmp_path):
    """A scan with white noise of 0.01 beside a dense clean scan of the same surface, at a place of its own."""
    clean = wave(6000) + [1e5, 0, 0]
    clean[:, 2] += 0.01 * np.random.default_rng(1).standard_normal(6000)
    write(Cloud(clean), tmp_path / "a.noisy.ply")
    write(Cloud(wave(20_000, 2) + [1e5, 0, 0]), tmp_path / "a.reference.ply")
    return tmp_path


def test_points_are_matched_to_the_reference(folder):
    (pair,) = scan_pairs.read_scan_pairs(folder)
    assert pair.name == "a"
    assert pair.held_out.mean() == pytest.approx(0.2, abs=0.01)
    error = np.einsum("nc,nc->n", pair.noisy - pair.reference, pair.normals)[pair.covered]
    assert error.std() == pytest.approx(0.0097, rel=0.15)


def test_a_mesh_is_a_reference_too(tmp_path):
    corners = np.array([[-2.0, -2, 0], [2, -2, 0], [2, 2, 0], [-2, 2, 0]])
    meshfiles.write(Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]])), tmp_path / "b.reference.obj")
    flat = np.random.default_rng(0).uniform(-1, 1, (3000, 3)) * [1, 1, 0.02]
    write(Cloud(flat), tmp_path / "b.noisy.xyz")
    (pair,) = scan_pairs.read_scan_pairs(tmp_path)
    height = (pair.noisy - pair.reference)[:, 2]
    assert height == pytest.approx(flat[:, 2], abs=1e-6)
    assert np.abs(pair.normals[:, 2]) == pytest.approx(1)


def test_crops_leave_the_held_out_part_alone(folder):
    pairs = scan_pairs.read_scan_pairs(folder)
    crop = scan_pairs.random_crop(pairs, np.random.default_rng(0))
    kept = crop.noisy[crop.interior]
    held = pairs[0].noisy[pairs[0].held_out]
    assert len(kept) > 100
    assert not {tuple(x) for x in kept.round(9)} & {tuple(x) for x in held.round(9)}
    assert np.median(crop.sigma) == pytest.approx(0.0097, rel=0.2)
    assert np.median(crop.shared / crop.sigma) < 0.4, "white noise is not shared"


def test_the_error_of_what_is_held_out_is_a_ratio(folder):
    pairs = scan_pairs.read_scan_pairs(folder)
    assert scan_pairs.held_out_error(pairs, lambda x: x)["a"] == pytest.approx(1)
    truth = {"a": pytest.approx(0, abs=1e-6)}
    assert scan_pairs.held_out_error(pairs, lambda x: pairs[0].reference) == truth


@pytest.mark.parametrize(
    ("change", "message"),
    [("shift", "register them"), ("scale", "other units"), ("lone", "0 references"), ("none", "NAME.noisy")],
)
def test_pairs_that_do_not_fit_are_refused_in_one_line(tmp_path, change, message):
    noisy, reference = wave(3000), wave(9000, 1)
    if change == "shift":
        reference = reference + [0, 0, 3]
    if change == "scale":
        reference = reference * 0.01
    if change != "none":
        write(Cloud(noisy), tmp_path / "c.noisy.ply")
    if change in ("shift", "scale"):
        write(Cloud(reference), tmp_path / "c.reference.ply")
    with pytest.raises(InputError, match=message) as error:
        scan_pairs.read_scan_pairs(tmp_path)
    assert "\n" not in str(error.value)
