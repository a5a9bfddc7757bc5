"""Clouds from and to other libraries' objects: Open3D, laspy, trimesh and PyVista, each imported only when asked for.

Colours are the attributes `red`, `green`, `blue` and normals `nx`, `ny`, `nz`, as in PLY files; all else keeps its name.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from becalm.points.cloud import Cloud, ScanError, freeze_array

COLOURS, NORMALS = ("red", "green", "blue"), ("nx", "ny", "nz")


def as_cloud(points: Any, warn: Callable[[str], object] = warnings.warn) -> Cloud:
    """The cloud of a Cloud, an array [n, 3], a file's path, or an object of Open3D, laspy, trimesh or PyVista.

    `warn` is called with one line for each part of a file that is not read. Raises ScanError for anything else, and for a file
    that cannot be read.
    """
    from becalm.points.formats import read

    if isinstance(points, Cloud):
        return points
    if isinstance(points, str | PathLike):
        return read(points, warn)
    library = {kind.__module__.split(".")[0] for kind in type(points).__mro__}
    for name, convert in READERS.items():
        if name in library:
            return convert(points)
    try:
        xyz = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ScanError(f"points: a {type(points).__name__} is no array of numbers [n, 3], cloud or path") from error
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ScanError(f"points: have shape {list(xyz.shape)}; give an array [n, 3], a cloud or a path")
    return Cloud(points if isinstance(points, np.ndarray) else xyz)


def from_open3d(cloud: Any) -> Cloud:
    """The cloud of an open3d.geometry.PointCloud or, with all its attributes, of an open3d.t.geometry.PointCloud."""
    if hasattr(cloud, "point"):
        columns = {name: cloud.point[name].cpu().numpy() for name in cloud.point}
        xyz, colours, normals = columns.pop("positions"), columns.pop("colors", None), columns.pop("normals", None)
        columns = {name: v[:, 0] if v.ndim == 2 and v.shape[1] == 1 else v for name, v in columns.items()}
    else:
        xyz, columns = np.asarray(cloud.points), {}
        colours = np.asarray(cloud.colors) if cloud.has_colors() else None
        normals = np.asarray(cloud.normals) if cloud.has_normals() else None
    return Cloud(np.array(xyz, np.float64), _vectors(colours, normals) | columns)


def to_open3d(cloud: Cloud) -> Any:
    """An open3d.t.geometry.PointCloud with positions, colours in 0 to 1, normals and all attributes that are numbers."""
    import open3d as o3d  # type: ignore[import-not-found]

    result = o3d.t.geometry.PointCloud(o3d.core.Tensor(np.array(cloud.xyz)))  # type: ignore[call-overload]
    colours, normals, others = _split(cloud)
    columns = others | ({"normals": normals} if normals is not None else {})
    columns |= {"colors": _unit_range(colours)} if colours is not None else {}
    for name, values in columns.items():
        kinds = {
            "f2": "f4",
            "u2": "i4",
            "u4": "i8",
            "u8": "i8",
            "i2": "i4",
            "i1": "i4",
            "b1": "u1",
        }  # it knows few types
        values = values.astype(kinds.get(values.dtype.str[1:], values.dtype))
        result.point[name] = o3d.core.Tensor(np.array(values.reshape(len(cloud), -1)))  # type: ignore[call-overload]
    return result


def from_laspy(las: Any) -> Cloud:
    """The cloud of a laspy.LasData, with its header, so that it can be written to LAS or LAZ as if it had been read from one."""
    import laspy

    from becalm.points.formats.las import cloud_from_las

    header = deepcopy(las.header)
    record = laspy.ScaleAwarePointRecord(las.points.array.copy(), header.point_format, header.scales, header.offsets)
    copy = laspy.LasData(header, record)
    copy.update_header()
    return cloud_from_las(copy, None, copy.header.point_count)


def to_laspy(cloud: Cloud) -> Any:
    """A laspy.LasData with the header, scale and offset of a cloud from LAS or LAZ, else with those of version 1.4."""
    import laspy

    from becalm.points.formats.las import las_from_cloud

    missing = int((~np.isfinite(cloud.xyz).all(axis=1)).sum())
    if missing:
        raise ScanError(f"cloud: LAS cannot hold {missing:,} points without coordinates; select the finite ones")
    return las_from_cloud(laspy, cloud, Path("cloud"), warnings.warn)


def from_trimesh(cloud: Any) -> Cloud:
    """The cloud of a trimesh.PointCloud, or of the vertices of a trimesh.Trimesh; with colours where it has any."""
    visual = getattr(cloud, "visual", None)
    colours = getattr(cloud, "colors", None) if visual is None or hasattr(cloud, "colors") else None
    if colours is None and getattr(visual, "kind", None) == "vertex":
        colours = visual.vertex_colors  # type: ignore[union-attr]
    known = colours is not None and np.shape(colours)[:1] == (len(cloud.vertices),)
    return Cloud(np.array(cloud.vertices, np.float64), _vectors(np.asarray(colours)[:, :3] if known else None, None))


def to_trimesh(cloud: Cloud) -> Any:
    """A trimesh.PointCloud with colours where the cloud has any; other attributes are left out."""
    import trimesh  # type: ignore[import-not-found]

    colours = _split(cloud)[0]
    if colours is not None:
        colours = np.c_[np.rint(255 * _unit_range(colours)), np.full(len(cloud), 255)].astype(np.uint8)
    return trimesh.PointCloud(np.array(cloud.xyz), colors=colours)


def from_pyvista(dataset: Any) -> Cloud:
    """The cloud of the points of a PyVista dataset, with its point data; an array "RGB" or "RGBA" becomes the colours."""
    columns = {name: np.array(dataset.point_data[name]) for name in dataset.point_data}
    colours = next((columns.pop(name)[:, :3] for name in ("RGB", "RGBA") if name in columns), None)
    normals = columns.pop("Normals", None)
    return Cloud(np.array(dataset.points, np.float64), _vectors(colours, normals) | columns)


def to_pyvista(cloud: Cloud) -> Any:
    """A pyvista.PolyData whose point data are the attributes; colours are "RGB", normals "Normals"."""
    import pyvista  # type: ignore[import-not-found]

    result = pyvista.PolyData(np.array(cloud.xyz))
    colours, normals, others = _split(cloud)
    if colours is not None:
        result.point_data["RGB"] = colours
    if normals is not None:
        result.point_data["Normals"] = normals
    for name, values in others.items():
        result.point_data[name] = values
    return result


READERS = {"open3d": from_open3d, "laspy": from_laspy, "trimesh": from_trimesh, "pyvista": from_pyvista}
"""The converter for objects of each library, by its name."""


def _vectors(colours: np.ndarray | None, normals: np.ndarray | None) -> dict[str, np.ndarray]:
    """Attributes from colours [n, 3] (uint8 where they are multiples of 1/255) and normals [n, 3]."""
    columns: dict[str, np.ndarray] = {}
    if colours is not None:
        bytes_ = np.rint(255 * colours.astype(np.float64)) if colours.dtype.kind == "f" else colours
        if colours.dtype.kind == "f" and np.allclose(bytes_, 255 * colours, atol=1e-3):
            colours = bytes_.astype(np.uint8)
        columns |= {name: freeze_array(colours[:, i].copy()) for i, name in enumerate(COLOURS)}
    if normals is not None:
        columns |= {name: freeze_array(normals[:, i].copy()) for i, name in enumerate(NORMALS)}
    return columns


def _split(cloud: Cloud) -> tuple[np.ndarray | None, np.ndarray | None, dict[str, np.ndarray]]:
    """Colours [n, 3], normals [n, 3] (None where there are none) and the other attributes that are numbers."""
    groups = []
    others = {name: values for name, values in cloud.attributes.items() if values.dtype.kind in "biuf"}
    for names in (COLOURS, NORMALS):
        complete = all(name in others and others[name].ndim == 1 for name in names)
        groups.append(np.stack([others.pop(name) for name in names], axis=1) if complete else None)
    return groups[0], groups[1], others


def _unit_range(colours: np.ndarray) -> np.ndarray:
    """Colours [n, 3] as float32 from 0 to 1; those of an integer type over 255, or over 65 535 where one exceeds 255."""
    if colours.dtype.kind == "f":
        return colours.astype(np.float32)
    return (colours / (255 if colours.max(initial=0) <= 255 else 65_535)).astype(np.float32)
