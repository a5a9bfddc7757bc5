"""The packaged denoiser: what it must do for any weights, and what the shipped ones must do."""

import numpy as np
import pytest
import torch

from becalm.nets.blend import BlendOutput
from becalm.points.metrics import chamfer
from becalm.points.neighbours import knn
from becalm.points.polyfit import FEATURES_PER_SCALE, LOG_RESIDUAL
from becalm.points.progress import final_points
from becalm.recipes.jets import Recipe, build_model, denoised_item, make_batch
from becalm.shapes.cloud_pairs import white_pair
from becalm.systems.jets import MAX_MOVE, Jets
from becalm.systems.jets_fits import EDGE_RANKS, LEVEL_SCALES, N_SCALES, fit_cloud
from becalm.systems.jets_training import losses, merge_items, training_item
from becalm.weights.store import load


def sphere(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(n, 3))
    clean /= np.linalg.norm(clean, axis=1, keepdims=True)
    return clean, clean + noise * rng.normal(size=clean.shape)


@pytest.fixture
def model() -> Jets:
    torch.manual_seed(0)
    net = Jets(width=16, layers=2)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return net.eval()


def test_turning_moving_and_scaling_the_cloud_does_the_same_to_the_result(model):
    _, noisy = sphere(500, 0.03)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    here, there = (
        final_points(model.iter_denoise(noisy)),
        final_points(model.iter_denoise(7 * noisy @ turn + [5e5, 0, 3])),
    )
    moved = 7 * (here - noisy) @ turn
    found = there - (7 * noisy @ turn + [5e5, 0, 3])
    error = np.linalg.norm(found - moved, axis=1) / np.linalg.norm(moved, axis=1).mean()
    assert np.median(error) < 0.05, "bfloat16 products"
    assert np.linalg.norm(moved, axis=1).mean() > 0


def test_the_order_of_the_points_does_not_matter(model):
    _, noisy = sphere(500, 0.03)
    order = np.random.default_rng(2).permutation(500)
    here, there = final_points(model.iter_denoise(noisy)), final_points(model.iter_denoise(noisy[order]))
    assert np.median(np.abs(here[order] - there)) < 1e-3 * np.abs(here - noisy).mean() + 1e-6


@pytest.mark.parametrize("n", [16, 30, 100])
def test_small_clouds_are_settled_too(model, n):
    _, noisy = sphere(n, 0.02)
    assert np.isfinite(final_points(model.iter_denoise(noisy))).all()


@pytest.mark.parametrize("shape", ["plane", "line", "cluster and far points"])
def test_degenerate_clouds_stay_finite(shape):
    rng = np.random.default_rng(3)
    xyz = rng.normal(size=(300, 3))
    if shape == "plane":
        xyz[:, 2] = 0
    if shape == "line":
        xyz[:, 1:] = 0
    if shape == "cluster and far points":
        xyz[:5] *= 1e5
    result = final_points(load("jets").iter_denoise(xyz))
    assert np.isfinite(result).all()
    if shape == "plane":
        assert np.abs(result[:, 2]).max() < 0.05


def test_edges_lead_to_the_nearest_and_ever_fewer_outwards():
    assert EDGE_RANKS[0][:6] == tuple(range(1, 7))
    assert len(EDGE_RANKS) == len(LEVEL_SCALES)
    assert all(max(ranks) < max(scales) for ranks, scales in zip(EDGE_RANKS, LEVEL_SCALES, strict=True))
    _, noisy = sphere(3000, 0.01)
    graph = fit_cloud(noisy).graph
    assert graph.edges.shape == (3000, sum(map(len, EDGE_RANKS)))
    far = graph.offsets.norm(dim=2).median(0).values
    assert far[-1] > 2 * far[7], "coarser levels reach farther"
    expected = torch.as_tensor(noisy)[graph.edges] - torch.as_tensor(noisy)[:, None]
    torch.testing.assert_close(graph.offsets, expected.float())


