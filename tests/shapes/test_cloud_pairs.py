import time

import numpy as np
import pytest

from becalm.points import mesh
from becalm.points.neighbours import knn
from becalm.points.triangles import squared_distances_to_triangles
from becalm.shapes import cloud_pairs


@pytest.mark.parametrize("index", range(8))
def test_rows_belong_together_and_are_made_fast_enough_for_a_trainer(index):
    start = time.process_time()
    clean, noisy, sigma, interior, *_ = cloud_pairs.cloud_pair(3, index)
    assert time.process_time() - start < 15
    n = len(clean)
    assert 500 <= n <= 7000
    assert clean.shape == noisy.shape == (n, 3)
    assert sigma.shape == interior.shape == (n,)
    assert interior.dtype == bool
    assert interior.mean() > 0.05
    assert np.isfinite(clean).all()
    assert np.isfinite(noisy).all()
    error, level = np.sqrt(np.square(noisy - clean).sum(1).mean() / 3), np.sqrt(np.square(sigma).mean())
    assert error == pytest.approx(level, rel=0.3)


def test_the_numbers_decide_everything():
    one, same = cloud_pairs.cloud_pair(0, 5), cloud_pairs.cloud_pair(0, 5)
    assert all(np.array_equal(a, b) for a, b in zip(one[:-1], same[:-1], strict=True))
    assert len({len(cloud_pairs.cloud_pair(s, i).clean) for s, i in [(0, 5), (0, 6), (1, 5)]}) == 3


def test_noise_covers_zero_to_four_and_a_half_spacings():
    rng = np.random.default_rng(0)
    level = np.array([cloud_pairs.random_noise_level(rng, 0.008) for _ in range(4000)]) / 0.008
    assert np.mean(level == 0) == pytest.approx(1 / 10, abs=0.02)
    assert level.max() == pytest.approx(4.5, abs=0.05)
    assert np.all(np.histogram(level, np.arange(0, 4.6, 0.5))[0] > 100)
    assert max(cloud_pairs.random_noise_level(rng, 0.05) for _ in range(400)) <= 0.04


@pytest.mark.parametrize("size", [3000, 10_000])
def test_interior_points_have_all_their_neighbours(size):
    rng = np.random.default_rng(0)
    clean = np.c_[rng.uniform(-1, 1, (10_000, 2)), np.zeros(10_000)]
    noisy = clean + 0.02 * rng.standard_normal(clean.shape)
    centre = np.array([0.2, 0.1, 0.0])
    pair = cloud_pairs.crop_pair(cloud_pairs.white_pair(clean, noisy, np.full(10_000, 0.02)), centre, size)
    assert len(pair.noisy) == size
    k = cloud_pairs.INTERIOR_NEIGHBOURS
    whole, crop = knn(noisy, k, pair.noisy)[0], knn(pair.noisy, k)[0]
    complete = np.all(np.isclose(whole, crop), axis=1)
    assert np.all(complete[pair.interior])
    assert pair.interior.sum() > 0.6 * complete.sum()
    assert (size == 10_000) == pair.interior.all()


def test_cropping_keeps_rows_and_the_known_radius():
    rng = np.random.default_rng(1)
    clean, sigma = rng.uniform(-1, 1, (6000, 3)), rng.random(6000)
    pair = cloud_pairs.crop_pair(cloud_pairs.white_pair(clean, clean + 1e-3, sigma), np.zeros(3), 5000, complete=0.8)
    rows = knn(clean, 1, pair.clean)[1][:, 0]
    assert np.array_equal(clean[rows], pair.clean)
    assert np.array_equal(sigma[rows], pair.sigma)
    assert pair.noisy == pytest.approx(pair.clean + 1e-3)
    assert np.linalg.norm(pair.noisy, axis=1).max() < 0.8


def test_regions_have_the_asked_density():
    rng = np.random.default_rng(0)
    candidates = rng.standard_normal((60_000, 3))
    candidates /= np.linalg.norm(candidates, axis=1)[:, None]
    spacing = cloud_pairs.estimate_spacing(candidates, 20_000)
    assert spacing == pytest.approx(np.sqrt(4 * np.pi / 20_000), rel=0.03)
    points, radius = cloud_pairs.sample_region(candidates, candidates[0], 20_000, 4000, 0.1, np.random.default_rng(0))
    assert np.sum(np.linalg.norm(points - candidates[0], axis=1) < radius) == pytest.approx(4200, rel=0.1)


def test_meshes_of_the_folder_are_used(tmp_path):
    corners = np.array([[0, 0, 0], [4, 0, 0], [0, 3, 0]])
    np.savez(tmp_path / "train.triangle.npz", vertices=corners, faces=np.array([[0, 1, 2]]))
    flat = 0
    for index in range(8):
        pair = cloud_pairs.cloud_pair(0, index, tmp_path)
        flat += np.linalg.svd(pair.clean - pair.clean.mean(0), compute_uv=False)[2] < 1e-9
    assert 1 <= flat < 8
    with pytest.raises(FileNotFoundError, match="train"):
        cloud_pairs.cloud_pair(0, 0, tmp_path / "none")


def test_points_of_a_real_mesh_lie_on_it(shared):
    path = shared("data/meshes/train.suzanne.npz")
    shape = cloud_pairs.load_mesh(path)
    draw = mesh.sample(shape, 500, np.random.default_rng(0)).points
    assert squared_distances_to_triangles(draw, mesh.triangles(shape)).max() < 1e-24
    assert cloud_pairs.load_mesh(path) is shape


@pytest.mark.parametrize("index", range(5))
def test_scanned_pairs_belong_together(index):
    pair = cloud_pairs.sensor_pair(np.random.default_rng(index))
    n = len(pair.clean)
    assert 300 <= n <= 12_000
    assert all(len(part) == n and np.isfinite(part).all() for part in pair)
    assert (pair.shared <= pair.sigma + 1e-12).all()
    of_surface = pair.surface & pair.interior
    if of_surface.sum() > 200:
        error = np.einsum("nc,nc->n", pair.noisy - pair.clean, pair.normals)[of_surface]
        ratio = np.sqrt(np.mean(error**2) / max(np.mean(pair.sigma[of_surface] ** 2), 1e-30))
        assert 0.1 < ratio < 10 or error.std() < 1e-9, "a wide correlated error is one draw, and may be far from its σ"


def test_training_pairs_are_of_both_kinds():
    kinds = set()
    for index in range(12):
        kinds.add(cloud_pairs.training_pair(0, index).normals is None)
        if len(kinds) == 2:
            return
    raise AssertionError(f"all twelve pairs have normals, or none has: {kinds}")
