import numpy as np
import pytest
import torch

from becalm.points.cover import PatchCover, patch_cover
from becalm.points.metrics import chamfer, point_to_surface
from becalm.systems.spd import (
    SPD,
    Ascent,
    ascend,
    blend_units,
    iter_denoise_paper,
    local_units,
    supervised_loss,
    unsupervised_loss,
)
from becalm.weights.importer import read_official


@pytest.fixture(scope="module")
def official(shared):
    return read_official(shared("weights/score_denoise_official.safetensors"))


@pytest.fixture(scope="module")
def model():
    """A small network that moves points: its weights are drawn, not trained."""
    torch.manual_seed(0)
    small = SPD(hidden=16, blocks=1).eval()
    small.score.out.weight.data *= 0.1
    return small


def sphere(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(n, 3))
    clean /= np.linalg.norm(clean, axis=1, keepdims=True)
    return clean, clean + noise * rng.normal(size=clean.shape)


def last(stages):
    *_, final = stages
    return final.xyz


def test_stages_rise_to_one_and_end_with_positions(model):
    noisy = sphere(1500, 0.02)[1]
    for stages in (list(model.iter_denoise(noisy)), list(iter_denoise_paper(model, noisy, 2))):
        done = [stage.done for stage in stages]
        assert done == sorted(done)
        assert done[-1] == 1
        assert stages[-1].xyz.shape == noisy.shape
        assert stages[-1].xyz.dtype == np.float64


def test_sweeps_follow_order_and_repeat_exactly(model):
    noisy = sphere(1500, 0.02)[1]
    order = np.random.default_rng(1).permutation(1500)
    settled = last(model.iter_denoise(noisy))
    assert np.linalg.norm(settled - noisy, axis=1).mean() > 1e-4
    np.testing.assert_array_equal(last(model.iter_denoise(noisy)), settled)
    np.testing.assert_array_equal(last(model.iter_denoise(noisy[order])), settled[order])


def test_sweeps_follow_shift_and_scale(model):
    noisy = np.round(sphere(1500, 0.02)[1] * 2**20) / 2**20
    settled = last(model.iter_denoise(noisy, sigma=0.02))
    np.testing.assert_allclose(last(model.iter_denoise(noisy * 64, sigma=64 * 0.02)), settled * 64, atol=64e-6)
    np.testing.assert_allclose(last(model.iter_denoise(noisy + 4096.0, sigma=0.02)), settled + 4096.0, atol=2e-3)


def test_copies_stay_together(model):
    noisy = sphere(600, 0.02)[1]
    settled = last(model.iter_denoise(np.concatenate([noisy, np.repeat(noisy[:3], 2000, axis=0)])))
    np.testing.assert_array_equal(settled[600:], np.repeat(settled[:3], 2000, axis=0))


@pytest.mark.parametrize("n", [16, 17, 40])
def test_small_clouds(model, n):
    assert np.isfinite(last(model.iter_denoise(sphere(n, 0.02)[1]))).all()
    assert last(iter_denoise_paper(model, sphere(n, 0.02)[1])).shape == (n, 3)


def test_refusals(model):
    with pytest.raises(ValueError, match="distinct positions"):
        last(model.iter_denoise(np.ones((100, 3))))
    with pytest.raises(ValueError, match="50000"):
        last(iter_denoise_paper(model, np.zeros((50_001, 3))))


