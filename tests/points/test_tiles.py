"""The division of a scan into tiles: every point is in one, none is lost, and results come back in the order of the file."""

from pathlib import Path

import numpy as np
import pytest

from becalm.points import Cloud
from becalm.points.denoise import iter_denoise_cloud
from becalm.points.progress import final_progress
from becalm.points.tile_denoise import Settings, denoise_tile, rows_progress, scan_report, tile_part, weighted_median
from becalm.points.tiles import divide_scan, divide_space, load_tiles, surface_spacing, tile_numbers
from tests.tasks.smoothing import Smoothing

KEEP = Settings()


@pytest.fixture
def cloud() -> Cloud:
    """A rough surface far from zero, of uneven density, with a point that has no coordinates."""
    rng = np.random.default_rng(0)
    x = 40 * rng.beta(1, 3, 6000)
    xyz = np.c_[x, rng.uniform(0, 10, 6000), 0.02 * rng.standard_normal(6000)] + [500_000, 5_400_000, 300]
    xyz[17] = np.nan
    return Cloud(xyz, {"class": rng.integers(0, 9, 6000).astype(np.uint8)})


class Pieces:
    """A cloud in pieces."""

    def __init__(self, cloud: Cloud, pieces: int):
        self.cloud, self.pieces, self.count = cloud, pieces, len(cloud)

    def __iter__(self):
        for rows in np.array_split(np.arange(self.count), self.pieces):
            yield self.cloud[rows[0] : rows[-1] + 1]


def divided(cloud: Cloud, folder: Path, tile: int, parts: int = 4, carried=()):
    for _ in divide_scan(Pieces(cloud, parts), tile, folder, carried):
        pass
    return load_tiles(folder)


def run_all(tiles, buffer=None, settings=KEEP):
    for tile in tiles.numbers:
        tiles.save_result(tile, *denoise_tile(Smoothing(), tile_part(tiles, tile, buffer), settings))


def test_space_is_divided_into_boxes_of_equally_many_points():
    sample = np.random.default_rng(1).exponential(size=(9001, 3))
    counts = np.bincount(tile_numbers(divide_space(sample, 7), sample))
    assert len(counts) == 7
    assert np.ptp(counts) <= 7


def test_copies_of_one_position_end_in_one_tile():
    sample = np.ones((100, 3))
    assert len(np.unique(tile_numbers(divide_space(sample, 4), sample))) == 1


def test_every_point_with_coordinates_is_in_one_tile(cloud, tmp_path):
    tiles = divided(cloud, tmp_path, 1000)
    rows = np.concatenate([np.fromfile(tiles.path(tile, "rows"), np.int64) for tile in tiles.numbers])
    assert np.array_equal(np.sort(rows), np.flatnonzero(cloud.measured))
    points = np.concatenate([tiles.own_points(tile)["xyz"] for tile in tiles.numbers])
    assert np.array_equal(points, cloud.xyz[rows])
    assert 900 < tiles.counts.max() < 1100


def test_missing_returns_are_counted_over_the_whole_scan(cloud, tmp_path):
    xyz = cloud.xyz.copy()
    xyz[::600] = 0  # ten, of which each part has two or three
    tiles = divided(cloud.with_positions(xyz), tmp_path, 1000)
    assert tiles.counts.sum() == 6000 - 11


def test_surroundings_are_the_points_of_other_tiles_within_the_width(cloud, tmp_path):
    tiles = divided(cloud, tmp_path, 1000, carried=("class",))
    tile, width = 2, 0.7
    points, distances = tiles.surroundings(tile, width)
    xyz = cloud.xyz[cloud.measured]
    away = np.linalg.norm(np.maximum(tiles.low[tile] - xyz, xyz - tiles.high[tile]).clip(min=0), axis=1)
    expected = np.count_nonzero((away > 0) & (away <= width))
    assert len(points) == expected > 50
    assert distances.max() <= width
    where = {tuple(p): c for p, c in zip(cloud.xyz, cloud.attributes["class"], strict=True)}
    assert [where[tuple(p)] for p in points["xyz"]] == points["class"].tolist()


def test_surroundings_are_no_more_than_the_tile(cloud, tmp_path):
    tiles = divided(cloud, tmp_path, 1000)
    points, distances = tiles.surroundings(0, 1e6)
    assert len(points) == tiles.counts[0]
    assert distances.max() < 1e6


def test_tiles_give_what_the_whole_cloud_gives(cloud, tmp_path):
    tiles = divided(cloud, tmp_path, 1000)
    run_all(tiles)
    whole = final_progress(iter_denoise_cloud(cloud, Smoothing()))
    found = rows_progress(tiles, cloud, 0)
    np.testing.assert_allclose(found.xyz, whole.xyz, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.noise, whole.noise, rtol=1e-4)
    assert np.isnan(found.xyz[17]).all()
    half = rows_progress(tiles, cloud[3000:], 3000)
    assert np.array_equal(half.xyz, found.xyz[3000:], equal_nan=True)


def test_without_surroundings_there_are_seams(cloud, tmp_path):
    tiles = divided(cloud, tmp_path, 1000)
    run_all(tiles, buffer=0.0)
    whole = final_progress(iter_denoise_cloud(cloud, Smoothing()))
    assert np.nanmax(np.abs(rows_progress(tiles, cloud, 0).xyz - whole.xyz)) > 0.01


def test_outliers_are_found_across_tiles(cloud, tmp_path):
    xyz = cloud.xyz.copy()
    xyz[40, 2] += 3
    cloud = cloud.with_positions(xyz)
    tiles = divided(cloud, tmp_path, 1000)
    run_all(tiles, settings=Settings("flag"))
    found = rows_progress(tiles, cloud, 0)
    assert found.outlier[40]
    assert np.array_equal(found.xyz[40], xyz[40])
    assert scan_report(tiles).outliers == found.outlier.sum()


def test_the_report_is_about_all_tiles(cloud, tmp_path):
    from becalm.points.denoise import summarize

    tiles = divided(cloud, tmp_path, 1000)
    run_all(tiles)
    report, whole = scan_report(tiles), summarize(cloud, final_progress(iter_denoise_cloud(cloud, Smoothing())))
    assert (report.points, report.missing, report.outliers) == (6000, 1, 0)
    assert report.displacement_median == pytest.approx(whole.displacement_median, rel=1e-4)
    assert report.displacement_95 == pytest.approx(whole.displacement_95, rel=1e-4)
    assert report.noise_low == pytest.approx(whole.noise_low, rel=1e-4)
    assert report.noise_before == pytest.approx(whole.noise_before, rel=0.3)
    assert report.off_surface is None


def test_a_tile_of_few_positions_stays_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    xyz = np.concatenate([rng.random((2000, 3)), np.repeat(rng.random((5, 3)) + 1e4, 400, axis=0)])
    cloud = Cloud(xyz)
    tiles = divided(cloud, tmp_path, 2000)
    run_all(tiles)
    assert np.array_equal(rows_progress(tiles, cloud, 0).xyz[2000:], xyz[2000:])
    assert scan_report(tiles).points == 4000


def test_the_spacing_of_a_grid_is_its_step():
    grid = 0.5 * np.stack(np.meshgrid(np.arange(60), np.arange(60), [0]), axis=-1).reshape(-1, 3)
    assert surface_spacing(grid, 0.5) == pytest.approx(0.5, rel=0.15)


def test_the_weighted_median():
    assert weighted_median([3.0, 1.0, 2.0], [1, 1, 10]) == 2
    assert weighted_median([5.0], [2]) == 5
