"""Handwritten digits: MNIST from files, scikit-learn's small ones, and pools of them to draw from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from becalm.core.files import InputError
from becalm.core.numpy_files import load_arrays
from becalm.core.typing import Float, Int, Shaped, Tensor
from becalm.images import idx
from becalm.images.grid import shrink


@dataclass(frozen=True)
class Digits:
    """Grey images of digits and their labels."""

    images: Float[Tensor, "digit height width"]
    """Ink in [0, 1], 0 the paper."""
    labels: Int[Tensor, "digit"]
    """The digit of each, 0 to 9."""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Shaped[Tensor, "chosen"]) -> "Digits":
        """The digits at the given indices, or where a mask [digit] is true."""
        return Digits(self.images[index], self.labels[index])

    def only(self, classes: range) -> "Digits":
        """The digits of some classes, in their order."""
        return self.select((self.labels >= classes.start) & (self.labels < classes.stop))

    def shrink_to(self, side: int) -> "Digits":
        """The same digits at a smaller side, by area."""
        small = shrink(self.images.flatten(1), side)
        return Digits(small.reshape(-1, side, side), self.labels)

    @cached_property
    def _classes(self) -> tuple[Tensor, Tensor, Tensor]:
        # indices sorted by class, and where in them each class starts and how many it has
        count = torch.bincount(self.labels, minlength=10)
        return torch.argsort(self.labels, stable=True), count.cumsum(0) - count, count

    def sample_images(
        self, labels: Int[Tensor, "*any"], generator: torch.Generator
    ) -> Float[Tensor, "*any height width"]:
        """An image for every label, drawn uniformly and independently from its class.

        Raises ValueError where a class that is asked for is empty.
        """
        order, start, count = self._classes
        if bool((count[labels] == 0).any()):
            raise ValueError(f"digits: none of class {int(labels[count[labels] == 0][0])} in this pool")
        u = torch.rand(labels.shape, generator=generator, dtype=torch.float64)
        return self.images[order[start[labels] + (u * count[labels]).long()]]


def top_per_class(digits: Digits, score: Float[Tensor, "digit"], k: int) -> Digits:
    """The k digits of every class with the highest scores (all where there are fewer), best first.

    The rule by which the MNIST Sudoku benchmark picks its digits (Wewer et al., ICML 2025, arXiv 2502.21075), with k =
    1000 and the score a classifier's confidence.
    """
    best = torch.argsort(score, descending=True, stable=True)
    labels = digits.labels[best]
    rank = (labels[:, None] == torch.arange(10)).cumsum(0).gather(1, labels[:, None])[:, 0]
    return digits.select(best[rank <= k])


def fisher_discriminants(digits: Digits, count: int, ridge: float = 0.05) -> Float[Tensor, "channel feature"]:
    """Linear functions of a cell in [−1, 1] that separate the classes, of equal variance within a class and 1 on average.

    The leading solutions w of S_between w = λ S_within w (Fisher 1936), S_within with a `ridge` of its mean variance added.
    """
    from scipy.linalg import eigh

    cells = digits.images.flatten(1).double() * 2 - 1
    classes = [cells[digits.labels == label] for label in digits.labels.unique()]
    within = torch.stack([(len(c) - 1) * c.T.cov() for c in classes]).sum(0) / len(cells)
    within += ridge * within.diagonal().mean() * torch.eye(cells.shape[1])
    between = torch.stack([c.mean(0) for c in classes]).T.cov()
    _, vectors = eigh(between.numpy(), within.numpy())
    leading = torch.from_numpy(vectors[:, ::-1][:, :count].copy())
    return (leading / (cells @ leading).var(0).mean().sqrt()).float()


def split(digits: Digits, share: float, generator: torch.Generator) -> tuple[Digits, Digits]:
    """Two disjoint pools, the second with about the given share of every class."""
    order = torch.randperm(len(digits), generator=generator)
    labels = digits.labels[order]
    one_hot = labels[:, None] == torch.arange(10)
    rank = one_hot.cumsum(0).gather(1, labels[:, None])[:, 0]
    second = rank <= (share * one_hot.sum(0)).round()[labels]
    return digits.select(order[~second]), digits.select(order[second])


def read_mnist(path: Path) -> tuple[Digits, Digits]:
    """MNIST's training and test digits, from an .npz or from a folder with the four IDX files, gzipped or not.

    The .npz holds x_train, y_train, x_test and y_test. Raises InputError where a file or field is missing or damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _from_idx(path, "train"), _from_idx(path, "t10k")
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; give mnist.npz or the folder with MNIST's four IDX files")
    fields = load_arrays(path)
    return _from_npz(path, fields, "train"), _from_npz(path, fields, "test")


