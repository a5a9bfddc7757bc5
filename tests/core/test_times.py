"""Noise levels for training: their laws, and the authors' recursive allocation."""

import numpy as np
import pytest
import torch

from becalm.core import times
from becalm.core.times import (
    independent,
    inverse_density_weight,
    recursive_allocation,
    sample_beta,
    sequential,
    stratified,
    uniform,
    uniform_mean,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("draw", [uniform, stratified, independent, uniform_mean])
@pytest.mark.parametrize("variables", [1, 2, 3, 9, 16])
def test_levels_lie_in_the_unit_interval_and_are_drawn_again_alike(draw, variables):
    t = draw(64, variables, generator())
    assert t.shape == (64, variables, 1)
    assert t.dtype == torch.float64
    assert ((t >= 0) & (t <= 1)).all()
    assert torch.equal(t, draw(64, variables, generator()))


def test_stratified_levels_are_as_many_as_asked_and_one_in_each_stratum():
    for batch in range(1, 300):
        t = stratified(batch, 1, generator(batch))[:, 0, 0]
        assert len(t) == batch
        gaps = torch.cat([t.sort().values, t.min()[None] + 1]).diff()
        torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / batch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variables", [2, 5, 16, 81])
def test_the_mean_is_allocated_exactly_and_uniform_mean_has_a_uniform_mean(variables):
    mean = torch.linspace(0, 1, 41, dtype=torch.float64)
    torch.testing.assert_close(recursive_allocation(mean, variables, generator()).mean((1, 2)), mean)
    means = uniform_mean(4000, variables, generator()).mean((1, 2)).sort().values
    expected = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    assert (means - expected).abs().max() < 0.03, "Kolmogorov–Smirnov"


def test_shuffling_leaves_no_variable_special():
    t = uniform_mean(20_000, 5, generator())[..., 0]
    torch.testing.assert_close(t.mean(0), torch.full((5,), 0.5, dtype=torch.float64), rtol=0, atol=0.01)
    assert t.std(0).max() - t.std(0).min() < 0.01


def test_the_weight_undoes_the_density():
    weight = inverse_density_weight(uniform_mean, 9, generator())
    t = uniform_mean(20_000, 9, generator(1)).flatten()
    weighted = torch.histc(t, 20, 0, 1) * 0
    weighted.scatter_add_(0, (t * 20).long().clamp(max=19), weight(t))
    assert (weighted / weighted.mean() - 1).abs().max() < 0.1
    assert weight(t).mean().item() == pytest.approx(1, abs=0.05)


def test_the_shares_of_groups_have_the_published_concentration(monkeypatch):
    """a = (m − 1 − m mod 2)^1.05 · sharpness of a group of m: 7 is split into 3 and 4, these into 1, 2, 2, 2."""
    seen = []
    monkeypatch.setattr(times, "sample_beta", lambda a, *rest: seen.append(a.tolist()) or sample_beta(a, *rest))
    recursive_allocation(torch.tensor([0.4]), 7, generator(), sharpness=2.0)
    recursive_allocation(torch.tensor([0.4]), 8, generator())
    seven = [[2 * 5**1.05], [2.0, 2 * 3**1.05], [2.0] * 4]
    eight = [[7**1.05], [3**1.05] * 2, [1.0] * 4]
    assert [[pytest.approx(a) for a in depth] for depth in seven + eight] == [d[-len(d) :] for d in seen]


def test_four_levels_of_mean_one_half_have_the_second_moment_of_their_beta():
    """Pairs of sums A = 2r ≤ 1 and 2 − A are split uniformly: E Σt² = E[4A²/3 − 2A + 2], r ~ Beta(a, a), a = 3^1.05."""
    t = recursive_allocation(torch.full((400_000,), 0.5), 4, generator())
    r = np.linspace(0, 0.5, 20_001)
    density = (r * (1 - r)) ** (3**1.05 - 1)
    expected = np.average(4 * (2 * r) ** 2 / 3 - 4 * r + 2, weights=density)
    assert t.square().sum((1, 2)).mean().item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("variables", [4, 9, 16, 81])
@pytest.mark.parametrize("sharpness", [1.0, 3.0])
def test_the_authors_allocation(shared, variables, sharpness):
    data = np.load(shared("vectors/srm_noise_levels.npz"))
    levels = data["quantile_levels"]
    for mean in (0.1, 0.3, 0.5, 0.8):
        key = f"d{variables}_sharp{sharpness}_mean{mean}"
        t = recursive_allocation(torch.full((20_000,), mean), variables, generator(), sharpness)[..., 0]
        quantiles = np.quantile(t.numpy(), levels)
        np.testing.assert_allclose(quantiles, data[f"{key}_quantiles"], atol=0.02)
        assert t.std().item() == pytest.approx(float(data[f"{key}_std"]), abs=0.005)
        least, most = data[f"{key}_minmax"]
        assert t.min(1).values.mean().item() == pytest.approx(float(least), abs=0.006)
        assert t.max(1).values.mean().item() == pytest.approx(float(most), abs=0.006)
    density = np.histogram(uniform_mean(20_000, variables, generator(), sharpness).numpy(), 50, (0, 1), density=True)[0]
    expected = data[f"d{variables}_sharp{sharpness}_marginal_pdf50"]
    assert np.abs(density - expected * 50 / expected.sum()).mean() < 0.06


@pytest.mark.parametrize("active", [1, 3])
def test_sequential_states_are_known_on_their_way_and_unknown(active):
    t = sequential(20_000, 6, generator(), active)[..., 0]
    known, moving = (t == 0).sum(1), ((t > 0) & (t < 1)).sum(1)
    assert torch.bincount(known, minlength=6).float().div(20_000).sub(1 / 6).abs().max() < 0.01
    assert moving.max() == active
    level = torch.where((t > 0) & (t < 1), t, torch.nan)
    assert torch.equal(level.nan_to_num(-1).amax(1), level.nan_to_num(2).amin(1)), "one level for all on their way"
    torch.testing.assert_close(t.mean(0), t.mean().expand(6), rtol=0, atol=0.02)
