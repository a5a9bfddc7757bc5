"""The small files that the lines of the documentation name."""

import shutil
from pathlib import Path

import numpy as np
import torch

from becalm.points import Cloud, write
from becalm.systems.spd import SPD
from becalm.systems.srm import SRM
from becalm.weights.packaged import WEIGHTS
from becalm.weights.store import save
from tests.docs.pages import ROOT
from tests.images.test_photograph import draw_page, example, photograph_of

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([[a, b, c] for a, b, c, d in QUADS] + [[a, c, d] for a, b, c, d in QUADS])


def write_scans(folder: Path) -> None:
    """Noisy spheres in several formats, a flat part of a shape, a cube as a mesh, a folder of meshes and one of shapes."""
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(600, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    noisy = sphere + 0.01 * rng.normal(size=sphere.shape)
    scan = Cloud(noisy, {"intensity": rng.integers(0, 999, 600).astype(np.uint16)})
    scans = [f"scan{suffix}" for suffix in (".ply", ".laz", ".las", ".pcd", ".e57")]
    for name in (*scans, "chair.ply", "table.ply", "noisy.ply"):
        write(scan, folder / name)
    write(Cloud(noisy), folder / "scan.xyz")
    write(Cloud(rng.uniform(-0.5, 0.5, (600, 3)) * [1, 0.1, 1]), folder / "seat.ply")
    for name in ("mesh.npz", "meshes/train.cube.npz"):
        (folder / name).parent.mkdir(exist_ok=True)
        np.savez(folder / name, vertices=CUBE, faces=FACES)
    corners = "".join(f"v {x} {y} {z}\n" for x, y, z in CUBE)
    (folder / "table.obj").write_text(corners + "".join(f"f {a} {b} {c}\n" for a, b, c in FACES + 1))
    (folder / "my-shapes" / "cube").mkdir(parents=True)
    for name in ("one.obj", "two.obj"):
        shutil.copy(folder / "table.obj", folder / "my-shapes" / "cube" / name)


def write_images(folder: Path) -> None:
    """The puzzles of the examples, a photograph, images of digits (also as MNIST), and data for the recipe srm."""
    from PIL import Image
    from sklearn.datasets import load_digits

    puzzles = ROOT / "examples" / "puzzles"
    shutil.copytree(puzzles, folder / "examples" / "puzzles")
    shutil.copy(puzzles / "sudoku4.png", folder / "puzzle.png")
    shutil.copy(puzzles / "sudoku4.mask.png", folder / "mask.png")
    cells, empty = example()
    photograph = photograph_of(draw_page(empty, cells))
    Image.fromarray((255 * photograph).byte().numpy()).save(folder / "photo.jpg")
    flat, labels = load_digits(return_X_y=True)
    small = flat.reshape(-1, 8, 8)
    np.save(folder / "images.npy", small[:3].astype(np.uint8))
    large = np.zeros((len(small), 28, 28), np.uint8)
    large[:, 2:26, 2:26] = np.minimum(16 * small, 255).repeat(3, 1).repeat(3, 2)
    halves = {"x_train": large[:1200], "y_train": labels[:1200], "x_test": large[1200:], "y_test": labels[1200:]}
    np.savez(folder / "mnist.npz", **halves)
    np.savez(folder / "mine.npz", x=np.random.default_rng(0).normal(size=(64, 6, 2)))


def write_models(folder: Path) -> None:
    """Untrained models, the packaged jets as a file, and a compressed image."""
    import becalm

    torch.manual_seed(0)
    save(SPD(hidden=16, blocks=1), folder / "spd.safetensors", {"task": "denoise clouds"})
    shutil.copy(WEIGHTS / "jets.safetensors", folder / "jets.safetensors")
    (folder / "runs" / "mine").mkdir(parents=True)
    shutil.copy(WEIGHTS / "jets.safetensors", folder / "runs" / "mine" / "jets.safetensors")
    places = [[k] for k in range(6)]
    save(SRM.build(channels=2, places=places, shape=[16, 2, 1, 1, 2]), folder / "runs/mine/srm.safetensors", {})
    (folder / "images.bcz").write_bytes(becalm.compress("digits8", np.load(folder / "images.npy"), steps=2))