def read_digits(path: Path) -> tuple[Digits, Digits]:
    """Training and test digits: scikit-learn's where the path is just `digits8`, else MNIST. Raises InputError."""
    return read_digits8() if path == Path("digits8") else read_mnist(path)


def read_digits8() -> tuple[Digits, Digits]:
    """scikit-learn's 1797 real digits of 8 × 8 pixels: the first four fifths to train, the last to test.

    They lie in the order in which people wrote them, so few test digits share their writer with training digits.
    Raises InputError where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError(
            f"digits: the 8 × 8 digits need scikit-learn ({error}); pip install scikit-learn, or give MNIST"
        ) from error
    flat, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(np.asarray(flat)).float().reshape(-1, 8, 8) / 16
    everything = Digits(images, torch.from_numpy(np.asarray(labels)).long())
    cut = len(everything) * 4 // 5
    return everything.select(torch.arange(cut)), everything.select(torch.arange(cut, len(everything)))


def _digits(where: str, images: np.ndarray, labels: np.ndarray) -> Digits:
    """Digits from bytes [digit, height, width] and [digit]; InputError where they are anything else."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise InputError(f"{where}: images are {images.dtype} {images.shape}, not uint8 [n, height, width]")
    if labels.shape != images.shape[:1]:
        raise InputError(f"{where}: {labels.shape} labels for {len(images)} images; the files do not belong together")
    if len(labels) and (labels.min() < 0 or labels.max() > 9):
        raise InputError(f"{where}: labels run from {labels.min()} to {labels.max()}, not 0 to 9")
    ink = torch.from_numpy(images.astype(np.float32) / np.float32(255))
    return Digits(ink, torch.from_numpy(labels.astype(np.int64)))


def _from_npz(path: Path, fields, part: str) -> Digits:
    for name in (f"x_{part}", f"y_{part}"):
        if name not in fields:
            raise InputError(f"{path}: no field {name!r}, only {', '.join(fields)}; fetch mnist.npz again")
    return _digits(f"{path}: x_{part}, y_{part}", fields[f"x_{part}"], fields[f"y_{part}"])


def _from_idx(folder: Path, part: str) -> Digits:
    images = _idx(_find(folder, f"{part}-images", "idx3-ubyte"), 3)
    labels = _idx(_find(folder, f"{part}-labels", "idx1-ubyte"), 1)
    return _digits(f"{folder}: {part}", images, labels)


def _find(folder: Path, stem: str, kind: str) -> Path:
    for name in (f"{stem}-{kind}", f"{stem}-{kind}.gz", f"{stem}.{kind}", f"{stem}.{kind}.gz"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: no {stem}-{kind} nor {stem}-{kind}.gz; all four IDX files of MNIST must lie there")


def _idx(path: Path, axes: int) -> np.ndarray:
    """An IDX file of bytes with so many axes. Raises InputError."""
    values = idx.read(path)
    if values.ndim != axes or values.dtype != np.uint8:
        raise InputError(f"{path}: header is not that of an IDX file of bytes with {axes} axes; is it the right file?")
    return values
