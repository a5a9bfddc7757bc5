"""The examples for other programs, as far as they run without them: the commands they call, and what they do with points."""

import importlib.util
import json
import sys
import types

import numpy as np
import pytest

from becalm import cli
from tests.docs.pages import ROOT

FOLDER = ROOT / "examples" / "programs"


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def noisy_plane():
    random = np.random.default_rng(0)
    return np.column_stack([random.uniform(0, 1, (500, 2)), random.normal(0, 0.02, 500)])


@pytest.fixture
def qgis_script(monkeypatch):
    """The script for QGIS, loaded with stand-ins for QGIS's classes."""
    core = types.ModuleType("qgis.core")
    source = (FOLDER / "qgis_denoise.py").read_text(encoding="utf-8")
    for word in {w.strip("(),.") for w in source.split() if w.startswith("Qgs")}:
        setattr(core, word.partition("(")[0].partition(".")[0], type("Stand", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "qgis", types.ModuleType("qgis"))
    monkeypatch.setitem(sys.modules, "qgis.core", core)
    assert "import becalm" not in source
    return load_script("qgis_denoise")


class Feedback:
    """What QGIS gives an algorithm to talk to its user, who cancels after so many questions."""

    def __init__(self, patience=10**6):
        self.patience, self.lines = patience, []

    def isCanceled(self):
        self.patience -= 1
        return self.patience < 0

    def pushInfo(self, line):
        self.lines.append(line)


def test_qgis_asks_for_a_command_that_exists(qgis_script):
    script = qgis_script
    for outliers in script.OUTLIERS:
        words = script.command_words("becalm", "scan.laz", "clean.laz", outliers, 0.01)
        command = cli.parse(words[1:])
        assert command.outliers == outliers and str(command.output) == "clean.laz" and command.noise == "0.01"
    assert "--noise" not in script.command_words("becalm", "a.laz", "b.laz", "keep", 0)


def test_qgis_logs_what_the_command_prints_and_ends_it_when_cancelled(qgis_script):
    feedback, words = Feedback(), [sys.executable, "-c", "import sys; print('one'); sys.exit(3)"]
    assert qgis_script.run_command(words, feedback) == 3 and feedback.lines == ["one"]
    assert qgis_script.run_command([sys.executable, "-c", "import time; time.sleep(600)"], Feedback(1)) != 0
    script, program, given = qgis_script, sys.executable, []
    script.run_command = lambda words, feedback: given.append(words) or 0
    algorithm = script.DenoiseCloud()
    values = {"SCAN": "a.laz", "OUTPUT": "b.laz", "PROGRAM": program, "OUTLIERS": 1, "NOISE": 0}
    for kind in ("String", "Enum", "Double"):
        setattr(algorithm, f"parameterAs{kind}", lambda parameters, name, context: parameters[name])
    assert algorithm.processAlgorithm(values, None, Feedback()) == {"OUTPUT": "b.laz"}
    assert given == [script.command_words(program, "a.laz", "b.laz", "flag", 0)]
    with pytest.raises(script.QgsProcessingException, match="not found"):
        algorithm.processAlgorithm({**values, "PROGRAM": "no-such-command"}, None, Feedback())


def test_pdal_gets_clean_positions_and_its_other_dimensions(noisy_plane):
    steps = json.loads((FOLDER / "pdal_pipeline.json").read_text())
    assert steps[1]["script"] == "pdal_denoise.py"
    outs, ins = {}, {**dict(zip("XYZ", noisy_plane.T, strict=True)), "Intensity": np.arange(500)}
    assert getattr(load_script(steps[1]["module"]), steps[1]["function"])(ins, outs)
    assert outs["Z"].std() < 0.7 * ins["Z"].std() and (outs["Intensity"] == ins["Intensity"]).all()


def test_blender_calls_the_command(noisy_plane, monkeypatch):
    script = load_script("blender_denoise")
    monkeypatch.setattr(script.subprocess, "run", lambda words, check: cli.run_command(cli.parse(words[1:])))
    clean = script.clean_positions(noisy_plane)
    assert clean.shape == (500, 3) and clean[:, 2].std() < 0.7 * noisy_plane[:, 2].std()


def test_open3d_keeps_colours(noisy_plane):
    open3d = pytest.importorskip("open3d", reason="needs open3d")
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(noisy_plane))
    cloud.paint_uniform_color([1, 0, 0])
    clean = load_script("open3d_denoise").clean_cloud(cloud)
    assert np.asarray(clean.points)[:, 2].std() < 0.7 * noisy_plane[:, 2].std() and clean.has_colors()
    assert (np.asarray(cloud.points) == noisy_plane).all()
