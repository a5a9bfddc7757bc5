"""Without an optional package the command says in one line which extra brings it."""

import sys

import numpy as np
import pytest

from becalm.cli import main
from becalm.points import Cloud, write

PCD = b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA binary_compressed\n"
PACKAGES = {
    "laspy": ("scan", ["info", "a.laz"]),
    "pye57": ("scan", ["info", "a.e57"]),
    "lzf": ("scan", ["info", "a.pcd"]),
    "trimesh": ("mesh", ["info", "a.stl"]),
    "PIL": ("images", ["solve", "a.png", "--mask", "b.png"]),
    "matplotlib": ("plots", ["denoise", "a.xyz", "-o", "b.xyz", "--picture", "c.png"]),
    "constriction": ("compress", ["compress", "digits8", "a.npy"]),
    "distributed": ("cluster", ["denoise", "a.xyz", "-o", "b.xyz", "--cluster", "tcp://127.0.0.1:1", "--tile", "1000"]),
    "starlette": ("page", ["serve", "--port", "0"]),
    "onnxscript": ("onnx", ["export", "jets", "a.onnx"]),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    xyz = np.random.default_rng(0).random((1600, 3))
    write(Cloud(xyz), tmp_path / "a.xyz")
    (tmp_path / "a.laz").write_bytes(b"LASF" + bytes(400))
    (tmp_path / "a.e57").write_bytes(b"ASTM-E57" + bytes(400))
    (tmp_path / "a.pcd").write_bytes(PCD + np.array([14, 12], "<u4").tobytes() + bytes(14))
    (tmp_path / "a.stl").write_bytes(bytes(80) + np.uint32(1).tobytes() + bytes(50))
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8), np.uint8))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")
    return tmp_path


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_one_line_that_names_its_extra(folder, package, monkeypatch, capsys):
    extra, words = PACKAGES[package]
    forgotten = (package, "becalm.page")  # the page's modules hold what they have imported
    for name in [
        name for name in sys.modules if name.startswith(tuple(f"{x}." for x in forgotten)) or name in forgotten
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "becalm[" in line]
    assert ended.value.code == 1, out + err
    assert len(lines) == 1, out + err
    assert f"becalm[{extra}]" in lines[0]
    assert not (folder / "b.xyz").exists() and not (folder / "a.onnx").exists()
