"""The command itself: its version, `python -m becalm`, and what it says when it is interrupted."""

import subprocess
import sys
from pathlib import Path

import pytest

import becalm
from becalm import cli
from becalm.core.files import atomic_file


class Command:
    """Writes some files and is then interrupted."""

    def __init__(self, *paths: Path):
        self.paths = paths

    def run(self) -> None:
        for path in self.paths:
            with atomic_file(path) as temporary:
                temporary.write_text("whole")
        raise KeyboardInterrupt


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"becalm {becalm.__version__}\n"


def test_python_dash_m_is_the_command():
    run = subprocess.run([sys.executable, "-m", "becalm", "models"], capture_output=True, text=True, check=True)
    assert "jets" in run.stdout


def test_an_interruption_says_that_nothing_was_written_where_that_is_true(capsys):
    assert cli.run_command(Command()) == 130
    assert capsys.readouterr().err == "interrupted; nothing was written\n"


def test_an_interruption_names_what_was_written(capsys, tmp_path):
    assert cli.run_command(Command(tmp_path / "a.ply", tmp_path / "b.png")) == 130
    assert capsys.readouterr().err == f"interrupted; written before: {tmp_path}/a.ply, {tmp_path}/b.png\n"


def test_an_interrupted_training_says_where_its_run_lies(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("becalm.tasks.train.run_recipe", lambda recipe: Command().run())
    recipe = cli.parse(["train", "jets", "--run", str(tmp_path)])
    assert cli.run_command(recipe) == 130
    assert capsys.readouterr().err.endswith(f"\ninterrupted; what the run has saved is in {tmp_path}\n")
