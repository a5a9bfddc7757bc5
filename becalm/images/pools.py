"""Training and test images as bytes: small digits, CIFAR-10, NPZ files, and a spiral of points whose entropy is known."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from becalm.core.files import InputError
from becalm.core.numpy_files import load_arrays
from becalm.core.typing import Int, Tensor


class TrainTest(NamedTuple):
    """Training and test images, bytes."""

    train: Int[Tensor, "image height width colour"]
    test: Int[Tensor, "image height width colour"]


def refuse_missing_cifar10() -> TrainTest:
    """Raise InputError: CIFAR-10 comes from a file only."""
    raise InputError(
        "cifar10: no data; give --digits the folder of its python batches, or an .npz with x_train and x_test"
    )


def load_digits8() -> TrainTest:
    """scikit-learn's 1797 digits, 8 × 8 pixels of 17 values: numpy's permutation 0, the first 1500 to train, 297 to test."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError(f"digits8: needs scikit-learn ({error}); install it, or give --digits an .npz") from error
    return split_digits8(load_digits()["images"].astype(np.uint8))  # type: ignore


def split_digits8(images: np.ndarray) -> TrainTest:
    """The fixed split of scikit-learn's digits [1797, 8, 8], given in its order."""
    order = np.random.RandomState(0).permutation(len(images))
    everything = torch.from_numpy(images[order])[..., None]
    return TrainTest(everything[:1500], everything[1500:])


def make_swirl() -> TrainTest:
    """1024 points on a spiral, two bytes each, 774 of them distinct: VDM's example. Training and test set are the same."""
    rng = np.random.RandomState(0)
    angle = 3 * np.pi * np.sqrt(rng.rand(1024))
    radius = 2 * angle + np.pi
    spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    points = torch.from_numpy((4 * (spiral + 0.25 * rng.randn(1024, 2) + 30)).astype(np.uint8))
    return TrainTest(points[:, None, :, None], points[:, None, :, None])


def read_npz(path: Path) -> TrainTest:
    """Images of an .npz, bytes [image, height, width] or with colours last: x_train and x_test, or `images` of digits8."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give an .npz with x_train and x_test")
    fields = load_arrays(path)
    if "images" in fields and "x_train" not in fields:
        return split_digits8(as_bytes(path, "images", fields["images"])[..., 0])
    lost = [name for name in ("x_train", "x_test") if name not in fields]
    if lost:
        raise InputError(f"{path}: no field {lost[0]!r}, only {', '.join(fields)}")
    return TrainTest(*(torch.from_numpy(as_bytes(path, n, fields[n])) for n in ("x_train", "x_test")))


def as_bytes(path: Path, name: str, images: np.ndarray) -> np.ndarray:
    """Images [image, height, width, colour] as uint8, from any type of whole numbers (scikit-learn has floats)."""
    whole = images.astype(np.uint8) if np.issubdtype(images.dtype, np.number) else images
    if images.ndim not in (3, 4) or not np.array_equal(whole, images):
        raise InputError(
            f"{path}: {name}: is {images.dtype} {images.shape}, not whole values 0 to 255 [image, height, width]"
        )
    return whole if images.ndim == 4 else whole[..., None]


def read_cifar10(folder: Path) -> TrainTest:
    """CIFAR-10 from its Python batches, data_batch_1 to 5 and test_batch."""
    files = [folder / f"data_batch_{i}" for i in range(1, 6)], [folder / "test_batch"]
    return TrainTest(*(torch.from_numpy(np.concatenate([read_cifar10_batch(file) for file in part])) for part in files))


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain values; refuses a pickle that would call anything else."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "encode"})

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.ALLOWED or module.split(".")[0] not in ("numpy", "_codecs"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_cifar10_batch(path: Path) -> np.ndarray:
    """The images of one batch [image, 32, 32, 3]."""
    try:
        with open(path, "rb") as file:
            data = ArrayUnpickler(file, encoding="bytes").load()[b"data"]
        return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    except (OSError, pickle.UnpicklingError, KeyError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no batch of CIFAR-10 for python ({error}); fetch cifar-10-python.tar.gz") from error
