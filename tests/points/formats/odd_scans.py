"""Makers of binary scans as other programs write them."""

import io
from collections.abc import Callable

import numpy as np

POINTS = np.random.default_rng(3).random((40, 3)).astype(np.float32).astype(np.float64) * [8, 4, 2]
POINTS = POINTS.astype(np.float32).astype(np.float64)
"""What every file holds, [40, 3], exact in float32."""


def pcd(fields: str, sizes: str, types: str, data: bytes, kind: str = "binary", points: int = 40) -> bytes:
    """A PCD file of 40 points."""
    count = " ".join("1" for _ in fields.split())
    head = f"VERSION 0.7\nFIELDS {fields}\nSIZE {sizes}\nTYPE {types}\nCOUNT {count}\nWIDTH {points}\nHEIGHT 1\n"
    return f"{head}VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {kind}\n".encode() + data


def records(**columns: np.ndarray | str) -> np.ndarray:
    """Structured rows [40] of columns, or of x, y, z where a column is named by a letter."""
    rows = np.zeros(40, [(name, "<f4" if isinstance(v, str) else np.asarray(v).dtype) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = POINTS[:, "xyz".index(values)] if isinstance(values, str) else values
    return rows


def ply(names: str, rows: np.ndarray, rest: bytes = b"", after: bytes = b"") -> bytes:
    """A binary PLY file with float properties."""
    types = {"<f4": "float", "|u1": "uchar", "<u2": "ushort"}
    head = "".join(f"property {types[rows.dtype[i].str]} {name}\n" for i, name in enumerate(names.split()))
    start = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{head}".encode()
    return start + rest + b"end_header\n" + rows.tobytes() + after


def npy(rows: np.ndarray) -> bytes:
    """An NPY file."""
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


XYZ = {"x": "x", "y": "y", "z": "z"}
CAPITALS = {"X": "x", "Y": "y", "Z": "z"}
BYTES = np.arange(40, dtype=np.uint8)
FACE = b"element face 1\nproperty list uchar int vertex_indices\n"

SCANS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PCD of PDAL": (
        ".pcd",
        lambda: pcd("X Y Z Intensity", "4 4 4 2", "F F F U", records(**CAPITALS, i=BYTES.astype("<u2")).tobytes()),
    ),
    "PCD of PDAL with colours": (
        ".pcd",
        lambda: pcd(
            "X Y Z Red Green Blue",
            "4 4 4 1 1 1",
            "F F F U U U",
            records(**CAPITALS, r=BYTES, g=BYTES, b=BYTES).tobytes(),
        ),
    ),
    "PCD in capitals, ascii": (
        ".pcd",
        lambda: pcd(
            "Z X Y", "4 4 4", "F F F", "\n".join(f"{z} {x} {y}" for x, y, z in POINTS.tolist()).encode(), "ascii"
        ),
    ),
    "PCD with a bool of PCL": (
        ".pcd",
        lambda: pcd("x y z valid", "4 4 4 1", "F F F B", records(**XYZ, v=BYTES % 2).tobytes()),
    ),
    "PCD with small types": (
        ".pcd",
        lambda: pcd("x y z ring", "4 4 4 2", "f f f u", records(**XYZ, r=BYTES.astype("<u2")).tobytes()),
    ),
    "PLY in capitals": (".ply", lambda: ply("X Y Z", records(**CAPITALS))),
    "PLY in capitals, turned": (".ply", lambda: ply("Z red X Y", records(Z="z", red=BYTES, X="x", Y="y"))),
    "PLY with faces": (".ply", lambda: ply("x y z", records(**XYZ), FACE, b"\3\0\0\0\0\1\0\0\0\2\0\0\0")),
    "NPY records in capitals": (".npy", lambda: npy(records(**CAPITALS, Intensity=BYTES))),
    "NPY records, packed": (".npy", lambda: npy(records(t=BYTES, **XYZ))),
}
"""Name -> suffix and maker."""


TURN = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])
PLACE = np.array([1.0, -2.0, 0.5])


def ptx_scan(
    points: np.ndarray, columns: int, values: str = " 0.5", place: np.ndarray = PLACE, end: str = "\n"
) -> bytes:
    """One scan of PTX, turned by a quarter and shifted to `place`."""
    axes = [" ".join(f"{value:.6f}" for value in row) for row in (place, *TURN)]
    matrix = [" ".join(f"{value:.6f}" for value in (*row, 0.0)) for row in TURN]
    matrix.append(" ".join(f"{value:.6f}" for value in (*place, 1.0)))
    local = ["0 0 0" if np.isnan(x) else f"{x!r} {y!r} {z!r}" for x, y, z in ((points - place) @ TURN.T).tolist()]
    head = [str(columns), str(len(points) // columns), *axes, *matrix]
    return (end.join([*head, *(line + values for line in local)]) + end).encode()


def float_rows(*more: np.ndarray) -> bytes:
    """float32 rows of the points and further columns."""
    return np.column_stack([POINTS, *more]).astype("<f4").tobytes()


FIXED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "KITTI": (".bin", lambda: float_rows(BYTES / 64)),
    "nuScenes": (".bin", lambda: float_rows(BYTES, BYTES % 32)),
    "PTX": (".ptx", lambda: ptx_scan(POINTS, 8)),
    "PTX of two scans": (".ptx", lambda: ptx_scan(POINTS[:20], 4) + ptx_scan(POINTS[20:], 5, place=-PLACE)),
    "PTX with colours": (".ptx", lambda: ptx_scan(POINTS, 8, " 0.25 1 2 255", end="\r\n")),
    "PTX without intensity": (".ptx", lambda: ptx_scan(POINTS, 8, "")),
    "PTX without a pose": (".ptx", lambda: b"40\n1\n" + b"0 0 0\n" + UNIT + UNIT_4 + xyz_lines()),
}
"""Files whose columns are fixed: name -> suffix and maker."""
UNIT, UNIT_4 = b"1 0 0\n0 1 0\n0 0 1\n", b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"


def xyz_lines() -> bytes:
    """The points as lines of x y z 0.5."""
    return "".join(f"{x!r} {y!r} {z!r} 0.5\n" for x, y, z in POINTS.tolist()).encode()
