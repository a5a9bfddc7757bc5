"""Every attack is refused in one line, at once and without memory."""

import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from becalm.compression import archive
from becalm.core import tensor_files, trajectory
from becalm.core.files import InputError
from becalm.core.limits import STRICT, Limits, check_time, current_limits, limited_to
from becalm.images import idx, image_files, pools
from becalm.images.digits import read_mnist
from becalm.points import Cloud, read, write
from becalm.points import mesh as npz_mesh
from becalm.shapes import meshfiles, sets
from becalm.weights import importer, store
from tests.attacks import makers

FORMAT = image_files.ImageFormat(28, 28, 1, 256)
MESH, MNIST, IMAGES = ("vertices", "faces"), ("x_train", "y_train", "x_test", "y_test"), ("x_train", "x_test")


def named(maker, names):
    """A maker of an archive with these arrays."""
    return partial(maker, names=names)


def read_bcz(path: Path):
    return archive.unpack(archive.read(path), path)


def read_state(path: Path):
    return tensor_files.read_tensors(path, "becalm.state")


ATTACKS = {
    "scan npz bomb": (makers.npz_bomb, read),
    "scan npz liar": (makers.npz_liar, read),
    "scan npz promise": (makers.npz_promise, read),
    "scan npy nested": (makers.npy_nested, read),
    "scan npy damaged": (makers.npy_damaged, read),
    "laz of zeros": (makers.laz_of_zeros, read),
    "pcd bomb": (makers.pcd_bomb, read),
    "ply empty lists": (makers.ply_empty_lists, read),
    "ply long list": (makers.ply_long_list, read),
    "ply properties": (makers.ply_properties, read),
    "e57 tree": (makers.e57_tree, read),
    "mesh npz bomb": (named(makers.npz_bomb, MESH), npz_mesh.load),
    "mesh npz liar": (named(makers.npz_liar, MESH), npz_mesh.load),
    "mesh npz promise": (named(makers.npz_promise, MESH), npz_mesh.load),
    "mesh ply": (makers.ply_mesh_of_nothing, meshfiles.read),
    "mesh stl cut": (makers.stl_cut, meshfiles.read),
    "mesh off cut": (makers.off_without_end, meshfiles.read),
    "ldraw bomb": (named(makers.npz_bomb, ("lo", "hi", "split", "label", "classes", "ids")), sets.load_ldraw),
    "image npz bomb": (named(makers.npz_bomb, ("a",)), partial(image_files.read, expected=FORMAT)),
    "image npz liar": (named(makers.npz_liar, ("a",)), partial(image_files.read, expected=FORMAT)),
    "image npy nested": (makers.npy_nested, partial(image_files.read, expected=FORMAT)),
    "image npy damaged": (makers.npy_damaged, partial(image_files.read, expected=FORMAT)),
    "mnist bomb": (named(makers.npz_bomb, MNIST), read_mnist),
    "training images bomb": (named(makers.npz_bomb, IMAGES), pools.read_npz),
    "idx bomb": (makers.idx_bomb, idx.read),
    "idx long": (makers.idx_long, idx.read),
    "idx overflow": (makers.idx_overflow, idx.read),
    "idx empty": (makers.idx_empty, idx.read),
    "weights of many layers": (makers.weights_of_many_layers, store.load),
    "weights of nested json": (makers.weights_of_nested_json, store.load),
    "weights of nonsense": (makers.weights_of_nonsense, store.load),
    "bcz groups": (makers.bcz_groups, read_bcz),
    "bcz nested": (makers.bcz_nested, read_bcz),
    "bcz bomb": (makers.bcz_bomb, read_bcz),
    "trajectory nested": (makers.trajectory_nested, trajectory.read),
    "checkpoint cut": (makers.checkpoint_cut, importer.read_official),
    "state cut": (makers.state_cut, read_state),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_at_once(tmp_path, name):
    maker, reader = ATTACKS[name]
    path = maker(tmp_path)
    for measure in (False, True):  # the first time imports what is needed
        started = time.process_time()
        if measure:
            tracemalloc.start()
        with pytest.raises(InputError) as caught:
            reader(path)
        peak = tracemalloc.get_traced_memory()[1] if measure else 0
        tracemalloc.stop()
    assert peak < 50e6
    assert time.process_time() - started < 5  # with its memory counted, on a busy machine
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_hold_where_they_are_set(tmp_path):
    write(Cloud(np.random.default_rng(0).random((100, 3))), tmp_path / "a.ply")
    write(Cloud(np.random.default_rng(0).random((100, 3))), tmp_path / "a.laz")
    with limited_to(Limits(points=99)):
        for suffix in ("ply", "laz"):
            with pytest.raises(InputError, match="100 points; at most 99"):
                read(tmp_path / f"a.{suffix}")
    with limited_to(Limits(attributes=2)), pytest.raises(InputError, match="3 attributes; at most 2"):
        read(tmp_path / "a.ply")
    with limited_to(Limits(seconds=-1.0)), pytest.raises(InputError, match="longer to read"):
        check_time("a.ply")
    with limited_to(STRICT):
        assert len(read(tmp_path / "a.ply")) == 100
    assert current_limits() == Limits()
    assert STRICT.points < Limits().points and STRICT.max_unpacked_bytes(10**9) < Limits().max_unpacked_bytes(10**9)
