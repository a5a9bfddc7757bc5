"""The scans of an E57 file as it describes them, and their points as they are read, in blocks."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core import limits
from becalm.core.files import InputError
from becalm.points.cloud import ScanError
from becalm.points.formats import e57_nodes, scan_files
from becalm.points.formats.e57_xml import check_xml

CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
RENAMED = {"colorRed": "red", "colorGreen": "green", "colorBlue": "blue"}
_ROW = np.dtype([("scan", np.int32), ("local", np.float64, (3,)), ("global", np.float64, (3,))])
"""Of each point: the index of its scan, its coordinates in the scan's frame, and the global ones that `read` returned."""


@dataclass(frozen=True)
class E57Scan:
    """One scan of a file: its pose, its fields and its description."""

    rotation: np.ndarray
    """[3, 3]"""
    translation: np.ndarray
    """[3]"""
    fields: dict[str, e57_nodes.Field]
    """The file's fields, in order."""
    count: int
    tree: e57_nodes.NodeTree
    """The scan's node without its points."""


@dataclass(frozen=True)
class Header:
    """The scans, the file's description and its XML namespaces."""

    scans: tuple[E57Scan, ...]
    tree: e57_nodes.NodeTree
    spaces: tuple[tuple[str, str], ...] = ()


@contextmanager
def open_image(path: Path) -> Iterator[tuple[Any, Any]]:
    """Context of libE57 and its image of a file. Raises ScanError for whatever is wrong with the file."""
    libe57 = load_libe57(path)
    _check_file_header(path)
    try:
        image = libe57.ImageFile(str(path), "r")
        try:
            yield libe57, image
        finally:
            image.close()
    except (ScanError, InputError):
        raise
    except Exception as error:  # libE57's own exception derives from nothing more precise
        reason = " ".join(str(error).split())[:160]
        raise ScanError(f"{path}: is no whole E57 file ({reason})") from None


def load_libe57(path: Path) -> Any:
    try:
        from pye57 import libe57  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise ScanError(f"{path}: E57 needs `pip install becalm[scan]` ({error})") from None
    return libe57


def _check_file_header(path: Path) -> None:
    size = scan_files.file_size(path)
    with open(path, "rb") as file:
        head = file.read(48)
    if head[:8] != b"ASTM-E57" or len(head) < 48:
        raise scan_files.wrong_kind(path, "has no E57 header ('ASTM-E57' and 48 bytes)")
    length, start, xml, page = struct.unpack_from("<QQQQ", head, 16)
    if length != size or start + xml > size or page != 1024 or xml > max(16 << 20, size // 2):
        raise ScanError(f"{path}: header promises {length:,} bytes, the file holds {size:,} (truncated?)")
    check_xml(path, start, xml)


def read_header(libe57: Any, image: Any, path: Path, warn: Callable[[str], object]) -> Header:
    """The description of a file and of its scans; `warn` is called with a line for what is not read. Raises ScanError."""
    root, size, promised, scans = image.root(), path.stat().st_size, 0, []
    for index in range(len(root["data3D"])):
        node = root["data3D"][index]
        scan = _scan(libe57, node)
        if node.isDefined("pointGroupingSchemes"):
            warn(f"{path}: the groupings of points of scan {index} are not read, and not written again")
        promised += scan.count * sum(field.kind.itemsize for field in scan.fields.values())
        limits.check_unpacked(path, size, promised)
        limits.check_points(path, scan.count)
        scans.append(scan)
    if not scans:
        raise ScanError(f"{path}: holds no scan")
    if len(root["images2D"]) if root.isDefined("images2D") else 0:
        warn(f"{path}: pictures (images2D) are not read, and not written again")
    spaces = tuple((image.extensionsPrefix(i), image.extensionsUri(i)) for i in range(image.extensionsCount()))
    return Header(tuple(scans), e57_nodes.read_tree(libe57, root, ("data3D", "images2D")), spaces)


def iter_scan(
    libe57: Any, image: Any, path: Path, header: Header, index: int, block: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The points of one scan in blocks of so many: their rows and their attributes by name. Raises ScanError."""
    scan = header.scans[index]
    for values in e57_nodes.iter_columns(
        libe57, image, image.root()["data3D"][index]["points"], scan.fields, scan.count, block
    ):
        named = {attribute_name(name): column for name, column in values.items() if name not in CARTESIAN + SPHERICAL}
        yield _point_rows(values, scan, index, path), named


def attribute_name(name: str) -> str:
    return RENAMED.get(name, name.removeprefix(f"{e57_nodes.PREFIX}:"))


def _scan(libe57: Any, node: Any) -> E57Scan:
    tree = e57_nodes.read_tree(libe57, node, ("points", "pointGroupingSchemes"))
    pose = {
        key: dict(part.children)
        for key, part in dict(dict(tree.children).get("pose", tree).children).items()
        if key in ("rotation", "translation")
    }
    turn = [float(pose.get("rotation", {}).get(key, IDENTITY_ROTATION[key]).value) for key in "wxyz"]
    shift = [float(pose.get("translation", {}).get(key, IDENTITY_ROTATION["x"]).value) for key in "xyz"]
    fields = e57_nodes.point_fields(libe57, node["points"])
    return E57Scan(_rotation(*turn), np.array(shift), fields, node["points"].childCount(), tree)


IDENTITY_ROTATION = {key: e57_nodes.NodeTree("float", float(key == "w")) for key in "wxyz"}


def _rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    """The rotation matrix [3, 3] of a quaternion, which is normalised first; the identity where it is zero or not finite."""
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    if not np.isfinite(norm) or norm == 0:
        return np.eye(3)
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _point_rows(values: dict[str, np.ndarray], scan: E57Scan, index: int, path: Path) -> np.ndarray:
    if all(name in values for name in CARTESIAN):
        local = np.stack([values[name] for name in CARTESIAN], axis=1).astype(np.float64)
    elif all(name in values for name in SPHERICAL):
        reach, azimuth, elevation = (values[name].astype(np.float64) for name in SPHERICAL)
        flat = reach * np.cos(elevation)
        local = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), reach * np.sin(elevation)], axis=1)
    else:
        raise ScanError(f"{path}: scan {index} has neither cartesianX, Y, Z nor spherical coordinates")
    rows = np.zeros(len(local), _ROW)
    rows["scan"], rows["local"] = index, local
    rows["global"] = local @ scan.rotation.T + scan.translation
    for name in ("cartesianInvalidState", "sphericalInvalidState"):
        if name in values:
            rows["global"][values[name] != 0] = np.nan
    return rows
