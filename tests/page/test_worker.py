"""The process of a job: it writes what the command line writes, and says what is wrong in one line."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from becalm.cli import run_command
from becalm.cli.denoise import Denoise
from becalm.core.limits import Limits
from becalm.page import worker
from becalm.page.bundle import MOST_POSITIONS, bundle_arrays, kept_states, point_colours, rows_to_draw
from becalm.page.shapes_job import kept_points
from becalm.points.cloud import Cloud
from becalm.points.formats import write
from becalm.points.mesh import Mesh
from becalm.shapes import reconstruct
from tests.images.test_photograph import draw_page, example, photograph_of

PUZZLES = Path(__file__).parents[2] / "examples" / "puzzles"
SUFFIXES = {"puzzle": ".png", "images": ".csv", "shapes": ".npz"}
"""Of the results of jobs that do not work on scans."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a task here, and gives its exit status, its reports and its folder."""
    monkeypatch.setattr(worker, "limit_memory", lambda memory: None)

    def run_here(path, limits=None, kind="scan", **options):
        folder, reports = tmp_path / "job", []
        folder.mkdir(exist_ok=True)
        task = {
            "path": str(path),
            "name": "my scan",
            "output": f"output{SUFFIXES.get(kind, path.suffix)}",
            "memory": 1 << 33,
        }
        task["output"] = "output.obj" if options.get("verb") == "mesh" else task["output"]
        task |= {"limits": asdict(limits or Limits()), "options": options, "kind": kind}
        status = worker.run_task(folder, task, lambda **report: reports.append(report))
        return status, reports, folder

    return run_here


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The file of two shapes that a job has made: a ball and a box's surface, y up."""
    random = np.random.default_rng(0)
    ball = random.normal(size=(300, 3))
    box = random.uniform(-1, 1, (300, 3))
    box[np.arange(300), random.integers(0, 3, 300)] = random.choice([-1, 1], 300)
    path = tmp_path_factory.mktemp("shapes") / "shapes.npy"
    np.save(path, np.stack([ball / np.linalg.norm(ball, axis=1, keepdims=True), box]).astype(np.float32))
    return path


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
    assert "Outliers removed" in dict(facts["summary"]) and "not its two parts" in facts["notes"][0]
    assert np.std(after["xyz"][-1][:, 2]) < 0.7 * np.std(after["xyz"][0][:, 2])

    status, reports, folder = run(tmp_path / "run.safetensors")
    recorded, facts = read_bundle(folder / "run.safetensors")
    assert status == 0 and recorded["xyz"].shape == after["xyz"].shape
    assert np.allclose(np.array(facts["origin"]), Cloud(np.array(facts["origin"])[None]).xyz[0])


def test_an_example_is_made_where_nothing_was_sent(run, tmp_path):
    status, reports, folder = run(tmp_path / "example.ply", example=True, model="jets")
    assert status == 0 and reports[-1]["run"], reports
    scan, facts = read_bundle(folder / "run.safetensors")
    assert facts["points"] > 30_000 and scan["intensity"].shape == (facts["points"],)
    figures = dict(facts["summary"])
    assert figures["Outliers"] == "not looked for" and "To find outliers" in facts["notes"][-1]
    assert [value for name, value in facts["summary"] if name.startswith("– shared")][1:] == ["not known"]
    assert figures["Noise before"].endswith(" mm") and "simulated" in facts["notes"][0]


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
    rows = rows_to_draw(mask, 2000)
    assert len(np.unique(rows)) == 2000 and rows.min() >= 100
    assert abs(rows[:500].mean() - 5050) < 500 and (rows_to_draw(mask, 2000) == rows).all()
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
    columns = {"reflectance": np.arange(5), "label": np.arange(5), "point_source_id": np.arange(5)}
    cloud = Cloud(np.random.default_rng(0).random((5, 3)), columns)
    arrays = bundle_arrays(cloud, [cloud.xyz], {"noise": np.arange(5.0)})
    rows = rows_to_draw(cloud.measured)
    assert all((arrays[name] == rows).all() for name in ("intensity", "class", "layer", "noise"))


