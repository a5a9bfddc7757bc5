"""Sets of images: what is written is read, and what does not fit is named."""

import gzip

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from becalm.core.files import InputError
from becalm.images import idx, image_files
from becalm.images.digits import read_mnist
from becalm.images.image_files import ImageFormat

GREY = ImageFormat(3, 4, 1, 256)
FORMS = ["folder", "a.npy", "a.npz", "a-idx3-ubyte", "a-idx3-ubyte.gz"]


def some(expected: ImageFormat, count: int = 5, seed: int = 0) -> torch.Tensor:
    shape = (count, expected.height, expected.width, expected.colours)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(expected.levels, shape, generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("levels", [2, 17, 256, 1000, 65536])
@pytest.mark.parametrize("colours", [1, 3])
def test_what_is_written_is_read(tmp_path, name, levels, colours):
    expected = ImageFormat(3, 4, colours, levels)
    values = some(expected)
    if name == "folder" and colours == 3 and levels > 256:
        with pytest.raises(InputError, match="no PNG holds"):
            image_files.write(tmp_path / name, values, levels)
        return
    image_files.write(tmp_path / name, values, levels)
    again = image_files.read(tmp_path / name, expected)
    assert torch.equal(again.values, values)
    assert len(again) == 5
    assert [f.name for f in tmp_path.iterdir()] == [name]


@given(levels=st.integers(2, 65536), count=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_brightness_tells_every_level_apart(levels, count, seed):
    table = ImageFormat(1, 1, 1, levels).brightness
    assert len(np.unique(table)) == levels
    assert table[0] == 0
    assert table[-1] == (255 if levels <= 256 else 65535)


def test_whole_floats_and_other_orders_of_bytes_are_taken(tmp_path):
    values = some(GREY)
    for dtype in ("f4", ">f8", ">i2", "u4", "i8"):
        np.save(tmp_path / "a.npy", values[..., 0].numpy().astype(dtype))
        assert torch.equal(image_files.read(tmp_path / "a.npy", GREY).values, values)


def test_a_single_image_and_the_order_of_names(tmp_path):
    values = some(GREY, 3)
    image_files.write(tmp_path / "set", values, 256)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    found = image_files.read(tmp_path / "set", GREY)
    assert found.names == ("00000.png", "00001.png", "00002.png")
    assert torch.equal(image_files.read(tmp_path / "set" / "00001.png", GREY).values, values[1:2])


def test_palettes_and_opaque_images_are_what_they_show(tmp_path):
    colour = ImageFormat(3, 4, 3, 256)
    values = some(colour, 1)[0].numpy().astype(np.uint8) // 64 * 64
    Image.fromarray(values).convert("RGBA").save(tmp_path / "a.png")
    assert np.array_equal(image_files.read(tmp_path / "a.png", colour).values[0].numpy(), values)
    few = Image.fromarray(values).quantize(12)
    few.save(tmp_path / "b.png")
    assert np.array_equal(
        image_files.read(tmp_path / "b.png", colour).values[0].numpy(), np.asarray(few.convert("RGB"))
    )


def picture(path, size=(4, 3), mode="L", colour=0):
    Image.new(mode, size, colour).save(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: picture(f / "b.png", (5, 3)), "b.png: is 5 × 3; the model takes grey images 4 × 3"),
        (lambda f: picture(f / "b.png", mode="RGB"), "b.png: is in colour; the model takes grey"),
        (lambda f: picture(f / "b.png", mode="LA", colour=(9, 9)), "b.png: is of mode LA"),
        (lambda f: picture(f / "b.png", mode="I;16"), "b.png: has 16 bits a sample"),
        (lambda f: (f / "b.png").write_bytes(b"none"), "b.png: is no image that can be read"),
        (lambda f: [p.unlink() for p in f.iterdir()], "holds no image"),
    ],
)
def test_the_first_file_at_fault_in_a_folder_is_named(tmp_path, change, words):
    folder = tmp_path / "set"
    folder.mkdir()
    picture(folder / "a.png")
    picture(folder / "c.png", (9, 9))
    change(folder)
    with pytest.raises(InputError, match=words):
        image_files.read(folder, GREY)


