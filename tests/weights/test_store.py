import argparse
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from becalm.core.files import InputError
from becalm.systems.jets import Jets
from becalm.systems.spd import SPD
from becalm.weights.importer import read_official, rename_tensors
from becalm.weights.packaged import metadata
from becalm.weights.store import load, save


@pytest.mark.parametrize("model", [SPD(hidden=24, blocks=2), SPD(), Jets()], ids=["spd-small", "spd", "jets"])
def test_round_trip(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save(model, path, {"licence": "MIT", "note": "ähm"})
    again = load(path)
    assert type(again) is type(model)
    assert not again.training
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert metadata(path)["note"] == "ähm"
    assert os.listdir(tmp_path) == ["model.safetensors"]


def damaged(tmp_path, state=None, **fields):
    model = SPD(hidden=8, blocks=1)
    jarque_bera = {"model": "spd", "config": model.config} | fields
    path = tmp_path / "damaged.safetensors"
    save_file(model.state_dict() if state is None else state, path, {"becalm": json.dumps(jarque_bera)})
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "nonsense"}, "model: 'nonsense' is not known; known are spd, jets"),
        ({"config": 3}, "config: must be an object"),
        ({"config": {"depth": 3}}, "config: .*depth"),
        ({"config": {"hidden": "many"}}, "config: "),
        ({"config": {"hidden": 9, "blocks": 1}}, r"score.blocks.0.inner.bias: is torch.float32 \[8\], not"),
        ({"config": {"hidden": 8, "blocks": 2}}, "score.blocks.1.inner.bias: is missing"),
    ],
)
def test_faults_are_named(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(damaged(tmp_path, **fields))
    assert "damaged.safetensors: " in str(caught.value)


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(
        ValueError, match=r"a\.safetensors: is a safetensors file of another program, not the weights of a becalm model"
    ):
        load(path)
    with pytest.raises(ValueError, match="Linear cannot be stored"):
        save(torch.nn.Linear(1, 1), path, {})


def test_the_official_checkpoint_in_both_forms(shared, tmp_path):
    model = read_official(shared("weights/score_denoise_official.pt"))
    twin = read_official(shared("weights/score_denoise_official.safetensors"))
    save(model, tmp_path / "spd.safetensors", {})
    for other in (twin, load(tmp_path / "spd.safetensors")):
        assert all(
            torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
        )


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    for name, write in (("zip.pt", torch.save), ("bare.pt", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        write({"state_dict": {}, "args": Payload(tmp_path / "ran")}, tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: refused"):
            read_official(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_other_checkpoints_are_named_as_such(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"args": argparse.Namespace(a=1)}, path)
    with pytest.raises(ValueError, match=r"other\.pt: state_dict: is missing"):
        read_official(path)
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(ValueError, match=r"other\.pt: state_dict: not that of score-denoise"):
        read_official(path)
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(ValueError, match=r"other.pt: "):
        read_official(path)
    with pytest.raises(KeyError):
        rename_tensors({})


def test_the_weights_of_a_run_that_has_not_ended(tmp_path):
    (tmp_path / "states").mkdir()
    with pytest.raises(InputError, match="this training run has not ended"):
        load(tmp_path / "srm.safetensors")
