"""becalm likelihood, as its user runs it."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from becalm.cli import main
from becalm.core import likelihood
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig
from becalm.weights.store import save


@pytest.fixture
def folder(tmp_path):
    """An untrained model, which knows nothing but that there are 17 levels, and images."""
    torch.manual_seed(0)
    made = VDM(
        [4, 4, 1],
        17,
        network=NetworkConfig("mlp", {"width": 8, "depth": 1}),
        noise=NoiseConfig(gamma_min=-7.9),
        features=4,
    )
    save(made, tmp_path / "model.safetensors", {"task": "likelihood"})
    images = np.random.default_rng(0).integers(0, 17, (200, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def measure(folder, capsys, *more) -> dict:
    assert run("likelihood", folder / "model.safetensors", folder / "images.npy", "--json", *more) == 0
    return json.loads(capsys.readouterr().out)


def test_who_knows_nothing_needs_the_logarithm_of_the_levels(folder, capsys):
    told = measure(folder, capsys, "--draws", 20)
    prior = told["terms"]["prior"]["bits"]
    assert abs(told["bits_per_dim"] - math.log2(17) - prior) < 4 * told["bits_per_dim_error"]
    assert 0 < told["bits_per_dim_error"] < 0.05
    assert (told["images"], told["dimensions"], told["steps"]) == (200, 16, None)
    parts = [told["terms"][name]["bits"] for name in ("prior", "reconstruction", "diffusion")]
    assert sum(parts) == pytest.approx(told["terms"]["total"]["bits"])


def test_few_steps_cost_more_and_the_seed_decides(folder, capsys):
    many = measure(folder, capsys, "--steps", 100, "--draws", 10)
    few, again = (measure(folder, capsys, "--steps", 5, "--draws", 10, "--seed", 7) for _ in range(2))
    assert few["bits_per_dim"] > many["bits_per_dim"] + 4 * few["bits_per_dim_error"]
    assert few["bits_per_dim"] == again["bits_per_dim"]
    assert few["steps"] == 5


def test_each_image_has_a_line_and_the_worst_come_first(folder, capsys):
    table = folder / "each.csv"
    told = measure(folder, capsys, "--csv", table, "--rank", 3, "--picture", folder / "h.png", "--batch", 64)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    bits = np.array([float(row["bits_per_dim"]) for row in rows])
    assert len(rows) == 200
    assert bits.mean() == pytest.approx(told["bits_per_dim"])
    assert [int(one["image"]) for one in told["rank"]] == np.argsort(-bits)[:3].tolist()
    for row in rows[:3]:
        parts = (float(row[name]) for name in ("prior", "reconstruction", "diffusion"))
        assert sum(parts) == pytest.approx(float(row["bits_per_dim"]))
    assert min(Image.open(folder / "h.png").size) > 200


def test_the_flow_agrees_and_tells_its_errors(folder, capsys):
    np.save(folder / "images.npy", np.load(folder / "images.npy")[:16])
    told = measure(folder, capsys, "--exact", "--flow-steps", 40)["exact"]
    assert told["trace_error"] == 0
    assert 0 < told["end_error"] < 0.05
    slack = 4 * told["bits_per_dim_error"] + told["end_error"] + told["solver_error"]
    assert abs(told["bits_per_dim"] - math.log2(17)) < slack + 0.05
    rough = measure(folder, capsys, "--exact", "--flow-steps", 8, "--probes", 1)["exact"]
    assert rough["trace_error"] is None, "one probe cannot tell"
    assert rough["solver_error"] > told["solver_error"]


def test_the_table_is_for_people(folder, capsys):
    assert run("likelihood", folder / "model.safetensors", folder / "images.npy", "--rank", 2) == 0
    told = capsys.readouterr().out
    assert "bits a dimension" in told
    assert told.count("±") == 4
    assert "   2. " in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: np.save(f / "images.npy", np.full((2, 4, 4), 17)), "values run from 17 to 17"),
        (lambda f: np.save(f / "images.npy", np.zeros((2, 5, 5), np.uint8)), "has the shape [2, 5, 5]"),
        (lambda f: np.save(f / "images.npy", np.random.default_rng(0).random((2, 4, 4))), "holds fractions"),
        (lambda f: (f / "images.npy").unlink(), "no such file or folder"),
        (lambda f: ((f / "images.npy").unlink(), (f / "images.npy").mkdir()), "holds no image"),
    ],
)
def test_bad_images_get_one_line(folder, capsys, change, words):
    change(folder)
    assert run("likelihood", folder / "model.safetensors", folder / "images.npy") == 1
    told = capsys.readouterr().err.strip()
    assert words in told
    assert str(folder / "images.npy") in told
    assert len(told.splitlines()) == 1


def test_bad_options_get_one_line(folder, capsys):
    for more, words in (
        (("--draws", 0), "at least 1"),
        (("--csv", folder / "images.npy"), "never overwritten"),
        (("--array", "x"), None),
    ):
        assert run("likelihood", folder / "model.safetensors", folder / "images.npy", *more) == (1 if words else 0)
        if words:
            assert words in capsys.readouterr().err


def test_outputs_that_would_fail_or_cost_an_input_are_refused_first(folder, capsys):
    (folder / "pictures").mkdir()
    picture = folder / "pictures" / "0.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(picture)
    before = picture.read_bytes()
    twice = folder / "same.png"
    for more, words in (
        (("--picture", picture), f"{picture}: is an input"),
        (("--csv", folder / "model.safetensors"), "is an input"),
        (("--csv", folder / "pictures"), "pictures: is a folder"),
        (("--csv", folder / "no" / "where.csv"), "where.csv: its folder does not exist"),
        (("--csv", twice, "--picture", twice), "same.png: is the name of two outputs"),
        (("--picture", folder / "worst.jpg"), "worst.jpg: pictures are written as PNG"),
    ):
        assert run("likelihood", folder / "model.safetensors", folder / "pictures", *more) == 1
        assert words in capsys.readouterr().err
    assert picture.read_bytes() == before
    assert not twice.exists()


def test_damaged_weights_are_told_and_no_number_is_printed(folder, capsys):
    torch.manual_seed(0)
    made = VDM(
        [4, 4, 1],
        17,
        network=NetworkConfig("mlp", {"width": 8, "depth": 1}),
        noise=NoiseConfig(gamma_min=-7.9),
        features=4,
    )
    torch.nn.init.constant_(made.logits.bias, torch.nan)
    save(made, folder / "model.safetensors", {"task": "likelihood"})
    assert run("likelihood", folder / "model.safetensors", folder / "images.npy", "--json") == 1
    told = capsys.readouterr()
    assert "model.safetensors: logits.bias: has numbers that are not finite" in told.err
    assert not told.out


def test_the_values_are_those_of_the_library(folder, capsys):
    """One draw in one batch: the command adds nothing of its own."""
    from becalm.systems.vdm import bound, images_to_variables
    from becalm.weights.store import load

    told = measure(folder, capsys, "--batch", 200, "--seed", 5)
    model, images = load(folder / "model.safetensors", VDM), np.load(folder / "images.npy")
    v = images_to_variables(model, torch.from_numpy(images)[..., None])
    with torch.no_grad():
        found: likelihood.Bound = bound(model, v, None, 1, torch.Generator().manual_seed(5))
    assert told["bits_per_dim"] == pytest.approx(found.estimates()["total"].bits)
