"""becalm generate, as its user runs it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from becalm.cli import main
from becalm.images import image_files
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig
from becalm.weights.store import save


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    made = VDM(
        [4, 6, 1],
        17,
        network=NetworkConfig("mlp", {"width": 8, "depth": 1}),
        noise=NoiseConfig(gamma_min=-7.9),
        features=4,
    )
    save(made, tmp_path / "model.safetensors", {"task": "likelihood"})
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def generate(folder, *more) -> int:
    return run("generate", folder / "model.safetensors", "-n", 5, "--steps", 6, *more)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
def test_images_are_drawn_and_shown(folder, capsys, sampler):
    assert generate(folder, "-o", folder / "new", "--sampler", sampler, "--picture", folder / "all.png", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["sampler"], told["steps"]) == (5, sampler, 6)
    drawn = image_files.read(folder / "new", image_files.ImageFormat(4, 6, 1, 17))
    assert len(drawn) == 5
    assert drawn.values.unique().numel() > 3
    assert np.asarray(Image.open(folder / "all.png")).shape[0] > 2 * 4


def test_the_seed_decides(folder):
    for name, seed in (("a.npy", 3), ("b.npy", 3), ("c.npy", 4)):
        assert generate(folder, "-o", folder / name, "--seed", seed) == 0
    first, again, other = (np.load(folder / name) for name in ("a.npy", "b.npy", "c.npy"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bad_wishes_get_one_line(folder, capsys):
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    for more, words in (
        (("-o", folder / "full"), "is not empty"),
        (("-o", folder / "no" / "where"), "does not exist"),
        (("-n", 0), "at least 1"),
        (("-o", folder / "new.png"), "holds no set"),
        (("--picture", folder / "full"), "is a folder"),
        (("--picture", folder / "model.safetensors"), "is an input"),
        (("-o", folder / "new", "--label", "chair"), "leave them out"),
    ):
        assert generate(folder, *more) == 1
        told = capsys.readouterr().err.strip()
        assert words in told
        assert len(told.splitlines()) == 1
    assert run("generate", "jets") == 1
    assert "needed is a generator of shapes" in capsys.readouterr().err


def test_damaged_weights_are_told_and_nothing_is_written(folder, capsys):
    torch.manual_seed(0)
    made = VDM(
        [4, 6, 1],
        17,
        network=NetworkConfig("mlp", {"width": 8, "depth": 1}),
        noise=NoiseConfig(gamma_min=-7.9),
        features=4,
    )
    torch.nn.init.constant_(made.logits.bias, torch.nan)
    save(made, folder / "model.safetensors", {"task": "likelihood"})
    assert generate(folder, "-o", folder / "new") == 1
    assert "not finite" in capsys.readouterr().err
    assert not (folder / "new").exists()
