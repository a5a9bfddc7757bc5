"""E57 (ASTM E2807): several scans with a pose each; global coordinates here, the scanners' own in the file.

A global point is R p + t, with R and t the scan's pose. pye57's own writer would round to float32 and drop fields, so
the scans are read and written through the libE57 it wraps.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source
from becalm.points.formats import attributes, e57nodes, files, packed

_INFLATED = 64 << 20
_INFLATION = 100
"""A file may hold `_INFLATED` bytes of points unpacked, or `_INFLATION` times its own size if that is more."""
_CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
_SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
_RENAMED = {"colorRed": "red", "colorGreen": "green", "colorBlue": "blue"}
_KINDS = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")}
_ROW = np.dtype([("scan", np.int32), ("local", np.float64, (3,)), ("given", np.float64, (3,))])
"""Of each point: its scan, its coordinates there, and what `read` made of them."""


@dataclass(frozen=True)
class Scan:
    """One scan of a file: its pose, its fields, and all else that is said of it."""

    rotation: np.ndarray
    """[3, 3]"""
    translation: np.ndarray
    """[3]"""
    fields: dict[str, e57nodes.Field]
    """The file's fields, in order."""
    count: int
    tree: e57nodes.Tree
    """Everything but the points."""


@dataclass(frozen=True)
class Header:
    """The scans, the file's own description and its name spaces."""

    scans: tuple[Scan, ...]
    tree: e57nodes.Tree
    spaces: tuple[tuple[str, str], ...] = ()


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of all scans of an E57 file, one scan after the other, poses applied. Raises ScanError."""
    libe57 = _libe57(path)
    _check_header(path)
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


def _check_header(path: Path) -> None:
    size = files.inspect(path)
    with open(path, "rb") as file:
        head = file.read(48)
    if head[:8] != b"ASTM-E57" or len(head) < 48:
        raise ScanError(f"{path}: has no E57 header ('ASTM-E57' and 48 bytes)")
    length, start, xml, page = struct.unpack_from("<QQQQ", head, 16)
    if length != size or start + xml > size or page != 1024 or xml > max(16 << 20, size // 2):
        raise ScanError(f"{path}: header promises {length:,} bytes, the file holds {size:,} (truncated?)")


def _read(libe57: Any, image: Any, path: Path, warn: Callable[[str], object]) -> Cloud:
    root, size = image.root(), path.stat().st_size
    scans, rows, columns = [], [], []
    for index in range(len(root["data3D"])):
        node = root["data3D"][index]
        scan = _scan(libe57, node)
        unpacked = scan.count * sum(field.kind.itemsize for field in scan.fields.values())
        size -= unpacked // _INFLATION
        if unpacked > _INFLATED and size < 0:
            raise ScanError(f"{path}: scan {index} promises {scan.count:,} points, too many for the file's size")
        values = e57nodes.values(libe57, image, node["points"], scan.fields, scan.count)
        rows.append(_rows(values, scan, len(scans), path))
        columns.append({_plain(name): column for name, column in values.items() if name not in _CARTESIAN + _SPHERICAL})
        scans.append(scan)
    if not scans:
        raise ScanError(f"{path}: holds no scan")
    if len(root["images2D"]) if root.isDefined("images2D") else 0:
        warn(f"{path}: pictures (images2D) are passed over and not written again")
    spaces = tuple((image.extensionsPrefix(i), image.extensionsUri(i)) for i in range(image.extensionsCount()))
    tree = e57nodes.taken(libe57, root, ("data3D", "images2D"))
    joined = np.concatenate(rows)
    header = Header(tuple(scans), tree, spaces)
    named = _united(columns, [len(part) for part in rows])
    return Cloud(joined["given"], named, source=Source("e57", path, header, joined))


def _plain(name: str) -> str:
    return _RENAMED.get(name, name.removeprefix(f"{e57nodes.PREFIX}:"))


def _scan(libe57: Any, node: Any) -> Scan:
    tree = e57nodes.taken(libe57, node, ("points", "pointGroupingSchemes"))
    pose = {
        key: dict(part.children)
        for key, part in dict(dict(tree.children).get("pose", tree).children).items()
        if key in ("rotation", "translation")
    }
    turn = [float(pose.get("rotation", {}).get(key, _NO_TURN[key]).value) for key in "wxyz"]
    shift = [float(pose.get("translation", {}).get(key, _NO_TURN["x"]).value) for key in "xyz"]
    fields = e57nodes.fields(libe57, node["points"])
    return Scan(_rotation(*turn), np.array(shift), fields, node["points"].childCount(), tree)


_NO_TURN = {key: e57nodes.Tree("float", float(key == "w")) for key in "wxyz"}


def _rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    """[3, 3] of a quaternion, which is normalised first; the identity where it is zero or not finite."""
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


def _rows(values: dict[str, np.ndarray], scan: Scan, index: int, path: Path) -> np.ndarray:
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
    rows["given"] = local @ scan.rotation.T + scan.translation
    for name in ("cartesianInvalidState", "sphericalInvalidState"):
        if name in values:
            rows["given"][values[name] != 0] = np.nan
    return rows


def _united(columns: list[dict[str, np.ndarray]], counts: list[int]) -> dict[str, np.ndarray]:
    """One array a name over all scans; NaN or 0 where a scan has no such field."""
    out = {}
    for name in dict.fromkeys(name for part in columns for name in part):
        kind = np.result_type(*[part[name].dtype for part in columns if name in part])
        blank = np.nan if kind.kind == "f" else 0
        parts = [part.get(name, np.full(count, blank, kind)) for part, count in zip(columns, counts, strict=True)]
        out[name] = np.concatenate(parts).astype(kind, copy=False)
    return out


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as E57: an E57 source's scans with their poses, fields and descriptions; else one scan."""
    libe57 = _libe57(target)
    source = cloud.source if cloud.source is not None and cloud.source.format == "e57" else None
    header = source.header if source else _header(cloud)
    cloud = attributes.fitted(cloud, _KINDS, warn, str(target))
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
    e57nodes.name_spaces(libe57, image, header.spaces)
    root = image.root()
    e57nodes.put(libe57, image, root, header.tree)
    scans = libe57.VectorNode(image, True)
    root.set("data3D", scans)
    root.set("images2D", libe57.VectorNode(image, True))
    for index, scan in enumerate(header.scans):
        which = source.rows["scan"] == index if source else np.ones(len(cloud), bool)
        rows = source.rows[which] if source else None
        _write_scan(libe57, image, scans, scan, replace(cloud.select(which), source=None), rows)


