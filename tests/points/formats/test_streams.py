"""Parts of a file, written again, are what the writer of whole files writes of all of it, byte for byte."""

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.formats import e57_nodes
from becalm.points.formats.stream import open_stream


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("becalm.points.formats.stream.CHUNK", 130)
    monkeypatch.setattr("becalm.points.formats.e57_stream.CHUNK", 130)
    monkeypatch.setattr("becalm.points.formats.text_stream.BLOCK", 3000)


RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 99999, (700, 3)) / 1000
LINES = [f"{x:.3f}{' ' * (i % 3 + 1)}{y:.3f} {z:.3f} {i % 7}" for i, (x, y, z) in enumerate(ROWS.tolist())]
PLY = "ply\nformat ascii 1.0\ncomment by hand\nelement vertex 700\nproperty {0} x\nproperty {0} y\nproperty {0} z\n"
PLY += "property uchar label\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n"
PCD = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z label\nSIZE 8 8 8 1\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 700\nHEIGHT 1\n"
PCD += "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 700\nDATA {0}\n"
PADDED = PCD.replace("label", "_ normal").replace("8 8 8 1", "8 8 8 1 4").replace("F F F U", "F F F U F")
PADDED = PADDED.replace("COUNT 1 1 1 1", "COUNT 1 1 1 3 2")


def records(fields) -> bytes:
    rows = np.zeros(700, fields)
    for name, values in zip("xyz", ROWS.T, strict=True):
        rows[name] = values
    return rows.tobytes()


POSE = "1.5 2 3\n1 0 0\n0 1 0\n0 0 1\n0 1 0 0\n-1 0 0 0\n0 0 1 0\n10 20 30 1\n"
PTX = f"35\n10\n{POSE}" + "\n".join(LINES[:350]) + f"\n0\n7\n{POSE}\n50\n7\n{POSE}"
PTX += "\n".join("0 0 0 0.5" if i % 20 == 3 else line for i, line in enumerate(LINES[350:])) + "\n"
FIELDS = [(axis, "<f8") for axis in "xyz"]
FILES = {
    "plain.xyz": "\n".join(LINES).encode(),
    "named.txt": ("# made by hand\nx y z label\n" + "\n".join(LINES) + "\n").encode(),
    "comments.asc": "\n".join(f"{line}\n# {i}\n" if i % 50 == 0 else line for i, line in enumerate(LINES)).encode(),
    "windows.csv": ("X,Y,Z,LABEL\r\n" + "\r\n".join(",".join(line.split()) for line in LINES) + "\r\n").encode(),
    "double.ply": (PLY.format("double") + "\n".join(LINES) + "\n3 0 1 2\n3 1 2 3\n").encode(),
    "float.ply": (PLY.format("float") + "\n".join(LINES) + "\n3 0 1 2\n3 1 2 3\n").encode(),
    "text.pcd": (PCD.format("ascii") + "\n".join(LINES) + "\n").encode(),
    "binary.pcd": PCD.format("binary").encode() + records([*FIELDS, ("label", "u1")]) + b"after",
    "grid.pcd": PCD.replace("700\nHEIGHT 1", "35\nHEIGHT 20").format("binary").encode()
    + records([*FIELDS, ("label", "u1")]),
    "grid-text.pcd": (PCD.replace("700\nHEIGHT 1", "35\nHEIGHT 20").format("ascii") + "\n".join(LINES) + "\n").encode(),
    "scans.ptx": PTX.encode(),
    "padded.pcd": PADDED.format("binary").encode() + records([*FIELDS, ("_", "u1", 3), ("normal", "<f4", 2)]),
}


def changed(cloud: Cloud, rise: np.ndarray, select=None) -> Cloud:
    moved = cloud.with_positions(cloud.xyz + [0, 0, 0.0625]).with_attributes({"rise": rise.astype(np.float32)})
    return moved if select is None else moved.select(select)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["nothing", "moved", "removed"])
def test_a_stream_writes_what_the_writer_of_whole_files_writes(tmp_path, name, change):
    (tmp_path / name).write_bytes(FILES[name])
    stream, cloud = open_stream(tmp_path / name), read(tmp_path / name, print)
    parts = list(stream)
    assert stream.count == len(cloud) == 700 and len(parts) > 3
    assert np.array_equal(np.concatenate([part.xyz for part in parts]), cloud.xyz, equal_nan=True)
    assert all(part.attributes.keys() == cloud.attributes.keys() for part in parts)
    rise, kept = RNG.random(700), np.arange(700) % 9 > 0
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    rows = [slice(a, b) for a, b in zip(starts, starts[1:], strict=False)]
    if change == "nothing":
        pieces, whole = parts, cloud
    else:
        keep = kept if change == "removed" else np.ones(700, bool)
        pieces = [changed(part, rise[r], keep[r]) for part, r in zip(parts, rows, strict=True)]
        whole = changed(cloud, rise, keep)
    suffix = name[name.index(".") :]
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    stream.write(pieces, len(whole), one, one, print)
    write(whole, other, print)
    assert one.read_bytes() == other.read_bytes()
    if change == "nothing":
        assert one.read_bytes() == FILES[name]


