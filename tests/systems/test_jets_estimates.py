"""The estimates beside the displacement: learned from mixed rows, without touching the displacement."""

import numpy as np
import torch

from becalm.recipes.jets import ESTIMATE_POINTS, Recipe, estimate_pool
from becalm.shapes.cloud_pairs import white_pair
from becalm.systems.jets import Jets
from becalm.systems.jets_estimates import estimate_rows, merge_rows, row_loss, train_estimates
from becalm.systems.jets_training import LOSS_WEIGHTS, losses, training_item


def items() -> list:
    rng, made = np.random.default_rng(0), []
    for sigma in (0.01, 0.05):
        sheet = np.c_[rng.uniform(-1, 1, (600, 2)), np.zeros(600)]
        pair = white_pair(sheet, sheet + sigma * rng.standard_normal(sheet.shape), np.full(600, sigma))
        made.append(training_item(pair))
    leaves = rng.uniform(-1, 1, (600, 3))
    pair = white_pair(leaves, leaves, np.full(600, 0.001))
    return [*made, training_item(pair._replace(surface=np.zeros(600, bool)))]


def test_noise_and_surface_are_learned_and_the_displacement_stays():
    torch.manual_seed(0)
    model, made = Jets(16, 2), items()
    unknown = torch.full((600,), torch.nan)
    before = model(made[0].cloud, unknown)
    rows = merge_rows(estimate_rows(model, item, False) for item in made)
    *_, last = train_estimates(model, rows, 400, seed=0, size=512)
    assert last["surface"] < 0.2
    after = [model(item.cloud, unknown) for item in made]
    assert torch.equal(before.displacement, after[0].displacement)
    for item, output, sigma in zip(made[:2], after, (0.01, 0.05), strict=False):
        found = (output.log_noise / 2).exp() * item.cloud.graph.scale
        assert 0.7 * sigma < float(found.detach().median()) < 1.4 * sigma
    assert float(torch.sigmoid(after[2].surface).median()) < 0.3 < 0.7 < float(torch.sigmoid(after[1].surface).median())


def test_a_point_that_is_not_finite_is_not_learned_from():
    torch.manual_seed(0)
    item = items()[0]
    spoiled = item._replace(clean=item.clean.clone(), sigma=item.sigma.clone())
    spoiled.clean[3], spoiled.sigma[7] = torch.nan, torch.inf
    rows, whole = (estimate_rows(Jets(16, 2), part, False) for part in (spoiled, item))
    assert len(rows.base) == 598 and len(whole.base) == 600
    assert all(bool(part.isfinite().all()) for part in rows.truth)


def test_clouds_denoised_once_give_a_fifth_of_the_rows():
    torch.manual_seed(0)
    model = Jets(16, 2)
    counts = {}
    for share in (0.0, 1.0):
        recipe = Recipe(second_pass=share, workers=0, seed=3)
        counts[share] = [len(estimate_pool(model, recipe, first, 1).base) for first in (0, 1)]
    assert counts[0.0] == 2 * [ESTIMATE_POINTS] and counts[1.0] == 2 * [ESTIMATE_POINTS // 5]


def test_rows_lose_what_their_item_loses():
    """Of an item of surfaces alone the terms are those of `losses`; only the mean over neighbours is left out."""
    torch.manual_seed(1)
    model, item = Jets(16, 2), items()[1]
    whole = losses(model, item, known_sigma=True)
    part = row_loss(model.network.leave, estimate_rows(model, item, True))
    for name in ("error", "noise", "split", "length"):
        torch.testing.assert_close(part[name], whole[name], rtol=1e-3, atol=1e-4)
    expected = sum(LOSS_WEIGHTS[name] * part[name] for name in ("error", "noise", "split", "length", "surface"))
    torch.testing.assert_close(part["loss"], expected)


def test_gradients_of_the_estimates_do_not_reach_the_displacement():
    model, item = Jets(16, 2), items()[0]
    output = model(item.cloud, item.sigma)
    (output.log_noise.sum() + output.surface.sum()).backward()
    assert model.network.first.weight.grad is None
    assert all(p.grad is not None for p in model.network.leave.parameters())
