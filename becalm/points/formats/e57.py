"""E57 (ASTM E2807): several scans with a pose each; clouds have global coordinates, files each scanner's local ones.

A global point is R p + t, with R and t the scan's pose. pye57's own writer would round to float32 and drop fields, so
the scans are read and written through the libE57 that it wraps.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from becalm.points.cloud import Cloud, ScanError, Source, freeze_array
from becalm.points.formats import attributes, e57_nodes, packed
from becalm.points.formats.e57_scans import (
    CARTESIAN,
    RENAMED,
    SPHERICAL,
    E57Scan,
    Header,
    attribute_name,
    iter_scan,
    load_libe57,
    open_image,
    read_header,
)

_KINDS = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")}


def read(path: Path, warn: Callable[[str], object]) -> Cloud:
    """The points of all scans of an E57 file, one scan after the other, poses applied. Raises ScanError."""
    with open_image(path) as (libe57, image):
        header = read_header(libe57, image, path, warn)
        parts = []
        for index, scan in enumerate(header.scans):
            parts += iter_scan(libe57, image, path, header, index, max(scan.count, 1))
    joined = np.concatenate([rows for rows, _ in parts])
    named = _merge_columns([columns for _, columns in parts], [len(rows) for rows, _ in parts])
    return Cloud(freeze_array(joined)["global"], named, source=Source("e57", path, header, joined))


def _merge_columns(columns: list[dict[str, np.ndarray]], counts: list[int]) -> dict[str, np.ndarray]:
    """The fields of all scans by name, concatenated; NaN or 0 where a scan lacks a field."""
    out = {}
    for name in dict.fromkeys(name for part in columns for name in part):
        kind = np.result_type(*[part[name].dtype for part in columns if name in part])
        blank = np.nan if kind.kind == "f" else 0
        parts = [part.get(name, np.full(count, blank, kind)) for part, count in zip(columns, counts, strict=True)]
        out[name] = freeze_array(np.concatenate(parts).astype(kind, copy=False))
    return out


def write(cloud: Cloud, temporary: Path, target: Path, warn: Callable[[str], object]) -> None:
    """The cloud as E57: an E57 source's scans with their poses, fields and descriptions; else one scan."""
    source = cloud.source if cloud.source is not None and cloud.source.format == "e57" else None
    header = source.header if source else _header(cloud)
    cloud = convert_attributes(cloud, target, warn)
    with create_image(temporary, target, header) as file:
        for index, scan in enumerate(header.scans):
            which = source.rows["scan"] == index if source else np.ones(len(cloud), bool)
            part = replace(cloud.select(which), source=None)
            local = local_coordinates(part, scan, source.rows[which] if source else None)
            missing = ~np.all(np.isfinite(local), axis=1)
            how = Written(fits_single(scan, local[~missing]), bool(missing.any()), bool(source), len(local))
            write_scan(file, scan, [(part, local)], how)


def convert_attributes(cloud: Cloud, target: Path, warn: Callable[[str], object]) -> Cloud:
    """The cloud with attributes of types that E57 holds."""
    return attributes.convert_attributes(cloud, _KINDS, warn, str(target))


class E57File(NamedTuple):
    """A file that is being written."""

    libe57: Any
    image: Any
    scans: Any
    """The node of its scans."""


@contextmanager
def create_image(temporary: Path, target: Path, header: Header) -> Iterator[E57File]:
    """Context of a new file with a header, without scans; `target` is named in errors. Raises ScanError."""
    libe57 = load_libe57(target)
    image = libe57.ImageFile(str(temporary), "w")
    try:
        e57_nodes.declare_namespaces(libe57, image, header.spaces)
        root, scans = image.root(), libe57.VectorNode(image, True)
        e57_nodes.set_children(libe57, image, root, header.tree)
        root.set("data3D", scans)
        root.set("images2D", libe57.VectorNode(image, True))
        yield E57File(libe57, image, scans)
        image.close()
    except (OSError, ScanError):
        image.cancel()
        raise
    except Exception as error:
        image.cancel()  # an image that is neither closed nor cancelled takes the interpreter down later
        reason = " ".join(str(error).split())[:160]
        raise ScanError(f"{target}: cannot be written as E57 ({reason})") from None


def _header(cloud: Cloud) -> Header:
    """One scan without a pose, which would say that a scanner stood there."""
    scan = E57Scan(np.eye(3), np.zeros(3), {}, len(cloud), e57_nodes.new_identity())
    return Header((scan,), e57_nodes.file_tree())


