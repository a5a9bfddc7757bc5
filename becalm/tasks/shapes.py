"""What the tasks on shapes share: models by name, batches within memory, and the result."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from becalm.core.device import device_of
from becalm.core.files import InputError
from becalm.core.typing import Int, Tensor
from becalm.tasks.html import png_bytes, summary_html
from becalm.tasks.progress import Progress
from becalm.tasks.shape_files import Frame, MeshFormat, write_shapes

BATCH_SHAPES, BATCH_POINTS = 16, 1_000_000
"""Shapes, and points, that are generated at a time, at most."""

ENCODED_POINTS = 2048
"""Points of a given shape that the encoder sees."""

TITLE_FACTS = ("label", "amount", "share", "steps", "seed")
"""Facts of shapes that the title of their picture names."""


@dataclass(frozen=True, eq=False, repr=False)
class Shapes:
    """New shapes, with what there is to say about them."""

    points: np.ndarray
    """[shape, n, 3] float64, y up; in the unit box, or in the units of the given shape (vary)."""
    facts: dict[str, object] = field(default_factory=dict)
    """The settings, and what was measured."""
    given: np.ndarray | None = None
    """bool [shape, n]: points that lie on the given part (complete)."""
    frame: Frame | None = None
    """Where the given shape lies (vary)."""

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        facts = "".join(f", {name} {value}" for name, value in self.facts.items())
        return f"Shapes({len(self.points)} of {self.points.shape[1]} points{facts})"

    def _repr_html_(self) -> str:
        rows = {"shapes": len(self.points), "points": self.points.shape[1], **self.facts}
        return summary_html("Shapes", rows, png_bytes(lambda path: self.draw(path, most=16)))

    def save(self, path: Path | str, mesh: MeshFormat = "none") -> None:
        """Write PLY files into a new folder, or one .npz with `points`; with `mesh` a surface of each. Raises InputError."""
        write_shapes(self.points, Path(path), mesh)

    def draw(self, path: Path | str, columns: int = 8, most: int | None = None) -> None:
        """Write a PNG of all shapes, or of the first `most`. Raises InputError, OSError."""
        from becalm.shapes import plot

        points = self.points if self.frame is None else (self.points - self.frame.centre) / self.frame.scale
        given = None if self.given is None else self.given[:most]
        named = {name: self.facts[name] for name in TITLE_FACTS if self.facts.get(name) is not None}
        title = ", ".join(
            [
                "1 shape" if len(self) == 1 else f"{len(self)} shapes",
                *(f"{name} {value}" for name, value in named.items()),
            ]
        )
        title += ", orange: the given part" if given is not None else ""
        plot.draw_clouds(points[:most].clip(-1.2, 1.2), Path(path), columns, given=given, title=title)


def load_on(model: str | Path | nn.Module, device: str, *wanted: type) -> Any:
    """A model by name or file, or one that is loaded already, on a device. Raises InputError: unknown, or none of `wanted`."""
    from becalm.weights.store import load, wrong_model

    loaded = load(model) if isinstance(model, str | Path) else model
    if wanted and not isinstance(loaded, wanted):
        raise wrong_model(model_name(model), loaded, wanted)
    return loaded.to(device_of(device))


def model_name(model: str | Path | nn.Module) -> str:
    """A model's name or file, or its type, as errors name it."""
    return str(model) if isinstance(model, str | Path) else type(model).__name__


def class_index(classes: Sequence[str], label: str | None) -> int:
    """The number of a class, from 1; 0 for none. Raises InputError for an unknown one, naming all."""
    if label is None:
        return 0
    if not classes:
        raise InputError(f"label: {label!r}, but the model has no classes; leave it out")
    if label not in classes:
        raise InputError(f"label: {label!r} is unknown; choose from {', '.join(classes)}")
    return 1 + classes.index(label)


def class_labels(model: Any, label: str | None, number: int) -> Int[Tensor, " batch"]:
    """The class of each of `number` shapes, on the model's device. Raises InputError."""
    return torch.full((number,), class_index(model.classes, label), device=next(model.parameters()).device)


def in_batches(make: Callable[[range], Tensor], number: int, points: int) -> Iterator[Progress]:
    """Make shapes batch by batch, `make(rows)` those of some rows; the last report's result is all of them [number, points,
    3]."""
    made, size = [], max(1, min(BATCH_SHAPES, BATCH_POINTS // points))
    for start in range(0, number, size):
        made.append(make(range(start, min(start + size, number))).cpu())
        yield Progress(min(start + size, number) / number, made[-1])
    yield Progress(1.0, made[-1], torch.cat(made).double().numpy())
