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


def test_qgis_asks_for_a_command_that_exists(monkeypatch):
    """With stand-ins for QGIS's classes."""
    core = types.ModuleType("qgis.core")
    source = (FOLDER / "qgis_denoise.py").read_text(encoding="utf-8")
    for word in {w.strip("(),.") for w in source.split() if w.startswith("Qgs")}:
        setattr(core, word.partition("(")[0].partition(".")[0], type("Stand", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "qgis", types.ModuleType("qgis"))
    monkeypatch.setitem(sys.modules, "qgis.core", core)
    script = load_script("qgis_denoise")
    for outliers in script.OUTLIERS:
        words = script.command_words("becalm", "scan.laz", "clean.laz", outliers, 0.01)
        command = cli.parse(words[1:])
        assert command.outliers == outliers and str(command.output) == "clean.laz" and command.noise == "0.01"
    assert "--noise" not in script.command_words("becalm", "a.laz", "b.laz", "keep", 0)
    assert "import becalm" not in source


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
