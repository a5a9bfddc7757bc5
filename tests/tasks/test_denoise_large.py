"""Scans larger than a tile, from file to file: the same bytes as in one piece, after a kill too, and nothing left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from becalm.core.files import InputError
from becalm.points import Cloud, read, write
from becalm.points.denoise import iter_denoise_cloud, point_attributes
from becalm.points.progress import final_progress
from becalm.points.tile_denoise import Settings
from becalm.tasks.denoise import denoise
from becalm.tasks.denoise_large import iter_denoise_stream, open_large
from becalm.tasks.tiling import Tiling, iter_denoise_large, plan_tiles
from tests.tasks.smoothing import Smoothing

TILING = Tiling(tile=1000)


def rough_cloud(n: int = 3000) -> Cloud:
    rng = np.random.default_rng(0)
    xyz = np.c_[rng.uniform(0, 30, (n, 2)), 0.02 * rng.standard_normal(n)] + [500_000, 5_400_000, 300]
    colours = {name: rng.integers(0, 65536, n).astype(np.uint16) for name in ("red", "green", "blue")}
    return Cloud(xyz, {**colours, "intensity": rng.integers(0, 65536, n).astype(np.uint16)})


def reports(scan: Path, output: Path, tiling=TILING, denoiser=None, **options):
    stream = open_large(scan, output, tiling)
    return iter_denoise_stream(stream, output, denoiser or Smoothing(), tiling=tiling, **options)


def run(scan: Path, output: Path, **options):
    *_, last = reports(scan, output, **options)
    return last.result


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("becalm.points.formats.stream.CHUNK", 700)
    monkeypatch.setattr("becalm.points.formats.e57_stream.CHUNK", 700)
    monkeypatch.setattr("becalm.points.formats.text_stream.BLOCK", 40_000)


@pytest.mark.parametrize("suffix", [".laz", ".las", ".ply", ".pcd", ".xyz"])
@pytest.mark.parametrize("outliers", ["keep", "remove"])
def test_a_file_in_tiles_is_the_file_in_one_piece(tmp_path, suffix, outliers):
    scan, output, whole = (tmp_path / f"{name}{suffix}" for name in ("scan", "out", "whole"))
    xyz = rough_cloud().xyz.copy()
    xyz[5, 2] += 4
    write(rough_cloud().with_positions(xyz), scan)
    report = run(scan, output, outliers=outliers, details=True).report
    cloud = read(scan)
    progress = final_progress(iter_denoise_cloud(cloud, Smoothing(), outliers))
    found = read(output)
    kept = ~progress.outlier if outliers == "remove" else np.ones(3000, bool)
    assert len(found) == kept.sum() == report.points - (report.outliers if outliers == "remove" else 0)
    np.testing.assert_allclose(found.xyz, progress.xyz[kept], atol=2e-3 if suffix in (".las", ".laz") else 1e-8)
    for name, values in cloud.attributes.items():
        assert np.array_equal(found.attributes[name], values[kept]), name
    for name, values in point_attributes(cloud, progress).items():
        np.testing.assert_allclose(found.attributes[name], values[kept], rtol=0.2, err_msg=name)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert not whole.exists()


@pytest.mark.parametrize("suffix", [".laz", ".ply"])
def test_a_stream_writes_what_the_writer_of_whole_files_writes(tmp_path, suffix):
    from becalm.points.formats.stream import open_stream

    scan, parts, whole = (tmp_path / f"{name}{suffix}" for name in ("scan", "parts", "whole"))
    write(rough_cloud(), scan)
    stream, cloud = open_stream(scan), read(scan)
    up, rise = [0, 0, 0.05], np.full(3000, 0.5, np.float32)
    moved = (part.with_positions(part.xyz + up).with_attributes({"rise": rise[: len(part)]}) for part in stream)
    stream.write(moved, 3000, parts, parts, print)
    write(cloud.with_positions(cloud.xyz + up).with_attributes({"rise": rise}), whole)
    assert parts.read_bytes() == whole.read_bytes()


def test_a_ply_keeps_the_other_elements_and_its_comments(tmp_path):
    rows = np.zeros(2000, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("label", "u1")])
    rng = np.random.default_rng(0)
    rows["x"], rows["y"], rows["label"] = rng.random(2000), rng.random(2000), rng.integers(0, 9, 2000)
    head = "ply\nformat binary_little_endian 1.0\ncomment by hand\nelement camera 1\nproperty double f\nelement vertex 2000\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "property uchar label\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    camera, face = np.pi, b"\x03" + np.array([0, 1, 2], "<i4").tobytes()
    data = head.encode() + np.float64(camera).tobytes() + rows.tobytes() + face
    (tmp_path / "scan.ply").write_bytes(data)
    run(tmp_path / "scan.ply", tmp_path / "out.ply")
    out = (tmp_path / "out.ply").read_bytes()
    assert out.startswith(data[: len(head) + 8])
    assert out.endswith(face)
    assert len(out) == len(data)
    assert np.array_equal(read(tmp_path / "out.ply").attributes["label"], rows["label"])


def test_a_cloud_in_memory_is_denoised_in_tiles():
    cloud = rough_cloud()
    *_, last = iter_denoise_large(cloud, Smoothing(), Settings(), TILING)
    whole = final_progress(iter_denoise_cloud(cloud, Smoothing()))
    np.testing.assert_allclose(last.xyz, whole.xyz, rtol=0, atol=1e-8)


def test_classes_and_viewpoints_hold_in_every_tile(tmp_path):
    cloud = rough_cloud()
    classes = np.random.default_rng(1).integers(1, 4, 3000).astype(np.uint8)
    write(cloud.with_attributes({"classification": classes}), tmp_path / "a.laz")
    options = {"only_class": [1, 2], "keep_class": [2], "viewpoint": (500_015.0, 5_400_015.0, 400.0)}
    run(tmp_path / "a.laz", tmp_path / "b.laz", details=True, **options)
    before, after = read(tmp_path / "a.laz"), read(tmp_path / "b.laz")
    moved = (after.xyz != before.xyz).any(axis=1)
    assert not moved[classes != 1].any()
    assert moved[classes == 1].mean() > 0.9
    assert np.isnan(after.attributes["noise"][classes == 3]).all()
    ray = before.xyz - options["viewpoint"]
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    move = after.xyz - before.xyz
    across = np.linalg.norm(move - (move * ray).sum(1, keepdims=True) * ray, axis=1)
    assert across.max() < 0.05 * np.linalg.norm(move, axis=1).max()
    whole = denoise(before, Smoothing(), **options)
    np.testing.assert_allclose(after.xyz, whole.points, atol=2e-3)


def write_grid(path: Path, rows: np.ndarray, place: np.ndarray) -> None:
    """A grid [40, 50, 3] of rays, in the scanner's frame, as a scanner at `place` writes it."""
    if path.suffix == ".e57":
        columns = dict(zip(("cartesianX", "cartesianY", "cartesianZ"), rows.reshape(-1, 3).T, strict=True))
        with pytest.importorskip("pye57").E57(str(path), mode="w") as file:
            file.write_scan_raw(columns, translation=place)
    elif path.suffix == ".ptx":
        shift = " ".join(f"{x:g}" for x in place)
        head = f"50\n40\n{shift}\n1 0 0\n0 1 0\n0 0 1\n1 0 0 0\n0 1 0 0\n0 0 1 0\n{shift} 1\n"
        points = rows.transpose(1, 0, 2).reshape(-1, 3).tolist()
        path.write_text(head + "".join(f"{x:.6f} {y:.6f} {z:.6f} 0.5\n" for x, y, z in points))
    else:
        head = "VERSION 0.7\nFIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 50\nHEIGHT 40\n"
        head += f"VIEWPOINT {' '.join(f'{x:g}' for x in place)} 1 0 0 0\nPOINTS 2000\nDATA binary\n"
        path.write_bytes(head.encode() + (rows + place).astype("<f8").tobytes())


