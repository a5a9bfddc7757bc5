"""becalm evaluate on puzzles and images, as its user runs it."""

import json

import pytest
import torch

from becalm.cli import main
from becalm.images.sudoku import places
from becalm.systems.srm import SRM
from becalm.weights.store import save
from tests.points.formats.meshes import OBJ


@pytest.fixture
def model(tmp_path):
    """An untrained solver of 4 × 4 cells of 8 pixels."""
    torch.manual_seed(0)
    save(SRM.build(channels=64, places=places(4).tolist(), shape=[32, 4, 1, 1, 2]), tmp_path / "small.safetensors", {})
    return tmp_path / "small.safetensors"


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_sudokus_of_small_digits_are_judged(model, capsys):
    few = ("--puzzles", 3, "--steps-per-variable", 1, "--walks", "certainty", "refine", "--rounds", 1, "--json")
    assert run(model, "sudoku", "--digits", "digits8", *few) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["walk"] for row in rows] == ["certainty", "refine"] * 3
    assert all(row["number"] == 3 and row["real_valid"] > 0.3 for row in rows)
    assert rows[-1]["valid"] == 0, "an untrained solver solves nothing"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize(("model", "benchmark"), [("jets", "roof.obj"), ("lion_families", "families")])
def test_clouds_and_shapes_are_computed_where_asked(model, benchmark, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roof.obj").write_bytes(OBJ)
    assert run(model, benchmark, "--device", "cuda") == 1
    assert "--device cuda: this machine has no such device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("sudoku", "--digits", "digits8", "--puzzles", 0), "--puzzles 0: must be at least 1"),
        (("sudoku", "--digits", "digits8", "--eta", 3), "--eta from 0 to 1"),
        (("sudoku", "--digits", "none.npz"), "none.npz: no such file"),
        (("even-pixels",), "is for another task"),
        (("even_pixels",), "is for another task"),
        ((), "name a benchmark after the model: digits, even-pixels"),
        (("even-pixels", "--picture", "small.safetensors"), "never overwritten"),
        (("even-pixels", "--picture", "nodir/x.png"), "its folder does not exist"),
        (("even-pixels", "--picture", "x.png", "--walks", "random"), "shows images made by certainty"),
        (("mesh.npz", "--picture", "x.png"), "--picture: has no use on mesh.npz"),
        (("mash",), "mash: no such mesh, and no benchmark of that name (there is digits, even-pixels"),
        (("families", "--digits", "nope"), "--digits: has no use on families"),
    ],
)
def test_bad_input_gets_one_line(model, capsys, monkeypatch, asked, words):
    monkeypatch.chdir(model.parent)
    before = model.read_bytes()
    assert run("small.safetensors", *asked) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("evaluating ")]
    assert words in told[0] and len(told) == 1
    assert model.read_bytes() == before
