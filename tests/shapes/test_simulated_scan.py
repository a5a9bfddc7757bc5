import numpy as np
import pytest

from becalm.shapes.simulated_scan import NO_HIT, Scene, cast_rays, distance_to_scene, ray_directions, simulate, yard


@pytest.mark.parametrize("seed", range(4))
def test_truth_lies_on_the_scene_and_noise_does_not(seed):
    scene = yard(np.random.default_rng(seed))
    scan = simulate(np.random.default_rng(seed), 8000, scene)
    assert distance_to_scene(scene, scan.truth).max() < 1e-9
    good = ~scan.outlier
    along = np.linalg.norm(scan.xyz - scan.truth, axis=1)[good] / scan.sigma[good]
    assert np.sqrt(np.mean(along**2)) == pytest.approx(1, abs=0.04)
    assert 0.002 < scan.outlier.mean() < 0.01


def test_nothing_hides_what_a_beam_meets():
    scene = yard(np.random.default_rng(1))
    eye, rays = np.array([0, 0, 2.0]), ray_directions(3000)
    distance, _ = cast_rays(scene, eye, rays)
    hit = distance < NO_HIT
    for share in (0.2, 0.5, 0.8, 0.95):
        on_the_way = eye + share * distance[hit, None] * rays[hit]
        inside = [np.all((on_the_way > low) & (on_the_way < high), axis=1) for low, high in scene.boxes]
        inside += [np.linalg.norm(on_the_way - b[:3], axis=1) < b[3] for b in scene.balls]
        assert not np.any(inside)
        assert np.all(on_the_way[:, 2] > 0)


def test_first_hit_and_its_normal():
    scene = Scene(np.array([[[2, -1, 0], [3, 1, 9.0]]]), np.array([[-5, 0, 1, 9.0]]), np.array([[0, 6, 2, 1.0]]))
    rays = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], dtype=float)
    distance, normal = cast_rays(scene, np.array([0, 0, 2.0]), rays)
    assert distance[:4] == pytest.approx([2, 4, 5, 2])
    assert distance[4] == NO_HIT
    assert normal[:4] == pytest.approx(-rays[:4])


def test_size_attributes_determinism():
    scan, again = (simulate(np.random.default_rng(0)) for _ in range(2))
    assert 25_000 < len(scan.xyz) < 36_000
    assert all(np.array_equal(a, b) for a, b in zip(scan, again, strict=True))
    assert scan.intensity.min() >= 0
    assert scan.intensity.max() <= 1
    assert scan.range == pytest.approx(np.linalg.norm(scan.xyz - [0, 0, 2], axis=1), rel=1e-5)
    assert np.all(np.diff(scan.sigma[np.argsort(np.linalg.norm(scan.truth - [0, 0, 2], axis=1))]) >= -1e-12)
