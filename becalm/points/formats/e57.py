"""E57 (ASTM E2807): several scans with a pose each; clouds have global coordinates, files each scanner's local ones.

A global point is R p + t, with R and t the scan's pose. pye57's own writer would round to float32 and drop fields, so
the scans are read and written through the libE57 that it wraps.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm.core import limits
from becalm.points.cloud import Cloud, ScanError, Source, frozen
from becalm.points.formats import attributes, e57_nodes, packed, scan_files
from becalm.points.formats.e57_xml import check_xml

_CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
_SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
_RENAMED = {"colorRed": "red", "colorGreen": "green", "colorBlue": "blue"}
_KINDS = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")}
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


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of all scans of an E57 file, one scan after the other, poses applied. Raises ScanError."""
    libe57 = _libe57(path)
    _check_file_header(path)
    try:
        image = libe57.ImageFile(str(path), "r")
        try:
            return _read(libe57, image, path, warn)
        finally:
            image.close()
    except ScanError:
        raise
    except Exception as error:  # libE57's own exception derives from nothing more precise
        reason = " ".join(str(error).split())[:160]
    raise ScanError(f"{path}: is no whole E57 file ({reason})")


def _libe57(path: Path) -> Any:
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


def _read(libe57: Any, image: Any, path: Path, warn: Callable[[str], object]) -> Cloud:
    root, size, promised = image.root(), path.stat().st_size, 0
    scans, rows, columns = [], [], []
    for index in range(len(root["data3D"])):
        node = root["data3D"][index]
        scan = _scan(libe57, node)
        if node.isDefined("pointGroupingSchemes"):
            warn(f"{path}: the groupings of points of scan {index} are not read, and not written again")
        unpacked = scan.count * sum(field.kind.itemsize for field in scan.fields.values())
        promised += unpacked
        limits.check_unpacked(path, size, promised)
        limits.check_points(path, scan.count)
        values = e57_nodes.read_columns(libe57, image, node["points"], scan.fields, scan.count)
        rows.append(_point_rows(values, scan, len(scans), path))
        columns.append(
            {_attribute_name(name): column for name, column in values.items() if name not in _CARTESIAN + _SPHERICAL}
        )
        scans.append(scan)
    if not scans:
        raise ScanError(f"{path}: holds no scan")
    if len(root["images2D"]) if root.isDefined("images2D") else 0:
        warn(f"{path}: pictures (images2D) are not read, and not written again")
    spaces = tuple((image.extensionsPrefix(i), image.extensionsUri(i)) for i in range(image.extensionsCount()))
    tree = e57_nodes.read_tree(libe57, root, ("data3D", "images2D"))
    joined = np.concatenate(rows)
    header = Header(tuple(scans), tree, spaces)
    named = _merge_columns(columns, [len(part) for part in rows])
    return Cloud(frozen(joined)["global"], named, source=Source("e57", path, header, joined))


def _attribute_name(name: str) -> str:
    return _RENAMED.get(name, name.removeprefix(f"{e57_nodes.PREFIX}:"))


def _scan(libe57: Any, node: Any) -> E57Scan:
    tree = e57_nodes.read_tree(libe57, node, ("points", "pointGroupingSchemes"))
    pose = {
        key: dict(part.children)
        for key, part in dict(dict(tree.children).get("pose", tree).children).items()
        if key in ("rotation", "translation")
    }
    turn = [float(pose.get("rotation", {}).get(key, _IDENTITY_ROTATION[key]).value) for key in "wxyz"]
    shift = [float(pose.get("translation", {}).get(key, _IDENTITY_ROTATION["x"]).value) for key in "xyz"]
    fields = e57_nodes.point_fields(libe57, node["points"])
    return E57Scan(_rotation(*turn), np.array(shift), fields, node["points"].childCount(), tree)


_IDENTITY_ROTATION = {key: e57_nodes.NodeTree("float", float(key == "w")) for key in "wxyz"}


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
    if all(name in values for name in _CARTESIAN):
        local = np.stack([values[name] for name in _CARTESIAN], axis=1).astype(np.float64)
    elif all(name in values for name in _SPHERICAL):
        reach, azimuth, elevation = (values[name].astype(np.float64) for name in _SPHERICAL)
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


def _merge_columns(columns: list[dict[str, np.ndarray]], counts: list[int]) -> dict[str, np.ndarray]:
    """The fields of all scans by name, concatenated; NaN or 0 where a scan lacks a field."""
    out = {}
    for name in dict.fromkeys(name for part in columns for name in part):
        kind = np.result_type(*[part[name].dtype for part in columns if name in part])
        blank = np.nan if kind.kind == "f" else 0
        parts = [part.get(name, np.full(count, blank, kind)) for part, count in zip(columns, counts, strict=True)]
        out[name] = frozen(np.concatenate(parts).astype(kind, copy=False))
    return out


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as E57: an E57 source's scans with their poses, fields and descriptions; else one scan."""
    libe57 = _libe57(target)
    source = cloud.source if cloud.source is not None and cloud.source.format == "e57" else None
    header = source.header if source else _header(cloud)
    cloud = attributes.convert_attributes(cloud, _KINDS, warn, str(target))
    image = libe57.ImageFile(str(temporary), "w")
    try:
        _write(libe57, image, cloud, header, source)
        image.close()
        return
    except (OSError, ScanError):
        image.cancel()
        raise
    except Exception as error:
        image.cancel()  # an image that is neither closed nor cancelled takes the interpreter down later
        reason = " ".join(str(error).split())[:160]
    raise ScanError(f"{target}: cannot be written as E57 ({reason})")


