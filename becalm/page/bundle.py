"""What the page draws: the positions of a scan after each pass and its attributes, as one safetensors file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from becalm.core.files import atomic_file
from becalm.points.cloud import Cloud

MOST_DRAWN = 2_000_000
"""Points that are drawn at most; of a larger scan an even random part is."""

MOST_POSITIONS = 8_000_000
"""Points times states at most: of larger scans fewer states are kept, the first and the last always."""

VERSION = 1
"""Version of the file layout."""

NUMBERS = {
    "intensity": ("intensity", "reflectance", "Intensity", "scalar_Intensity", "scalar_intensity"),
    "class": ("classification", "label", "class", "scalar_Classification"),
    "layer": (
        "layer",
        "Layer",
        "scalar_Layer",
        "point_source_id",
        "Original_cloud_index",
        "scalar_Original_cloud_index",
    ),
}
"""What the page calls a column -> names it has in files."""

COLOURS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("Red", "Green", "Blue"),
)
"""Names of the three columns of a point's own colour."""


def rows_to_draw(mask: np.ndarray, most: int = MOST_DRAWN) -> np.ndarray:
    """Indices of the points that are drawn, at most `most` of those in a mask [n], in a random order that is always the same.

    Any first part of them is an even sample of the scan.
    """
    rows = np.flatnonzero(mask)
    return np.random.default_rng(0).permutation(rows)[:most]


def bundle_arrays(
    cloud: Cloud, states: Sequence[np.ndarray], attributes: Mapping[str, np.ndarray], most: int = MOST_DRAWN
) -> dict:
    """The arrays of a bundle: `xyz` float32 [state, k, 3] about the origin, and a row of each column for the k drawn points.

    `states` are positions [n, 3] of the whole cloud, the original first; `attributes` columns [n] to be added to the cloud's own;
    at most `most` points are drawn.
    """
    rows = rows_to_draw(cloud.measured, most)
    kept = kept_states(len(states), len(rows))
    xyz = np.stack([(states[number][rows] - cloud.origin).astype(np.float32) for number in kept])
    arrays = {"xyz": xyz, "state": np.array(kept, np.int32)}
    for name, names in NUMBERS.items():
        column = next((cloud.attributes[known] for known in names if known in cloud.attributes), None)
        if column is not None and column.ndim == 1 and column.dtype.kind in "biuf":
            arrays[name] = column[rows].astype(np.float32)
    if (colour := point_colours(cloud, rows)) is not None:
        arrays["colour"] = colour
    return arrays | {name: np.asarray(column)[rows].astype(np.float32) for name, column in attributes.items()}


def kept_states(count: int, points: int) -> list[int]:
    """Numbers of the states that are kept of `count`: all where they are few or small, always the first and the last."""
    most = max(2, MOST_POSITIONS // max(points, 1))
    return sorted({round(x) for x in np.linspace(0, count - 1, min(count, most))})


def point_colours(cloud: Cloud, rows: np.ndarray) -> np.ndarray | None:
    """uint8 [k, 3]: the points' own colours, None where there are none; 16 bits and fractions of 1 become 8 bits."""
    attributes = cloud.attributes
    columns = next((names for names in COLOURS if all(name in attributes for name in names)), None)
    if columns is not None:
        values = np.stack([attributes[name][rows] for name in columns], axis=-1)
    elif attributes.get("rgb", np.empty(0)).shape[1:] == (3,):
        values = attributes["rgb"][rows]
    else:
        return None
    if values.ndim != 2:
        return None
    top = float(np.nanmax(values, initial=0))
    scale = 255.0 if values.dtype.kind == "f" and top <= 1 else 1.0 if top <= 255 else 255 / 65535
    return np.clip(np.nan_to_num(values) * scale, 0, 255).astype(np.uint8)


def write_bundle(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping) -> None:
    """Write a bundle atomically; `facts` are any JSON."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(encode_bundle(arrays, facts))


def encode_bundle(arrays: Mapping[str, np.ndarray], facts: Mapping) -> bytes:
    """The bytes of a bundle."""
    from safetensors.numpy import save

    text = json.dumps({**facts, "version": VERSION}, allow_nan=False)
    return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, {"becalm.page": text})
