"""Valid files for every format, small enough to be damaged by the thousand."""

import io
import tempfile
from pathlib import Path

import numpy as np

from becalm.points import Cloud, write

PLY_LISTS = b"""ply
format ascii 1.0
comment by hand
element vertex 3
property float x
property float y
property float z
property uchar red
property list uchar int near
element face 1
property list uchar int vertex_indices
end_header
1 2 3 200 2 1 1
4 5 6 0 0
7 8 9 1 1 4
3 0 1 2
"""
PLY_TEXT = b"""ply
format ascii 1.0
obj_info none
element vertex 3
property float x
property double y
property float z
property uchar red
element face 1
property list uchar int vertex_indices
end_header
1.50 2 3e0 200
4 5 6 0
 -0 nan 9  1
3 0 1 2
"""
PLY_BIG = (
    b"ply\nformat binary_big_endian 1.0\nelement face 2\nproperty list uchar int v\nelement vertex 2\n"
    b"property float x\nproperty float y\nproperty float z\nproperty list ushort uchar w\nend_header\n"
    + b"\x01\0\0\0\1\2\0\0\0\1\0\0\0\1"
    + b"\0" * 12
    + b"\0\2ab"
    + b"\0" * 14
)
PCD_TEXT = b"""# .PCD v0.7
VERSION 0.7
FIELDS x y z _ n label
SIZE 4 4 4 1 4 2
TYPE F F F U F U
COUNT 1 1 1 2 2 1
WIDTH 2
HEIGHT 2
VIEWPOINT 1 2 3 1 0 0 0
POINTS 4
DATA ascii
1.0 2 3 0 0 .5 1e3 65535
nan nan nan 9 9 0 0 0
-1 2 3 0 0 nan 1 2
4 5 6 0 0 7 8 9
"""
TEXTS = {
    ".xyz": b"1.0 2.50 3\n\n# middle\n 4e0\t5 6 \n7 8 9",
    ".txt": b"# a scan\n//X Y Z R G name\n1 2 3 7 07 ab\n4 5 6 8 +8 c\n",
    ".csv": b"x;y;z;t\r\n1;2;3;\r\n3;4; 5;6\r\n5;6;7;8.50\r\n",
    ".pts": b"2\n1 2 3 4 5 6 7\n1 2 3 4 5 6 7\n1\n1.25 2 3 -4 5 6 7\n",
    ".asc": b"X,Y,Z,I\n1,2,3,9\n4,5,6,8\n",
}


def cloud_of(count: int = 24) -> Cloud:
    random = np.random.default_rng(1)
    attributes = {
        "red": random.integers(0, 255, count).astype(np.uint8),
        "intensity": random.integers(0, 65535, count).astype(np.uint16),
        "weight": random.random(count).astype(np.float32),
        "gps_time": random.random(count) * 1e9,
    }
    return Cloud(random.random((count, 3)) + np.array([500_000, 5_400_000, 300]), attributes)


def packed_pcd() -> bytes:
    rows = np.zeros(6, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])
    rows["x"], rows["z"] = np.arange(6), np.nan
    rows["z"][:3] = 1
    data = b"".join(rows[name].tobytes() for name in rows.dtype.names or ())
    head = b"FIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nWIDTH 3\nHEIGHT 2\nPOINTS 6\nDATA binary_compressed\n"
    packed = (
        bytes([31]) + data[:32] + bytes([7]) + data[32:40] + b"\x00\x00\xe0\x2e\x00"
    )  # literals, then 55 zeros by reference
    return head + np.array([len(packed), 96], "<u4").tobytes() + packed


def saved(suffix: str) -> bytes:
    """The bytes of `cloud_of()` as this library writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scan{suffix}"
        write(cloud_of(), path, lambda text: None)
        return path.read_bytes()


def numpy_files() -> dict[str, list[bytes]]:
    plain, fortran, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(plain, cloud_of().xyz.astype(np.float32))
    np.save(fortran, np.asfortranarray(np.arange(20, dtype=">f8").reshape(4, 5)))
    np.savez_compressed(packed, points=cloud_of().xyz, red=np.arange(24), pose=np.eye(4))
    return {".npy": [plain.getvalue(), fortran.getvalue(), saved(".npy")], ".npz": [packed.getvalue(), saved(".npz")]}


OWN: dict[str, list[bytes]] = {
    ".ply": [PLY_LISTS, PLY_TEXT, PLY_BIG, saved(".ply")],
    ".pcd": [PCD_TEXT, packed_pcd(), saved(".pcd")],
    **{suffix: [text, saved(suffix)] for suffix, text in TEXTS.items()},
    **numpy_files(),
}
"""Valid files for each reader of ours."""
FOREIGN = [".las", ".laz", ".e57"]
CASES = [(suffix, index) for suffix, samples in OWN.items() for index in range(len(samples))]
