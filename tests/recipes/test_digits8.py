"""The recipes of small digits: what is read, what is refused, what is corrupted, and a run of a few steps."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from becalm.core.files import InputError
from becalm.images.digits import Digits
from becalm.recipes import digits8
from becalm.systems.fields import EnergyModel, ScoreModel
from becalm.training.loop import Plan
from becalm.weights.store import load

PLAN = Plan(steps=2, learning_rate=1e-3, bfloat16=False, log_every=1, save_every=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def file(tmp_path):
    """Sixty made-up digits, bright in a place of their class, as an .npz."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 5, (60, 8, 8)), np.arange(60) % 10
    images[np.arange(60), labels % 8, labels // 2] = 16
    np.savez(tmp_path / "digits.npz", images=images.astype(np.uint8), labels=labels)
    return tmp_path / "digits.npz"


def test_a_file_is_split_and_pixels_are_variables(file):
    known, unseen = digits8.read_digits(file)
    assert (len(known), len(unseen)) == (48, 12)
    x = digits8.to_variables(known.images)
    assert x.shape == (48, 64, 1) and x.max() == 1 and x.min() == -1
    assert x[0, 8 * 3 + 5, 0] == 2 * known.images[0, 3, 5] - 1


BAD = {
    "no labels": ({"images": np.zeros((20, 8, 8))}, "labels"),
    "large": ({"images": np.full((20, 9, 8), 16), "labels": np.zeros(20)}, r"\[n, 8, 8\]"),
    "bytes": ({"images": np.full((20, 8, 8), 255), "labels": np.zeros(20)}, "0 .paper. to 16"),
    "unit": ({"images": np.ones((20, 8, 8)), "labels": np.zeros(20)}, "from 1 to 1"),
    "nan": ({"images": np.full((20, 8, 8), np.nan), "labels": np.zeros(20)}, "images"),
}


@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=BAD)
def test_what_is_no_set_of_digits_is_refused(fields, message, tmp_path):
    np.savez(tmp_path / "bad.npz", **fields)
    with pytest.raises(InputError, match=message) as error:
        digits8.read_digits(tmp_path / "bad.npz")
    assert "bad.npz" in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_npz_is_refused(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="bad.npz"):
        digits8.read_digits(tmp_path / "bad.npz")


def test_corruptions_change_what_they_say_and_nothing_else():
    images = torch.rand(30, 8, 8, generator=generator()).clamp_min(0.01)
    digits = Digits(images, torch.arange(30) % 10)
    x = digits8.to_variables(images)
    changed = {name: change(digits, generator(1)) for name, change in digits8.CORRUPTIONS.items()}
    assert all(v.shape == x.shape for v in changed.values())
    assert ((changed["erased"] == -1).sum((1, 2)) == 16).all()
    assert ((changed["erased"] == x).sum((1, 2)) == 48).all()
    torch.testing.assert_close(changed["turned"].reshape(30, 8, 8).rot90(-1, (1, 2)), x.reshape(30, 8, 8))
    torch.testing.assert_close(changed["shuffled"].sort(1).values, x.sort(1).values)
    assert (changed["joined"][:, :32] == x[:, :32]).all() and (changed["joined"][:, 32:] != x[:, 32:]).any()
    assert abs((changed["noisy"] - x).std() - 0.3) < 0.02


@pytest.mark.parametrize("recipe", [digits8.NCSN, digits8.EBM, replace(digits8.EBM, objective="persistent")])
def test_a_run_leaves_weights_samples_and_measures(recipe, file, tmp_path, monkeypatch):
    monkeypatch.setattr(digits8, "SAMPLES", 100)
    small = replace(
        recipe, digits=file, run=tmp_path / "run", batch=8, width=8, depth=1, levels=3, buffer=128, plan=PLAN
    )
    *records, last = digits8.run(small)
    assert len(records) == 2 and all(np.isfinite(r["loss"]) for r in records)
    assert json.loads((tmp_path / "run" / "measures.json").read_text()) == last
    assert (tmp_path / "run" / "samples.png").read_bytes()[:4] == b"\x89PNG"
    kind, name = (ScoreModel, "ncsn") if recipe.model == "score" else (EnergyModel, "ebm")
    assert load(tmp_path / "run" / f"{name}_digits8.safetensors", kind).config["side"] == 8
    told = [key for key in last if key.startswith("auroc")]
    assert len(told) == (0 if kind is ScoreModel else 5 * (2 if recipe.objective == "denoising_multilevel" else 1))
    assert all(0 <= last[key] <= 1 for key in told)


def test_a_score_cannot_learn_by_contrast(file):
    with pytest.raises(InputError, match="--model score: .* --model energy"):
        digits8.build_model(replace(digits8.NCSN, objective="persistent"), torch.rand(4, 64, 1))
