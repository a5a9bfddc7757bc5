"""Triangle meshes from files (OBJ, OFF, PLY, STL, npz) and into them (OBJ, PLY, STL); polygons are cut into fans."""

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from becalm.core.files import InputError, atomic_file
from becalm.points import mesh as archive
from becalm.points.formats import lines, mesh_scenes, ply, ply_lists, scan_files
from becalm.points.mesh import Mesh, normals_and_areas

BYTES_OF_A_TRIANGLE = 4
"""The least that a triangle takes in a binary PLY file: its number of corners, and three numbers of one byte."""


def read(path: Path) -> Mesh:
    """The mesh in a file, by its suffix. Raises InputError: unknown suffix, no faces, NaN, indices out of range, damage."""
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path}: suffix {path.suffix!r} is no mesh that is read; known are {' '.join(READERS)}")
    try:
        return READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except (ValueError, LookupError, ArithmeticError, TypeError, struct.error, OSError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: is no mesh of finite vertices and triangles ({reason}); repair or leave it out"
        ) from error


def triangulate_fans(polygons: Iterable[list[int]]) -> np.ndarray:
    """Triangles [f, 3] of polygons, each cut from its first corner."""
    faces = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    return np.array(faces, np.int64).reshape(-1, 3)


def _first_three(rows: list[list[bytes]]) -> np.ndarray:
    """The first three of the words of each row, [n, 3] float64."""
    return np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)


def _read_obj(path: Path) -> Mesh:
    words = [line.split() for line in scan_files.read_bytes(path).replace(b"\\\n", b" ").splitlines()]
    vertices = _first_three([w[1:4] for w in words if w[:1] == [b"v"]])
    polygons, seen = [], 0
    for w in words:  # negative indices count back from the vertices read so far
        if w[:1] == [b"v"]:
            seen += 1
        elif w[:1] == [b"f"]:
            corner = [int(c.split(b"/")[0]) for c in w[1:]]
            if 0 in corner:
                raise ValueError("a face names the vertex 0; vertices are counted from 1")
            polygons.append([c - 1 if c > 0 else seen + c for c in corner])
    return Mesh(vertices, triangulate_fans(polygons))


def _read_off(path: Path) -> Mesh:
    text = [line.split(b"#")[0].split() for line in scan_files.read_bytes(path).splitlines()]
    rows = [w for w in text if w]
    if not rows or not rows[0][0].upper().startswith(b"OFF"):
        raise ValueError("does not begin with OFF")
    first = [w for w in [rows[0][0][3:], *rows[0][1:]] if w]  # some files have the counts on the first line
    counts, body = (first, rows[1:]) if first else (rows[1], rows[2:])
    vertices, faces = int(counts[0]), int(counts[1])
    if len(body) < vertices + faces:
        raise ValueError(f"promises {vertices} vertices and {faces} faces, has {len(body)} lines (truncated?)")
    polygons = ([int(c) for c in w[1 : 1 + int(w[0])]] for w in body[vertices : vertices + faces])
    return Mesh(_first_three(body[:vertices]), triangulate_fans(polygons))


def _read_ply(path: Path) -> Mesh:
    data = scan_files.read_bytes(path)
    header = ply.parse_header(data, path)
    face = next((e for e in header.elements if e.name == "face"), None)
    if face is None or not face.count:
        raise InputError(f"{path}: holds no faces; name a mesh, or read it as points")
    triangles = header.format != "ascii" and len(data) >= face.count * BYTES_OF_A_TRIANGLE
    if face.count > ply_lists.MAX_LISTED and not triangles:
        raise ValueError(f"{face.count:,} polygons of different lengths; at most {ply_lists.MAX_LISTED:,} are read")
    vertices = np.asarray(ply.read(path, lambda _: None).xyz, np.float64)
    corners = _ascii_faces(data, header) if header.format == "ascii" else _binary_faces(data, header, face, path)
    return Mesh(vertices, corners)


def _ascii_faces(data: bytes, header: ply.Header) -> np.ndarray:
    found, start = lines.find_lines(data, len(header.text)), 0
    for element in header.elements:
        if element.name == "face":
            break
        start += element.count
    at, polygons = _corner_property(element), []
    for begin, end in found[start : start + element.count].tolist():
        words, index = data[begin:end].split(), 0
        for _, _, length in element.properties[:at]:
            index += 1 if length is None else 1 + int(words[index])
        polygons.append([int(c) for c in words[index + 1 : index + 1 + int(words[index])]])
    return triangulate_fans(polygons)


