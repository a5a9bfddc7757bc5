"""Generating whole images: paired noise, counted calls, checks that are right about real images and wrong ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from becalm.cli import main
from becalm.core.files import InputError
from becalm.evaluation import images as image_evaluation
from becalm.evaluation.images import WALKS, evaluate_walks
from becalm.images import sudoku
from becalm.images.counting_polygons.scenes import polygons
from becalm.recipes import image_tasks
from becalm.recipes.image_tasks import EVEN_PIXELS, POLYGONS
from becalm.systems.solver import Pace
from becalm.systems.srm import SRM, last_state
from becalm.systems.srm_polygons import PolygonSRM
from becalm.weights.store import save

SHORT = Pace(steps_per_variable=1, joint_steps=3, eta=0.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(task) -> SRM:
    """A small network with random weights, also where a fresh one would answer nothing."""
    torch.manual_seed(0)
    fields = {"channels": task.channels, "places": task.places(), "shape": [16, 1, 1, 1, 1]}
    model = SRM.build(**fields, data_variance=task.data_variance)
    torch.nn.init.normal_(model.network.leave[-1].weight, std=0.1)  # type: ignore[arg-type]
    return model


def test_patches_are_the_image_and_their_mean_is_nothing():
    images, patches = EVEN_PIXELS.draw(40, seeded()), EVEN_PIXELS.sample_patches(40, seeded())
    assert patches.shape[1:] == (len(EVEN_PIXELS.places()), EVEN_PIXELS.channels)
    assert torch.allclose(EVEN_PIXELS.to_images(patches), images, atol=1e-6)
    assert patches.mean().abs() < 0.1
    assert patches.square().mean().item() == pytest.approx(EVEN_PIXELS.data_variance, rel=0.15)


def test_layouts_are_rendered_and_read():
    drawn, patches = (
        polygons(60, seeded(3), background=image_tasks.plain_background),
        POLYGONS.sample_patches(60, seeded(3)),
    )
    assert patches.shape[1:] == (len(POLYGONS.places()), POLYGONS.channels)
    assert patches.square().mean().item() == pytest.approx(POLYGONS.data_variance, rel=0.15)
    images = POLYGONS.to_images(patches)
    assert (images - drawn.images).square().mean() < 0.002
    right, odd = image_evaluation.check_polygons(images)
    assert right.double().mean() >= 0.98 and odd.mean() <= 0.02


def test_rows_of_all_walks_are_counted():
    rows, images = zip(*evaluate_walks(model(EVEN_PIXELS), EVEN_PIXELS, 2, pace=SHORT), strict=True)
    assert [row.walk for row in rows] == list(WALKS)
    assert [row.calls for row in rows] == [64, 64, 64, 3]
    assert all(len(made) == 2 for made in images)
    for row in rows:
        assert row.real_right == 1 and row.number == 2
        assert row.low <= row.right <= row.high
        assert row.gflop == pytest.approx(rows[0].gflop * row.calls / rows[0].calls)


def test_a_seed_makes_the_same_images():
    one, again, other = (
        next(evaluate_walks(model(EVEN_PIXELS), EVEN_PIXELS, 3, ("together",), SHORT, 2, seed)) for seed in (0, 0, 1)
    )
    assert one[0].calls == 3 and len(one[1]) == 3
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[1], other[1])


def test_overlap_and_groups_save_calls():
    faster = Pace(steps_per_variable=4, overlap=0.75, group=2)
    row, _ = next(evaluate_walks(model(EVEN_PIXELS), EVEN_PIXELS, 2, ("certainty",), faster))
    assert row.calls == 31 + 4


def test_a_patch_of_a_layout_has_one_category_or_none():
    torch.manual_seed(0)
    made = PolygonSRM.build(channels=25, places=POLYGONS.places(), shape=[16, 1, 1, 1, 1])
    torch.nn.init.constant_(made.network.leave.bias[:14], 3.0)  # type: ignore[union-attr]
    nothing, unknown = torch.zeros(2, 256, 25), torch.ones(2, 256).bool()
    sampler = image_evaluation.image_sampler("together", POLYGONS, SHORT, 2, 0)
    flags = last_state(made.solve(nothing, unknown, sampler, seeded()), nothing)[..., :14]
    assert ((flags == 4).sum(-1) + (flags == 0).sum(-1) == 14).all()
    assert 0.2 < flags.amax(-1).gt(2).double().mean() < 0.7 and flags.gt(2).sum(-1).max() == 1


def test_a_pixel_too_many_is_not_even():
    images = EVEN_PIXELS.draw(20, seeded())
    different = (images[:, 0, 1:] != images[:, 0, :1]).any(-1).int().argmax(1) + 1
    spoilt = images.clone()
    spoilt[torch.arange(20), 0, different] = images[:, 0, 0]
    assert image_evaluation.check_even_pixels(images)[0].all()
    right, deviation = image_evaluation.check_even_pixels(spoilt)
    assert not right.any() and (deviation == 1).all()


def test_polygons_are_read_and_a_wrong_number_is_seen():
    real = polygons(40, seeded(), background=image_tasks.plain_background)
    right, odd = image_evaluation.check_polygons(real.images)
    assert right.double().mean() >= 0.99 and odd.mean() <= 0.01
    few, image = (real.count <= 7).nonzero()[:, 0], real.images.clone()
    for i in few.tolist():
        x, y, r = (128 * real.circles[i, 2]).tolist()  # one figure is wiped out
        image[i, max(0, int(y - r - 1)) : int(y + r + 2), max(0, int(x - r - 1)) : int(x + r + 2)] = image[i, 0, 0]
    wiped, _ = image_evaluation.check_polygons(image[few])
    assert wiped.double().mean() < 0.1


def test_a_sheet_holds_the_images_apart():
    images = EVEN_PIXELS.draw(3, seeded())
    sheet = image_tasks.image_grid(images, columns=2)
    assert sheet.shape == (68, 68, 3)
    assert torch.equal(sheet[1:33, 35:67], image_tasks.to_unit(images[1]))
    assert (sheet[34:, 34:] == 1).all() and (sheet[:, 0] == 1).all()


def evaluated(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_evaluate_prints_a_row_a_walk_and_writes_the_images(capsys, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setitem(image_evaluation.PACES, "even-pixels", SHORT)
    save(model(EVEN_PIXELS), tmp_path / "even.safetensors", {})
    options = ("even-pixels", "--images", 1, "--json", "--picture", tmp_path / "made.png")
    code, out, err = evaluated(capsys, tmp_path / "even.safetensors", *options)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["walk"] for row in rows] == list(WALKS)
    assert {"right", "low", "high", "deviation", "real_right", "calls", "seconds", "gflop"} <= rows[0].keys()
    assert rows[0]["saturation"] >= 0 and rows[0]["value"] >= 0
    with Image.open(tmp_path / "made.png") as image:
        assert np.asarray(image).shape == (34, 8 * 34, 3)


def test_walks_are_chosen_and_those_of_sudokus_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(image_evaluation.PACES, "even-pixels", SHORT)
    save(model(EVEN_PIXELS), tmp_path / "even.safetensors", {})
    options = ("even-pixels", "--images", 1, "--json", "--walks", "order", "together")
    code, out, err = evaluated(capsys, tmp_path / "even.safetensors", *options)
    assert (code, [json.loads(line)["walk"] for line in out.splitlines()]) == (0, ["order", "together"]), err
    code, out, err = evaluated(capsys, tmp_path / "even.safetensors", *options[:-1], "graph")
    assert (code, out, err.count("\n")) == (1, "", 2) and "--walks graph: not for even-pixels" in err


def test_a_model_for_another_task_is_refused_in_one_line(capsys, tmp_path):
    save(
        SRM.build(channels=196, places=sudoku.places(4).tolist(), shape=[32, 4, 1, 1, 2]),
        tmp_path / "sudoku.safetensors",
        {},
    )
    code, out, err = evaluated(capsys, tmp_path / "sudoku.safetensors", "polygons")
    assert (code, out, err.count("\n")) == (1, "", 2), "what is evaluated, and why not"
    assert "sudoku.safetensors: is for another task" in err and "becalm train polygons" in err
    code, _, err = evaluated(capsys, tmp_path / "sudoku.safetensors", "even-pixels", "--images", 0)
    assert code == 1 and "--images 0: must be at least 1" in err
    with pytest.raises(InputError, match="64 variables of 48 numbers, and polygons has 256 of 25"):
        image_tasks.check_model(model(EVEN_PIXELS), POLYGONS, "even.safetensors")


def test_settings_are_known_for_every_task():
    assert image_evaluation.PACES.keys() == image_evaluation.CHECKS.keys() == image_tasks.TASKS.keys()
    assert replace(EVEN_PIXELS, patch=8).side == 4
