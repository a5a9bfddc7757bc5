import numpy as np
import pytest

from becalm.points.cover import patch_cover


@pytest.mark.parametrize(("n", "size"), [(3, 1000), (40, 1000), (3000, 200), (5000, 1000)])
def test_weights_are_a_partition_of_unity(n, size):
    rng = np.random.default_rng(n)
    xyz = rng.normal(size=(n, 3)) * [1, 1, 0.05] * np.exp(rng.normal(size=(n, 1)))
    patches = patch_cover(xyz, size, 2.0)
    np.testing.assert_allclose(np.bincount(patches.members.ravel(), patches.weights.ravel(), n), 1, atol=1e-12)
    assert np.all(patches.weights >= 0)
    assert patches.members.shape[1] == min(n, size)
    assert all(len(set(row)) == len(row) for row in patches.members.tolist())
    away = np.linalg.norm(xyz[patches.members] - patches.centres[:, None], axis=2)
    np.testing.assert_allclose(away.max(axis=1), patches.radii, rtol=1e-12)


def test_a_far_point_has_a_patch_and_the_number_of_patches_is_linear():
    rng = np.random.default_rng(0)
    for n in (5000, 20_000):
        xyz = np.concatenate([rng.uniform(size=(n, 3)) * [1, 1, 0], [[50.0, 0, 0]]])
        patches = patch_cover(xyz, 500, 2.0)
        assert n in patches.members
        assert 2 * n / 500 <= len(patches.members) <= 8 * n / 500


def test_rim_weights_fall_to_nothing():
    xyz = np.random.default_rng(1).uniform(size=(4000, 3)) * [1, 1, 0]
    patches = patch_cover(xyz, 400, 3.0)
    assert np.median(patches.weights[:, -20:]) < 0.02
    assert np.median(patches.weights[:, :20]) > 0.2
