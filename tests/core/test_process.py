"""The process: Bayes' rule, composition, round trips of kinds, and the authors' reverse steps."""

import numpy as np
import pytest
import torch

from becalm.core import kinds
from becalm.core.process import Output, Prediction, corrupt, posterior, reverse_moments, reverse_step, transition
from becalm.core.schedule import Linear, Rectified
from tests.worlds import CORRELATED

GRID = torch.tensor([0.0, 1e-4, 0.1, 0.4, 0.75, 0.999, 1.0], dtype=torch.float64)
S, T = (a.reshape(-1)[:, None, None] for a in torch.meshgrid(GRID, GRID, indexing="ij"))
KEEP = (S <= T).reshape(-1)
S, T = S[KEEP], T[KEEP]


def draws(seed: int, channels: int = 3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(len(S), 2, channels, generator=generator, dtype=torch.float64) for _ in range(2))


def test_noising_in_two_strides_is_noising_in_one(schedule):
    factor, deviation = transition(T, S, schedule)
    now, then = schedule(T), schedule(S)
    torch.testing.assert_close(factor * then.alpha, now.alpha, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(factor**2 * then.sigma**2 + deviation**2, now.sigma**2, rtol=1e-12, atol=1e-14)


def test_the_posterior_is_bayes_rule(schedule):
    x, z = draws(0)
    inside = ((schedule(S).sigma > 0) & (schedule(T).alpha > 0) & (S < T)).reshape(-1)
    s, t, x, z = S[inside], T[inside], x[inside], z[inside]
    factor, deviation = transition(t, s, schedule)
    then = schedule(s)
    precision = 1 / then.sigma**2 + factor**2 / deviation**2
    mean = (then.alpha * x / then.sigma**2 + factor * z / deviation**2) / precision
    found, spread = posterior(z, x, t, s, schedule)
    scale = 1 + z.abs() + (mean - z).abs()
    assert ((found - mean).abs() / scale).max() < 1e-9
    torch.testing.assert_close(spread, precision.rsqrt().expand_as(spread), rtol=1e-9, atol=1e-12)


def test_ancestral_sampling_with_the_truth_is_the_posterior(schedule):
    x, eps = draws(1)
    level = schedule(T)
    z = level.alpha * x + level.sigma * eps
    mean, deviation = reverse_moments(Prediction(x, eps), z, T, S, schedule, eta=1.0)
    expected, spread = posterior(z, x, T, S, schedule)
    scale = 1 + schedule(S).sigma + z.abs()
    assert ((mean - expected).abs() / scale).max() < 1e-10
    still = (schedule(S).sigma > 0) & (S < T)
    torch.testing.assert_close(deviation, torch.where(still, spread, 0.0), rtol=1e-10, atol=1e-13)


def test_equal_levels_change_no_bit_and_no_step_gives_nan(schedule):
    x, z = draws(2)
    for variance in ("small", "large"):
        found = reverse_step(Prediction(x, x), z, T, S, schedule, 1.0, variance, torch.Generator().manual_seed(0))
        assert torch.isfinite(found).all()
        same = (S == T).expand_as(z)
        assert torch.equal(found[same], z[same])


def test_every_kind_gives_back_what_it_was_made_from(schedule, kind):
    x, eps = draws(3)
    for dtype, limit in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        level = schedule(T)
        inside = (level.gamma.abs() <= 12).reshape(-1)
        t, a, b = T[inside], x[inside].to(dtype), eps[inside].to(dtype)
        alpha, sigma = (part[inside].to(dtype) for part in level[1:])
        z = alpha * a + sigma * b
        targets = {"eps": b, "clean": a, "score": -b / sigma, "v": alpha * b - sigma * a, "velocity": b - a}
        found = kind(targets[kind.__name__], z, t, schedule)
        assert found.x.dtype == dtype
        assert (found.x - a).abs().max() < limit
        assert (found.eps - b).abs().max() < limit


def test_an_estimate_of_x_at_no_noise_is_what_is_seen():
    z = torch.tensor([[[0.3]]], dtype=torch.float64)
    found = kinds.clean(z + 5, z, torch.zeros(1, 1, 1), Rectified())
    assert found.x.item() == 0.3
    assert found.eps.item() == 0


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_velocity_is_exact_at_both_ends(end):
    x, eps = torch.tensor([[[0.3]]], dtype=torch.float64), torch.tensor([[[-1.2]]], dtype=torch.float64)
    found = kinds.velocity(eps - x, x if end == 0 else eps, torch.full((1, 1, 1), end), Rectified())
    assert found.x.item() == pytest.approx(0.3)
    assert found.eps.item() == pytest.approx(-1.2)


def test_the_error_of_a_velocity_becomes_that_of_x():
    t = torch.tensor([[[0.5]], [[0.25]]], dtype=torch.float64)
    z = torch.zeros(2, 1, 1, dtype=torch.float64)
    found = kinds.velocity(Output(z, torch.full_like(z, 0.7)), z, t, Rectified())
    torch.testing.assert_close(found.log_var, 0.7 + 2 * t.log())


def test_levels_give_the_posterior_mean_over_the_values():
    values = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    schedule, t = Linear(), torch.tensor([[[0.6]]], dtype=torch.float64)
    _, alpha, sigma = schedule(t)
    z = torch.tensor([[[0.2]]], dtype=torch.float64)
    likelihood = torch.exp(-((z - alpha * values) ** 2) / (2 * sigma**2))
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    expected = (values * prior * likelihood).sum() / (prior * likelihood).sum()
    found = kinds.levels(values)(prior.log().expand(1, 1, 1, 3), z, t, schedule)
    assert found.x.item() == pytest.approx(expected.item(), rel=1e-12)
    ends = kinds.levels(values)(prior.log().expand(1, 1, 1, 3), z, torch.zeros(1, 1, 1), Rectified())
    assert torch.isfinite(ends.x).all()


def test_corruption_has_the_mean_and_variance_of_its_level():
    t = torch.tensor([[[0.2], [0.9]]], dtype=torch.float64).expand(4000, 2, 1)
    z, eps = corrupt(torch.full((4000, 2, 5), 2.0), t, Rectified(), torch.Generator().manual_seed(0))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.mean((0, 2)), torch.tensor([1.6, 0.2]), atol=0.03, rtol=0)
    torch.testing.assert_close(z.std((0, 2)), torch.tensor([0.2, 0.9]), atol=0.03, rtol=0)
    torch.testing.assert_close(eps.std(), torch.tensor(1.0), atol=0.02, rtol=0)


