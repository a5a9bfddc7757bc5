"""Clean a cloud of Open3D: `python open3d_denoise.py scan.ply clean.ply`."""

import sys

import numpy as np
import open3d

import becalm


def clean_cloud(cloud):
    """An Open3D cloud at its clean positions; colours and normals stay as they are."""
    clean = open3d.geometry.PointCloud(cloud)
    clean.points = open3d.utility.Vector3dVector(np.array(becalm.denoise(cloud).points))
    return clean


if __name__ == "__main__":
    before = open3d.io.read_point_cloud(sys.argv[1])
    after = clean_cloud(before)
    open3d.io.write_point_cloud(sys.argv[2], after)
    print(f"mean distance moved: {sum(before.compute_point_cloud_distance(after)) / len(before.points):.4g}")