def ray_grid() -> np.ndarray:
    """A wall 10 away, seen from the origin by even steps of two angles, ranges noisy."""
    elevation, azimuth = np.meshgrid(np.linspace(-0.4, 0.4, 40), np.linspace(-0.5, 0.5, 50), indexing="ij")
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], 2)
    return ray * (10 / ray[..., :1] + 0.02 * np.random.default_rng(0).standard_normal((40, 50, 1)))


@pytest.mark.parametrize("name", ["scan.e57", "scan.ptx", "scan.pcd"])
def test_the_place_of_the_sensor_that_a_file_names_holds_in_every_tile(tmp_path, name):
    place = np.array([100.0, 200.0, 5.0])
    write_grid(tmp_path / name, ray_grid(), place)
    output = tmp_path / f"out{Path(name).suffix}"
    assert run(tmp_path / name, output).report.points == 2000
    before, after = read(tmp_path / name), read(output)
    ray = (before.xyz - place) / np.linalg.norm(before.xyz - place, axis=1, keepdims=True)
    move = after.xyz - before.xyz
    assert np.linalg.norm(np.cross(move, ray), axis=1).max() < 1e-5 < 1e-3 < np.linalg.norm(move, axis=1).max()
    np.testing.assert_allclose(after.xyz, denoise(tmp_path / name, Smoothing()).points, atol=1e-5)


