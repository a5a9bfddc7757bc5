"""Readers are total: whatever bytes a file has, there is a value or one line that says what is wrong with it."""

import io
import json
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from becalm.core import trajectory
from becalm.core.files import InputError
from becalm.core.tensor_files import write_tensors
from becalm.images import idx, image_files, pools, puzzle_picture
from becalm.images.digits import read_mnist
from becalm.points.mesh import Mesh
from becalm.shapes import meshfiles
from becalm.systems.jets import Jets
from becalm.weights import importer, store
from tests.attacks import makers
from tests.attacks.test_attacks import FORMAT, read_bcz, read_state

TETRAHEDRON = Mesh(
    np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]), np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3]])
)
QUADS = (
    b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nelement face 1\n"
)
QUADS += b"property list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"


def numpy_bytes(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy_bytes(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def torch_bytes(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def state_bytes() -> bytes:
    path = Path(tempfile.mkdtemp()) / "state.safetensors"
    write_tensors(path, {"model.a": torch.zeros(3)}, "becalm.state", {"step": 1})
    return path.read_bytes()


def png_bytes() -> bytes:
    """A grey picture of 8 × 8 pixels."""
    rows = zlib.compress(b"".join(b"\0" + bytes(range(row, row + 8)) for row in range(8)))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bcz_bytes() -> bytes:
    from hashlib import sha256

    fields = {"model": "", "shape": [1, 1, 1], "levels": 2, "count": 2, "steps": 1, "groups": [[1, 2]], "initial": 0}
    fields |= {"unused": 0, "words": 1, "images": "", "where": {"threads": 1}, "payload": sha256(bytes(4)).hexdigest()}
    folder = Path(tempfile.mkdtemp())
    return makers._archive(folder, "a.bcz", json.dumps(fields).encode()).read_bytes()


def samples() -> dict[str, tuple[str, bytes, object]]:
    torch.manual_seed(0)
    pictures = np.zeros((2, 28, 28), np.uint8)
    digits = {
        f"{axis}_{part}": pictures if axis == "x" else np.zeros(2, np.uint8)
        for axis in "xy"
        for part in ("train", "test")
    }
    moves = {name: torch.zeros(1, 1, 1, 1) for name in "ztx"}
    model = {"becalm": json.dumps({"model": "jets", "config": {"width": 16, "layers": 1, "channels": 4}})}
    encoded = {suffix: encode(TETRAHEDRON) for suffix, encode in meshfiles.WRITERS.items()}
    images = image_files.read
    return {
        **{f"mesh{suffix}": (suffix, data, meshfiles.read) for suffix, data in encoded.items()},
        "mesh.off": (".off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", meshfiles.read),
        "quads": (".ply", QUADS, meshfiles.read),
        "words of stl": (".stl", b"solid\n" + b"vertex 1 2 3\nvertex 2 3 5\nvertex 7 8 9\n" * 2, meshfiles.read),
        "mesh.npz": (".npz", numpy_bytes(vertices=TETRAHEDRON.vertices, faces=TETRAHEDRON.faces), meshfiles.read),
        "images.npz": (".npz", numpy_bytes(a=pictures), lambda path: images(path, FORMAT)),
        "images.npy": (".npy", npy_bytes(pictures), lambda path: images(path, FORMAT)),
        "idx": (".idx", idx.encode(pictures, False), idx.read),
        "idx.gz": (".gz", idx.encode(pictures, True), idx.read),
        "mnist": (".npz", numpy_bytes(**digits), read_mnist),
        "pool": (".npz", numpy_bytes(x_train=pictures, x_test=pictures), pools.read_npz),
        "weights": (".safetensors", save(Jets(16, 1).state_dict(), model), store.load),
        "trajectory": (".safetensors", save(moves, {"becalm.record": '{"version": 1}'}), trajectory.read),
        "checkpoint": (".pt", torch_bytes({"state_dict": {"a": torch.zeros(3)}}), importer.read_official),
        "state": (".safetensors", state_bytes(), read_state),
        "bcz": (".bcz", bcz_bytes(), read_bcz),
        "puzzle": (".png", png_bytes(), puzzle_picture.read_image),
    }


SAMPLES = samples()


@st.composite
def mutations(draw, data: bytes) -> bytes:
    """Valid bytes with a few flipped, a part cut out, repeated or set to an extreme number, or the end cut off or extended."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        width = draw(st.sampled_from([1, 2, 4, 8, 40]))
        match draw(st.sampled_from(["flip", "cut", "repeat", "extreme", "truncate", "extend"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[place : place + width]
            case "repeat":
                data[place:place] = data[place : place + width] * draw(st.integers(1, 5))
            case "extreme":
                data[place : place + 4] = struct.pack("<I", draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1])))
            case "truncate":
                del data[place:]
            case "extend":
                data += bytes(width)
    return bytes(data)


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(choice=st.data())
def test_any_bytes_give_a_value_or_one_line(tmp_path_factory, name, choice):
    suffix, data, reader = SAMPLES[name]
    path = tmp_path_factory.mktemp("total") / f"file{suffix}"
    path.write_bytes(choice.draw(mutations(data)))
    try:
        reader(path)
        message = ""
    except (InputError, OSError) as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_no_attacks(tmp_path, name):
    suffix, data, reader = SAMPLES[name]
    (tmp_path / f"file{suffix}").write_bytes(data)
    if name == "checkpoint":
        with pytest.raises(InputError):
            reader(tmp_path / f"file{suffix}")
    else:
        assert reader(tmp_path / f"file{suffix}") is not None
