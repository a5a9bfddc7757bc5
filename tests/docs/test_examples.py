"""The scripts of examples/ run, each with less work than by itself, and say what they found."""

import importlib.util
import json

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


def test_the_notebook_agrees_with_closed_forms():
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    matplotlib.use("Agg")
    cells = json.loads((ROOT / "examples" / "gaussian.ipynb").read_text(encoding="utf-8"))["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    matplotlib.pyplot.close("all")
    assert (names["drawn"].T.cov() - names["covariance"]).abs().max() < 0.1
    assert names["order"][0] in (1, 6) and len(names["order"]) == 6
    unknown = names["unknown"]
    assert (names["result"].mean(0)[unknown] - names["mean"]).abs().max() < 0.1
    assert (names["result"].std(0)[unknown] - names["spread"]).abs().max() < 0.1
    assert (names["found"].nats - names["truth"]).abs().max() < 0.05