def _corner_property(element: ply.Element) -> int:
    """Which property of a face lists its corners."""
    names = [name for name, _, length in element.properties if length is not None]
    corner = next((n for n in ("vertex_indices", "vertex_index") if n in names), None)
    if corner is None:
        raise ValueError("faces list no vertex_indices")
    return [name for name, _, _ in element.properties].index(corner)


def _binary_faces(data: bytes, header: ply.Header, face: ply.Element, path: Path) -> np.ndarray:
    start, order = len(header.text), ">" if header.format == "binary_big_endian" else "<"
    for element in header.elements[: header.elements.index(face)]:
        if element.has_lists:
            start = ply_lists.read_scalar_properties(data, start, element.count, element.properties, path)[1]
        else:
            start += element.count * element.min_row_bytes
    at = _corner_property(face)
    if sum(length is not None for _, _, length in face.properties) == 1:
        fields = []
        for i, (_, kind, length) in enumerate(face.properties):
            fields += [(f"p{i}", kind)] if length is None else [("count", length), ("corners", kind, (3,))]
        rows = np.frombuffer(data[start : start + face.count * np.dtype(fields).itemsize], np.dtype(fields))
        if len(rows) == face.count and (rows["count"] == 3).all():
            return rows["corners"].astype(np.int64)
    polygons = []
    for _ in range(face.count):  # the lengths of lists stand between them
        for i, (_, kind, length) in enumerate(face.properties):
            items = 1
            if length is not None:
                (items,) = struct.unpack_from(order + length.char, data, start)
                start += length.itemsize
            if i == at:
                polygons.append(list(struct.unpack_from(f"{order}{items}{kind.char}", data, start)))
            start += int(items) * kind.itemsize
    return triangulate_fans(polygons)


def _read_stl(path: Path) -> Mesh:
    data = scan_files.read_bytes(path)
    count = struct.unpack_from("<I", data, 80)[0] if len(data) >= 84 else 0
    if count and len(data) == 84 + 50 * count:
        rows = np.frombuffer(data[84:], np.dtype([("numbers", "<f4", (4, 3)), ("rest", "<u2")]))
        corners = rows["numbers"][:, 1:].reshape(-1, 3)
    else:
        words = [line.split() for line in data.splitlines()]
        corners = _first_three([w[1:4] for w in words if w[:1] == [b"vertex"]])
    vertices, faces = np.unique(corners, axis=0, return_inverse=True)
    return Mesh(vertices, faces.reshape(-1, 3))


def _read_glb(path: Path) -> Mesh:
    cloud = mesh_scenes.read(path, lambda _: None)
    assert cloud.source is not None
    return Mesh(np.array(cloud.xyz), cloud.source.header.triangles())


READERS: dict[str, Callable[[Path], Mesh]] = {
    ".obj": _read_obj,
    ".off": _read_off,
    ".ply": _read_ply,
    ".stl": _read_stl,
    ".glb": _read_glb,
    ".npz": archive.load,
}


def write(mesh: Mesh, path: Path) -> None:
    """Write a mesh as OBJ, or as binary PLY or STL, by the suffix; whole or not at all. Raises InputError, OSError."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"{path}: suffix {path.suffix!r} is no mesh that is written; known are {' '.join(WRITERS)}")
    data = WRITERS[path.suffix.lower()](mesh)
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def _encode_obj(mesh: Mesh) -> bytes:
    vertices = "\n".join("v {:.7g} {:.7g} {:.7g}".format(*v) for v in mesh.vertices.tolist())
    faces = "\n".join("f {} {} {}".format(*f) for f in (mesh.faces + 1).tolist())
    return f"{vertices}\n{faces}\n".encode()


def _encode_ply(mesh: Mesh) -> bytes:
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    head += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header", ""]
    rows = np.zeros(len(mesh.faces), np.dtype([("count", "u1"), ("corners", "<i4", (3,))]))
    rows["count"], rows["corners"] = 3, mesh.faces
    return "\n".join(head).encode() + mesh.vertices.astype("<f4").tobytes() + rows.tobytes()


def _encode_stl(mesh: Mesh) -> bytes:
    rows = np.zeros(len(mesh.faces), np.dtype([("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("rest", "<u2")]))
    rows["normal"], rows["corners"] = normals_and_areas(mesh)[0], mesh.vertices[mesh.faces]
    return b"becalm".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes()


WRITERS: dict[str, Callable[[Mesh], bytes]] = {".obj": _encode_obj, ".ply": _encode_ply, ".stl": _encode_stl}
