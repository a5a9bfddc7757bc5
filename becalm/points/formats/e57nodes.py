"""The nodes of an E57 file as plain values, so that a file can be closed and its description written again."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

PREFIX = "becalm"
"""The name space of attributes that E57 has no name for."""
_URI = "urn:becalm:attributes"
STANDARD = {
    *("intensity", "isIntensityInvalid", "colorRed", "colorGreen", "colorBlue", "isColorInvalid", "rowIndex"),
    *("columnIndex", "returnIndex", "returnCount", "timeStamp", "isTimeStampInvalid", "cartesianInvalidState"),
}
"""The fields of a point that E57 names itself."""
_INTEGERS = tuple(np.dtype(code) for code in ("u1", "i1", "u2", "i2", "u4", "i4", "i8"))


@dataclass(frozen=True)
class Tree:
    """A node: a value, or children in order."""

    kind: str
    """float, single, integer, scaled, string, structure or vector."""
    value: Any = None
    children: tuple[tuple[str, "Tree"], ...] = ()
    limits: tuple[Any, ...] = ()
    """Minimum and maximum; for scaled also scale and offset."""


@dataclass(frozen=True)
class Field:
    """A field of the points: the type that holds it, and the file's own node for it."""

    kind: np.dtype
    node: Tree


def taken(libe57: Any, node: Any, without: tuple[str, ...] = ()) -> Tree:
    """The node and all below it but the children named, blobs and compressed vectors."""
    node = _cast(libe57, node)
    match type(node).__name__:
        case "StructureNode" | "VectorNode" as name:
            children = [_cast(libe57, node.get(index)) for index in range(node.childCount())]
            kept = [child for child in children if child.elementName() not in without and not _bulky(child)]
            named = tuple((child.elementName(), taken(libe57, child)) for child in kept)
            return Tree(name.removesuffix("Node").lower(), children=named)
        case "FloatNode":
            name = "single" if node.precision() == libe57.E57_SINGLE else "float"
            return Tree(name, node.value(), limits=(node.minimum(), node.maximum()))
        case "IntegerNode":
            return Tree("integer", node.value(), limits=(node.minimum(), node.maximum()))
        case "ScaledIntegerNode":
            limits = (node.minimum(), node.maximum(), node.scale(), node.offset())
            return Tree("scaled", node.rawValue(), limits=limits)
    return Tree("string", node.value())


def _cast(libe57: Any, node: Any) -> Any:
    """The node under its own class, which libE57 gives in some places only."""
    if not hasattr(node, "type"):
        return node
    words = str(node.type()).removeprefix("NodeType.E57_").split("_")
    return getattr(libe57, "".join(word.capitalize() for word in words) + "Node")(node)


def _bulky(node: Any) -> bool:
    return type(node).__name__ in ("BlobNode", "CompressedVectorNode")


def built(libe57: Any, image: Any, tree: Tree) -> Any:
    """The node that a tree describes, in another file."""
    if tree.kind in ("structure", "vector"):
        node = libe57.StructureNode(image) if tree.kind == "structure" else libe57.VectorNode(image, True)
        if tree.kind == "structure":
            put(libe57, image, node, tree)
        else:
            for _, child in tree.children:
                node.append(built(libe57, image, child))
        return node
    if tree.kind in ("float", "single"):
        precision = libe57.E57_SINGLE if tree.kind == "single" else libe57.E57_DOUBLE
        return libe57.FloatNode(image, tree.value, precision, *tree.limits)
    if tree.kind == "integer":
        return libe57.IntegerNode(image, tree.value, *tree.limits)
    if tree.kind == "scaled":
        return libe57.ScaledIntegerNode(image, int(tree.value), *tree.limits)
    return libe57.StringNode(image, tree.value)


def put(libe57: Any, image: Any, node: Any, tree: Tree) -> None:
    """Sets the children of a structure."""
    for name, child in tree.children:
        node.set(name, built(libe57, image, child))


def name_spaces(libe57: Any, image: Any, spaces: tuple[tuple[str, str], ...]) -> None:
    """Declares the file's name spaces and ours."""
    own = [space for space in spaces if space[0] not in ("", PREFIX)]
    for prefix, uri in [("", libe57.E57_V1_0_URI), *own, (PREFIX, _URI)]:
        image.extensionsAdd(prefix, uri)