def test_a_viewpoint_that_an_organised_grid_contradicts_is_refused_or_not_used(tmp_path):
    write_grid(tmp_path / "scan.pcd", ray_grid(), np.array([100.0, 200.0, 5.0]))
    with pytest.raises(
        InputError, match="scan.pcd: --viewpoint 110 200 6: the file's grid does not fit rays from there"
    ):
        run(tmp_path / "scan.pcd", tmp_path / "out.pcd", viewpoint=(110.0, 200.0, 6.0))
    data = (tmp_path / "scan.pcd").read_bytes().replace(b"VIEWPOINT 100 200 5", b"VIEWPOINT 110 200 6")
    (tmp_path / "scan.pcd").write_bytes(data)
    warnings = []
    run(tmp_path / "scan.pcd", tmp_path / "out.pcd", warn=warnings.append)
    assert [line for line in warnings if "does not fit rays from VIEWPOINT" in line]


def test_scans_of_one_tile_and_other_formats_are_not_streamed(tmp_path):
    write(rough_cloud(), tmp_path / "a.laz")
    write(rough_cloud(), tmp_path / "a.xyz")
    assert open_large(tmp_path / "a.laz", tmp_path / "b.laz", Tiling(tile=3000)) is None
    assert open_large(tmp_path / "a.laz", tmp_path / "b.ply", TILING) is None
    assert open_large(tmp_path / "a.xyz", tmp_path / "b.csv", TILING) is None


def test_finished_tiles_are_not_begun_again(tmp_path):
    scan, output = tmp_path / "scan.laz", tmp_path / "out.laz"
    write(rough_cloud(), scan)
    run(scan, tmp_path / "whole.laz")
    first = reports(scan, output)
    for report in first:
        if report.done > 0.4:
            first.close()  # an interruption
    kept = next(path for path in tmp_path.iterdir() if path.suffix == ".tiles")
    times = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.result")}
    assert 1 <= len(times) < 3
    second = reports(scan, output)
    next(second)
    assert times == {name: (kept / name).stat().st_mtime_ns for name in times}
    assert list(second)[-1].result.report.points == 3000
    assert output.read_bytes() == (tmp_path / "whole.laz").read_bytes()
    assert not kept.exists()


def test_other_options_begin_anew_and_a_second_run_is_refused(tmp_path):
    scan, output = tmp_path / "scan.laz", tmp_path / "out.laz"
    write(rough_cloud(), scan)
    first = reports(scan, output)
    while next(first).done < 0.4:
        pass
    with pytest.raises(InputError, match="another run is writing it"):
        run(scan, output)
    first.close()
    assert run(scan, output, outliers="flag").report.points == 3000
    assert "outlier" in read(output).attributes


