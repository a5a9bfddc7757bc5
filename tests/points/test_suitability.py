"""Clouds that cannot be denoised as they are: degrees, Gaussian splats, missing returns."""

import numpy as np
import pytest

import becalm
from becalm.points import Cloud, ScanError, read, write
from becalm.points.decimals import count_decimals
from becalm.points.suitability import check_suitable, is_in_degrees


def plane(number: int = 400) -> np.ndarray:
    """A noisy plane about the origin of a scanner, [number, 3]."""
    random = np.random.default_rng(0)
    return np.column_stack([random.random((number, 2)) * 4 - 2, 3 + 0.01 * random.standard_normal(number)])


def degrees(decimals: int = 7) -> np.ndarray:
    """The same as a longitude, a latitude and a height in metres."""
    local = plane()
    return np.column_stack([np.round(13.4 + local[:, :2] * 1e-5, decimals), np.round(30 + local[:, 2], 3)])


def test_degrees_are_known_by_the_names_of_the_columns(tmp_path):
    path = tmp_path / "scan.csv"
    rows = "".join(f"{lat!r},{lon!r},{z!r}\n" for lon, lat, z in (plane() + [0, 50, 0]).tolist())
    path.write_text(f"Lat,Lon,Height\n{rows}")
    with pytest.warns(UserWarning, match="x, y, z are Lon, Lat, Height"):
        cloud = read(path)
    with pytest.raises(ScanError, match="scan.csv: x and y are degrees.*EPSG:32631.*--force"):
        becalm.denoise(cloud)
    assert becalm.denoise(cloud, force=True).points.shape == (400, 3)


def test_degrees_are_known_by_ranges_and_decimals():
    assert is_in_degrees(Cloud(degrees()))
    assert is_in_degrees(Cloud(degrees() + plane() * [0, 0, 1e-9]))  # all columns with the same decimals
    assert not is_in_degrees(Cloud(degrees() + [200, 0, 0]))
    assert not is_in_degrees(Cloud(plane()))
    pole = plane() * [0.01, 0.01, 1] + np.column_stack([np.zeros((400, 2)), np.linspace(0, 9, 400)])
    assert not is_in_degrees(Cloud(pole))
    assert not is_in_degrees(Cloud(np.round(pole, 3)))
    assert [count_decimals(np.array([values])) for values in (3.0, 52.1234567, 0.1 + 0.2)] == [0, 7, 1]


@pytest.mark.parametrize("projected", [False, True])
def test_degrees_are_known_by_the_coordinate_system_of_las(tmp_path, projected):
    laspy = pytest.importorskip("laspy")
    wkt = 'GEOGCS["WGS 84",DATUM["WGS_1984"]]'
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.scales = [1e-3, 1e-3, 1e-3]
    header.vlrs.append(laspy.vlrs.known.WktCoordinateSystemVlr(f'PROJCS["UTM",{wkt}]' if projected else wkt))
    las = laspy.LasData(header)
    las.xyz = plane()
    las.write(tmp_path / "scan.las")
    assert is_in_degrees(read(tmp_path / "scan.las")) is not projected


def test_gaussian_splats_are_refused():
    splat = {name: np.zeros(400, np.float32) for name in ("f_dc_0", "scale_0", "rot_0")}
    with pytest.raises(ScanError, match="holds Gaussian splats"):
        check_suitable(Cloud(plane(), splat))
    check_suitable(Cloud(plane(), {"f_dc_0": splat["f_dc_0"]}))


def test_missing_returns_are_no_points(tmp_path):
    xyz = plane()
    xyz[::4] = 0
    cloud = Cloud(xyz)
    assert np.array_equal(cloud.measured, np.arange(400) % 4 != 0)
    assert cloud.origin[2] > 2.9
    alone = becalm.denoise(xyz[cloud.measured], outliers="flag")
    for suffix in (".ply", ".las", ".xyz"):
        write(cloud, tmp_path / f"scan{suffix}")
        result = becalm.denoise(tmp_path / f"scan{suffix}", outliers="flag")
        assert not result.points[::4].any()
        assert not result.outlier[::4].any()
        assert result.report.missing == 100
        assert result.report.noise_before == pytest.approx(alone.report.noise_before, rel=0.2)
    single = plane()
    single[0] = 0
    assert Cloud(single).measured.all()