@pytest.mark.parametrize("given", ["cells", "picture", "photograph"])
def test_a_puzzle_is_solved_in_both_orders_and_can_be_watched(run, tmp_path, given):
    """Its empty cells are given by a sign each, by a mask's image after its own, or by being empty in a photograph."""
    mask = (np.asarray(Image.open(PUZZLES / "sudoku4.mask.png"))[14::28, 14::28] > 128).astype(int)
    path, options = PUZZLES / "sudoku4.png", {"mask": "", "digits": [], "steps_per_variable": 2, "seed": 0}
    if given == "cells":
        options["mask"] = "".join(map(str, mask.flatten()))
    elif given == "picture":
        path = tmp_path / "both.png"
        path.write_bytes(b"".join((PUZZLES / f"sudoku4{part}.png").read_bytes() for part in ("", ".mask")))
        options["mask_from"] = (PUZZLES / "sudoku4.png").stat().st_size
    else:
        cells, empty = example(4)
        path, options["side"] = tmp_path / "photo.png", 4
        Image.fromarray((255 * photograph_of(draw_page(empty, cells))).byte().numpy()).save(path)
    status, reports, folder = run(path, kind="puzzle", **options)
    assert status == 0 and reports[-1]["run"] and (folder / "output.png").is_file(), reports
    facts, frames = json.loads((folder / "facts.json").read_text()), (folder / "frames.bin").read_bytes()
    assert facts["unknown"] == mask.flatten().tolist() and set(facts["runs"]) == {"digits", "together"}
    rows = np.frombuffer(frames, np.uint8).reshape(-1, facts["frame"])
    for lane in (0, 1):
        some = rows[rows[:, 0] == lane]
        order, level = some[-1, -32:-16], some[-1, -16:]
        assert (level == 0).all() and ((order > 0) == mask.flatten()).all()
        assert sorted(order[order > 0]) == (list(range(1, mask.sum() + 1)) if lane == 0 else [1] * mask.sum())
    assert (np.diff(rows[:, 2:4].copy().view("<u2")[:, 0][rows[:, 0] == 0].astype(int)) > 0).all()


def test_masks_that_do_not_fit_are_named_as_the_page_names_them(run, tmp_path):
    path, image = tmp_path / "input.png", (PUZZLES / "sudoku4.png").read_bytes()
    options = {"kind": "puzzle", "mask": "", "mask_from": len(image), "digits": [], "steps_per_variable": 2, "seed": 0}
    for mask, reason in ((b"nonsense", "is no image"), (PUZZLES / "sudoku9.mask.png", "pixels")):
        path.write_bytes(image + (mask if isinstance(mask, bytes) else mask.read_bytes()))
        status, reports, _ = run(path, **options)
        assert status == 1 and reason in reports[-1]["error"], reports
        assert str(tmp_path) not in reports[-1]["error"] and "--" not in reports[-1]["error"]


@pytest.mark.parametrize("verb", ["complete", "mesh"])
def test_shapes_are_made_and_worked_on(run, shapes, verb, monkeypatch):
    triangle = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    monkeypatch.setattr(reconstruct, "wrap_points", lambda points: triangle)  # which takes seconds
    options = {"verb": verb, "model": "lion_families", "label": None, "seed": 0, "number": 1}
    options |= {"one": [str(shapes), 1], "side": "top", "share": 0.5, "format": "obj"}
    status, reports, folder = run(folder_file(shapes, "empty"), kind="shapes", **options)
    assert status == 0 and reports[-1]["run"], reports
    if verb == "mesh":
        assert (folder / "output.obj").read_text().splitlines()[-1] == "f 1 2 3"
        return
    facts = json.loads((folder / "facts.json").read_text())
    made = np.frombuffer((folder / "frames.bin").read_bytes(), np.float32).reshape(facts["count"], facts["points"], 3)
    assert facts["count"] == 1 and facts["given"][0] and np.isfinite(made).all()
    assert (np.load(folder / "shapes.npy") == made).all()


def test_a_part_is_a_share_of_the_points_at_a_side():
    points = np.random.default_rng(0).random((1000, 3))
    for side, axis, sign in (("left", 0, 1), ("top", 1, -1), ("front", 2, -1)):
        kept = kept_points(points, side, 0.3)
        assert kept.sum() == 300 and (sign * points[kept, axis]).max() <= (sign * points[~kept, axis]).min()


def test_images_are_measured_and_spoilt_ones_cost_more(run, tmp_path):
    status, reports, folder = run(
        folder_file(tmp_path / "x", "empty"), kind="images", model="digits8", draws=4, seed=0, examples=True
    )
    assert status == 0 and reports[-1]["run"], reports
    facts, content = json.loads((folder / "facts.json").read_text()), (folder / "frames.bin").read_bytes()
    count = len(facts["names"])
    assert len(content) == 5 * count * 64 and (folder / "output.csv").read_text().count("\n") == count + 1
    bits = np.frombuffer(content[count * 64 :], np.float32).reshape(count, 64)
    np.testing.assert_allclose(bits.mean(1), facts["bits"], rtol=1e-4)
    by_name = dict(zip(facts["names"], facts["bits"], strict=True))
    made = [value for name, value in by_name.items() if name.startswith("made")]
    assert by_name["shuffled"] > max(made) and by_name["negative"] > max(made)
    np.save(tmp_path / "small.npy", np.zeros((2, 9, 9), np.uint8))
    status, reports, _ = run(tmp_path / "small.npy", kind="images", model="digits8", draws=1, seed=0, examples=False)
    assert status == 1 and "8 × 8" in reports[-1]["error"]


def folder_file(path, name):
    """An empty file beside a path."""
    file = path.with_name(name)
    file.touch()
    return file
