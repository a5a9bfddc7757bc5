"""Meshes through trimesh, STL and GLB: their vertices are the points, corners at one place are one vertex, triangles are kept."""

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core import limits
from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import mesh_text, packed, scan_files


@dataclass(frozen=True)
class Layout:
    """A scene and where its geometries lie in it."""

    scene: Any
    """The trimesh.Scene that was read."""
    poses: dict[str, np.ndarray]
    """Matrix [4, 4] of each geometry, by name: that of the first node that shows it."""
    corners: np.ndarray
    """[m] the vertex of each corner, geometry after geometry."""
    xyz: np.ndarray
    """[n, 3] the vertices as they were read."""

    def triangles(self) -> np.ndarray:
        """[f, 3] the vertices of every triangle."""
        parts, start = [], 0
        for name in self.poses:
            geometry = self.scene.geometry[name]
            parts.append(self.corners[start + np.asarray(geometry.faces)])
            start += len(geometry.vertices)
        return np.concatenate(parts)


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The vertices of all triangles in an STL or GLB file, in the scene's coordinates, each once. Raises ScanError."""
    data = scan_files.read_bytes(path)
    try:
        import trimesh
    except ImportError:
        raise ScanError(f"{path}: needs trimesh; pip install 'becalm[mesh]'") from None
    if path.suffix.lower() == ".glb":
        _check_glb(data, path)
    try:  # from bytes, so that it follows no name of another file
        scene = trimesh.load_scene(io.BytesIO(data), file_type=path.suffix[1:].lower(), process=False)
    except Exception as error:  # trimesh lets the errors of its many parsers through
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise scan_files.wrong_kind(path, f"is no whole {path.suffix[1:].upper()} mesh ({reason})") from None
    nodes = [scene.graph[node] for node in scene.graph.nodes_geometry]
    poses = {str(name): np.asarray(pose) for pose, name in reversed(nodes) if hasattr(scene.geometry[name], "faces")}
    parts = [transform(scene.geometry[name].vertices, pose) for name, pose in poses.items()]
    if not sum(len(part) for part in parts):
        raise scan_files.wrong_kind(path, f"is no {path.suffix[1:].upper()} mesh: it holds no triangles")
    joined = np.concatenate(parts)
    _, first, corners = np.unique(joined, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # vertices in the order in which the file has them
    corners = np.argsort(order)[corners.reshape(-1)]
    xyz = joined[first[order]]
    return Cloud(xyz, source=Source("mesh scene", path, Layout(scene, poses, corners, xyz), np.arange(len(xyz))))


def _check_glb(data: bytes, path: Path) -> None:
    """Raise ScanError where a GLB promises more numbers than it holds: its accessors without a buffer count as zeros."""
    if not data.startswith(b"glTF"):
        raise scan_files.wrong_kind(path, "does not begin with glTF")
    try:
        (length,) = struct.unpack_from("<I", data, 12)
        accessors = json.loads(data[20 : 20 + length]).get("accessors", [])
        promised = sum(int(accessor["count"]) for accessor in accessors)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ScanError(f"{path}: its description is no JSON of glTF ({type(error).__name__}; damaged?)") from None
    limits.check_unpacked(path, len(data), 16 * promised)


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The scene that the cloud was read from, with the cloud's points as its vertices, in float32 as the formats have it.

    Vertices that were removed stay where they were. Raises ScanError for a cloud of another origin, and where float32 is too
    coarse.
    """
    rows, moved = mesh_text.mesh_vertices(cloud, "mesh scene", target, warn), cloud.xyz
    if not all(packed.is_accurate_enough(values, cloud.xyz, np.dtype(np.float32)) for values in cloud.xyz.T):
        raise ScanError(f"{target}: float32 is too coarse for coordinates this large; write OBJ or OFF")
    layout: Layout = cloud.source.header  # type: ignore[union-attr]
    new = layout.xyz.copy()
    new[rows] = moved
    scene, start = layout.scene.copy(), 0
    for name, pose in layout.poses.items():
        geometry = scene.geometry[name]
        stop = start + len(geometry.vertices)
        geometry.vertices = transform(new[layout.corners[start:stop]], np.linalg.inv(pose))
        start = stop
    temporary.write_bytes(scene.export(file_type=target.suffix[1:].lower()))


def transform(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points [n, 3] moved by a matrix [4, 4]; exactly themselves where it is the identity."""
    points = np.asarray(points, np.float64)
    return points if np.array_equal(pose, np.eye(4)) else points @ pose[:3, :3].T + pose[:3, 3]
