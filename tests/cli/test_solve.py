"""becalm solve, as its user runs it."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from becalm.cli import main
from becalm.core import trajectory
from becalm.images import puzzle_picture
from becalm.images.grid import enlarge, join
from becalm.images.sudoku import places
from becalm.systems.srm import SRM
from becalm.weights.store import save

THREE = ("--steps-per-variable", 3)
EXAMPLES = Path(__file__).parents[2] / "examples" / "puzzles"


def small_model(channels: int) -> SRM:
    return SRM.build(channels=channels, places=places(4).tolist(), shape=[32, 4, 1, 1, 2])


@pytest.fixture
def puzzle(tmp_path):
    """A puzzle of 4 × 4 cells of 12 pixels, its mask and a small model, all as files."""
    torch.manual_seed(0)
    save(
        small_model(36),
        tmp_path / "small.safetensors",
        {"task": "solve"},
    )
    ink = torch.rand(16, 36, generator=torch.Generator().manual_seed(1)) > 0.7
    cells = enlarge(2 * ink[None].float() - 1, 12)
    puzzle_picture.write_image(join((cells + 1) / 2, (48, 48), 12)[0], tmp_path / "puzzle.png")
    mask = torch.ones(4, 4)
    mask[0] = 0
    puzzle_picture.write_image(mask.repeat_interleave(12, 0).repeat_interleave(12, 1), tmp_path / "mask.png")
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def solve(folder, *more) -> int:
    return run(
        "solve", folder / "puzzle.png", "--mask", folder / "mask.png", "--model", folder / "small.safetensors", *more
    )


@pytest.mark.parametrize("walk", ["certainty", "graph", "random", "order", "together"])
def test_solves_records_and_draws(puzzle, capsys, walk):
    shown, kept = puzzle / "shown.png", puzzle / "walk.safetensors"
    assert solve(puzzle, "--walk", walk, "--picture", shown, "--record", kept, "--refine", 1, "--json", *THREE) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["solved"] == 12
    steps = 48 if walk == "together" else 36
    assert told["steps"] == steps
    before, after = (
        puzzle_picture.read_image(puzzle / "puzzle.png"),
        puzzle_picture.read_image(puzzle / "puzzle.solved.png"),
    )
    assert torch.equal(after[:12], before[:12]), "what is given stays"
    assert not torch.equal(after[12:], before[12:])
    assert Image.open(shown).size == (144, 144)
    assert trajectory.read(kept).z.shape == (steps, 1, 16, 36)
    digest = hashlib.sha256((puzzle / "small.safetensors").read_bytes()).hexdigest()
    assert trajectory.read(kept).facts["model_sha256"] == digest
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


def coloured(path: Path) -> None:
    """A red square."""
    Image.new("RGB", (48, 48), (200, 30, 30)).save(path)


def test_the_example_is_solved_and_read(tmp_path, capsys):
    image, mask = EXAMPLES / "sudoku4.png", EXAMPLES / "sudoku4.mask.png"
    assert run("solve", image, "--mask", mask, "-o", tmp_path / "out.png", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is True
    assert told["conflicts"] == []
    assert all(sorted(row) == [1, 2, 3, 4] for row in told["digits"])


def test_the_large_example_is_solved_by_decisions_that_are_recorded(tmp_path, capsys):
    image, mask, kept = EXAMPLES / "sudoku9.png", EXAMPLES / "sudoku9.mask.png", tmp_path / "kept.safetensors"
    asked = ("solve", image, "--mask", mask, "-o", tmp_path / "out.png", "--json", "--beam", 4)
    assert run(*asked, "--record", kept) == 0
    told = json.loads(capsys.readouterr().out)
    given = puzzle_picture.read_image(mask) < 0.5
    assert torch.equal(puzzle_picture.read_image(tmp_path / "out.png")[given], puzzle_picture.read_image(image)[given])
    assert told["valid"] is True and told["conflicts"] == []
    assert told["cells"] == 81 and told["solved"] <= told["steps"] <= 2 * told["solved"]
    assert all(0.05 <= sure <= 1 for sure, turn in zip(told["certainty"], told["order"], strict=True) if turn)
    states = trajectory.read(kept)
    assert states.z.shape == (told["steps"], 1, 81, 196)
    assert (states.t[:, 0, :, 0] > 0).sum(1).tolist()[: told["solved"]] == list(range(told["solved"] - 1, -1, -1))
    assert told["model"] == "sudoku9", "found by itself"
    assert run(*asked, "--model", "sudoku4", "--force") == 1
    assert "sudoku9.mask.png: row 1 column" in capsys.readouterr().err


def test_a_reader_of_other_cells_is_refused_where_it_was_asked_for(puzzle, capsys):
    assert solve(puzzle, *THREE, "--json") == 0
    told = capsys.readouterr()
    assert "so no digit is checked" in told.err and "valid" not in json.loads(told.out)
    assert solve(puzzle, *THREE, "--force", "--reader", "reader14") == 1
    assert "reads cells of 14 pixels, and those of this model have 6" in capsys.readouterr().err


def test_neither_model_nor_seed_is_lost_on_the_way(puzzle, capsys):
    before = (puzzle / "small.safetensors").read_bytes()
    assert solve(puzzle, "--record", puzzle / "small.safetensors") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert (puzzle / "small.safetensors").read_bytes() == before
    assert solve(puzzle, "--seed", 10**20) == 1
    assert "--seed" in capsys.readouterr().err


def test_what_contradicts_itself_is_refused_and_what_is_not_solved_is_told(tmp_path, capsys):
    image, mask = (
        puzzle_picture.read_image(EXAMPLES / "sudoku4.png"),
        puzzle_picture.read_image(EXAMPLES / "sudoku4.mask.png"),
    )
    pixel = image.shape[0] // 4
    given = [(i // 4, i % 4) for i in range(16) if mask[i // 4 * pixel, i % 4 * pixel] < 0.5]
    (row, column), other = given[0], given[0][1] ^ 1
    image[row * pixel : (row + 1) * pixel, other * pixel : (other + 1) * pixel] = image[
        row * pixel : (row + 1) * pixel, column * pixel : (column + 1) * pixel
    ]
    mask[row * pixel : (row + 1) * pixel, other * pixel : (other + 1) * pixel] = 0
    puzzle_picture.write_image(image, tmp_path / "bad.png")
    puzzle_picture.write_image(mask, tmp_path / "mask.png")
    asked = ("solve", tmp_path / "bad.png", "--mask", tmp_path / "mask.png", *THREE)
    assert run(*asked) == 1
    told = capsys.readouterr().err
    assert f"row {row + 1} column {column + 1}" in told
    assert f"row {row + 1} column {other + 1}" in told
    assert not (tmp_path / "bad.solved.png").exists()
    assert run(*asked, "--reader", "none", "-o", tmp_path / "out.png") == 0
    puzzle_picture.write_image(torch.zeros_like(image), tmp_path / "bad.png")
    capsys.readouterr()
    torch.manual_seed(0)
    save(
        small_model(196),
        tmp_path / "untrained.safetensors",
        {},
    )
    puzzle_picture.write_image(torch.ones_like(mask), tmp_path / "mask.png")
    assert run(*asked, "--model", tmp_path / "untrained.safetensors", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "puzzle.png").write_bytes(b"no image"), "is no image"),
        (lambda f: (f / "puzzle.png").write_bytes(b""), "is no image"),
        (lambda f: (f / "puzzle.png").unlink(), "No such file"),
        (lambda f: puzzle_picture.write_image(torch.zeros(48, 48), f / "mask.png"), "all black"),
        (lambda f: puzzle_picture.write_image(torch.zeros(24, 24), f / "mask.png"), "must have one size"),
        (lambda f: coloured(f / "puzzle.png"), "is a colour image"),
        (
            lambda f: save(small_model(48), f / "small.safetensors", {}),
            "small.safetensors: was",
        ),
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
    assert "needed is a reasoning model (srm)" in capsys.readouterr().err
    assert solve(puzzle, "-o", puzzle / "mask.png") == 1
    assert "never overwritten" in capsys.readouterr().err
    np.savetxt(puzzle / "puzzle.xyz", np.random.default_rng(0).normal(size=(40, 3)))
    assert run("denoise", puzzle / "puzzle.xyz", "--model", puzzle / "small.safetensors") == 1
    assert "is a reasoning model (srm)" in capsys.readouterr().err
