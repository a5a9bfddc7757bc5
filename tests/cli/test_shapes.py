"""The commands for shapes, as their user runs them, with a small fresh model."""

import json

import numpy as np
import pytest
import torch

from becalm.cli import main
from becalm.points import Cloud, read, write
from becalm.shapes.families import CLASSES
from becalm.systems.lion import Lion
from becalm.systems.lion_sparse import LionSparse
from becalm.systems.pvd import PointDiffusion
from becalm.tasks import shapes
from becalm.weights.store import save


@pytest.fixture
def folder(tmp_path):
    """A model of two classes, a sphere of some size somewhere, and half of one in the unit box."""
    torch.manual_seed(0)
    save(
        LionSparse(["ball", "plane"], [16, 8, 16, 2, 2, 4, 16, 1], 0.2),
        tmp_path / "m.safetensors",
        {"task": "generate shapes"},
    )
    ball = np.random.default_rng(0).normal(size=(600, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    write(Cloud(7 * ball + [10, 0, 0]), tmp_path / "ball.ply")
    write(Cloud(ball[ball[:, 0] < 0]), tmp_path / "part.ply")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (tmp_path / "nothing.xyz").write_text("")
    (tmp_path / "notes").write_text("")
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n")
    (tmp_path / "zero.obj").write_text("v 0 0 0\nv 1 0 0\nf 0 1 2\nv 0 1 0\n")
    np.savez(tmp_path / "none.npz", xyz=np.zeros((0, 3)))
    write(Cloud(np.full((1, 3), np.nan)), tmp_path / "nan.ply")
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def test_generates_clouds_of_a_class_and_a_picture(folder, capsys):
    asked = ("generate", folder / "m.safetensors", "-n", 3, "--label", "ball", "--points", 50, "--steps", 2, "--json")
    assert run(*asked, "-o", folder / "new", "--picture", folder / "p.png") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["shapes"] == 3 and summary["label"] == "ball" and summary["sampler"] == "dpm"
    made = [read(folder / "new" / f"{i:04d}.ply").xyz for i in range(3)]
    assert all(x.shape == (50, 3) and np.isfinite(x).all() for x in made)
    assert (folder / "p.png").stat().st_size > 500
    assert run(*asked, "-o", folder / "new.npz") == 0
    assert np.allclose(np.load(folder / "new.npz")["points"], made, atol=1e-5)


def test_varying_nothing_gives_the_shape_back_where_it_was(folder):
    asked = ("vary", folder / "m.safetensors", folder / "ball.ply", "-n", 2, "--points", 400, "--steps", 2)
    assert run(*asked, "--amount", 0, "-o", folder / "kept") == 0
    for i in range(2):
        radius = np.linalg.norm(read(folder / "kept" / f"{i:04d}.ply").xyz - [10, 0, 0], axis=1)
        assert abs(radius.mean() - 7) < 0.4
    assert run(*asked, "--amount", 0.8, "-o", folder / "far") == 0
    far = np.linalg.norm(read(folder / "far" / "0000.ply").xyz - [10, 0, 0], axis=1)
    assert far.std() > 2 * radius.std()


def test_completes_a_part_that_stays(folder, capsys):
    asked = (
        "complete",
        folder / "m.safetensors",
        folder / "part.ply",
        "-n",
        2,
        "--points",
        600,
        "--steps",
        2,
        "--json",
    )
    assert run(*asked, "-o", folder / "whole", "--picture", folder / "c.png") == 0
    assert json.loads(capsys.readouterr().out)["given"] == 8
    part, whole = read(folder / "part.ply").xyz, read(folder / "whole" / "0001.ply").xyz
    away = np.linalg.norm(part[:, None] - whole, axis=2).min(1)
    assert np.median(away) < 0.2
    assert (folder / "c.png").exists()


def test_a_surface_of_what_is_varied_and_many_small_batches(folder, monkeypatch):
    monkeypatch.setattr(shapes, "BATCH_POINTS", 900)  # a shape at a time
    asked = ("vary", folder / "m.safetensors", folder / "ball.ply", "-n", 2, "--points", 800, "--steps", 2)
    assert run(*asked, "--amount", 0, "-o", folder / "kept", "--mesh", "obj") == 0
    assert sorted(p.name for p in (folder / "kept").iterdir()) == [
        f"000{i}.{x}" for i in range(2) for x in ("obj", "ply")
    ]


def test_what_is_interrupted_leaves_nothing(folder, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("becalm.shapes.meshfiles.write", broken)
    before = sorted(folder.iterdir())
    asked = ("generate", folder / "m.safetensors", "-n", 1, "--points", 200, "--steps", 1, "--mesh", "obj")
    assert run(*asked, "-o", folder / "new") == 130
    assert sorted(folder.iterdir()) == before


def test_the_papers_lion_and_diffusion_of_points_generate_too(folder):
    torch.manual_seed(0)
    save(Lion(["ball"], [8, 8, 16, 2, 1, 1]), folder / "paper.safetensors", {})
    save(PointDiffusion(["ball"], [8, 16, 2, 1]), folder / "points.safetensors", {})
    for name in ("paper", "points"):
        asked = ("generate", folder / f"{name}.safetensors", "-n", 2, "--points", 40, "--steps", 2, "--label", "ball")
        assert run(*asked, "-o", folder / f"{name}.npz") == 0
        made = np.load(folder / f"{name}.npz")["points"]
        assert made.shape == (2, 40, 3) and np.isfinite(made).all()


def test_evaluate_has_the_oracle_s_row(folder, capsys):
    asked = ("--shapes", 6, "--emd-points", 16, "--json")
    torch.manual_seed(0)
    save(LionSparse(list(CLASSES), [16, 8, 16, 2, 2, 4, 16, 1], 0.2), folder / "six.safetensors", {})
    assert run("evaluate", folder / "six.safetensors", "families", *asked) == 0
    new, oracle = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert new["shapes"] == oracle["shapes"] == 6 and oracle["name"] == "oracle"
    assert abs(new["thickness ratio"] - 1) > 0.5, "an untrained model draws no such surfaces"
    assert run("evaluate", folder / "m.safetensors", "families", *asked) == 1
    assert "knows ball, plane; families has other classes" in capsys.readouterr().err


def test_interpolates(folder):
    ends = (folder / "ball.ply", folder / "part.ply")
    assert run("interpolate", folder / "m.safetensors", *ends, "-n", 4, "--steps", 3, "-o", folder / "path.npz") == 0
    assert np.load(folder / "path.npz")["points"].shape == (4, 2048, 3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("generate", "m.safetensors", "--label", "chair"), "'chair' is unknown; choose from ball, plane"),
        (("generate", "m.safetensors", "-n", 0), "at least 1"),
        (("generate", "m.safetensors", "-n", 10**6, "--points", 10**6), "ask for fewer"),
        (("generate", "m.safetensors", "-o", "missing/out"), "does not exist"),
        (("generate", "m.safetensors", "-o", "ball.ply"), "give a name without .ply"),
        (("generate", "m.safetensors", "-o", "notes"), "is a file"),
        (("generate", "m.safetensors", "-n", 1, "--points", 5 * 10**6), "4,000,000 points a shape"),
        (("vary", "m.safetensors", "flat.obj"), "flat.obj: mesh: its triangles have an area of 0"),
        (("vary", "m.safetensors", "zero.obj"), "counted from 1"),
        (("generate", "m.safetensors", "--steps", 0), "at least 1"),
        (("generate", "m.safetensors", "-o", "new.npz", "--mesh", "obj"), "holds no meshes"),
        (("generate", "m.safetensors", "--points", 20, "--mesh", "obj"), "give 100 or more"),
        (("generate", "m.safetensors", "--picture", "m.safetensors"), "never overwritten"),
        (("generate", "m.safetensors", "--picture", "missing/p.png"), "does not exist"),
        (("vary", "m.safetensors", "empty"), "empty"),
        (("vary", "m.safetensors", "bare.obj"), "bare.obj"),
        (("vary", "m.safetensors", "nothing.xyz"), "nothing.xyz"),
        (("vary", "m.safetensors", "none.npz"), "none.npz"),
        (("vary", "m.safetensors", "nan.ply"), "finite coordinates"),
        (("vary", "m.safetensors", "ball.ply", "-n", 0), "at least 1"),
        (("complete", "m.safetensors", "part.ply", "-o", "empty/no/where"), "does not exist"),
        (("complete", "m.safetensors", "empty"), "empty"),
        (("interpolate", "m.safetensors", "ball.ply", "bare.obj"), "bare.obj"),
        (("interpolate", "m.safetensors", "ball.ply", "part.ply", "--label", "cube"), "'cube' is unknown"),
        (("complete", "m.safetensors", "ball.ply"), "box from −1 to 1"),
        (("complete", "m.safetensors", "part.ply", "--share", 1.5), "between 0 and 1"),
        (("vary", "m.safetensors", "ball.ply", "--amount", 2), "from 0 to 1"),
        (("vary", "m.safetensors", "none.ply"), "none.ply: No such file"),
        (("interpolate", "m.safetensors", "ball.ply", "part.ply", "-n", 1), "2 to 1000 shapes"),
        (("vary", "jets", "ball.ply"), "needed is a generator of shapes (lion)"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(folder, capsys, monkeypatch, asked, words):
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    assert run(*asked) == 1
    told = capsys.readouterr().err.strip()
    assert words in told
    assert len(told.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == before


def test_meshes_need_an_extra_that_is_named_before_the_work(folder, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("generate", folder / "m.safetensors", "--mesh", "obj", "-o", folder / "new") == 1
    assert "becalm[mesh]" in capsys.readouterr().err
    assert not (folder / "new").exists()
