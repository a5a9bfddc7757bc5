"""Files of weights from before names changed: they load, and what cannot be built any more is refused by name."""

import json

import pytest
import torch
from safetensors import safe_open

from becalm.core.files import InputError
from becalm.nets.coverage import CoverageNetwork
from becalm.nets.digit_classifier import DigitClassifier
from becalm.systems.srm import SRM
from becalm.systems.srm_pixels import PixelSRM
from becalm.systems.srm_polygons import PolygonSRM
from becalm.weights.former_names import srm_config, with_current_names
from becalm.weights.packaged import WEIGHTS
from becalm.weights.store import load, save

FORMER = {"channels": 25, "places": [[0.0, 0.0]], "shape": [8, 1, 1, 1, 1], "power": 0.5, "shift": 2.0, "features": 14}


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("sudoku4", SRM),
        ("sudoku9", SRM),
        ("even_pixels", PixelSRM),
        ("polygons", PolygonSRM),
        ("painter", CoverageNetwork),
        ("reader14", DigitClassifier),
    ],
)
def test_packaged_files_load_as_their_present_class_and_are_stored_with_present_names(name, system, tmp_path):
    with safe_open(WEIGHTS / f"{name}.safetensors", "pt") as file:
        former = json.loads(file.metadata()["becalm"])["config"]
    model = load(name)
    assert type(model) is system
    if "power" in former:
        assert model.data_variance == former["power"] and model.schedule.shift == former["shift"]
        assert model.head == former.get("head", "clean")
    save(model, tmp_path / "again.safetensors", {}, torch.float16)
    again = load(tmp_path / "again.safetensors", system)
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_the_switches_of_benchmarks_name_the_class():
    assert srm_config(FORMER)[0] == "srm"
    assert srm_config(FORMER | {"grain": 3, "summed": True}) == (
        "srm_pixels",
        {
            "channels": 25,
            "places": [[0.0, 0.0]],
            "shape": [8, 1, 1, 1, 1],
            "shift": 2.0,
            "features": 14,
            "data_variance": 0.5,
            "head": "residual",
            "pixel_channels": 3,
            "pixel_depth": 3,
        },
    )
    polygons = FORMER | {"flags": 14, "near": True, "summed": True, "circle": [14, 3.0, 2.0, 3.8]}
    assert srm_config(polygons)[0] == "srm_polygons"
    for lost in ({"near": False}, {"circle": None}, {"circle": [14, 3.0, 2.0, 4.0]}, {"flags": 0}):
        with pytest.raises(ValueError, match="train such a model anew"):
            srm_config(polygons | lost)


def test_present_names_stay(tmp_path):
    fields, state = {"model": "srm", "config": {"channels": 3, "data_variance": 1.0}}, {"network.share": torch.ones(1)}
    assert with_current_names(fields, state) == (fields, state)
    save(SRM.build(channels=3), tmp_path / "new.safetensors", {})
    assert load(tmp_path / "new.safetensors").places is None


def test_what_cannot_be_built_is_the_file_s_fault(tmp_path):
    from safetensors.torch import save_file

    fields = {"model": "srm", "config": FORMER | {"near": True}}
    save_file({"places": torch.zeros(1, 2)}, tmp_path / "old.safetensors", {"becalm": json.dumps(fields)})
    with pytest.raises(InputError, match="old.safetensors: config: near"):
        load(tmp_path / "old.safetensors")
