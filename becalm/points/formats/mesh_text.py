"""Meshes in text, OBJ and OFF: their vertices are the points; faces, materials and every unchanged number stay as they are."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import lines, scan_files
from becalm.points.formats.packed import AXES


@dataclass(frozen=True)
class Layout:
    """The text of a mesh, and where its vertices are."""

    body: bytes
    spans: np.ndarray
    """int64 [n, 2]: start and end of the line of each vertex."""
    values: np.ndarray
    """Structured [n]: the numbers of these lines; x, y and z among them."""


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The vertices of an OBJ or OFF file, in its order. Raises ScanError."""
    body = scan_files.read_bytes(path)
    spans = _off_vertices(body, path) if path.suffix.lower() == ".off" else _obj_vertices(body)
    if len(spans) == 0:
        raise scan_files.wrong_kind(path, f"is no {path.suffix[1:].upper()} mesh: it holds no vertices")
    columns = len(body[int(spans[0, 0]) : int(spans[0, 1])].split())
    first = () if path.suffix.lower() == ".off" else (("v", "U1"),)
    more = tuple((f"column {i}", "f8") for i in range(columns - len(first) - 3))
    kinds = np.dtype([*first, *((axis, "f8") for axis in AXES), *more])
    if columns < len(first) + 3:
        raise ScanError(f"{path}: a vertex has {columns - len(first)} numbers, it needs x, y and z (2-D points?)")
    values = lines.parse_rows(body, spans, kinds, None, path)
    xyz = np.stack([values[axis] for axis in AXES], axis=1)
    return Cloud(xyz, source=Source("mesh text", path, Layout(body, spans, values), np.arange(len(xyz))))


def _obj_vertices(body: bytes) -> np.ndarray:
    """int64 [n, 2]: start and end of the lines `v x y z …`."""
    spans, letters = lines.find_lines(body, 0), np.frombuffer(body, np.uint8)
    second = letters[np.minimum(spans[:, 0] + 1, len(letters) - 1)]
    return spans[(letters[spans[:, 0]] == ord("v")) & (second <= ord(" "))]


def _off_vertices(body: bytes, path: Path) -> np.ndarray:
    """int64 [n, 2]: start and end of the lines of vertices, after a line `OFF` and one of counts. Raises ScanError."""
    spans = lines.find_lines(body, 0, (b"#",))
    head = b"\n".join(body[a:b] for a, b in spans[:2].tolist())
    match = re.match(rb"(?:ST)?C?N?OFF\s+(\d{1,18})\s+(\d{1,18})\b", head)
    if match is None:
        raise scan_files.wrong_kind(path, "does not begin with OFF and the number of vertices and faces in text")
    first, count, faces = 1 + (b"\n" in match[0]), int(match[1]), int(match[2])
    if count + faces > len(spans) - first:
        found = f"{len(spans) - first:,} lines"
        raise ScanError(f"{path}: promises {count:,} vertices and {faces:,} faces, the file holds {found} (truncated?)")
    return spans[first : first + count]


def mesh_vertices(cloud: Cloud, kind: str, target: Path, warn: Callable[[str], object]) -> np.ndarray:
    """[n] which vertex of the mesh that it was read from each point of the cloud is.

    Raises ScanError where the cloud is from no mesh of this kind and suffix.
    """
    source, suffix = cloud.source, target.suffix.lower()
    if source is None or source.format != kind or source.path is None or source.path.suffix.lower() != suffix:
        raise ScanError(
            f"{target}: is written from a mesh in {suffix} alone, whose faces it needs; write points as .ply"
        )
    if cloud.attributes:
        warn(f"{target}: {suffix[1:].upper()} cannot hold {', '.join(cloud.attributes)}; left out")
    return source.rows


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The mesh that the cloud was read from, with the cloud's points as its vertices.

    Vertices that were removed stay where they were, since faces name them. Raises ScanError for a cloud of another origin.
    """
    rows, moved = mesh_vertices(cloud, "mesh text", target, warn), cloud.xyz
    layout: Layout = cloud.source.header  # type: ignore[union-attr]
    new = layout.values.copy()
    for axis, values in zip(AXES, moved.T, strict=True):
        new[axis][rows] = values
    if re.search(rb"(?m)^vn ", layout.body) and not np.array_equal(new, layout.values):
        warn(f"{target}: normals (vn) are kept as they were; recompute them where they matter")
    with open(temporary, "wb") as file:
        file.write(layout.body[: int(layout.spans[0, 0])])
        text = lines.TableText(layout.body, layout.body, step=cloud.source.step)  # type: ignore[union-attr]
        for block in lines.rewrite_lines(text, layout.spans, layout.values, new, True):
            file.write(block)
        file.write(layout.body[int(layout.spans[-1, 1]) :])
