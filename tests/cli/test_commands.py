"""The commands as their users run them: files in, files out, one clear line where the input is at fault."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from becalm.cli import main
from becalm.core import trajectory
from becalm.points import Cloud, read, write
from becalm.systems.jets import Jets
from becalm.systems.spd import SPD
from becalm.weights.packaged import WEIGHTS
from becalm.weights.store import save


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a small noisy scan and a model."""
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(400, 3))
    xyz = xyz / np.linalg.norm(xyz, axis=1, keepdims=True) + 0.02 * rng.normal(size=xyz.shape)
    xyz[5] = np.nan
    xyz[9] *= 5
    write(Cloud(xyz, {"intensity": rng.integers(0, 999, 400).astype(np.uint16)}), tmp_path / "scan.ply")
    torch.manual_seed(0)
    save(Jets(width=16, layers=1), tmp_path / "model.safetensors", {"task": "denoise clouds"})
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def denoised(capsys, folder, *more):
    return run(capsys, "denoise", folder / "scan.ply", "--model", folder / "model.safetensors", *more)


def test_denoise_writes_beside_the_scan_and_sums_up(capsys, folder):
    code, out, _ = denoised(capsys, folder)
    assert code == 0
    before, after = read(folder / "scan.ply"), read(folder / "scan.denoised.ply")
    assert len(after) == 400
    assert np.array_equal(after.attributes["intensity"], before.attributes["intensity"])
    assert np.isnan(after.xyz[5]).all()
    assert "400 (1 without coordinates)" in out
    assert "scan.denoised.ply" in out


def test_denoise_does_all_that_its_options_say(capsys, folder):
    files = [folder / name for name in ("out.ply", "run.safetensors", "picture.png")]
    options = ("-o", files[0], "--record", files[1], "--picture", files[2])
    code, out, _ = denoised(capsys, folder, *options, "--outliers", "flag", "--details", "--json", "--noise", "0.02")
    assert code == 0
    summary = json.loads(out)
    assert summary["points"] == 400
    assert summary["outliers"] >= 1
    cloud = read(files[0])
    assert cloud.attributes["outlier"][9] == 1
    for name in ("displacement", "noise", "confidence"):
        assert cloud.attributes[name].shape == (400,)
    kept = trajectory.read(files[1])
    assert kept.facts["model_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    np.testing.assert_allclose(kept.z[-1, 0] + torch.tensor(kept.facts["origin"]), cloud.xyz, atol=1e-6)
    assert kept.t[0, 0, 0, 0] == 1
    assert kept.t[-1, 0, 0, 0] == 0
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_result(capsys, folder):
    for name in ("a.ply", "b.ply"):
        assert denoised(capsys, folder, "-o", folder / name)[0] == 0
    assert (folder / "a.ply").read_bytes() == (folder / "b.ply").read_bytes()


def test_outliers_can_be_removed(capsys, folder):
    assert denoised(capsys, folder, "--outliers", "remove", "-o", folder / "out.xyz")[0] == 0
    assert len(read(folder / "out.xyz")) < 400


WRONG = {
    "no such file": (("denoise", "{f}/none.ply"), "none.ply: no such file"),
    "unknown suffix": (("denoise", "{f}/model.safetensors"), "model.safetensors: unknown suffix"),
    "output is the input": (("denoise", "{f}/scan.ply", "-o", "{f}/scan.ply"), "is an input"),
    "no such folder": (("denoise", "{f}/scan.ply", "-o", "{f}/no/out.ply"), "does not exist"),
    "noise below zero": (("denoise", "{f}/scan.ply", "--noise", "-1"), "scan's units"),
    "noise that is no number": (("denoise", "{f}/scan.ply", "--noise", "much"), "scan's units, or auto"),
    "noise beyond the cloud": (("denoise", "{f}/scan.ply", "--noise", "1e6"), "well below its size"),
    "paper mode of jets": (("denoise", "{f}/scan.ply", "--mode", "paper"), "is a denoiser of scans (jets)"),
    "empty": (("denoise", "{f}/empty.ply"), "empty"),
    "few points": (("denoise", "{f}/few.xyz"), "at least 16"),
    "equal points": (("denoise", "{f}/equal.xyz"), "1 distinct"),
    "two columns": (("denoise", "{f}/flat.xyz"), "flat.xyz"),
    "truncated": (("denoise", "{f}/cut.ply"), "cut.ply"),
    "no such model": (("denoise", "{f}/scan.ply", "--model", "magic"), "no packaged model"),
    "no checkpoint": (("import", "score-denoise", "{f}/scan.ply"), "scan.ply"),
    "weights that are none": (("info", "{f}/empty.safetensors"), "empty.safetensors"),
}


@pytest.mark.parametrize("case", WRONG, ids=WRONG)
def test_wrong_input_gives_one_line_exit_1_and_leaves_nothing(capsys, folder, case, monkeypatch):
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(1)
    (folder / "empty.ply").touch()
    (folder / "empty.safetensors").touch()
    np.savetxt(folder / "few.xyz", rng.normal(size=(10, 3)))
    np.savetxt(folder / "equal.xyz", np.ones((50, 3)))
    np.savetxt(folder / "flat.xyz", rng.normal(size=(50, 2)))
    (folder / "cut.ply").write_bytes((folder / "scan.ply").read_bytes()[:-100])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    arguments, expected = WRONG[case]
    model = () if "--model" in arguments or arguments[0] != "denoise" else ("--model", folder / "model.safetensors")
    code, out, err = run(capsys, *(a.format(f=folder) for a in arguments), *model)
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("denoising")]
    assert code == 1
    assert out == ""
    assert len(lines) == 1, err
    assert expected in lines[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_wrong_usage_exits_2(capsys, folder):
    assert run(capsys, "denoise")[0] == 2
    assert run(capsys, "denoise", folder / "scan.ply", "--outliers", "eat")[0] == 2
    code, _, told = run(capsys, "evaluate", folder / "model.safetensors", folder / "scan.ply", "--nmber", "3")
    assert code == 2 and "--nmber" in told


def test_a_full_disk_leaves_the_old_output(capsys, folder, monkeypatch):
    import os

    (folder / "out.ply").write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = denoised(capsys, folder, "-o", folder / "out.ply", "--force")
    assert code == 1
    assert "No space left" in err
    assert (folder / "out.ply").read_text() == "old"
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "out.ply", "scan.ply"]


