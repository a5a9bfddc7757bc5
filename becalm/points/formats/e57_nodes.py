"""The nodes of an E57 file as Python values, so that the file can be closed and its description written to another."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

PREFIX = "becalm"
"""The XML namespace of attributes for which E57 has no name."""
_URI = "urn:becalm:attributes"
STANDARD = {
    *("intensity", "isIntensityInvalid", "colorRed", "colorGreen", "colorBlue", "isColorInvalid", "rowIndex"),
    *("columnIndex", "returnIndex", "returnCount", "timeStamp", "isTimeStampInvalid", "cartesianInvalidState"),
}
"""The fields of a point that the standard defines."""
_INTEGERS = tuple(np.dtype(code) for code in ("u1", "i1", "u2", "i2", "u4", "i4", "i8"))


@dataclass(frozen=True)
class NodeTree:
    """A node: a value, or children in order."""

    kind: str
    """float, single, integer, scaled, string, structure or vector."""
    value: Any = None
    children: tuple[tuple[str, "NodeTree"], ...] = ()
    limits: tuple[Any, ...] = ()
    """Minimum and maximum; for scaled also scale and offset."""


@dataclass(frozen=True)
class Field:
    """A field of the points: the NumPy type that holds it, and the file's node for it."""

    kind: np.dtype
    node: NodeTree


def read_tree(libe57: Any, node: Any, without: tuple[str, ...] = ()) -> NodeTree:
    """The node with all its descendants, except the children named in `without`, blobs and compressed vectors."""
    node = _cast(libe57, node)
    match type(node).__name__:
        case "StructureNode" | "VectorNode" as name:
            children = [_cast(libe57, node.get(index)) for index in range(node.childCount())]
            kept = [child for child in children if child.elementName() not in without and not _is_binary(child)]
            named = tuple((child.elementName(), read_tree(libe57, child)) for child in kept)
            return NodeTree(name.removesuffix("Node").lower(), children=named)
        case "FloatNode":
            name = "single" if node.precision() == libe57.E57_SINGLE else "float"
            return NodeTree(name, node.value(), limits=(node.minimum(), node.maximum()))
        case "IntegerNode":
            return NodeTree("integer", node.value(), limits=(node.minimum(), node.maximum()))
        case "ScaledIntegerNode":
            limits = (node.minimum(), node.maximum(), node.scale(), node.offset())
            return NodeTree("scaled", node.rawValue(), limits=limits)
    return NodeTree("string", node.value())


def _cast(libe57: Any, node: Any) -> Any:
    """The node as an instance of its own class, which libE57 does not always return."""
    if not hasattr(node, "type"):
        return node
    words = str(node.type()).removeprefix("NodeType.E57_").split("_")
    return getattr(libe57, "".join(word.capitalize() for word in words) + "Node")(node)


def _is_binary(node: Any) -> bool:
    return type(node).__name__ in ("BlobNode", "CompressedVectorNode")


def build_node(libe57: Any, image: Any, tree: NodeTree) -> Any:
    """A new node in the file `image` as a tree describes it."""
    if tree.kind in ("structure", "vector"):
        node = libe57.StructureNode(image) if tree.kind == "structure" else libe57.VectorNode(image, True)
        if tree.kind == "structure":
            set_children(libe57, image, node, tree)
        else:
            for _, child in tree.children:
                node.append(build_node(libe57, image, child))
        return node
    if tree.kind in ("float", "single"):
        precision = libe57.E57_SINGLE if tree.kind == "single" else libe57.E57_DOUBLE
        return libe57.FloatNode(image, tree.value, precision, *tree.limits)
    if tree.kind == "integer":
        return libe57.IntegerNode(image, tree.value, *tree.limits)
    if tree.kind == "scaled":
        return libe57.ScaledIntegerNode(image, int(tree.value), *tree.limits)
    return libe57.StringNode(image, tree.value)


def set_children(libe57: Any, image: Any, node: Any, tree: NodeTree) -> None:
    """Set the children of a structure."""
    for name, child in tree.children:
        node.set(name, build_node(libe57, image, child))


def declare_namespaces(libe57: Any, image: Any, spaces: tuple[tuple[str, str], ...]) -> None:
    """Declare the file's namespaces and ours."""
    own = [space for space in spaces if space[0] not in ("", PREFIX)]
    for prefix, uri in [("", libe57.E57_V1_0_URI), *own, (PREFIX, _URI)]:
        image.extensionsAdd(prefix, uri)


def file_tree() -> NodeTree:
    """The root description of a new file."""
    name = ("formatName", NodeTree("string", "ASTM E57 3D Imaging Data File"))
    versions = [("versionMajor", NodeTree("integer", 1)), ("versionMinor", NodeTree("integer", 0))]
    return NodeTree("structure", children=(name, *new_identity().children[:1], *versions))