def _header(cloud: Cloud) -> Header:
    """One scan whose pose is a shift to the cloud's origin."""
    shift = tuple(zip("xyz", [e57nodes.Tree("float", float(value)) for value in cloud.origin], strict=True))
    pose = e57nodes.Tree(
        "structure",
        children=(
            ("rotation", e57nodes.Tree("structure", children=tuple(_NO_TURN.items()))),
            ("translation", e57nodes.Tree("structure", children=shift)),
        ),
    )
    tree = e57nodes.Tree("structure", children=(*e57nodes.identity().children, ("pose", pose)))
    return Header((Scan(np.eye(3), cloud.origin, {}, len(cloud), tree),), e57nodes.file_tree())


def _write_scan(libe57: Any, image: Any, scans: Any, scan: Scan, cloud: Cloud, rows: np.ndarray | None) -> None:
    local = _local(cloud, scan, rows)
    missing = ~np.all(np.isfinite(local), axis=1)
    columns = _coordinates(local, missing, scan) | _named(cloud, scan, rows is not None)
    if missing.any() and "cartesianInvalidState" not in columns:
        columns["cartesianInvalidState"] = missing.astype(np.uint8) * 2
    node = libe57.StructureNode(image)
    e57nodes.put(libe57, image, node, e57nodes.bounded(scan.tree, local[cloud.finite], scan.count == len(local)))
    scans.append(node)
    e57nodes.write_points(libe57, image, node, columns, scan.fields)


def _local(cloud: Cloud, scan: Scan, rows: np.ndarray | None) -> np.ndarray:
    """[n, 3] in the scan's own frame, R' (x - t), or what was read where a point did not move; NaN: it has no place."""
    local = (cloud.xyz - scan.translation) @ scan.rotation
    local[~cloud.finite] = np.nan
    if rows is not None:
        still = np.all((cloud.xyz == rows["given"]) | (np.isnan(cloud.xyz) & np.isnan(rows["given"])), axis=1)
        local[still] = rows["local"][still]
    return local


def _coordinates(local: np.ndarray, missing: np.ndarray, scan: Scan) -> dict[str, np.ndarray]:
    """The three columns: single precision where the file had it and it is enough, zero where a point has no place."""
    seen = local[~missing]
    single = all(name in scan.fields and scan.fields[name].kind == np.float32 for name in _CARTESIAN)
    enough = single and packed.enough(seen, seen, np.dtype(np.float32))
    filled = np.where(missing[:, None], 0.0, local).astype(np.float32 if enough else np.float64)
    return dict(zip(map(str, _CARTESIAN), filled.T, strict=True))


def _named(cloud: Cloud, scan: Scan, kept: bool) -> dict[str, np.ndarray]:
    """The attributes under E57's names; kept: fields that only other scans of the file have are left to them."""
    own = {_plain(name): name for name in scan.fields}
    standard = {plain: name for name, plain in _RENAMED.items()} | {name: name for name in e57nodes.STANDARD}
    out = {}
    for name, values in cloud.attributes.items():
        if name == "sphericalInvalidState":
            out["cartesianInvalidState"] = values
        elif name in own or not (kept and (name in standard or ":" in name)):
            out[own.get(name) or standard.get(name) or (name if ":" in name else f"{e57nodes.PREFIX}:{name}")] = values
    return out
