"""becalm compress and decompress, as their user runs them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from becalm.cli import main
from becalm.compression import bits_back
from becalm.images import image_files
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig
from becalm.weights.store import save

pytest.importorskip("constriction")


def model(seed: int) -> VDM:
    torch.manual_seed(seed)
    made = VDM(
        [4, 4, 1],
        17,
        network=NetworkConfig("mlp", {"width": 8, "depth": 1}),
        noise=NoiseConfig(gamma_min=-7.9),
        features=4,
    )
    torch.nn.init.normal_(made.logits.weight)
    return made


@pytest.fixture
def folder(tmp_path):
    save(model(0), tmp_path / "model.safetensors", {"task": "likelihood"})
    save(model(1), tmp_path / "other.safetensors", {"task": "likelihood"})
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 17, (20, 4, 4), dtype=np.uint8))
    return tmp_path


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def compress(folder, *more) -> int:
    return run("compress", folder / "model.safetensors", folder / "images.npy", "--steps", 4, *more)


def decompress(folder, *more, model="model") -> int:
    return run("decompress", folder / f"{model}.safetensors", folder / "images.npy.bcz", *more)


def test_there_and_back_in_every_form(folder, capsys):
    assert compress(folder, "--check", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    size = (folder / "images.npy.bcz").stat().st_size
    assert told["images"] == 20
    assert told["bytes"] == size
    assert told["bits_per_dim"] == pytest.approx(8 * size / 320)
    for name in ("again.npy", "again-idx3-ubyte.gz", "again"):
        assert decompress(folder, "-o", folder / name) == 0
        assert "every bit as it was" in capsys.readouterr().out
        again = image_files.read(folder / name, image_files.ImageFormat(4, 4, 1, 17)).values[..., 0]
        assert np.array_equal(again.numpy(), np.load(folder / "images.npy"))
    assert (folder / "again.npy").read_bytes() == (folder / "images.npy").read_bytes()


def test_the_threads_of_the_encoder_are_set_and_given_back():
    before = torch.get_num_threads()
    with bits_back.torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def changed(path, at: int):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words", "model"),
    [
        (lambda f: changed(f, -1), "payload: its checksum is wrong", "model"),
        (lambda f: changed(f, 30), "header: cut short or damaged", "model"),
        (lambda f: changed(f, 8), "version 3", "model"),
        (lambda f: f.write_bytes(f.read_bytes()[:-5]), "cut short", "model"),
        (lambda f: f.write_bytes(b"other"), "is no file of `becalm compress`", "model"),
        (lambda f: f.unlink(), "no such file", "model"),
        (lambda f: None, "was coded with the model of fingerprint", "other"),
    ],
)
def test_other_models_and_damaged_files_get_one_line(folder, capsys, change, words, model):
    assert compress(folder) == 0
    change(folder / "images.npy.bcz")
    capsys.readouterr()
    assert decompress(folder, "-o", folder / "again.npy", model=model) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "decompressing" not in line]
    assert len(told) == 1
    assert words in told[0]
    assert not (folder / "again.npy").exists()


def test_inputs_are_never_overwritten_and_options_are_checked(folder, capsys):
    (folder / "pictures").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "pictures" / "0.png")
    for images, output, words in (
        ("images.npy", "images.npy", "never overwritten"),
        ("images.npy", "model.safetensors", "never overwritten"),
        ("pictures", "pictures/0.png", "never overwritten"),
        ("images.npy", "pictures", "is a folder"),
        ("images.npy", "no/where.bcz", "does not exist"),
    ):
        before = (folder / output).read_bytes() if (folder / output).is_file() else None
        assert run("compress", folder / "model.safetensors", folder / images, "-o", folder / output) == 1
        told = capsys.readouterr().err
        assert words in told
        assert str(folder / output) in told
        assert before is None or (folder / output).read_bytes() == before
    assert compress(folder, "--batch", 0) == 1
    assert "must be at least 1" in capsys.readouterr().err
    assert compress(folder) == 0
    assert decompress(folder, "-o", folder / "images.npy.bcz") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert decompress(folder, "-o", folder / "again.png") == 1
    assert "holds no set" in capsys.readouterr().err
    assert run("decompress", folder / "model.safetensors", folder / "none.bcz") == 1
    assert "none.bcz: no such file" in capsys.readouterr().err
    assert compress(folder) == 1
    assert "exists already; give another name, or --force" in capsys.readouterr().err
    assert compress(folder, "--force") == 0
    assert run("compress", "jets", folder / "images.npy", "--force") == 1
    assert "needed is a diffusion model of images" in capsys.readouterr().err


def test_a_model_that_gives_no_numbers_is_named(folder, capsys):
    broken = model(0)
    torch.nn.init.constant_(broken.logits.bias, torch.nan)
    save(broken, folder / "model.safetensors", {"task": "likelihood"})
    assert compress(folder) == 1
    told = capsys.readouterr().err
    assert f"{folder / 'model.safetensors'}: logits.bias: has numbers that are not finite" in told
    assert not (folder / "images.npy.bcz").exists()