def test_a_learned_variance_needs_a_spread():
    z = torch.zeros(1, 1, 1)
    with pytest.raises(ValueError, match="spread"):
        reverse_moments(Prediction(z, z), z, z + 0.5, z + 0.2, Rectified(), variance="learned")


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_mean_keeps_the_variance_that_the_noise_of_eta_does_not_replace(eta):
    """α_s = 0.6, σ_s = 0.4, σ_t = 0.8 in `interpolate`: σ_η² = η² · 0.16 (1 − (0.4/0.6)²/(0.8/0.2)²) = η² · 0.16 · 35/36."""
    x, eps = torch.tensor([[[2.0]]], dtype=torch.float64), torch.tensor([[[-1.0]]], dtype=torch.float64)
    t, s = torch.full_like(x, 0.8), torch.full_like(x, 0.4)
    mean, deviation = reverse_moments(Prediction(x, eps), x, t, s, Rectified(), eta)
    variance = eta**2 * 0.16 * 35 / 36
    assert mean.item() == pytest.approx(0.6 * 2 - (0.16 - variance) ** 0.5, rel=1e-12)
    assert deviation.item() == pytest.approx(variance**0.5, rel=1e-12)
    large = reverse_moments(Prediction(x, eps), x, t, s, Rectified(), eta, "large")[1]
    assert large.item() == pytest.approx(2 * variance**0.5, rel=1e-12)
    learned = Prediction(x, eps, spread=torch.full_like(x, 0.25))
    between = reverse_moments(learned, x, t, s, Rectified(), eta, "learned")[1]
    assert between.item() == pytest.approx(2**0.25 * variance**0.5, rel=1e-9)


def test_the_posterior_mean_of_a_gaussian_is_its_own_posterior():
    schedule, t = Linear(), torch.tensor([[[0.5]]], dtype=torch.float64)
    level = schedule(t)
    z = torch.tensor([[[0.4, -0.3]]], dtype=torch.float64, requires_grad=True)
    x, log = CORRELATED.posterior(z, level.alpha, level.sigma)
    (score,) = torch.autograd.grad(log.sum(), z)
    tweedie = (z + level.sigma**2 * score) / level.alpha
    torch.testing.assert_close(x, tweedie, rtol=1e-10, atol=1e-10)


FLOOR = np.exp(-15)
CASES = [(v, eta) for v in ("fixed_small", "fixed_large") for eta in (0.0, 0.5, 1.0)]
CASES += [("learned_range", 0.5), ("learned_range", 1.0), ("eps", 0.0), ("eps", 0.5), ("eps", 1.0)]


@pytest.mark.parametrize(("name", "eta"), CASES)
def test_the_authors_reverse_steps(shared, name, eta):
    data = np.load(shared("vectors/srm_process.npz"))
    if f"{name}_eta{eta}_mean" not in data:
        pytest.skip("not among the reference numbers")
    t, s, z, u, spread = (torch.as_tensor(data[k])[:, None, None] for k in ("t", "s", "z", "u", "v"))
    kind = kinds.eps if name == "eps" else kinds.velocity
    prediction = kind(Output(u, None, spread), z, t, Rectified())
    variance = {"fixed_small": "small", "fixed_large": "large", "learned_range": "learned", "eps": "small"}[name]
    mean, deviation = reverse_moments(prediction, z, t, s, Rectified(), eta, variance)
    moving = (data["s"] < data["t"]) & (data["s"] > 0)
    if name == "eps":
        moving &= data["t"] < 1
    np.testing.assert_allclose(mean[:, 0, 0][moving], data[f"{name}_eta{eta}_mean"][moving], rtol=1e-6, atol=1e-6)
    expected = data[f"{name}_eta{eta}_std"][moving]
    np.testing.assert_allclose(np.maximum(deviation[:, 0, 0].numpy(), FLOOR)[moving], expected, rtol=2e-5, atol=1e-6)
