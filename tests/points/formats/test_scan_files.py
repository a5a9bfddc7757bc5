"""Writing: whole or not at all, never over the input."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from becalm.points import Cloud, ScanError, read, write
from becalm.points.formats import FORMATS, scan_files
from tests.points.formats.meshes import MAKERS as MESHES


def some() -> Cloud:
    return Cloud(np.random.default_rng(0).random((20, 3)))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix not in MESHES])
@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, suffix, existing):
    path = tmp_path / f"out{suffix}"
    if existing:
        path.write_bytes(b"the old one")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ScanError, match=r"out.*cannot be written \(No space left on device\); nothing was changed"):
        write(some(), path)
    assert listing(tmp_path) == ([path.name] if existing else [])
    assert not existing or path.read_bytes() == b"the old one"


def test_a_disk_that_fills_midway(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "out.ply"

    def fill():
        with scan_files.atomic_scan_file(path) as part, open("/dev/full", "wb") as file:
            part.write_bytes(b"half")
            file.write(b"\0" * 100_000)

    with pytest.raises(ScanError, match="No space left"):
        fill()
    assert listing(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path):
    def stop():
        with scan_files.atomic_scan_file(tmp_path / "out.ply") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert listing(tmp_path) == []


def test_the_input_is_never_the_output(tmp_path):
    path = tmp_path / "scan.ply"
    write(some(), path)
    before, cloud = path.read_bytes(), read(path)
    (tmp_path / "soft.ply").symlink_to(path)
    os.link(path, tmp_path / "hard.ply")
    for name in ("scan.ply", "soft.ply", "hard.ply", "../" + tmp_path.name + "/scan.ply"):
        with pytest.raises(ScanError, match="is the input itself, choose another output"):
            write(cloud, tmp_path / name)
    assert path.read_bytes() == before
    assert listing(tmp_path) == ["hard.ply", "scan.ply", "soft.ply"]


def test_a_link_keeps_pointing(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.ply").symlink_to(tmp_path / "real" / "scan.ply")
    write(some(), tmp_path / "link.ply")
    assert (tmp_path / "link.ply").is_symlink()
    assert len(read(tmp_path / "real" / "scan.ply")) == 20


def test_what_is_no_file_is_neither_read_nor_written(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    with pytest.raises(ScanError, match="not a regular file"):
        read(tmp_path / "pipe.ply")
    with pytest.raises(ScanError, match="not a regular file"):
        write(some(), tmp_path / "pipe.ply")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.ply", b"LASF" + bytes(300), "it looks like a LAS or LAZ scan: name it .las"),
        ("a.las", b"ply\nformat ascii 1.0\n", "it looks like a PLY scan: name it .ply"),
        ("a.laz", b"<!DOCTYPE html><html>404", "a web page or XML: download the scan itself"),
        ("a.e57", b"PK\x03\x04" + bytes(60), "a ZIP archive: unpack it"),
        ("a.ply", b"\x1f\x8b\x08" + bytes(60), "compressed by gzip: unpack it first"),
        ("a.pcd", b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        ("a.xyz", b'{"type": "FeatureCollection"}', "JSON: export the points"),
        ("a.ptx", b"this is no scan", "export it anew, or name it by its true format"),
        ("a.ply", b"this is no scan", "export it anew, or name it by its true format"),
        ("a.ply", b"ply\nformat ascii 1.0\n", "damaged or cut off: get the file anew"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_way_out(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ScanError, match=words) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
