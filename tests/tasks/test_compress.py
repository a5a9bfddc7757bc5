"""becalm.compress and becalm.decompress, as their caller uses them."""

import numpy as np
import pytest
import torch

import becalm
from becalm.compression import archive, bits_back
from becalm.core.files import InputError
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig
from becalm.tasks import compress, decompress
from tests.tasks.image_models import random_images, saved, small_vdm

pytest.importorskip("constriction")


@pytest.fixture
def file(tmp_path):
    return saved(tmp_path, small_vdm(logits=1.0))


def test_images_come_back_from_every_form(file, tmp_path):
    images = random_images(15)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "a.bcz").write_bytes(becalm.compress(file, tmp_path / "images.npy", steps=4))
    data = becalm.compress(small_vdm(logits=1.0), torch.from_numpy(images), steps=4)
    assert isinstance(data, bytes) and (tmp_path / "a.bcz").read_bytes() == data
    for form in (data, tmp_path / "a.bcz", str(tmp_path / "a.bcz")):
        again = becalm.decompress(file, form)
        assert np.array_equal(again, images) and again.dtype == np.uint8


@pytest.mark.parametrize(("levels", "colours", "dtype"), [(1000, 1, np.uint16), (16, 3, np.uint8)])
def test_images_keep_type_and_colours(levels, colours, dtype):
    torch.manual_seed(0)
    parts = NetworkConfig("mlp", {"width": 8, "depth": 1}), NoiseConfig(gamma_min=-8.0)
    model = VDM([2, 3, colours], levels, "levels", *parts, features=4).eval()
    images = np.random.default_rng(0).integers(0, levels, (5, 2, 3, colours)).astype(dtype)
    again = becalm.decompress(model, becalm.compress(model, images, steps=3))
    assert np.array_equal(again, images[..., 0] if colours == 1 else images) and again.dtype == dtype


def test_progress_rises_to_the_result(file):
    reports = list(compress.steps(file, random_images(40), steps=3, batch=6, check=True))
    shares = [report.done for report in reports]
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 4
    assert [report.result is None for report in reports] == [True] * (len(reports) - 1) + [False]
    back = list(decompress.steps(file, reports[-1].result))
    shares = [report.done for report in back]
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 2


def test_the_encoder_s_threads_are_set_only_while_it_decodes(file, monkeypatch):
    data, before = becalm.compress(file, random_images(40), steps=2), torch.get_num_threads()
    seen = []
    mean = bits_back.reverse_mean
    monkeypatch.setattr(bits_back, "reverse_mean", lambda *a: (seen.append(torch.get_num_threads()), mean(*a))[1])
    monkeypatch.setattr(archive.Header, "threads", before + 1)
    for _ in decompress.steps(file, data):
        assert torch.get_num_threads() == before
    assert set(seen) == {before + 1}


def test_a_check_that_fails_gives_no_bytes(file, monkeypatch):
    monkeypatch.setattr(bits_back, "decode", lambda codec, bits, shape: iter([torch.zeros(3, 16, 1).long()]))
    with pytest.raises(InputError, match="images: do not come out as they went in"):
        becalm.compress(file, random_images(3), steps=2, check=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((2, 5, 5), np.uint8)}, r"images: has the shape \[2, 5, 5\]"),
        ({"images": "nowhere"}, "nowhere: no such file or folder"),
        ({"steps": 0}, "steps: 0; must be at least 1"),
        ({"batch": 0}, "batch: 0; must be at least 1"),
        ({"model": "jets"}, "needed is a diffusion model of images"),
        ({"device": "abacus"}, "abacus: is not a device"),
    ],
)
def test_wrong_input_gives_one_line(file, change, words):
    with pytest.raises(InputError, match=words) as error:
        becalm.compress(**{"model": file, "images": random_images(3), "steps": 2} | change)
    assert "\n" not in str(error.value)


def test_other_models_and_damaged_bytes_give_one_line(file, tmp_path):
    data = becalm.compress(file, random_images(3), steps=2)
    other = saved(tmp_path, small_vdm(1, logits=1.0), "other")
    for model, damaged, words in (
        (other, data, "data: was coded with the model of fingerprint"),
        (file, data[:-3], "data: header promises"),
        (file, b"other", "data: is no file of `becalm compress`"),
        (file, tmp_path / "none.bcz", "none.bcz: no such file"),
    ):
        with pytest.raises(InputError, match=words) as error:
            becalm.decompress(model, damaged)
        assert "\n" not in str(error.value)