def new_identity() -> NodeTree:
    """The GUID and name of a new scan."""
    guid = ("guid", NodeTree("string", "{%s}" % uuid.uuid4()))  # noqa: UP031
    return NodeTree("structure", children=(guid, ("name", NodeTree("string", "scan"))))


def point_fields(libe57: Any, points: Any) -> dict[str, Field]:
    """The number fields of a scan's points (libE57's compressed vector)."""
    out = {}
    for name, node in read_tree(libe57, libe57.StructureNode(points.prototype())).children:
        if node.kind == "integer":
            low, high = node.limits
            fit = [kind for kind in _INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
            out[name] = Field(fit[0], node)
        elif node.kind in ("float", "single", "scaled"):
            out[name] = Field(np.dtype(np.float32 if node.kind == "single" else np.float64), node)
    return out


def iter_columns(
    libe57: Any, image: Any, points: Any, wanted: dict[str, Field], count: int, block: int
) -> Iterator[dict[str, np.ndarray]]:
    """The fields of a scan's points by name, `block` points at a time; scaled integers as float64; at least one block."""
    room = min(block, count)
    read = {name: np.zeros(room, _buffer_dtype(field.kind)) for name, field in wanted.items()}
    if count == 0:
        yield {name: column.astype(wanted[name].kind) for name, column in read.items()}
        return
    buffers = libe57.VectorSourceDestBuffer()
    for name, column in read.items():
        buffers.append(libe57.SourceDestBuffer(image, name, column, room, True, True))
    reader = points.reader(buffers)
    try:
        for first in range(0, count, block):
            got = reader.read()
            if got != min(block, count - first):
                raise ValueError(f"a scan promises {count:,} points and holds {first + got:,}")
            yield {name: column[:got].astype(wanted[name].kind, copy=count > block) for name, column in read.items()}
    finally:
        reader.close()


def _buffer_dtype(kind: np.dtype) -> np.dtype:
    """The type of a buffer for a field: pye57 supports bytes, shorts and long longs, and treats a long as 32 bits."""
    return np.dtype(kind.type) if kind.kind == "f" or kind.itemsize <= 2 else np.dtype(np.longlong)


def write_points(
    libe57: Any, image: Any, scan: Any, blocks: Iterable[dict[str, np.ndarray]], known: dict[str, Field], most: int
) -> None:
    """The points of a scan, in blocks of at most `most`; the first decides the fields, which keep the file's own type where
    their values fit it."""
    written: dict[str, np.ndarray] = {}
    points = writer = None
    for columns in blocks:
        if points is None:
            points = _begin_points(libe57, image, scan, columns, known)
        count = len(next(iter(columns.values())))
        if count and writer is None:
            buffers = libe57.VectorSourceDestBuffer()
            for name, column in columns.items():
                written[name] = np.empty(most, _buffer_dtype(column.dtype))  # np.array would leave a long a long
                buffers.append(libe57.SourceDestBuffer(image, name, written[name], most, True, True))
            writer = points.writer(buffers)
        for name, values in written.items():
            values[:count] = columns[name]
        if count and writer is not None:
            writer.write(count)
    if writer is not None:
        writer.close()


def _begin_points(libe57: Any, image: Any, scan: Any, columns: dict[str, np.ndarray], known: dict[str, Field]) -> Any:
    """The node of a scan's points, still without any."""
    prototype = libe57.StructureNode(image)
    for name, column in columns.items():
        prototype.set(name, build_node(libe57, image, _prototype_node(column, known.get(name))))
    points = libe57.CompressedVectorNode(image, prototype, libe57.VectorNode(image, True))
    scan.set("points", points)
    return points


def _prototype_node(column: np.ndarray, field: Field | None) -> NodeTree:
    if column.dtype.kind == "f":
        return NodeTree("single" if column.dtype.itemsize == 4 else "float", 0.0)
    low, high = (int(column.min()), int(column.max())) if len(column) else (0, 0)
    if field is not None and field.node.kind == "integer":
        low, high = min(low, field.node.limits[0]), max(high, field.node.limits[1])
    elif column.dtype.itemsize == 1:
        low, high = np.iinfo(column.dtype).min, np.iinfo(column.dtype).max
    return NodeTree("integer", low, limits=(int(low), int(high)))


def with_bounds(tree: NodeTree, local: np.ndarray, whole: bool) -> NodeTree:
    """The scan's description with the bounds of its points [n, 3]; without its index bounds unless the scan is `whole`."""
    children = dict(tree.children)
    if not whole:
        children.pop("indexBounds", None)
    if "cartesianBounds" in children and len(local):
        low, high = local.min(axis=0), local.max(axis=0)
        bounds = [(f"{axis}Minimum", NodeTree("float", float(low[i]))) for i, axis in enumerate("xyz")]
        bounds += [(f"{axis}Maximum", NodeTree("float", float(high[i]))) for i, axis in enumerate("xyz")]
        children["cartesianBounds"] = NodeTree("structure", children=tuple(bounds))
    return replace(tree, children=tuple(children.items()))
