"""Large scans, several scans and want of memory, as the command has them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from becalm.cli import main
from becalm.cli.denoise import Denoise
from becalm.cli.denoise_many import expand_scans
from becalm.cli.tile_options import parse_memory, parse_tiling
from becalm.core.files import InputError
from becalm.points import Cloud, read, write
from becalm.tasks.denoise_large import tiles_folder
from tests.tasks.smoothing import Smoothing


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    monkeypatch.setattr("becalm.tasks.denoise.load", lambda *_: Smoothing())


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for name in ("a.laz", "b.ply", "c.laz"):
        xyz = np.c_[rng.uniform(0, 30, (3000, 2)), 0.02 * rng.standard_normal(3000)]
        write(Cloud(xyz, {"intensity": rng.integers(0, 999, 3000).astype(np.uint16)}), tmp_path / "scans" / name)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["denoise", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


TILES = ("--tile", 1000, "--workers", 1)


@pytest.mark.parametrize("name", ["a.laz", "b.ply", "d.xyz", "e.pcd"])
def test_a_scan_in_tiles_is_summed_up_like_one_in_one_piece(capsys, folder, name):
    if name not in os.listdir(folder / "scans"):
        write(read(folder / "scans" / "b.ply"), folder / "scans" / name)
    options = ("--outliers", "flag", "--details", "--json")
    code, out, err = run(capsys, folder / "scans" / name, "-o", folder / f"tiles-{name}", *TILES, *options)
    assert code == 0, err
    whole = json.loads(run(capsys, folder / "scans" / name, "-o", folder / f"whole-{name}", *options)[1])
    tiled = json.loads(out)
    assert tiled.keys() == whole.keys()
    assert (tiled["points"], tiled["outliers"]) == (3000, whole["outliers"])
    assert tiled["displacement_median"] == pytest.approx(whole["displacement_median"], rel=1e-3)
    first, second = read(folder / f"tiles-{name}"), read(folder / f"whole-{name}")
    np.testing.assert_allclose(first.xyz, second.xyz, atol=1e-3)
    assert first.attributes.keys() == second.attributes.keys()


def test_a_large_scan_can_be_drawn_and_summed_up_in_words(capsys, folder):
    code, out, err = run(
        capsys, folder / "scans/a.laz", "-o", folder / "out.laz", *TILES, "--picture", folder / "p.png"
    )
    assert code == 0, err
    assert "3,000" in out
    assert "out.laz" in out
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_scan_of_another_format_is_tiled_in_memory(capsys, folder):
    code, _out, err = run(capsys, folder / "scans/b.ply", "-o", folder / "out.npz", *TILES)
    assert code == 0, err
    assert len(read(folder / "out.npz")) == 3000


def test_several_scans_go_into_a_folder_and_one_that_is_bad_stops_none(capsys, folder):
    (folder / "scans/bad.laz").write_bytes(b"LASF")
    code, out, err = run(capsys, folder / "scans", "-o", folder / "cleaned")
    assert code == 1
    assert "1 of 4 scans were not denoised" in err
    assert "bad.laz: " in err
    lines = out.strip().splitlines()
    assert len(lines) == 5
    assert sum("3,000" in line for line in lines) == 3
    assert sorted(path.name for path in (folder / "cleaned").iterdir()) == ["a.laz", "b.ply", "c.laz"]


def test_patterns_and_json_for_several_scans(capsys, folder):
    pattern = folder / "scans/*.laz"
    code, out, err = run(capsys, pattern, folder / "scans/b.ply", "-o", folder / "cleaned", "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["scan"].rsplit("/")[-1] for row in rows] == ["a.laz", "c.laz", "b.ply"]
    assert all(row["points"] == 3000 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{f}/none/*.laz",), "no file fits this pattern"),
        (("{f}/scans", "-o", "{f}/scans/a.laz"), "give a folder"),
        (("{f}/scans", "--picture", "{f}/p.png"), "are for one scan"),
        (("{f}/scans/a.laz", "--tile", "3"), "at least 1000"),
        (("{f}/scans/a.laz", "-o", "{f}/out.abc"), "unknown suffix '.abc'"),
        (("{f}/scans/b.ply", "--scale", "0.01"), "--scale is for .las and .laz"),
        (("{f}/scans/a.laz", "--scale", "-1"), "--scale -1: give a length above 0"),
        (("{f}/scans/a.laz", "--keep-types"), "--keep-types is for .ply .pcd .npy .npz"),
        (("{f}/scans/a.laz", "--buffer", "wide"), "--buffer wide"),
        (("{f}/scans/a.laz", "--memory", "much"), "--memory much"),
        (("{f}/scans/a.laz", "--workers", "0"), "--workers 0"),
        (("{f}/scans/a.laz", "--tile", "1000", "--cluster", "tcp://127.0.0.1:1"), "--cluster tcp://127.0.0.1:1"),
    ],
)
def test_wrong_options_are_one_line(capsys, folder, monkeypatch, arguments, message):
    monkeypatch.setattr("becalm.tasks.workers.CONNECT_SECONDS", 1)
    code, _out, err = run(capsys, *(argument.format(f=folder) for argument in arguments))
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not [path for path in (folder / "scans").iterdir() if path.name.startswith(".")]


def test_an_output_of_no_format_is_refused_before_the_scan_is_read(capsys, folder):
    code, _out, err = run(capsys, folder / "none.laz", "-o", folder / "out.abc")
    assert code == 1
    assert "out.abc: unknown suffix" in err


def test_outputs_of_earlier_runs_are_no_scans_of_a_folder(folder):
    (folder / "scans/a.denoised.laz").touch()
    assert [path.name for path in expand_scans([folder / "scans"])] == ["a.laz", "b.ply", "c.laz"]


def test_a_scale_holds_for_tiles_too(capsys, folder):
    laspy = pytest.importorskip("laspy")
    code, _out, err = run(capsys, folder / "scans/a.laz", "-o", folder / "out.laz", *TILES, "--scale", "0.004")
    assert code == 0, err
    with laspy.open(folder / "out.laz") as file:
        assert file.header.scales.tolist() == [0.004] * 3
    assert not Denoise(folder / "scans/a.laz", scale=0.004, keep_types=True).needs_memory()


@pytest.mark.parametrize(("options", "size"), [((), 24), (("--keep-types",), 12)])
def test_types_are_kept_in_tiles_where_asked(capsys, folder, options, size):
    cloud = read(folder / "scans/b.ply")
    far = np.zeros(len(cloud), [(axis, "<f4") for axis in "xyz"])
    for axis, values in zip("xyz", cloud.xyz.T + [[500_000], [0], [0]], strict=True):
        far[axis] = values
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(far)}\n"
    head += "property float x\nproperty float y\nproperty float z\nend_header\n"
    (folder / "far.ply").write_bytes(head.encode() + far.tobytes())
    code, _out, err = run(capsys, folder / "far.ply", "-o", folder / "out.ply", *TILES, *options)
    assert code == 0, err
    body = (folder / "out.ply").read_bytes().split(b"end_header\n", 1)[1]
    assert len(body) == size * len(far)


def test_an_interruption_says_that_tiles_are_kept(capsys, folder, monkeypatch):
    def stop(stream, output, *_arguments, **_options):
        tiles_folder(output).mkdir()
        (tiles_folder(output) / "plan.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("becalm.tasks.denoise_large.iter_denoise_stream", stop)
    code, _out, err = run(capsys, folder / "scans/a.laz", "-o", folder / "out.laz", *TILES)
    assert code == 130
    assert "finished tiles are kept: the same command continues" in err


def test_want_of_memory_is_one_line(capsys, folder, monkeypatch):
    def want(*_):
        raise MemoryError("Unable to allocate 13.6 GiB for an array")

    monkeypatch.setattr("becalm.points.denoise.iter_denoise_cloud", want)
    code, _, err = run(capsys, folder / "scans/a.laz", "-o", folder / "out.laz")
    assert code == 1
    assert "13.6 GiB" in err
    assert "GB are free" in err
    assert "--memory" in err
    assert not (folder / "out.laz").exists()


def test_memory_in_words():
    assert parse_memory("4GB") == parse_memory("4 GiB") == parse_memory("4g") == 4 << 30
    assert parse_memory("1.5M") == 3 << 19
    assert parse_memory(None) is None
    with pytest.raises(InputError):
        parse_memory("0")
    assert parse_tiling(None, "auto", None, None, None).workers == len(os.sched_getaffinity(0))


def test_a_terminated_run_leaves_no_part_behind(folder):
    code = "import sys; from becalm.cli import main; import becalm.tasks.denoise as d\n"
    code += "from tests.tasks.smoothing import Smoothing\n"
    code += "d.load = lambda *_: Smoothing(seconds=30)\nprint('ready', flush=True)\nmain(sys.argv[1:])"
    command = [sys.executable, "-c", code, "denoise", str(folder / "scans/a.laz"), "-o", str(folder / "out.laz")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (143, -15)
    assert sorted(path.name for path in folder.iterdir()) == ["scans"]