def test_info_tells_what_is_in_a_scan_and_in_weights(capsys, folder):
    facts = json.loads(run(capsys, "info", folder / "scan.ply", "--json")[1])
    assert facts["points"] == 400
    assert facts["missing"] == 1
    assert facts["attributes"] == {"intensity": "uint16"}
    facts = json.loads(run(capsys, "info", folder / "model.safetensors", "--json")[1])
    assert facts["model"] == "jets"
    assert facts["parameters"] > 1000
    assert "intensity" in run(capsys, "info", folder / "scan.ply")[1]


def test_info_and_denoise_say_the_same_roughness(capsys, folder):
    shown = json.loads(run(capsys, "info", folder / "scan.ply", "--json")[1])["roughness"]
    _, out, _ = denoised(capsys, folder, "-o", folder / "out.ply", "--json")
    assert json.loads(out)["roughness"] == pytest.approx(shown, rel=5e-3)
    _, out, _ = denoised(capsys, folder, "-o", folder / "again.ply")
    assert "as becalm info has it" in out


def test_info_says_on_which_grid_coordinates_stand(capsys, tmp_path):
    xyz = np.random.default_rng(0).random((3000, 3)).round(4)
    xyz[:, 2] = xyz[:, 2].round(1)
    write(Cloud(xyz), tmp_path / "steps.xyz")
    assert json.loads(run(capsys, "info", tmp_path / "steps.xyz", "--json")[1])["grid"] == {"z": 0.1}


def test_models_lists_what_ships(capsys):
    found = json.loads(run(capsys, "models", "--json")[1])
    assert {"name", "task", "file", "sha256"} <= found[0].keys()
    assert "jets" in {model["name"] for model in found}
    assert all(re.fullmatch("[0-9a-f]{64}", model["sha256"]) for model in found)


def test_every_packaged_model_has_a_card_and_they_fit_in_48_megabytes():
    weights = list(WEIGHTS.glob("*.safetensors"))
    assert weights
    assert all(path.with_suffix(".md").is_file() for path in weights)
    assert all(path.stat().st_size <= 16e6 for path in weights)
    assert sum(path.stat().st_size for path in weights) <= 48e6


def test_train_runs_a_recipe_and_continues_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("becalm.recipes.jets.STANDARDISED_BATCHES", 2)
    options = ("--run", tmp_path, "--workers", "0", "--width", "16", "--layers", "1", "--log-every", "1")
    code, out, err = run(capsys, "train", "jets", *options, "--steps", "2", "--save-every", "1")
    assert code == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["step"] for record in records] == [1, 2, 2]
    assert "estimate step" in records[2], "what is said beside the displacement is learned last"
    assert (tmp_path / "jets.safetensors").is_file()
    code, out, _ = run(capsys, "train", "jets", *options, "--steps", "3")
    assert [json.loads(line)["step"] for line in out.splitlines()] == [3, 3]


def test_the_official_spd_is_imported_and_runs_in_both_modes(capsys, folder, shared):
    checkpoint = shared("weights/score_denoise_official.pt")
    assert run(capsys, "import", "score-denoise", checkpoint, "-o", folder / "spd.safetensors")[0] == 0
    scan = ("denoise", folder / "scan.ply", "--model", folder / "spd.safetensors")
    assert run(capsys, *scan, "-o", folder / "fast.ply")[0] == 0
    code, out, err = run(capsys, *scan, "--mode", "paper", "-o", folder / "paper.ply", "--json")
    assert code == 0, err
    assert json.loads(out)["points"] == 399
    assert len(read(folder / "fast.ply")) == 400


def test_evaluate_measures_before_and_after(capsys, folder):
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    np.savez(folder / "mesh.npz", vertices=vertices, faces=np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
    options = ("--points", "300", "--noise", "0.02", "--json")
    code, out, _ = run(capsys, "evaluate", folder / "model.safetensors", folder / "mesh.npz", *options)
    assert code == 0
    row = json.loads(out)
    assert row["points"] == 300
    assert row["surface_before"] > 1
    assert {"chamfer_before", "chamfer_after", "surface_after"} <= row.keys()


def test_a_small_spd_is_stored_and_loaded(tmp_path):
    from becalm.weights.store import load

    save(SPD(hidden=16, blocks=1), tmp_path / "spd.safetensors", {})
    assert isinstance(load(tmp_path / "spd.safetensors"), SPD)
