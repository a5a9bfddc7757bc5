"""What the documentation says works: its Python runs, its commands are parsed, its options exist."""

import re
import shlex
import shutil
from dataclasses import fields, is_dataclass
from importlib.util import find_spec

import numpy as np
import pytest

from becalm import cli
from becalm.points import Cloud, write
from becalm.tasks.train import recipes
from tests.docs import pages


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """A folder with the small files that the pages' lines name."""
    folder = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(600, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    scan = Cloud(
        sphere + 0.01 * rng.normal(size=sphere.shape), {"intensity": rng.integers(0, 999, 600).astype(np.uint16)}
    )
    for name in ("scan.ply", "scan.laz", "chair.ply", "table.ply"):
        write(scan, folder / name)
    write(Cloud(rng.uniform(-0.5, 0.5, (600, 3)) * [1, 0.1, 1]), folder / "seat.ply")
    puzzles = pages.ROOT / "examples" / "puzzles"
    shutil.copytree(puzzles, folder / "examples" / "puzzles")
    shutil.copy(puzzles / "sudoku4.png", folder / "puzzle.png")
    shutil.copy(puzzles / "sudoku4.mask.png", folder / "mask.png")
    np.save(folder / "images.npy", rng.integers(0, 17, (3, 8, 8), dtype=np.uint8))
    return folder


VERBS = "denoise|solve|generate|complete|interpolate|vary|likelihood|compress"


def missing_verbs(text: str) -> list[str]:
    """The verbs that a block calls and that becalm.tasks does not have."""
    called = re.findall(rf"(?:becalm\.|becalm\.tasks import )({VERBS})\b", text)
    return sorted({verb for verb in called if find_spec(f"becalm.tasks.{verb}") is None})


@pytest.mark.parametrize("block", pages.python_blocks(), ids=lambda block: block.place)
def test_python_runs(block, examples, tmp_path, monkeypatch):
    if missing := missing_verbs(block.text):
        pytest.skip(f"becalm.tasks has no {', '.join(missing)}")
    shutil.copytree(examples, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.place, "exec"), {"__name__": "block"})


@pytest.mark.parametrize("line", pages.command_lines(), ids=lambda line: line.place)
def test_commands_are_parsed(line):
    words = shlex.split(line.text, comments=True)[1:]
    if words != ["--version"]:
        assert hasattr(cli.parse(words), "run")


def names(kind) -> set[str]:
    """The options that a dataclass makes: its fields, and those of the dataclasses in it."""
    nested = (getattr(kind, field.name, None) for field in fields(kind))
    return {field.name for field in fields(kind)}.union(*(names(value) for value in nested if is_dataclass(value)))


def test_options_exist():
    known = {"help", "version"}.union(*(names(command) for command in cli.commands().values() if is_dataclass(command)))
    known = known.union(*(names(recipe) for recipe, _ in recipes().values()))
    missing = [option for option in pages.options() if option.text.replace("-", "_") not in known]
    assert missing == []
