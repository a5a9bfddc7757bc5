"""Makers of files that attack a reader: small, and asking for time or memory without measure. Each writes one into a folder."""

import gzip
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np


def npy_header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """The first bytes of an NPY file of this shape, without the numbers."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(folder: Path, name: str, entries: dict[str, bytes]) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            archive.writestr(f"{entry}.npy", data)
    return path


def put(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def npz_bomb(folder: Path, names=("xyz",)) -> Path:
    """Zeros that inflate to 96 MB a member."""
    data = npy_header((4_000_000, 3)) + bytes(96_000_000)
    return npz(folder, "bomb.npz", dict.fromkeys(names, data))


def npz_liar(folder: Path, names=("xyz",)) -> Path:
    """A member that says it has 1 kB and inflates to 96 MB."""
    path = npz_bomb(folder, names)
    data, size = path.read_bytes(), struct.pack("<I", len(npy_header((4_000_000, 3))) + 96_000_000)
    assert data.count(size) >= 2
    path.write_bytes(data.replace(size, struct.pack("<I", 1000)))
    return path


def npz_promise(folder: Path, names=("xyz",)) -> Path:
    """A member whose header promises 24 TB."""
    return npz(folder, "promise.npz", dict.fromkeys(names, npy_header((10**12, 3)) + bytes(64)))


def npy_nested(folder: Path) -> Path:
    """A header of nine thousand opening brackets."""
    return put(folder, "deep.npy", b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000)


def npy_damaged(folder: Path) -> Path:
    """A header that is no Python."""
    head = npy_header((3, 3))
    return put(folder, "damaged.npy", head.replace(b"'descr'", b'"descr\\\n') + bytes(72))


def idx_bomb(folder: Path) -> Path:
    """200 MB of zeros in a gzipped IDX file."""
    data = bytes([0, 0, 8, 3]) + struct.pack(">3I", 200, 1000, 1000) + bytes(200_000_000)
    return put(folder, "bomb.gz", gzip.compress(data, 1))


def idx_long(folder: Path) -> Path:
    """A gzipped IDX file of one image that goes on for 200 MB."""
    data = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1, 28, 28) + bytes(200_000_000)
    return put(folder, "long.gz", gzip.compress(data, 1))


def idx_overflow(folder: Path) -> Path:
    """Axes whose product overflows 64 bits."""
    return put(folder, "overflow.idx", bytes([0, 0, 8, 4]) + struct.pack(">4I", *[2**31] * 4) + bytes(64))


def idx_empty(folder: Path) -> Path:
    """An axis of length 0 among axes of 2³² − 1."""
    return put(folder, "empty.idx", bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1))


def laz_of_zeros(folder: Path) -> Path:
    """2.5 million points of zeros: 85 MB from 2.5 MB."""
    import laspy

    header = laspy.LasHeader(version="1.4", point_format=7)
    las = laspy.LasData(header, laspy.ScaleAwarePointRecord.zeros(2_500_000, header=header))
    las.write(folder / "zeros.laz")
    return folder / "zeros.laz"


def pcd_bomb(folder: Path) -> Path:
    """A binary_compressed PCD of 192 MB in 2.2 MB: LZF's longest references, 88 to one."""
    points = 8_000_000
    size, block = 24 * points, b"\xe0\xff\x00"  # 264 bytes from just before
    packed = b"\x00\x00" + block * (size // 264)
    head = f"FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nWIDTH {points}\nHEIGHT 1\nPOINTS {points}\nDATA binary_compressed\n"
    return put(folder, "bomb.pcd", head.encode() + struct.pack("<II", len(packed), size) + packed)


PLY = b"ply\nformat binary_little_endian 1.0\n%selement vertex %d\n"
PLY += b"property float x\nproperty float y\nproperty float z\n%send_header\n"
LIST = b"property list uchar int a\n"


def ply_empty_lists(folder: Path) -> Path:
    """Twenty million faces without a corner before the vertices."""
    return put(folder, "lists.ply", PLY % (b"element face 20000000\n" + LIST, 1, b"") + bytes(20_000_012))


def ply_mesh_of_nothing(folder: Path) -> Path:
    """Twenty million faces without a corner behind the vertices, for the reader of meshes."""
    faces = b"element face 20000000\nproperty list uchar int vertex_indices\n"
    return put(folder, "mesh.ply", PLY % (b"", 1, faces) + bytes(20_000_012))


def ply_long_list(folder: Path) -> Path:
    """A list that says it has four thousand million items."""
    head = PLY % (b"element face 1\nproperty list uint double a\n", 1, b"")
    return put(folder, "long.ply", head + b"\xff" * 4 + bytes(100))


def ply_properties(folder: Path) -> Path:
    """As many properties as a header has room for."""
    extra = b"".join(b"property char a%x\n" % i for i in range(45_000))
    return put(folder, "wide.ply", PLY % (b"", 1, extra) + bytes(45_012))


def e57_tree(folder: Path) -> Path:
    """A million XML elements within one another."""
    xml = b"<a>" * 500_000
    body = b"".join(xml[i : i + 1020] + bytes(4) for i in range(0, len(xml), 1020))
    body += bytes(-len(body) % 1024)
    size = 1024 + len(body)
    head = b"ASTM-E57" + struct.pack("<IIQQQQ", 1, 0, size, 1024, len(xml), 1024)
    return put(folder, "deep.e57", head.ljust(1024, b"\0") + body)


def _weights(folder: Path, name: str, fields: str) -> Path:
    from safetensors.torch import save_file

    from becalm.systems.jets import Jets

    save_file(Jets(width=16, layers=1).state_dict(), folder / name, {"becalm": fields})
    return folder / name


def weights_of_many_layers(folder: Path) -> Path:
    """A configuration of 10⁸ layers beside the tensors of one."""
    config = {"width": 16, "layers": 10**8, "channels": 4}
    return _weights(folder, "layers.safetensors", json.dumps({"model": "jets", "config": config}))


def weights_of_nested_json(folder: Path) -> Path:
    """Metadata of a hundred thousand brackets."""
    return _weights(folder, "nested.safetensors", "[" * 100_000)


def weights_of_nonsense(folder: Path) -> Path:
    """A configuration whose values are of no use."""
    return _weights(folder, "odd.safetensors", json.dumps({"model": "jets", "config": {"width": [], "layers": {}}}))


def _archive(folder: Path, name: str, header: bytes) -> Path:
    deflated = zlib.compress(header, 9)
    data = b"\x89bcz\r\n\x1a\n" + struct.pack("<HII", 1, len(deflated), zlib.crc32(deflated)) + deflated
    return put(folder, name, data + bytes(4))


def bcz_groups(folder: Path) -> Path:
    """Sixty thousand million batches of one image of one pixel."""
    many = 60_000_000_000
    fields = {"model": "", "shape": [1, 1, 1], "levels": 2, "count": many, "steps": 1, "groups": [[1, many]]}
    fields |= {"initial": 0, "unused": 0, "words": 1, "images": "", "where": {"threads": 1}}
    from hashlib import sha256

    return _archive(folder, "groups.bcz", json.dumps(fields | {"payload": sha256(bytes(4)).hexdigest()}).encode())


def bcz_nested(folder: Path) -> Path:
    """A header of brackets without end."""
    return _archive(folder, "nested.bcz", b"[" * 500_000)


def bcz_bomb(folder: Path) -> Path:
    """A header that inflates to 60 MB."""
    return _archive(folder, "bomb.bcz", b"[" + b"1," * 30_000_000)


def trajectory_nested(folder: Path) -> Path:
    """A trajectory whose facts are brackets without end."""
    import torch
    from safetensors.torch import save_file

    tensors = {name: torch.zeros(1, 1, 1, 1) for name in "ztx"}
    save_file(tensors, folder / "nested.safetensors", {"becalm.record": "[" * 100_000})
    return folder / "nested.safetensors"


def checkpoint_cut(folder: Path) -> Path:
    """Half of a PyTorch checkpoint."""
    import torch

    file = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(100)}}, file)
    return put(folder, "cut.pt", file.getvalue()[: len(file.getvalue()) // 2])


def state_cut(folder: Path) -> Path:
    """The state of a training run without its second half."""
    import torch

    from becalm.core.tensor_files import write_tensors

    path = folder / "cut.safetensors"
    write_tensors(path, {"model.a": torch.zeros(100)}, "becalm.state", {"step": 1})
    return put(folder, path.name, path.read_bytes()[:300])


def stl_cut(folder: Path) -> Path:
    """An STL file of words that end in the middle of a corner."""
    return put(folder, "cut.stl", b"solid a\nvertex 1 2 3\nvertex 1 2 3\nvertex 1 2")


def off_without_end(folder: Path) -> Path:
    """An OFF file that ends after its counts."""
    return put(folder, "cut.off", b"OFF\n")
