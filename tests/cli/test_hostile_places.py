"""Terminals without UTF-8, closed streams, long names and full disks: the work is done, or one line says why not."""

import errno
import io
import os
import resource
import sys

import numpy as np
import pytest

from becalm.cli import main
from becalm.core.files import InputError
from becalm.points import Cloud, read, write
from becalm.points.tiles import Tiles
from becalm.systems.spd import SPD
from becalm.weights.store import load, save
from tests.tasks.smoothing import Smoothing


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
    monkeypatch.setattr("becalm.tasks.denoise.load", lambda *_: Smoothing())


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(0)
    write(Cloud(np.c_[rng.uniform(0, 30, (3000, 2)), 0.02 * rng.standard_normal(3000)]), tmp_path / "scan.ply")
    return tmp_path / "scan.ply"


def run(*words) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    return int(ended.value.code or 0)


def test_a_terminal_of_ascii_shows_what_it_can(scan, monkeypatch):
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    folder = scan.parent / "ähnlich-σ"
    folder.mkdir()
    assert run("denoise", scan, "-o", folder / "out.ply", "--details") == 0
    streams["stdout"].flush()
    assert b"out.ply" in streams["stdout"].buffer.getvalue()
    assert run("info", folder / "nothing-σ.ply") == 1
    streams["stderr"].flush()
    assert b"no such file" in streams["stderr"].buffer.getvalue()


@pytest.mark.parametrize("name", ["stderr", "stdout"])
def test_closed_streams_lose_nothing(scan, monkeypatch, name):
    monkeypatch.setattr(sys, name, None)
    assert run("denoise", scan, "-o", scan.parent / "out.ply") == 0
    assert len(read(scan.parent / "out.ply")) == 3000
    assert run("info", scan.parent / "nothing.ply") == 1


@pytest.mark.parametrize("tiles", [(), ("--tile", "1000")])
def test_a_name_of_245_bytes_is_a_name(scan, tiles):
    output = scan.parent / ("n" * 241 + ".ply")
    assert run("denoise", scan, "-o", output, *tiles) == 0
    assert sorted(os.listdir(scan.parent)) == sorted([scan.name, output.name])


@pytest.mark.parametrize("option", ["-o", "--tile", "--picture", "--record"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(scan, capsys, option):
    pytest.importorskip("matplotlib")
    outputs = {"-o": "out.ply", "--tile": "out.ply", "--picture": "out.png", "--record": "run.safetensors"}
    target = scan.parent / outputs[option]
    target.write_text("old")
    words = ["denoise", scan, "--force", "-o", scan.parent / "out.ply"]
    words += {"-o": [], "--tile": ["--tile", "1000"]}.get(option, [option, target])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = {"-o": 9_000, "--tile": 9_000, "--picture": 80_000, "--record": 80_000}[option]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        code = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 1
    assert len(lines) == 1 and str(target) in lines[0] and "oo large" in lines[0]
    assert target.read_text() == "old"
    assert [name for name in os.listdir(scan.parent) if name.startswith(".")] == []


def test_a_disk_that_fills_up_among_the_tiles_keeps_those_that_are_done(scan, capsys, monkeypatch):
    output, saved = scan.parent / "out.ply", []

    def save_result(tiles, tile, result, figures):
        if len(saved) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tiles.path(tile, "result")))
        saved.append(tile)
        original(tiles, tile, result, figures)

    original = Tiles.save_result
    with monkeypatch.context() as patch:
        patch.setattr(Tiles, "save_result", save_result)
        assert run("denoise", scan, "-o", output, "--tile", "1000", "--workers", "1") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and str(output) in lines[0] and "give the same command again" in lines[0]
    monkeypatch.setattr(
        Tiles, "save_result", lambda tiles, tile, *more: saved.append(tile) or original(tiles, tile, *more)
    )
    assert run("denoise", scan, "-o", output, "--tile", "1000", "--workers", "1") == 0
    assert len(set(saved)) == len(saved) == 3 and len(read(output)) == 3000


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = SPD(hidden=8, blocks=1)
    model.score.out.weight.data[0, 0] = float("nan")
    save(model, tmp_path / "nan.safetensors", {})
    with pytest.raises(InputError, match=r"nan\.safetensors: score\.out\.weight: has numbers that are not finite"):
        load(tmp_path / "nan.safetensors")
