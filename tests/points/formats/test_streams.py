"""Parts of a file, written again, are what the writer of whole files writes of all of it, byte for byte."""

import numpy as np
import pytest

from becalm.points import Cloud, read, write
from becalm.points.formats.stream import open_stream


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("becalm.points.formats.stream.CHUNK", 130)
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
    "padded.pcd": PADDED.format("binary").encode() + records([*FIELDS, ("_", "u1", 3), ("normal", "<f4", 2)]),
}


def changed(cloud: Cloud, rise: np.ndarray, select=None) -> Cloud:
    moved = cloud.moved(cloud.xyz + [0, 0, 0.0625]).with_attributes({"rise": rise.astype(np.float32)})
    return moved if select is None else moved.select(select)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["nothing", "moved", "removed"])
def test_a_stream_writes_what_the_writer_of_whole_files_writes(tmp_path, name, change):
    (tmp_path / name).write_bytes(FILES[name])
    stream, cloud = open_stream(tmp_path / name), read(tmp_path / name, print)
    parts = list(stream)
    assert stream.count == len(cloud) == 700 and len(parts) > 3
    assert np.array_equal(np.concatenate([part.xyz for part in parts]), cloud.xyz)
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
        "grid.pcd": PCD.format("ascii").replace("WIDTH 700\nHEIGHT 1", "WIDTH 70\nHEIGHT 10") + "\n".join(LINES),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert open_stream(tmp_path / name) is None, name
    (tmp_path / "small.xyz").write_text("\n".join(LINES))
    assert open_stream(tmp_path / "small.xyz", 700) is None
    assert open_stream(tmp_path / "small.xyz", 699) is not None