class Written(NamedTuple):
    """How a scan is written."""

    single: bool
    """Cartesian coordinates are in single precision."""
    missing: bool
    """There are points without coordinates."""
    kept: bool
    """The scan is one that was read."""
    block: int
    """The most points that are written at a time."""


def write_scan(file: E57File, scan: E57Scan, parts: Iterable[tuple[Cloud, np.ndarray]], how: Written) -> None:
    """Write one scan; its points come in parts, each with the local coordinates [n, 3] of its points."""
    node = file.libe57.StructureNode(file.image)
    file.scans.append(node)
    bounds, counts = [], []

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for part, local in parts:
            missing = ~np.all(np.isfinite(local), axis=1)
            measured = local[~missing]
            bounds.extend([measured.min(axis=0), measured.max(axis=0)] if len(measured) else [])
            counts.append(len(local))
            yield _scan_columns(part, local, missing, scan, how)

    e57_nodes.write_points(file.libe57, file.image, node, blocks(), scan.fields, how.block)
    tree = e57_nodes.with_bounds(scan.tree, np.array(bounds).reshape(-1, 3), scan.count == sum(counts))
    e57_nodes.set_children(file.libe57, file.image, node, tree)


def _scan_columns(
    part: Cloud, local: np.ndarray, missing: np.ndarray, scan: E57Scan, how: Written
) -> dict[str, np.ndarray]:
    columns = _coordinate_columns(local, missing, scan, how.single) | _named_columns(part, scan, how.kept)
    for kind, first in (("cartesian", "cartesianX"), ("spherical", "sphericalRange")):
        if how.missing and f"{kind}InvalidState" not in columns and first in columns:
            columns[f"{kind}InvalidState"] = missing.astype(np.uint8) * 2
    return columns


def local_coordinates(cloud: Cloud, scan: E57Scan, rows: np.ndarray | None) -> np.ndarray:
    """[n, 3] in the scan's frame, Rᵀ(x − t), or as read where a point did not move; NaN for points without coordinates."""
    local = (cloud.xyz - scan.translation) @ scan.rotation
    local[~np.isfinite(cloud.xyz).all(axis=1)] = np.nan
    if rows is not None:
        unchanged = np.all((cloud.xyz == rows["global"]) | (np.isnan(cloud.xyz) & np.isnan(rows["global"])), axis=1)
        local[unchanged] = rows["local"][unchanged]
    return local


def fits_single(scan: E57Scan, local: np.ndarray) -> bool:
    """Whether the file has cartesian coordinates in single precision, and it is accurate enough for points [n, 3]."""
    single = all(name in scan.fields and scan.fields[name].kind == np.float32 for name in CARTESIAN)
    return single and packed.is_accurate_enough(local, local, np.dtype(np.float32))


def _coordinate_columns(local: np.ndarray, missing: np.ndarray, scan: E57Scan, single: bool) -> dict[str, np.ndarray]:
    """The coordinates in the kinds that the file has, cartesian or spherical or both; zero for missing ones."""
    filled = np.where(missing[:, None], 0.0, local)
    spherical = (
        dict(zip(map(str, SPHERICAL), _spherical(filled), strict=True)) if set(SPHERICAL) <= set(scan.fields) else {}
    )
    if spherical and not set(CARTESIAN) <= set(scan.fields):
        return spherical
    filled = filled.astype(np.float32 if single else np.float64)
    return dict(zip(map(str, CARTESIAN), filled.T, strict=True)) | spherical


def _spherical(local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Range, azimuth and elevation [n] of points [n, 3]."""
    x, y, z = local.T
    return np.linalg.norm(local, axis=1), np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))


def _named_columns(cloud: Cloud, scan: E57Scan, kept: bool) -> dict[str, np.ndarray]:
    """The attributes under E57's names; with `kept`, standard fields that only other scans of the file have are left to those."""
    own = {attribute_name(name): name for name in scan.fields}
    standard = {plain: name for name, plain in RENAMED.items()} | {name: name for name in e57_nodes.STANDARD}
    out = {}
    for name, values in cloud.attributes.items():
        if name == "sphericalInvalidState" and name not in own:
            out.setdefault("cartesianInvalidState", values)
        elif name in own or not (kept and (name in standard or ":" in name)):
            out[own.get(name) or standard.get(name) or (name if ":" in name else f"{e57_nodes.PREFIX}:{name}")] = values
    return out
