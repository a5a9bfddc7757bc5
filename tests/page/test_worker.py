"""The process of a job: it writes what the command line writes, and says what is wrong in one line."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from safetensors import safe_open

from becalm.cli import run_command
from becalm.cli.denoise import Denoise
from becalm.core.limits import Limits
from becalm.page import worker
from becalm.page.bundle import MOST_POSITIONS, bundle_arrays, drawn_rows, kept_states, point_colours
from becalm.points.cloud import Cloud
from becalm.points.formats import write


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a task here, and gives its exit status, its reports and its folder."""
    monkeypatch.setattr(worker, "limit_memory", lambda memory: None)

    def run_here(path, limits=None, **options):
        folder, reports = tmp_path / "job", []
        folder.mkdir(exist_ok=True)
        task = {"path": str(path), "name": "my scan", "output": f"output{path.suffix}", "memory": 1 << 33}
        task |= {"limits": asdict(limits or Limits()), "options": options}
        status = worker.run_task(folder, task, lambda **report: reports.append(report))
        return status, reports, folder

    return run_here


@pytest.fixture
def scan(tmp_path):
    """A noisy plane of 800 points as a PLY file, one of them without coordinates."""
    random = np.random.default_rng(0)
    xyz = np.column_stack([random.uniform(0, 1, (800, 2)), random.normal(0, 0.02, 800)]) + [4e5, 5e6, 100]
    xyz[3] = np.nan
    colours = {name: random.integers(0, 256, 800).astype(np.uint8) for name in ("red", "green", "blue")}
    write(Cloud(xyz, {**colours, "intensity": random.random(800).astype(np.float32)}), tmp_path / "scan.ply")
    return tmp_path / "scan.ply"


def read_bundle(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["becalm.page"])  # noqa: SIM118


def test_the_result_has_the_bytes_of_the_command_line(run, scan, tmp_path, capsys):
    status, reports, folder = run(scan, outliers="remove", model="jets")
    assert status == 0 and reports[0] == {"scan": True} and reports[-1]["run"]
    command = Denoise(scan, output=tmp_path / "cli.ply", outliers="remove", record=tmp_path / "run.safetensors")
    assert run_command(command) == 0
    assert (folder / "output.ply").read_bytes() == (tmp_path / "cli.ply").read_bytes()
    done = [report["done"] for report in reports if "done" in report]
    assert done == sorted(done) and done[-1] == 1
    before, facts = read_bundle(folder / "scan.safetensors")
    assert before["xyz"].shape == (1, 799, 3) and facts["points"] == 800 and facts["measured"] == 799
    after, facts = read_bundle(folder / "run.safetensors")
    assert (after["xyz"][0] == before["xyz"][0]).all() and len(after["xyz"]) > 1 and after["colour"].dtype == np.uint8
    assert after["displacement"].shape == (799,) and dict(facts["summary"])["Points"] == "800"
    assert np.std(after["xyz"][-1][:, 2]) < 0.7 * np.std(after["xyz"][0][:, 2])

    status, reports, folder = run(tmp_path / "run.safetensors")
    recorded, facts = read_bundle(folder / "run.safetensors")
    assert status == 0 and recorded["xyz"].shape == after["xyz"].shape
    assert np.allclose(np.array(facts["origin"]), Cloud(np.array(facts["origin"])[None]).xyz[0])


def test_errors_name_the_scan_and_not_its_place(run, tmp_path):
    (tmp_path / "input.ply").write_bytes(b"ply\nformat nonsense\n")
    status, reports, _ = run(tmp_path / "input.ply")
    assert status == 1 and list(reports[-1]) == ["error"]
    assert reports[-1]["error"].startswith("my scan: ") and str(tmp_path) not in reports[-1]["error"]


def test_the_limits_of_the_server_hold(run, scan):
    status, reports, _ = run(scan, Limits(points=100))
    assert status == 1 and "at most 100 are taken here" in reports[-1]["error"]


def test_other_safetensors_are_told_from_runs(run, tmp_path):
    (tmp_path / "input.safetensors").write_bytes(b"x" * 100)
    status, reports, _ = run(tmp_path / "input.safetensors")
    assert status == 1 and "is not a safetensors file" in reports[-1]["error"]


def test_large_clouds_are_drawn_in_part_and_evenly():
    mask = np.ones(10_000, bool)
    mask[:100] = False
    rows = drawn_rows(mask, 2000)
    assert len(np.unique(rows)) == 2000 and rows.min() >= 100
    assert abs(rows[:500].mean() - 5050) < 500 and (drawn_rows(mask, 2000) == rows).all()
    assert kept_states(9, 1000) == list(range(9)) and kept_states(1, 10) == [0]
    assert kept_states(9, MOST_POSITIONS // 3) == [0, 4, 8] and kept_states(9, MOST_POSITIONS) == [0, 8]


@pytest.mark.parametrize(
    ("values", "kind"), [((0, 128, 255), np.uint8), ((0, 32896, 65535), np.uint16), ((0.0, 0.502, 1.0), np.float32)]
)
def test_colours_of_any_depth_become_bytes(values, kind):
    cloud = Cloud(np.zeros((3, 3)), {name: np.array(values, kind) for name in ("red", "green", "blue")})
    assert point_colours(cloud, np.arange(3)).tolist() == [[0] * 3, [128] * 3, [255] * 3]
    assert point_colours(Cloud(np.zeros((3, 3))), np.arange(3)) is None


def test_columns_have_one_name_whatever_the_file_calls_them():
    cloud = Cloud(np.random.default_rng(0).random((5, 3)), {"reflectance": np.arange(5), "label": np.arange(5)})
    arrays = bundle_arrays(cloud, [cloud.xyz], {"noise": np.arange(5.0)})
    rows = drawn_rows(cloud.measured)
    assert (arrays["intensity"] == rows).all() and (arrays["class"] == rows).all() and (arrays["noise"] == rows).all()