def test_joined_items_lose_as_each_alone(model):
    items = [training_item(white_pair(*sphere(n, 0.02, n), np.full(n, 0.02))) for n in (300, 400)]
    both = losses(model, merge_items(items), known_sigma=False)
    alone = [losses(model, item, known_sigma=False) for item in items]
    for name in ("pair", "plane", "near", "cover"):
        expected = (300 * alone[0][name] + 400 * alone[1][name]) / 700
        torch.testing.assert_close(both[name], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_of_the_truth_is_none(model):
    clean, noisy = sphere(300, 0.02)
    item = training_item(white_pair(clean, noisy, np.full(300, 0.02)))

    class Oracle(Jets):
        def forward(self, cloud, sigma):
            flat = torch.zeros(300)
            return BlendOutput(item.clean - item.noisy, *[flat] * 5)

    terms = losses(Oracle(width=16, layers=1), item, known_sigma=False)
    assert all(float(terms[name]) < 1e-6 for name in ("pair", "plane", "near", "cover"))


def test_each_term_of_the_loss_is_its_error_over_what_is_attainable():
    """A sheet moved off by .03 across it: all four terms by hand, the noise white and heavy against the spacing."""
    rng, n = np.random.default_rng(5), 400
    clean = np.c_[rng.uniform(-1, 1, (n, 2)), np.zeros(n)]
    noisy = clean + 0.2 * rng.standard_normal(clean.shape)
    item = training_item(white_pair(clean, noisy, np.full(n, 0.2))._replace(normals=np.tile([0.0, 0.0, 1.0], (n, 1))))

    class Off(Jets):
        def forward(self, cloud, sigma):
            return BlendOutput(item.clean - item.noisy + torch.tensor([0.0, 0.0, 0.03]), *[torch.zeros(n)] * 5)

    terms = losses(Off(width=16, layers=1), item, known_sigma=False)
    scale, weight = item.cloud.graph.scale.double().numpy(), item.interior.double().numpy()
    around = np.square(noisy - clean).sum(1)[item.around[:, :32].numpy()].mean(1) / 3
    noise = 0.2**2 + (0.03 * scale) ** 2
    whole, floor = np.maximum(noise, around), (0.5 * scale) ** 2
    reach, whole_reach = (level * floor / (level + floor) for level in (noise, whole))
    for name, each in {"pair": 3 * whole, "plane": reach, "near": 3 * whole_reach, "cover": 3 * whole_reach}.items():
        assert float(terms[name]) == pytest.approx((weight * 0.03**2 / each).sum() / weight.sum(), rel=2e-3), name


def test_a_batch_is_a_function_of_seed_and_step(monkeypatch):
    monkeypatch.setattr("becalm.recipes.jets.STANDARDISED_BATCHES", 2)
    recipe = Recipe(workers=0, width=16, layers=1)
    a, b, other = make_batch(recipe, 3), make_batch(recipe, 3), make_batch(recipe, 4)
    assert torch.equal(a.items[0].cloud.features, b.items[0].cloud.features)
    assert a.items[0].clean.shape != other.items[0].clean.shape
    again = denoised_item(build_model(recipe), a.items[0])
    assert again.clean.shape == a.items[0].clean.shape


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_the_shipped_weights_clean_a_sphere(noise):
    clean, noisy = sphere(5000, noise, 7)
    result = final_points(load("jets").iter_denoise(noisy))
    # The truth is clumped by chance, and the result even: of light noise most of the Chamfer distance is that.
    assert chamfer(result, clean) < (0.6 if noise > 0.02 else 1.05) * chamfer(noisy, clean)
    away = np.abs(np.linalg.norm(result, axis=1) - 1)
    assert np.sqrt(np.mean(away**2)) < 0.45 * noise


def test_the_shipped_weights_know_their_error():
    clean, noisy = sphere(3000, 0.02, 7)
    *_, last = load("jets").iter_denoise(noisy)
    true = np.sqrt(np.square(last.xyz - clean).sum(1).mean() / 3)
    assert 0.3 < np.sqrt(np.square(last.error).mean()) / true < 3  # along the surface, spacing is evened out besides


def test_the_shipped_weights_do_no_harm():
    clean, noisy = sphere(5000, 0.001, 8)
    model = load("jets")
    assert np.median(np.linalg.norm(final_points(model.iter_denoise(clean)) - clean, axis=1)) < 0.001
    assert chamfer(final_points(model.iter_denoise(noisy)), clean) <= 1.05 * chamfer(noisy, clean)


def test_a_known_noise_level_is_heard():
    _, noisy = sphere(2000, 0.02, 9)
    model = load("jets")
    blind, told = final_points(model.iter_denoise(noisy)), final_points(model.iter_denoise(noisy, sigma=0.0005))
    assert np.linalg.norm(told - noisy, axis=1).mean() < 0.97 * np.linalg.norm(blind - noisy, axis=1).mean()


def test_no_point_moves_farther_than_a_few_times_its_noise(model):
    _, noisy = sphere(400, 0.02)
    *_, last = model.iter_denoise(noisy)
    first = next(p for p in model.iter_denoise(noisy) if p.xyz is not None)
    around = first.noise[knn(noisy, 24)[1]].max(1)
    assert (np.linalg.norm(first.xyz - noisy, axis=1) <= (MAX_MOVE + 2.01) * around).all()
    assert np.isfinite(last.xyz).all()


@pytest.mark.parametrize("change", ["far object", "cut", "shift"])
def test_what_is_far_away_hardly_changes_a_point(change):
    """A cut 28 spacings away is seen by the fits of the coarsest level, which reach 32; what is farther is not seen."""
    rng = np.random.default_rng(4)
    sheet = np.c_[rng.uniform(-40, 40, (6400, 2)), 0.4 * rng.standard_normal(6400)]
    near = np.linalg.norm(sheet[:, :2], axis=1) < 6
    other, shift = sheet, np.zeros(3)
    if change == "far object":
        other = np.concatenate([sheet, rng.uniform(-1, 1, (3000, 3)) * [5, 5, 0] + [0, 0, 300]])
    if change == "cut":
        other = sheet[np.linalg.norm(sheet[:, :2], axis=1) < 34]
        near = near[np.linalg.norm(sheet[:, :2], axis=1) < 34]
    if change == "shift":
        shift = np.array([1e6, -3e5, 2e4])
    model = load("jets")
    here = final_points(model.iter_denoise(sheet))[np.linalg.norm(sheet[:, :2], axis=1) < 6]
    there = (final_points(model.iter_denoise(other + shift)) - shift)[: len(near)][near]
    across, along = np.abs(here - there)[:, 2], np.abs(here - there)[:, :2]
    assert across.max() < 0.02
    assert (
        np.quantile(along, 0.9) < 0.06 if change == "cut" else along.max() < 0.02
    )  # spacing is evened out step by step


def test_the_residuals_of_calm_places_around_are_seen_in_detail():
    rng = np.random.default_rng(0)
    xy = rng.uniform(-1, 1, (12_000, 2))
    far = np.hypot(*xy.T)
    cloud = np.c_[xy, 0.002 * rng.standard_normal(len(xy)) + 0.05 * np.sin(25 * xy[:, 0]) * (far < 0.2)]
    features = fit_cloud(cloud).features
    own = features[:, : N_SCALES * FEATURES_PER_SCALE].unflatten(1, (N_SCALES, -1))[..., LOG_RESIDUAL]
    calm, median = features[:, N_SCALES * FEATURES_PER_SCALE :].unflatten(1, (2, N_SCALES)).unbind(1)
    wave, plain = far < 0.15, (far > 0.6) & (far < 0.8)
    coarse = 4  # quadrics of about 200 points
    assert own[wave, coarse].median() > own[plain, coarse].median() + 1.5
    assert (calm[wave, coarse].median() - calm[plain, coarse].median()).abs() < 0.3
    assert (median >= calm).all() and median[wave, coarse].median() > calm[wave, coarse].median() + 0.5


def test_former_weights_are_as_if_they_did_not_see_later_inputs():
    model = Jets(width=16, layers=1)
    known, added = N_SCALES * FEATURES_PER_SCALE, 2 * N_SCALES
    own = model.network.leave[0].in_features // 3
    enter, leave = (getattr(model.network, name)[0].weight.data for name in ("enter", "leave"))
    enter[:, -2 - added : -2] = 0
    leave[:, own - 2 - added : own - 2] = leave[:, own:] = 0
    now = model.state_dict()
    before_deviations = dict(now) | {"network.leave.0.weight": leave[:, : 2 * own]}
    before_pooling = dict(now) | {"network.leave.0.weight": leave[:, :own]}
    former = dict(before_pooling)
    for name in ("network.mean", "network.deviation"):
        former[name] = now[name][:known]
    for name in ("network.enter.0.weight", "network.leave.0.weight"):
        former[name] = torch.cat([former[name][:, : -2 - added], former[name][:, -2:]], 1)
    for state in (now, before_deviations, before_pooling, former):
        again = model.adapt_former_weights(state)
        assert again.keys() == now.keys() and all(torch.equal(again[name], now[name]) for name in now)


def test_what_is_no_surface_is_to_stay(model):
    rng = np.random.default_rng(0)
    leaves = rng.uniform(-1, 1, (300, 3))
    pair = white_pair(leaves, leaves, np.full(300, 0.001))
    item = training_item(pair._replace(surface=np.arange(300) < 100))
    output = model(item.cloud, torch.full((300,), torch.nan))
    moves = output.displacement[100:].norm(dim=1) / item.cloud.graph.scale[100:]
    assert float(losses(model, item, known_sigma=False)["stay"]) == pytest.approx(
        float(moves.square().sum() / 300), rel=1e-4
    )
    assert float(losses(model, training_item(pair), known_sigma=False)["stay"]) == 0