KILLED = """
import sys
from pathlib import Path
from becalm.points.formats import stream
from becalm.tasks.denoise_large import iter_denoise_stream, open_large
from becalm.tasks.tiling import Tiling
from tests.tasks.smoothing import Smoothing
scan, output = Path(sys.argv[1]), Path(sys.argv[2])
tiling = Tiling(tile=1000, workers=int(sys.argv[3]))
for report in iter_denoise_stream(open_large(scan, output, tiling), output, Smoothing(seconds=0.4), tiling=tiling):
    print(report.done, flush=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, workers):
    scan, output = tmp_path / "scan.laz", tmp_path / "out.laz"
    write(rough_cloud(), scan)
    run(scan, tmp_path / "whole.laz", denoiser=Smoothing(seconds=0.4))
    command = [sys.executable, "-c", KILLED, str(scan), str(output), str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if float(line) > 0.2:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    orphans = children.read_text().split() if children.exists() else []
    process.kill()
    process.wait()
    assert not output.exists()
    shares = [report.done for report in reports(scan, output, denoiser=Smoothing(seconds=0.4))]
    assert shares[0] > 0.5, "the tile that was finished is not begun again"
    assert output.read_bytes() == (tmp_path / "whole.laz").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    deadline = time.time() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in orphans) and time.time() < deadline:
        time.sleep(0.1)
    assert [pid for pid in orphans if Path(f"/proc/{pid}").exists()] == []


def test_a_worker_that_dies_costs_only_its_tile(tmp_path):
    scan, output = tmp_path / "scan.laz", tmp_path / "out.laz"
    write(rough_cloud(), scan)
    once = tmp_path / "once"
    once.touch()
    run(scan, output, tiling=Tiling(tile=1000, workers=2), denoiser=Smoothing(once=once))
    assert not once.exists()
    run(scan, tmp_path / "whole.laz")
    assert output.read_bytes() == (tmp_path / "whole.laz").read_bytes()


def test_a_worker_that_dies_again_and_again_ends_the_run_in_one_line(tmp_path):
    from becalm.tasks.workers import submitter

    with submitter(os._exit, 9, 2) as (submit, _), pytest.raises(InputError, match="want of memory"):
        submit().result()


def test_errors_of_a_tile_come_back_from_its_worker():
    from becalm.tasks.workers import submitter

    with submitter(int, "x", 2) as (submit, workers), pytest.raises(ValueError, match="'x'"):
        submit().result()
    assert workers == 2


def test_the_plan_fits_the_memory():
    assert plan_tiles(Tiling(memory=64 << 30, workers=2)) == (500_000, 2)
    few = plan_tiles(Tiling(memory=3 << 30, workers=8))
    assert few.tile < 500_000
    assert 1 <= few.workers < 8
    with pytest.raises(InputError, match="--memory"):
        plan_tiles(Tiling(memory=100 << 20))
    with pytest.raises(InputError, match="--tile"):
        Tiling(tile=10)


def test_an_absurd_noise_level_is_refused_before_the_work(tmp_path):
    write(rough_cloud(), tmp_path / "a.laz")
    with pytest.raises(InputError, match="noise 1e\\+09"):
        run(tmp_path / "a.laz", tmp_path / "b.laz", sigma=1e9)
    assert [path.name for path in tmp_path.iterdir()] == ["a.laz"]


def test_an_output_keeps_its_permissions_and_stale_parts_go(tmp_path):
    output, stale, fresh = tmp_path / "out.ply", tmp_path / ".becalm-0123456789ab.part", tmp_path / ".becalm-ff.part"
    for path in (output, stale, fresh):
        path.touch()
    output.chmod(0o600)
    os.utime(stale, (0, 0))
    write(rough_cloud(100), output)
    assert output.stat().st_mode & 0o777 == 0o600
    assert not stale.exists()
    assert fresh.exists(), "its owner may be about to lock it"


def test_the_workers_of_a_dask_cluster_take_the_tiles(tmp_path):
    distributed = pytest.importorskip("distributed")
    scan, output = tmp_path / "scan.laz", tmp_path / "out.laz"
    write(rough_cloud(), scan)
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "protocol": "tcp"}
    with distributed.LocalCluster(dashboard_address=None, host="127.0.0.1", **options) as cluster:
        run(scan, output, tiling=Tiling(tile=1000, cluster=cluster.scheduler_address))
    run(scan, tmp_path / "whole.laz")
    assert output.read_bytes() == (tmp_path / "whole.laz").read_bytes()
