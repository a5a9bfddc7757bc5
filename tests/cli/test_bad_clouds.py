"""Clouds that no scanner should give, through the command with the packaged model: sensible output or a clear refusal."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from becalm.cli import main
from becalm.points import Cloud, read, write
from becalm.points.neighbours import knn


def denoised(capsys, folder: Path, xyz: np.ndarray, *options) -> tuple[int, str, str]:
    """Write the cloud, run the command: (exit code, standard output, standard error)."""
    write(Cloud(xyz), folder / "scan.npy")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["denoise", str(folder / "scan.npy"), "-o", str(folder / "out.npy"), "--force", *options])
    return int(ended.value.code or 0), *capsys.readouterr()


def settled(capsys, folder: Path, xyz: np.ndarray, *options) -> np.ndarray:
    """The positions that come back; the command must succeed."""
    code, _, err = denoised(capsys, folder, xyz, *options)
    assert code == 0, err
    return read(folder / "out.npy").xyz


def spacing(xyz: np.ndarray, k: int = 8) -> np.ndarray:
    """Mean distance from each point to its k nearest others [n]."""
    return knn(xyz, k + 1)[0][:, 1:].mean(axis=1)


def lengths(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.linalg.norm(after - before, axis=1)


def sphere(rng, n: int) -> np.ndarray:
    xyz = rng.normal(size=(n, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


@pytest.mark.parametrize("noise", ["-0.01", "0", "nan", "inf", "50", "much"])
def test_a_noise_level_that_cannot_be_is_refused_with_units_and_fix(capsys, tmp_path, noise):
    code, out, err = denoised(capsys, tmp_path, sphere(np.random.default_rng(0), 100), f"--noise={noise}")
    assert code in (1, 2)
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "noise" in err
    assert noise in err
    assert "standard deviation in the scan's units" in err
    assert "above 0" in err or "auto" in err
    assert not (tmp_path / "out.npy").exists()


def test_two_very_different_densities_both_stay_near(capsys, tmp_path):
    rng = np.random.default_rng(1)
    dense = np.c_[rng.uniform(0, 0.02, (1500, 2)), 1e-5 * rng.normal(size=1500)]
    sparse = np.c_[rng.uniform(1, 11, (1500, 2)), 0.02 * rng.normal(size=1500)]
    xyz = np.concatenate([dense, sparse])
    moved = lengths(xyz, settled(capsys, tmp_path, xyz))
    assert np.isfinite(moved).all()
    assert (moved < 2 * spacing(xyz)).all()


def test_many_copies_of_few_positions_cost_seconds(capsys, tmp_path):
    rng = np.random.default_rng(2)
    surface = sphere(rng, 1500) + 0.01 * rng.normal(size=(1500, 3))
    few = surface[:20][rng.integers(20, size=200_000)]
    xyz = np.concatenate([surface, few])
    start = time.process_time()
    result = settled(capsys, tmp_path, xyz)
    assert time.process_time() - start < 75
    assert len(result) == len(xyz)
    assert np.isfinite(result).all()
    radius = np.linalg.norm(result[:1500], axis=1)
    assert np.abs(radius - 1).mean() < 0.8 * np.abs(np.linalg.norm(surface, axis=1) - 1).mean()
    copies = result[1500:][np.all(few == few[0], axis=1)]
    assert np.ptp(copies, axis=0).max() == 0


def test_copies_do_not_hide_the_noise_in_the_summary(capsys, tmp_path):
    rng = np.random.default_rng(2)
    surface = sphere(rng, 1500) + 0.01 * rng.normal(size=(1500, 3))
    copies = surface[:20][rng.integers(20, size=20_000)]
    noise = []
    for xyz in (surface, np.concatenate([surface, copies])):
        code, out, err = denoised(capsys, tmp_path, xyz, "--json")
        assert code == 0, err
        noise.append(json.loads(out)["noise_before"])
    assert noise[1] == pytest.approx(noise[0], rel=1e-3)


def test_a_plane_without_noise_stays(capsys, tmp_path):
    rng = np.random.default_rng(3)
    xyz = np.c_[rng.uniform(0, 1, (2000, 2)), np.full(2000, 2.0)]
    result = settled(capsys, tmp_path, xyz)
    assert np.abs(result[:, 2] - 2).max() < 0.01 * np.median(spacing(xyz))
    assert (lengths(xyz, result) < spacing(xyz)).all()


def test_a_clean_dense_half_does_not_keep_the_noise_of_a_sparse_half(capsys, tmp_path):
    rng = np.random.default_rng(1)
    dense = np.c_[rng.uniform(0, 0.02, (1500, 2)), 1e-5 * rng.normal(size=1500)]
    sparse = np.c_[rng.uniform(1, 11, (1500, 2)), 0.06 * rng.normal(size=1500)]
    result = settled(capsys, tmp_path, np.concatenate([dense, sparse]))
    assert (
        result[1500:, 2].std() < 0.6 * sparse[:, 2].std()
    )  # a quarter, near the dense half, are said to be no surface


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_line_of_points_stays_a_line(capsys, tmp_path, noise):
    rng = np.random.default_rng(4)
    line = np.linspace(0, 1, 500)[:, None] * np.array([1.0, 2.0, -1.0])
    xyz = line + noise * rng.normal(size=line.shape)
    code, _, err = denoised(capsys, tmp_path, xyz)
    if code:
        assert code == 1
        assert len(err.strip().splitlines()) == 1
    else:
        moved = lengths(xyz, read(tmp_path / "out.npy").xyz)
        assert np.isfinite(moved).all()
        assert (moved < 2 * spacing(xyz)).all()


@pytest.fixture
def stray() -> tuple[np.ndarray, np.ndarray]:
    """One cluster on a small sphere and a few points a thousand times as far: (positions, which are far)."""
    rng = np.random.default_rng(5)
    cluster = 0.1 * sphere(rng, 1500) + 0.001 * rng.normal(size=(1500, 3))
    far = rng.uniform(50, 150, (5, 1)) * sphere(rng, 5)
    return np.concatenate([cluster, far]), np.arange(1505) >= 1500


def test_far_outliers_do_not_fly_nor_spoil_the_cluster(capsys, tmp_path, stray):
    xyz, far = stray
    moved = lengths(xyz, settled(capsys, tmp_path, xyz))
    assert np.isfinite(moved).all()
    assert moved[~far].max() < 0.02, "a few local spacings"
    assert (moved[far] < 0.05 * np.linalg.norm(xyz[far], axis=1)).all(), "they stay about where they are"


def test_far_outliers_are_removed_where_asked(capsys, tmp_path, stray):
    xyz, far = stray
    code, out, err = denoised(capsys, tmp_path, xyz, "--outliers", "remove", "--json")
    assert code == 0, err
    result = read(tmp_path / "out.npy").xyz
    assert json.loads(out)["outliers"] >= far.sum()
    assert np.linalg.norm(result, axis=1).max() < 0.2
    assert len(result) > 0.98 * (~far).sum()


def test_the_fewest_points_that_are_taken_come_back(capsys, tmp_path):
    xyz = sphere(np.random.default_rng(6), 16)
    assert np.isfinite(settled(capsys, tmp_path, xyz)).all()
    code, _, err = denoised(capsys, tmp_path, xyz[:15])
    assert code == 1
    assert "at least 16" in err