def test_brightness_between_the_levels_is_refused(tmp_path):
    picture(tmp_path / "a.png", colour=13)
    with pytest.raises(InputError, match=r"a.png: brightness 13 is none of 0, 16, 32, … 255; .* 0 to 16"):
        image_files.read(tmp_path / "a.png", ImageFormat(3, 4, 1, 17))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((2, 5, 5), np.uint8), r"has the shape \[2, 5, 5\]; the model takes grey images 4 × 3"),
        (np.zeros((2, 3, 4, 3), np.uint8), r"has the shape \[2, 3, 4, 3\]"),
        (np.zeros((0, 3, 4), np.uint8), "holds no image"),
        (np.full((2, 3, 4), 300, np.int32), "image 0: values run from 300 to 300; .* 0 to 255"),
        (np.arange(24).reshape(2, 3, 4) - 13, "image 0: values run from -13"),
        (np.linspace(0, 1, 24).reshape(2, 3, 4), "fractions from 0 to 1 .float64.; .* multiply by 255"),
        (np.full((2, 3, 4), 1.5), "holds fractions"),
        (np.full((2, 3, 4), np.nan), "not finite"),
        (np.full((2, 3, 4), "a"), "holds <U1"),
        (np.zeros((2, 3, 4), np.complex64), "holds complex64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, values, words):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=words) as caught:
        image_files.read(tmp_path / "a.npy", GREY)
    assert str(caught.value).startswith(f"{tmp_path}/a.npy: ")
    assert "\n" not in str(caught.value)


def test_an_npz_of_several_sets_wants_to_know_which(tmp_path):
    train, test = some(GREY, 5).numpy()[..., 0], some(GREY, 2, 1).numpy()[..., 0]
    path = tmp_path / "a.npz"
    np.savez(path, x_train=train, x_test=test, y_train=np.zeros(5))
    with pytest.raises(InputError, match="x_train, x_test, y_train; say which with --array"):
        image_files.read(path, GREY)
    assert len(image_files.read(path, GREY, "x_test")) == 2
    with pytest.raises(InputError, match="has no array 'x'; there is x_train"):
        image_files.read(path, GREY, "x")
    np.savez(path, images=test, labels=np.zeros(2))
    assert len(image_files.read(path, GREY)) == 2
    np.savez(path, labels=np.zeros(2))
    with pytest.raises(InputError, match=r"labels: has the shape \[2\]"):
        image_files.read(path, GREY)
    np.savez(path)
    with pytest.raises(InputError, match="holds no array"):
        image_files.read(path, GREY)


def test_damaged_files_are_named(tmp_path):
    good = idx.encode(some(GREY).numpy().astype(np.uint8)[..., 0], zipped=True)
    for data in (b"", b"PK\3\4", gzip.compress(b"\0\0\x08\3")[:-4], good[:-9], gzip.decompress(good)[:-1]):
        for name in ("a.npy", "a.npz", "a.idx"):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(InputError, match=name):
                image_files.read(tmp_path / name, GREY)
    for name in ("none", "none.png"):
        with pytest.raises(InputError, match=f"{name}: no such file or folder"):
            image_files.read(tmp_path / name, GREY)


def test_a_folder_that_holds_anything_is_not_written_to(tmp_path):
    (tmp_path / "set").mkdir()
    image_files.write(tmp_path / "set", some(GREY, 1), 256)
    (tmp_path / "set.npy").mkdir()
    for path, words in (
        (tmp_path / "set", "not empty"),
        (tmp_path / "no" / "set", "does not exist"),
        (tmp_path / "set.npy", "is a folder"),
        (tmp_path / "set.png", "holds no set"),
    ):
        with pytest.raises(InputError, match=words):
            image_files.check_target(path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        image_files.write(tmp_path / "file", some(GREY, 1), 256)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("colours", [1, 3])
def test_a_sheet_shows_every_image(tmp_path, colours):
    values = some(ImageFormat(8, 8, colours, 256), 5)
    image_files.write_grid(tmp_path / "a.png", values, 256, smallest=8)
    sheet = np.asarray(Image.open(tmp_path / "a.png")).reshape(17, 26, colours)
    assert np.array_equal(sheet[9:17, 9:17], values[4].numpy())
    assert (sheet[9:17, 18:26] == 96).all()


def test_mnist_as_it_comes(shared):
    found = image_files.read(shared("data/mnist.npz"), ImageFormat(28, 28, 1, 256), "x_test")
    assert found.values.shape == (10000, 28, 28, 1)
    known = read_mnist(shared("data/mnist.npz"))[1].images
    assert torch.equal(found.values[..., 0].float() / 255, known)
