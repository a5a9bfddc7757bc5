"""A roof of two triangles in every mesh format."""

import numpy as np
import pytest

OBJ = b"""# a roof
mtllib roof.mtl
v  0 0 0.50 1 0 0
v 1.0 0 5e-1 1 0 0
v 1 1 1.25 0 1 0
vn 0 0 1
usemtl tiles
f 1//1 2//1 3//1
v 0 1 1 0 1 0
f 1//1 3//1 4//1
"""
OFF = b"""OFF
# a roof
4 2 5
0 0 0.50
1.0 0 5e-1

1 1 1.25
0 1 1
3 0 1 2
3 0 2 3
"""
ROOF = np.array([[0, 0, 0.5], [1, 0, 0.5], [1, 1, 1.25], [0, 1, 1]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def scene_bytes(suffix: str, shift=(0.0, 0.0, 0.0)) -> bytes:
    """The roof as trimesh writes it."""
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.Trimesh(ROOF, FACES, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(mesh, transform=trimesh.transformations.translation_matrix(shift))
    return (mesh if suffix == ".stl" else scene).export(file_type=suffix[1:])


MAKERS = {".obj": lambda: OBJ, ".off": lambda: OFF, ".stl": lambda: scene_bytes(".stl")}
MAKERS[".glb"] = lambda: scene_bytes(".glb", (5.0, 0.0, 0.0))
"""Suffix -> maker."""
