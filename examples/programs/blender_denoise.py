"""For Blender's text editor: cleans the vertices of the active mesh by the command `becalm`, into a new object beside it."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np

PROGRAM = "becalm"  # or its place, such as /home/me/becalm/.venv/bin/becalm


def clean_positions(xyz, program=PROGRAM):
    """The clean positions [n, 3] of points [n, 3], by the command: Blender's own Python needs neither torch nor becalm."""
    with tempfile.TemporaryDirectory() as folder:
        scan, output = Path(folder, "scan.npy"), Path(folder, "clean.npy")
        np.save(scan, np.asarray(xyz, np.float64))
        subprocess.run([program, "denoise", str(scan), "-o", str(output)], check=True)
        return np.load(output)


def main():
    """Clean the active object."""
    import bpy

    source = bpy.context.active_object
    vertices = source.data.vertices
    xyz = np.empty(3 * len(vertices))
    vertices.foreach_get("co", xyz)
    copy = source.copy()
    copy.data = source.data.copy()
    copy.name = f"{source.name} clean"
    copy.data.vertices.foreach_set("co", clean_positions(xyz.reshape(-1, 3))[:, :3].ravel())
    copy.data.update()
    bpy.context.collection.objects.link(copy)


if __name__ == "__main__":
    main()
