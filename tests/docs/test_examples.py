"""The scripts of examples/ run, each with less work than by itself, and say what they found."""

import importlib.util

import pytest

from tests.docs.pages import ROOT

SCRIPTS = {
    "demo": ({"beams": 600}, "noise as becalm estimates it"),
    "solve": ({"steps_per_variable": 1}, "walk certainty"),
    "generate": ({"points": 256, "steps": 2}, "between: 3 shapes of 256 points"),
    "likelihood": ({"count": 4, "steps": 4}, "(the noise is number 4)"),
    "energies": ({"steps": 5, "samples": 50}, "cosine of the learned and the true score"),
}
"""Each script with the arguments of its `main` and a part of what it prints."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    arguments, words = SCRIPTS[name]
    script.main(**arguments)
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_has_60_lines_at_most(name):
    assert (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").count("\n") <= 60
