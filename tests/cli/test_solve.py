"""becalm solve, as its user runs it."""

import json

import pytest
import torch

from becalm.cli import main
from becalm.core import record
from becalm.images import picture
from becalm.images.sudoku import places
from becalm.systems.srm import SRM
from becalm.systems.store import save


@pytest.fixture
def puzzle(tmp_path):
    """A puzzle of 4 × 4 cells of 12 pixels, its mask and a small model, all as files."""
    torch.manual_seed(0)
    save(SRM(36, places(4).tolist(), [32, 4, 1, 1, 2]), tmp_path / "small.safetensors", {"task": "solve"})
    picture.write(torch.rand(48, 48, generator=torch.Generator().manual_seed(1)) / 3, tmp_path / "puzzle.png")
    mask = torch.ones(4, 4)
    mask[0] = 0
    picture.write(mask.repeat_interleave(12, 0).repeat_interleave(12, 1), tmp_path / "mask.png")
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def solve(folder, *more) -> int:
    return run(
        "solve", folder / "puzzle.png", "--mask", folder / "mask.png", "--model", folder / "small.safetensors", *more
    )


@pytest.mark.parametrize("walk", ["certainty", "random", "order", "together"])
def test_solves_records_and_draws(puzzle, capsys, walk):
    shown, kept = puzzle / "shown.png", puzzle / "walk.safetensors"
    assert solve(puzzle, "--walk", walk, "--picture", shown, "--record", kept, "--refine", 1, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["solved"] == 12
    assert told["steps"] == 36
    before, after = picture.read(puzzle / "puzzle.png"), picture.read(puzzle / "puzzle.solved.png")
    assert torch.equal(after[:12], before[:12]), "what is given stays"
    assert not torch.equal(after[12:], before[12:])
    assert picture.read(shown).shape == (144, 144)
    assert record.read(kept).z.shape == (36, 1, 16, 36)
    assert told["order"][:4] == [0] * 4
    assert sorted(told["order"][4:]) == ([1] * 12 if walk == "together" else list(range(1, 13)))


def test_the_same_seed_gives_the_same_picture(puzzle):
    for name in ("a.png", "b.png"):
        assert solve(puzzle, "-o", puzzle / name, "--seed", 3) == 0
    assert (puzzle / "a.png").read_bytes() == (puzzle / "b.png").read_bytes()


def test_the_summary_is_for_people(puzzle, capsys):
    assert solve(puzzle) == 0
    told = capsys.readouterr().out
    assert "solved 12" in told
    assert told.count("·") >= 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "puzzle.png").write_bytes(b"no image"), "is no image"),
        (lambda f: (f / "puzzle.png").write_bytes(b""), "is no image"),
        (lambda f: (f / "puzzle.png").unlink(), "No such file"),
        (lambda f: picture.write(torch.zeros(48, 48), f / "mask.png"), "all black"),
        (lambda f: picture.write(torch.zeros(24, 24), f / "mask.png"), "must have one size"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(puzzle, capsys, change, words):
    change(puzzle)
    assert solve(puzzle) == 1
    told = capsys.readouterr().err.strip()
    assert words in told
    assert len(told.splitlines()) == 1
    assert not (puzzle / "puzzle.solved.png").exists()


def test_a_model_of_another_kind_and_an_input_as_output_are_refused(puzzle, capsys):
    assert run("solve", puzzle / "puzzle.png", "--mask", puzzle / "mask.png", "--model", "jets") == 1
    assert "SRM is needed" in capsys.readouterr().err
    assert solve(puzzle, "-o", puzzle / "mask.png") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert run("denoise", puzzle / "puzzle.xyz", "--model", puzzle / "small.safetensors") == 1
    assert "is SRM" in capsys.readouterr().err