def test_what_cannot_be_read_in_parts_is_left_to_the_reader_of_whole_files(tmp_path):
    files = {
        "comma.txt": "\n".join(f"{i},5 {i},25 0,125" for i in range(300)),
        "counted.pts": "300\n" + "\n".join(f"{i}.5 0 1" for i in range(300)),
        "words.xyz": "\n".join(f"{i}.5 0 1 tree" for i in range(300)),
        "damaged.xyz": "\n".join(f"{i}.5 0 {'1' if i != 250 else 'x'}" for i in range(300)),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert open_stream(tmp_path / name) is None, name
    (tmp_path / "small.xyz").write_text("\n".join(LINES))
    assert open_stream(tmp_path / "small.xyz", 700) is None
    assert open_stream(tmp_path / "small.xyz", 699) is not None


def scans_of_e57(path, single: bool) -> None:
    """Three scans, one of them without points, turned and moved; some returns are missing, and a field is in one scan only."""
    libe57 = pytest.importorskip("pye57").libe57
    image = libe57.ImageFile(str(path), "w")
    e57_nodes.declare_namespaces(libe57, image, ())
    e57_nodes.set_children(libe57, image, image.root(), e57_nodes.file_tree())
    scans = libe57.VectorNode(image, True)
    image.root().set("data3D", scans)
    for number, rows in enumerate((ROWS[:300], ROWS[:0], ROWS[300:])):
        node = libe57.StructureNode(image)
        numbers = [("w", 0.6), ("x", 0.0), ("y", 0.0), ("z", 0.8)], [(axis, 10.0 * number) for axis in "xyz"]
        parts = [[(name, e57_nodes.NodeTree("float", value)) for name, value in part] for part in numbers]
        turn, shift = (e57_nodes.NodeTree("structure", children=tuple(part)) for part in parts)
        pose = e57_nodes.NodeTree("structure", children=(("rotation", turn), ("translation", shift)))
        tree = e57_nodes.new_identity().children + (("pose", pose),)
        e57_nodes.set_children(libe57, image, node, e57_nodes.NodeTree("structure", children=tree))
        scans.append(node)
        columns = dict(zip(("cartesianX", "cartesianY", "cartesianZ"), rows.T, strict=True))
        columns = {name: values.astype(np.float32 if single else np.float64) for name, values in columns.items()}
        columns["cartesianInvalidState"] = (np.arange(len(rows)) % 50 == 7).astype(np.uint8) * 2
        columns |= {} if number else {"intensity": np.arange(len(rows), dtype=np.uint16)}
        e57_nodes.write_points(libe57, image, node, [columns], {}, len(rows))
    image.close()


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("change", ["nothing", "moved", "removed"])
def test_scans_of_e57_are_written_part_by_part_as_in_one_piece(tmp_path, single, change):
    scans_of_e57(tmp_path / "scan.e57", single)
    stream, cloud = open_stream(tmp_path / "scan.e57"), read(tmp_path / "scan.e57", print)
    parts = list(stream)
    assert stream.count == len(cloud) == 700 and [len(part) for part in parts] == [130, 130, 40, 0, 130, 130, 130, 10]
    assert np.array_equal(np.concatenate([part.xyz for part in parts]), cloud.xyz, equal_nan=True)
    if change != "nothing":
        keep = np.arange(700) % 9 > 0 if change == "removed" else np.ones(700, bool)
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        up = [
            part.with_positions(part.xyz + [0, 0, 0.0625]).with_attributes({"rise": part.xyz[:, 2] * 0})
            for part in parts
        ]
        parts = [part.select(keep[first : first + len(part)]) for part, first in zip(up, starts, strict=False)]
        cloud = (
            cloud.with_positions(cloud.xyz + [0, 0, 0.0625]).with_attributes({"rise": cloud.xyz[:, 2] * 0}).select(keep)
        )
    stream.write(parts, len(cloud), tmp_path / "one.e57", tmp_path / "one.e57", print)
    write(cloud, tmp_path / "other.e57", print)
    one, other = read(tmp_path / "one.e57"), read(tmp_path / "other.e57")
    assert np.array_equal(one.xyz, other.xyz, equal_nan=True) and len(one) == len(cloud)
    assert one.attributes.keys() == other.attributes.keys()
    for name, values in other.attributes.items():
        assert np.array_equal(one.attributes[name], values, equal_nan=True), name
    assert [scan.count for scan in one.source.header.scans] == [scan.count for scan in other.source.header.scans]
    assert one.source.header.scans[2].fields == other.source.header.scans[2].fields
    assert dict(one.source.header.scans[0].tree.children) == dict(other.source.header.scans[0].tree.children)


def test_a_damaged_e57_or_ptx_is_refused_as_in_one_piece(tmp_path):
    scans_of_e57(tmp_path / "scan.e57", True)
    (tmp_path / "cut.e57").write_bytes((tmp_path / "scan.e57").read_bytes()[:-1000])
    with pytest.raises(ScanError, match="truncated"):
        open_stream(tmp_path / "cut.e57")
    for name, text in {"cut.ptx": PTX[:-3000], "head.ptx": PTX + "3\n3\n"}.items():
        (tmp_path / name).write_text(text)
        assert open_stream(tmp_path / name) is None
        with pytest.raises(ScanError, match=name):
            read(tmp_path / name)
