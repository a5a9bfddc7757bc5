"""Images to learn from and to test with, as bytes: small digits, CIFAR-10, archives of any, and a swirl of known entropy."""

import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from becalm.core.files import InputError
from becalm.core.typing import Int, Tensor


class Pools(NamedTuple):
    """What is learned from and what is not, bytes."""

    train: Int[Tensor, "image height width colour"]
    test: Int[Tensor, "image height width colour"]


def missing() -> Pools:
    """Says which data are missing."""
    raise InputError(
        "cifar10: no data; give --digits the folder of its python batches, or an .npz with x_train and x_test"
    )


def small_digits() -> Pools:
    """scikit-learn's 1797 digits, 8 × 8 pixels of 17 values: numpy's permutation 0, the first 1500 to train, 297 to test."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError(f"digits8: needs scikit-learn ({error}); install it, or give --digits an .npz") from error
    return divided(load_digits()["images"].astype(np.uint8))  # type: ignore


def divided(images: np.ndarray) -> Pools:
    """The fixed split of digits8, from images [1797, 8, 8] in scikit-learn's order."""
    order = np.random.RandomState(0).permutation(len(images))
    everything = torch.from_numpy(images[order])[..., None]
    return Pools(everything[:1500], everything[1500:])


def swirl() -> Pools:
    """1024 points on a spiral, two bytes each, of which 774 differ: VDM's own example. The law itself is learned and tested."""
    rng = np.random.RandomState(0)
    angle = 3 * np.pi * np.sqrt(rng.rand(1024))
    radius = 2 * angle + np.pi
    spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    points = torch.from_numpy((4 * (spiral + 0.25 * rng.randn(1024, 2) + 30)).astype(np.uint8))
    return Pools(points[:, None, :, None], points[:, None, :, None])


def from_npz(path: Path) -> Pools:
    """Images of an .npz, bytes [image, height, width] or with colours last: x_train and x_test, or `images` of digits8."""
    try:
        with np.load(path, allow_pickle=False) as fields:
            if "images" in fields and "x_train" not in fields:
                return divided(bytes_of(path, "images", fields["images"])[..., 0])
            lost = [name for name in ("x_train", "x_test") if name not in fields]
            if lost:
                raise InputError(f"{path}: no field {lost[0]!r}, only {', '.join(fields)}")
            return Pools(*(torch.from_numpy(bytes_of(path, n, fields[n])) for n in ("x_train", "x_test")))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not an .npz of plain arrays ({error}); give one with x_train and x_test") from error


def bytes_of(path: Path, name: str, images: np.ndarray) -> np.ndarray:
    """Images [image, height, width, colour] of uint8; those of whole floats, as scikit-learn has them, are taken too."""
    whole = images.astype(np.uint8) if np.issubdtype(images.dtype, np.number) else images
    if images.ndim not in (3, 4) or not np.array_equal(whole, images):
        raise InputError(
            f"{path}: {name}: is {images.dtype} {images.shape}, not whole values 0 to 255 [image, height, width]"
        )
    return whole if images.ndim == 4 else whole[..., None]


def batches_of_cifar(folder: Path) -> Pools:
    """CIFAR-10 from its python batches, data_batch_1 to 5 and test_batch."""
    files = [folder / f"data_batch_{i}" for i in range(1, 6)], [folder / "test_batch"]
    return Pools(*(torch.from_numpy(np.concatenate([unpickled(file) for file in part])) for part in files))


class Plain(pickle.Unpickler):
    """Reads arrays and plain values; a pickle that would call anything else is refused."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "encode"})

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.ALLOWED or module.split(".")[0] not in ("numpy", "_codecs"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def unpickled(path: Path) -> np.ndarray:
    """The images of one batch [image, 32, 32, 3]."""
    try:
        with open(path, "rb") as file:
            data = Plain(file, encoding="bytes").load()[b"data"]
        return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    except (OSError, pickle.UnpicklingError, KeyError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no batch of CIFAR-10 for python ({error}); fetch cifar-10-python.tar.gz") from error
