"""becalm denoise: what may move, streams, outputs that exist, and a summary in plain words; with a model that takes no time."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from becalm.cli import main
from becalm.points import Cloud, read, write
from becalm.points.progress import DenoiseProgress


class Flatten:
    """A model that puts all points on their mean height; it finds noise of 0.02, of which 0.016 is shared."""

    def iter_denoise(self, xyz, sigma=None, seed=0):
        flat, each = xyz.copy(), np.ones(len(xyz))
        flat[:, 2] = xyz[:, 2].mean()
        yield DenoiseProgress(1.0, flat, 0.02 * each, 0.004 * each, shared=0.64 * each, surface=each)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a noisy plane of three classes as PLY and as LAZ in UTM."""
    laspy = pytest.importorskip("laspy")
    monkeypatch.setattr("becalm.tasks.denoise.load_denoiser", lambda model, options: Flatten())
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(0, 10, (600, 2)), 0.02 * rng.standard_normal(600)]
    cloud = Cloud(xyz, {"classification": np.repeat([2, 5, 6], 200).astype(np.uint8)})
    write(cloud, tmp_path / "scan.ply")
    las = cloud.to_laspy()
    text = 'PROJCS["UTM",GEOGCS["WGS 84",UNIT["degree",0.0174532925199433]],UNIT["metre",1]]'
    las.header.vlrs.append(laspy.vlrs.known.WktCoordinateSystemVlr(text))
    las.write(str(tmp_path / "scan.laz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["denoise", *map(str, arguments)])
    return int(ended.value.code or 0), *capsys.readouterr()


def moves(folder, name="scan.denoised.ply") -> np.ndarray:
    return read(folder / name).xyz - read(folder / "scan.ply").xyz


def test_the_summary_is_plain_and_in_the_file_s_unit(capsys, folder):
    code, out, _ = run(capsys, "scan.laz")
    assert code == 0
    assert "the noise is 20 mm (white 12 mm, shared by neighbours 16 mm); after, 4.0 mm are expected" in out
    assert "normal" not in out and "scan's units" not in out
    _, out, _ = run(capsys, "scan.ply", "--details")
    assert "the noise is 0.020 (white 0.012, shared by neighbours 0.016)" in out
    assert "lengths are in the scan's units" in out and "normal" in out and "percentile" in out


def test_nothing_found_and_steps_are_said(capsys, folder):
    rng = np.random.default_rng(1)
    flat = np.c_[rng.uniform(0, 10, (900, 2)), np.zeros(900)]
    write(Cloud(flat), folder / "flat.ply")
    assert "no noise found at any scale: nothing was moved" in run(capsys, "flat.ply")[1]
    flat[:, 2] = np.round(rng.normal(size=900) * 0.3, 1)
    write(Cloud(flat), folder / "steps.ply")
    assert "stand on a grid of 0.10 along z" in run(capsys, "steps.ply")[1]


def test_noise_that_is_rounding_is_said(capsys, folder):
    rng = np.random.default_rng(2)
    xy = rng.uniform(0, 20, (3000, 2))
    fine = np.c_[xy, np.sin(xy[:, 0] / 3)] + rng.normal(0, 0.01, (3000, 3)) + [451_000, 5_412_000, 300]
    write(Cloud(np.round(fine, 2)), folder / "centimetre.xyz")
    write(Cloud(fine), folder / "millimetre.las")
    assert "of which rounding of the coordinates to 0.010 makes up to 0.0029" in run(capsys, "centimetre.xyz")[1]
    assert "rounding" not in run(capsys, "millimetre.las")[1]


def test_classes_are_left_out_or_kept(capsys, folder):
    code, out, _ = run(capsys, "scan.laz", "--only-class", "2,6", "-o", "a.laz")
    assert code == 0 and "not moved     200 points (200 not of --only-class)" in out
    same = read(folder / "a.laz").xyz == read(folder / "scan.laz").xyz
    assert same[200:400].all() and not same[:200].all(axis=1).all()
    assert "200 of --keep-class" in run(capsys, "scan.laz", "--keep-class", "5", "-o", "b.laz")[1]
    for words, expected in (("9", "no point is of this class"), ("two", "give numbers")):
        code, _, err = run(capsys, "scan.laz", "--only-class", words, "-o", "c.laz")
        assert code == 1 and expected in err and len(err.strip().splitlines()) == 1


def test_a_viewpoint_and_a_limit_hold(capsys, folder):
    code, out, _ = run(capsys, "scan.ply", "--viewpoint", "5", "5", "-3", "--max-displacement", "0.01")
    assert code == 0 and "along the rays from (5, 5, -3)" in out
    found = moves(folder)
    rays = read(folder / "scan.ply").xyz - [5, 5, -3]
    assert np.linalg.norm(np.cross(found, rays), axis=1).max() < 1e-5
    assert np.linalg.norm(found, axis=1).max() == pytest.approx(0.01, rel=1e-3)
    for words in (("5", "5", "1e30"), ("inf", "0", "0"), ("5", "5", "0")):
        code, _, err = run(capsys, "scan.ply", "-o", "x.ply", "--viewpoint", *words)
        assert code == 1 and "viewpoint" in err and len(err.strip().splitlines()) == 1


def test_outputs_that_exist_are_replaced_by_force_alone(capsys, folder):
    (folder / "old.png").write_text("old")
    code, _, err = run(capsys, "scan.ply", "--picture", "old.png")
    assert code == 1 and "old.png: exists already; give another name, or --force" in err
    assert not (folder / "scan.denoised.ply").exists()
    assert run(capsys, "scan.ply", "--picture", "old.png", "--force")[0] == 0
    assert (folder / "old.png").read_bytes().startswith(b"\x89PNG")
    assert run(capsys, "scan.ply")[0] == 1 and run(capsys, "scan.ply", "--force")[0] == 0


def test_standard_input_and_output(capsys, folder, monkeypatch):
    target = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((folder / "scan.ply").read_bytes())))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=target, flush=lambda: None, write=lambda text: None))
    with pytest.raises(SystemExit) as ended:
        main(["denoise", "-", "--format", "ply", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["points"] == 600
    (folder / "scan.denoised.ply").write_bytes(target.getvalue())
    assert np.abs(moves(folder)[:, 2]).max() > 0.01


def test_bad_streams_are_refused_in_one_line(capsys, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"ply nonsense")))
    code, out, err = run(capsys, "-", "--format", "ply")
    assert code == 1 and out == "" and err.startswith("standard input: ")
    for words in (("-",), ("scan.ply", "--format", "ply")):
        code, _, err = run(capsys, *words)
        assert code == 1 and "--format" in err


@pytest.mark.parametrize("option", [("--details",), ("--viewpoint", "0", "0", "9"), ("--picture", "a.png")])
def test_options_that_paper_mode_cannot_use_are_refused(capsys, folder, option):
    code, _, err = run(capsys, "scan.ply", "--mode", "paper", *option)
    assert code == 1 and f"{option[0]}: --mode paper has no use for it" in err
