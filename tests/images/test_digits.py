"""Digits come from files as they lie there; pools are disjoint, draws fit their labels, and bad files are named."""

import gzip
import importlib.util
import struct

import numpy as np
import pytest
import torch

from becalm.core.files import InputError
from becalm.images.digits import Digits, read_digits8, read_mnist, split, top_per_class

ARRAYS = {
    "x_train": np.arange(40 * 16, dtype=np.uint8).reshape(40, 4, 4),
    "y_train": (np.arange(40) % 10).astype(np.uint8),
    "x_test": np.full((20, 4, 4), 255, np.uint8),
    "y_test": (np.arange(20) % 10).astype(np.uint8),
}
IDX = {
    "train-images-idx3-ubyte": "x_train",
    "train-labels-idx1-ubyte": "y_train",
    "t10k-images-idx3-ubyte": "x_test",
    "t10k-labels-idx1-ubyte": "y_test",
}


def coded(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    for name, field in IDX.items():
        (tmp_path / name).write_bytes(coded(ARRAYS[field]))
    return tmp_path


@pytest.fixture
def pool():
    labels = torch.arange(100) % 10
    return Digits(torch.arange(100.0)[:, None, None].expand(100, 2, 2) / 100, labels)


def same(one: Digits, other: Digits) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_archive_and_folder_hold_the_same_digits(folder, tmp_path):
    np.savez(tmp_path / "mnist.npz", **ARRAYS)
    for one, other in zip(read_mnist(tmp_path / "mnist.npz"), read_mnist(folder), strict=True):
        assert same(one, other)
    train, test = read_mnist(folder)
    assert len(train) == 40 and len(test) == 20
    torch.testing.assert_close(train.images[1, 0], torch.tensor([16.0, 17, 18, 19]) / 255)
    assert test.images.unique().tolist() == [1.0]


def test_gzipped_files_and_dotted_names_are_read_too(folder):
    plain = read_mnist(folder)
    first = folder / "train-images-idx3-ubyte"
    (folder / f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    (folder / "t10k-labels-idx1-ubyte").rename(folder / "t10k-labels.idx1-ubyte")
    for one, other in zip(read_mnist(folder), plain, strict=True):
        assert same(one, other)


def test_missing_files_are_named(folder):
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(InputError, match=r"no t10k-images-idx3-ubyte nor"):
        read_mnist(folder)
    with pytest.raises(InputError, match="no such file"):
        read_mnist(folder / "mnist.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", coded(ARRAYS["x_train"])[:-5], r"promises 640 bytes, the file holds 635"),
        ("train-images-idx3-ubyte", coded(ARRAYS["y_train"]), r"3 axes"),
        ("train-images-idx3-ubyte", b"", r"IDX file"),
        ("train-labels-idx1-ubyte", coded(ARRAYS["y_test"]), r"do not belong together"),
        ("train-labels-idx1-ubyte", coded(np.full(40, 11, np.uint8)), r"11, not 0 to 9"),
    ],
)
def test_damaged_files_are_named(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_mnist(folder)
    assert str(folder) in str(caught.value)


def test_damaged_gzip_is_named(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(coded(ARRAYS["y_train"]))[:-12])
    with pytest.raises(InputError, match=r"train-labels-idx1-ubyte.gz: is a damaged gzip"):
        read_mnist(folder)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"])
def test_files_that_are_no_archive_are_named(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"mnist.npz: is no whole .npz"):
        read_mnist(tmp_path / "mnist.npz")


def test_archives_without_a_field_or_with_the_wrong_kind_are_named(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, **{name: value for name, value in ARRAYS.items() if name != "y_test"})
    with pytest.raises(InputError, match=r"mnist.npz: no field 'y_test'"):
        read_mnist(path)
    np.savez(path, **{**ARRAYS, "x_train": ARRAYS["x_train"] / 255})
    with pytest.raises(InputError, match="float64"):
        read_mnist(path)


def test_draws_show_what_was_asked_for_and_cover_the_class(pool):
    labels = torch.randint(10, (300, 9), generator=torch.Generator().manual_seed(0))
    images = pool.sample_images(labels, torch.Generator().manual_seed(1))
    index = (images[..., 0, 0] * 100).round().long()
    assert torch.equal(index % 10, labels)
    counts = torch.bincount(index.flatten(), minlength=100)
    assert counts.min() > 10 and counts.max() < 50  # 27 ± 5.2 expected
    assert torch.equal(images, pool.sample_images(labels, torch.Generator().manual_seed(1)))


def test_drawing_from_an_empty_class_is_refused(pool):
    with pytest.raises(ValueError, match="none of class 7"):
        pool.only(range(1, 7)).sample_images(torch.tensor([[1, 7]]), torch.Generator())


def test_top_per_class_takes_the_best_of_each(pool):
    score = torch.rand(100, generator=torch.Generator().manual_seed(2))
    best = top_per_class(pool, score, 3)
    for digit in range(10):
        scores = score[digit::10].sort(descending=True).values[:3]
        index = (best.images[best.labels == digit, 0, 0] * 100).round().long()
        assert torch.equal(score[index], scores)
    assert len(top_per_class(pool, score, 1000)) == 100


def test_split_is_disjoint_complete_and_even_over_classes(pool):
    first, second = split(pool, 0.3, torch.Generator().manual_seed(0))
    one, two = ({round(float(x) * 100) for x in part.images[:, 0, 0]} for part in (first, second))
    assert not one & two and one | two == set(range(100))
    assert torch.bincount(second.labels).tolist() == [3] * 10


def test_shrunk_digits_keep_their_ink():
    digits = Digits(torch.rand(3, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2, 3]))
    small = digits.shrink_to(14)
    assert small.images.shape == (3, 14, 14)
    torch.testing.assert_close(small.images.mean((1, 2)), digits.images.mean((1, 2)))


def test_small_digits_or_a_clear_error():
    if importlib.util.find_spec("sklearn") is None:
        with pytest.raises(InputError, match="pip install scikit-learn"):
            read_digits8()
        return
    train, test = read_digits8()
    assert len(train) + len(test) == 1797 and train.images.shape[1:] == (8, 8)
    assert train.images.max() == 1 and train.images.min() == 0
    assert set(test.labels.tolist()) == set(range(10))


def test_mnist_is_whole(shared):
    train, test = read_mnist(shared("data/mnist.npz"))
    assert train.images.shape == (60000, 28, 28) and len(test) == 10000
    assert torch.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.images.min() == 0 and train.images.max() == 1