def test_paper_keeps_some_of_the_patches_points(model):
    noisy = sphere(1200, 0.02)[1]
    found, again = (last(iter_denoise_paper(model, noisy, 1, torch.Generator().manual_seed(1))) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert len(np.unique(found, axis=0)) == 1200


def test_the_steps_of_the_ascent_are_alpha_times_powers_of_the_decay(model, monkeypatch):
    noisy = torch.as_tensor(sphere(60, 0.02)[1], dtype=torch.float32)[None]
    everywhere = torch.tensor([1.0, -2.0, 0.5])
    monkeypatch.setattr(
        "becalm.systems.spd.frozen_scores", lambda net, offset, features: everywhere.expand(offset.shape)
    )
    index = torch.arange(60)[:, None].numpy()
    monkeypatch.setattr("becalm.systems.spd.knn", lambda *given: (None, index))
    moved = (ascend(model, noisy, Ascent(steps=3, alpha=0.3, decay=0.5)) - noisy)[0]
    torch.testing.assert_close(moved, (0.3 * (1 + 0.5 + 0.25) * everywhere).expand(60, 3))


def test_units_make_the_noise_what_the_weights_were_trained_on_as_far_as_the_radius_allows():
    members = np.arange(250)[None].repeat(3, 0)
    patches = PatchCover(members, np.zeros((3, 3)), np.array([1.0, 1.0, 1.0]), np.full((3, 250), 1 / 3))
    radius = np.sqrt(1000 / 250)  # as of 1000 points of the same density
    for sigma, unit in ((0.1, 0.1 / 0.012), (1.0, radius / 0.08), (0.01, radius / 0.35)):
        assert local_units(patches, sigma) == pytest.approx(np.full(3, unit))
    mean = blend_units(patches, np.array([1.0, 2.0, 4.0]), 250)
    assert mean == pytest.approx(np.full(250, 2.0)), "the geometric mean"


def test_a_constant_score_moves_points_by_the_sum_of_the_steps_in_local_units(model, monkeypatch):
    noisy, everywhere = sphere(600, 0.02)[1], torch.tensor([1.0, -2.0, 0.5])
    monkeypatch.setattr(
        "becalm.systems.spd.frozen_scores", lambda net, offset, features: everywhere.expand(offset.shape)
    )
    moved = last(model.iter_denoise(noisy, sigma=0.02)) - noisy
    distinct, index = np.unique(noisy, axis=0, return_inverse=True)
    patches = patch_cover(distinct, 1000, 2.0)
    unit = blend_units(patches, local_units(patches, 0.02), 600)[index.reshape(-1)]
    np.testing.assert_allclose(moved, 2.9 * unit[:, None] * everywhere.numpy(), rtol=1e-5)


def test_supervised_loss_by_hand():
    model = SPD(hidden=16, blocks=1).eval()
    generator = torch.Generator().manual_seed(0)
    noisy, clean = torch.randn(2, 50, 3, generator=generator), torch.randn(2, 60, 3, generator=generator)
    anchors = torch.tensor([[0, 7, 49], [3, 4, 5]])
    for found, points, k in (
        (supervised_loss(model, noisy, clean, anchors), clean, 4),
        (supervised_loss(model, noisy, clean, anchors, neighbours=1), clean, 1),
        (unsupervised_loss(model, noisy, anchors), noisy, 8),
    ):
        total = 0.0
        for b in range(2):
            for i in anchors[b]:
                frame = noisy[b][(noisy[b] - noisy[b, i]).norm(dim=-1).argsort()[:32]]
                target = torch.stack([points[b][(points[b] - x).norm(dim=-1).argsort()[:k]].mean(0) - x for x in frame])
                h = model.features(noisy[b][None])[0, i]
                error = model.score((frame - noisy[b, i])[None], h[None])[0] - target
                total += 50 * error.square().sum(-1).mean().item() / 6
        assert found.item() == pytest.approx(total, rel=1e-4)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model, generator = SPD(hidden=32, blocks=1).train(), torch.Generator().manual_seed(0)
    clean = torch.rand(2, 300, 3, generator=generator) * torch.tensor([0.5, 0.5, 0.0])
    noisy = clean[:, :250] + 0.02 * torch.randn(2, 250, 3, generator=generator)
    anchors = torch.randint(250, (2, 16), generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = supervised_loss(model, noisy, clean, anchors)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_official_numbers(official, shared):
    given = {name: torch.as_tensor(value) for name, value in np.load(shared("vectors/spd.npz")).items()}
    with torch.no_grad():
        for name, steps in (("step1", 1), ("denoised30", 30)):
            found = ascend(official, given["noisy"][None], Ascent(steps))[0]
            assert ((found - given[name]).abs().amax(1) <= 1e-5).float().mean() >= 0.97


def test_official_weights_denoise_at_any_scale(official):
    clean, noisy = sphere(4000, 0.02)
    settled = last(official.iter_denoise(1000 * noisy + 7)) / 1000 - 0.007
    off = np.abs(np.linalg.norm(settled, axis=1) - 1)
    assert np.median(off) < 0.3 * np.median(np.abs(np.linalg.norm(noisy, axis=1) - 1))
    assert chamfer(settled, clean) < 0.7 * chamfer(noisy, clean)


def test_official_weights_denoise_a_large_plane(official):
    rng = np.random.default_rng(0)
    noisy = np.c_[rng.uniform(0, 2.5, size=(8000, 2)), np.zeros(8000)] + 0.02 * rng.normal(size=(8000, 3))
    corners = np.array([[-1, -1, 0], [5, -1, 0], [5, 5, 0], [-1, 5, 0.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    settled = last(official.iter_denoise(noisy))
    assert point_to_surface(settled, corners, faces) < 0.15 * point_to_surface(noisy, corners, faces)