def _write(libe57: Any, image: Any, cloud: Cloud, header: Header, source: Source | None) -> None:
    e57_nodes.declare_namespaces(libe57, image, header.spaces)
    root = image.root()
    e57_nodes.set_children(libe57, image, root, header.tree)
    scans = libe57.VectorNode(image, True)
    root.set("data3D", scans)
    root.set("images2D", libe57.VectorNode(image, True))
    for index, scan in enumerate(header.scans):
        which = source.rows["scan"] == index if source else np.ones(len(cloud), bool)
        rows = source.rows[which] if source else None
        _write_scan(libe57, image, scans, scan, replace(cloud.select(which), source=None), rows)


def _header(cloud: Cloud) -> Header:
    """One scan whose pose is a shift to the cloud's origin."""
    shift = tuple(zip("xyz", [e57_nodes.NodeTree("float", float(value)) for value in cloud.origin], strict=True))
    pose = e57_nodes.NodeTree(
        "structure",
        children=(
            ("rotation", e57_nodes.NodeTree("structure", children=tuple(_IDENTITY_ROTATION.items()))),
            ("translation", e57_nodes.NodeTree("structure", children=shift)),
        ),
    )
    tree = e57_nodes.NodeTree("structure", children=(*e57_nodes.new_identity().children, ("pose", pose)))
    return Header((E57Scan(np.eye(3), cloud.origin, {}, len(cloud), tree),), e57_nodes.file_tree())


def _write_scan(libe57: Any, image: Any, scans: Any, scan: E57Scan, cloud: Cloud, rows: np.ndarray | None) -> None:
    local = _local_coordinates(cloud, scan, rows)
    missing = ~np.all(np.isfinite(local), axis=1)
    columns = _coordinate_columns(local, missing, scan) | _named_columns(cloud, scan, rows is not None)
    for kind in ("cartesian", "spherical"):
        if (
            missing.any()
            and f"{kind}InvalidState" not in columns
            and f"{kind}{'X' if kind[0] == 'c' else 'Range'}" in columns
        ):
            columns[f"{kind}InvalidState"] = missing.astype(np.uint8) * 2
    node = libe57.StructureNode(image)
    e57_nodes.set_children(
        libe57, image, node, e57_nodes.with_bounds(scan.tree, local[~missing], scan.count == len(local))
    )
    scans.append(node)
    e57_nodes.write_points(libe57, image, node, columns, scan.fields)


def _local_coordinates(cloud: Cloud, scan: E57Scan, rows: np.ndarray | None) -> np.ndarray:
    """[n, 3] in the scan's frame, Rᵀ(x − t), or as read where a point did not move; NaN for points without coordinates."""
    local = (cloud.xyz - scan.translation) @ scan.rotation
    local[~np.isfinite(cloud.xyz).all(axis=1)] = np.nan
    if rows is not None:
        unchanged = np.all((cloud.xyz == rows["global"]) | (np.isnan(cloud.xyz) & np.isnan(rows["global"])), axis=1)
        local[unchanged] = rows["local"][unchanged]
    return local


def _coordinate_columns(local: np.ndarray, missing: np.ndarray, scan: E57Scan) -> dict[str, np.ndarray]:
    """The coordinates in the kinds that the file has, cartesian or spherical or both; zero for missing ones.

    Cartesian ones are in single precision where the file had it and it is accurate enough.
    """
    filled = np.where(missing[:, None], 0.0, local)
    spherical = (
        dict(zip(map(str, _SPHERICAL), _spherical(filled), strict=True)) if set(_SPHERICAL) <= set(scan.fields) else {}
    )
    if spherical and not set(_CARTESIAN) <= set(scan.fields):
        return spherical
    finite = local[~missing]
    single = all(name in scan.fields and scan.fields[name].kind == np.float32 for name in _CARTESIAN)
    is_accurate_enough = single and packed.is_accurate_enough(finite, finite, np.dtype(np.float32))
    filled = filled.astype(np.float32 if is_accurate_enough else np.float64)
    return dict(zip(map(str, _CARTESIAN), filled.T, strict=True)) | spherical


def _spherical(local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Range, azimuth and elevation [n] of points [n, 3]."""
    x, y, z = local.T
    return np.linalg.norm(local, axis=1), np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))


def _named_columns(cloud: Cloud, scan: E57Scan, kept: bool) -> dict[str, np.ndarray]:
    """The attributes under E57's names; with `kept`, standard fields that only other scans of the file have are left to those."""
    own = {_attribute_name(name): name for name in scan.fields}
    standard = {plain: name for name, plain in _RENAMED.items()} | {name: name for name in e57_nodes.STANDARD}
    out = {}
    for name, values in cloud.attributes.items():
        if name == "sphericalInvalidState" and name not in own:
            out.setdefault("cartesianInvalidState", values)
        elif name in own or not (kept and (name in standard or ":" in name)):
            out[own.get(name) or standard.get(name) or (name if ":" in name else f"{e57_nodes.PREFIX}:{name}")] = values
    return out