def file_tree() -> Tree:
    """What a new file says of itself."""
    name = ("formatName", Tree("string", "ASTM E57 3D Imaging Data File"))
    versions = [("versionMajor", Tree("integer", 1)), ("versionMinor", Tree("integer", 0))]
    return Tree("structure", children=(name, *identity().children[:1], *versions))


def identity() -> Tree:
    """A new scan's guid and name."""
    guid = ("guid", Tree("string", "{%s}" % uuid.uuid4()))  # noqa: UP031
    return Tree("structure", children=(guid, ("name", Tree("string", "scan"))))


def fields(libe57: Any, points: Any) -> dict[str, Field]:
    """The number fields of a scan's points (libE57's compressed vector)."""
    out = {}
    for name, node in taken(libe57, libe57.StructureNode(points.prototype())).children:
        if node.kind == "integer":
            low, high = node.limits
            fit = [kind for kind in _INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
            out[name] = Field(fit[0], node)
        elif node.kind in ("float", "single", "scaled"):
            out[name] = Field(np.dtype(np.float32 if node.kind == "single" else np.float64), node)
    return out


def values(libe57: Any, image: Any, points: Any, wanted: dict[str, Field], count: int) -> dict[str, np.ndarray]:
    """Field -> [count] of a scan's points, scaled integers as float64."""
    out = {name: np.zeros(count, _buffered(field.kind)) for name, field in wanted.items()}
    if count == 0:
        return {name: column.astype(wanted[name].kind) for name, column in out.items()}
    buffers = libe57.VectorSourceDestBuffer()
    for name, column in out.items():
        buffers.append(libe57.SourceDestBuffer(image, name, column, count, True, True))
    reader = points.reader(buffers)
    got = reader.read()
    reader.close()
    if got != count:
        raise ValueError(f"a scan promises {count:,} points and holds {got:,}")
    return {name: column.astype(wanted[name].kind, copy=False) for name, column in out.items()}


def _buffered(kind: np.dtype) -> np.dtype:
    """The type of a buffer for it: pye57 knows bytes, shorts and long longs, and takes a long for 32 bits."""
    return np.dtype(kind.type) if kind.kind == "f" or kind.itemsize <= 2 else np.dtype(np.longlong)


def write_points(libe57: Any, image: Any, scan: Any, columns: dict[str, np.ndarray], known: dict[str, Field]) -> None:
    """The points of a scan; fields keep the file's own type where their values fit it."""
    prototype = libe57.StructureNode(image)
    buffers = libe57.VectorSourceDestBuffer()
    kept = []
    for name, column in columns.items():
        prototype.set(name, built(libe57, image, _prototype(column, known.get(name))))
        kept.append(np.empty(len(column), _buffered(column.dtype)))  # np.array would leave a long a long
        kept[-1][:] = column
    points = libe57.CompressedVectorNode(image, prototype, libe57.VectorNode(image, True))
    scan.set("points", points)
    count = len(kept[0])
    if count == 0:
        return
    for name, column in zip(columns, kept, strict=True):
        buffers.append(libe57.SourceDestBuffer(image, name, column, count, True, True))
    writer = points.writer(buffers)
    writer.write(count)
    writer.close()


def _prototype(column: np.ndarray, field: Field | None) -> Tree:
    if column.dtype.kind == "f":
        return Tree("single" if column.dtype.itemsize == 4 else "float", 0.0)
    low, high = (int(column.min()), int(column.max())) if len(column) else (0, 0)
    if field is not None and field.node.kind == "integer":
        low, high = min(low, field.node.limits[0]), max(high, field.node.limits[1])
    elif column.dtype.itemsize == 1:
        low, high = np.iinfo(column.dtype).min, np.iinfo(column.dtype).max
    return Tree("integer", low, limits=(int(low), int(high)))


def bounded(tree: Tree, local: np.ndarray, whole: bool) -> Tree:
    """The scan's description with the bounds of its points [n, 3]; without index bounds where points were left out."""
    children = dict(tree.children)
    if not whole:
        children.pop("indexBounds", None)
    if "cartesianBounds" in children and len(local):
        low, high = local.min(axis=0), local.max(axis=0)
        bounds = [(f"{axis}Minimum", Tree("float", float(low[i]))) for i, axis in enumerate("xyz")]
        bounds += [(f"{axis}Maximum", Tree("float", float(high[i]))) for i, axis in enumerate("xyz")]
        children["cartesianBounds"] = Tree("structure", children=tuple(bounds))
    return replace(tree, children=tuple(children.items()))
