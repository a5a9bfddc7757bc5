"""What a file will hold is known before it is written, and said where it undoes the work."""

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.formats.rounding import written_coordinates

RANDOM = np.random.default_rng(0)
UTM = RANDOM.random((60, 3)) * 10 + [500_000, 5_400_000, 300]


def las_of_scale(path, scale: float) -> Cloud:
    """A LAS file of that scale, read."""
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(version="1.2", point_format=0)
    header.scales, header.offsets = [scale] * 3, [500_000, 5_400_000, 0]
    las = laspy.LasData(header)
    las.xyz = UTM
    las.write(path)
    return read(path)


@pytest.mark.parametrize("suffix", [".las", ".laz", ".ply", ".pcd", ".npy", ".npz", ".bin", ".xyz", ".csv"])
@pytest.mark.parametrize("float32", [False, True])
def test_it_is_what_is_read_back(tmp_path, suffix, float32):
    xyz = (UTM - UTM.mean(axis=0)).astype(np.float32).astype(float) if float32 or suffix == ".bin" else UTM
    write(Cloud(xyz), tmp_path / f"in{suffix}")
    cloud = read(tmp_path / f"in{suffix}")
    moved = cloud.with_positions(cloud.xyz + RANDOM.standard_normal((60, 3)) * [0.01, 0, 0])
    write(moved, tmp_path / f"out{suffix}")
    written = written_coordinates(moved, tmp_path / f"out{suffix}")
    assert np.abs(written - read(tmp_path / f"out{suffix}").xyz).max() <= 1e-9
    other = tmp_path / ("out.las" if suffix != ".las" else "out.ply")
    write(moved, other)
    assert np.abs(written_coordinates(moved, other) - read(other).xyz).max() <= 1e-9


def test_a_coarse_scale_is_said_and_can_be_finer(tmp_path):
    cloud = las_of_scale(tmp_path / "in.las", 0.01)
    moved = cloud.with_positions(cloud.xyz + RANDOM.standard_normal((60, 3)) * 0.002)
    out = tmp_path / "out.las"
    with pytest.warns(UserWarning, match="scale 0.01 of the file is too coarse.*--scale 0.0001 keeps them"):
        write(moved, out)
    write(moved, out, pytest.fail, scale=0.0001)
    back = read(out)
    assert 1e-5 < np.abs(back.xyz - moved.xyz).max() <= 0.5001e-4
    assert np.abs(written_coordinates(back, out) - back.xyz).max() == 0
    write(cloud.with_positions(cloud.xyz + 1), out, pytest.fail)
    with pytest.raises(ScanError, match="--scale 0: give a length above 0"):
        write(moved, out, scale=0.0)
