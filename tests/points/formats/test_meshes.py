"""Meshes: their vertices are the points, and all else in the file is as it was."""

import json
import struct

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.formats import check_writable
from becalm.shapes import meshfiles
from tests.points.formats.meshes import FACES, MAKERS, OBJ, OFF, ROOF, scene_bytes


@pytest.mark.parametrize("suffix", MAKERS)
def test_vertices_move_and_faces_stay(tmp_path, suffix):
    path, out = tmp_path / f"roof{suffix}", tmp_path / f"out{suffix}"
    path.write_bytes(MAKERS[suffix]())
    cloud = read(path)
    assert np.array_equal(cloud.xyz, ROOF + [5.0 * (suffix == ".glb"), 0, 0])
    check_writable(cloud, out)
    write(cloud, out)
    if suffix in (".obj", ".off"):
        assert out.read_bytes() == path.read_bytes()
    lifted = cloud.xyz + [0, 0, 0.25] * (np.arange(4)[:, None] == 2)
    write(cloud.with_positions(lifted), out, lambda line: None)
    again = read(out)
    assert np.array_equal(again.xyz, lifted)
    if suffix == ".obj":
        assert out.read_bytes() == OBJ.replace(b"v 1 1 1.25", b"v 1 1 1.5")
    elif suffix == ".off":
        assert out.read_bytes() == OFF.replace(b"1 1 1.25", b"1 1 1.5")
    else:
        corners = cloud.source.header.corners if suffix == ".stl" else np.arange(4)
        assert np.array_equal(again.source.header.corners, corners)
        assert np.array_equal(again.source.header.triangles(), FACES)
        mesh = meshfiles.read(out)
        assert np.array_equal(mesh.vertices[mesh.faces], lifted[FACES])


def test_corners_at_one_place_are_one_vertex(tmp_path):
    (tmp_path / "roof.stl").write_bytes(scene_bytes(".stl"))
    cloud = read(tmp_path / "roof.stl")
    assert len(cloud) == 4 and len(cloud.source.header.corners) == 6
    write(cloud.with_positions(cloud.xyz * 2), tmp_path / "out.stl")
    data = (tmp_path / "out.stl").read_bytes()
    assert struct.unpack_from("<I", data, 80) == (2,)
    corners = np.frombuffer(data[84:], [("numbers", "<f4", (4, 3)), ("rest", "<u2")])["numbers"]
    assert np.allclose(np.linalg.norm(corners[:, 0], axis=1), 1)  # normals of the new triangles
    assert np.array_equal(corners[:, 1:], 2 * ROOF[FACES])


@pytest.mark.parametrize("suffix", [".obj", ".stl"])
def test_removed_vertices_stay_and_attributes_are_said_to_be_left_out(tmp_path, suffix):
    (tmp_path / f"roof{suffix}").write_bytes(MAKERS[suffix]())
    cloud, lines = read(tmp_path / f"roof{suffix}"), []
    part = cloud.with_positions(cloud.xyz + 1).with_attributes({"noise": np.ones(4)})[
        np.array([True, False, True, True])
    ]
    write(part, tmp_path / f"out{suffix}", lines.append)
    expected = ROOF + (np.arange(4)[:, None] != 1)
    assert np.array_equal(read(tmp_path / f"out{suffix}").xyz, expected)
    assert "cannot hold noise" in lines[0]
    assert suffix != ".obj" or "normals (vn)" in lines[1]


def test_points_are_no_mesh_and_a_mesh_is_more_than_points(tmp_path):
    for suffix in (".obj", ".off", ".stl", ".glb"):
        with pytest.raises(ScanError, match="write points as .ply"):
            write(Cloud(ROOF), tmp_path / f"out{suffix}")
    (tmp_path / "roof.off").write_bytes(OFF)
    with pytest.warns(UserWarning, match="faces of .*roof.off are left out"):
        write(read(tmp_path / "roof.off"), tmp_path / "out.ply")


@pytest.mark.parametrize(
    ("suffix", "data", "words"),
    [
        (".obj", b"f 1 2 3\n", "holds no vertices"),
        (".obj", b"v 1 2\nv 3 4\n", "2-D"),
        (".obj", b"v 1 2 3\nv 3 4\n", "line 2 has 3 values"),
        (".obj", b"ply\nformat ascii 1.0\n", "looks like a PLY scan: name it .ply"),
        (".off", b"OFF\n9 2 0\n1 2 3\n", "promises 9 vertices and 2 faces, the file holds 1"),
        (".stl", b"solid nothing\nendsolid\n", "is no"),
        (".glb", b"glTF" + struct.pack("<III", 2, 40, 20) + b"JSON" + b"{" * 20, "no JSON of glTF"),
    ],
)
def test_what_is_no_mesh_is_refused(tmp_path, suffix, data, words):
    if suffix in (".stl", ".glb"):
        pytest.importorskip("trimesh")
    (tmp_path / f"odd{suffix}").write_bytes(data)
    with pytest.raises(ScanError, match=words) as caught:
        read(tmp_path / f"odd{suffix}")
    assert "\n" not in str(caught.value)


def test_a_glb_cannot_promise_what_it_does_not_hold(tmp_path):
    pytest.importorskip("trimesh")
    text = json.dumps({"asset": {"version": "2.0"}, "accessors": [{"count": 10**12, "type": "VEC3"}]}).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A)
    (tmp_path / "zeros.glb").write_bytes(head + text)
    with pytest.raises(ScanError, match="promise to unpack"):
        read(tmp_path / "zeros.glb")
