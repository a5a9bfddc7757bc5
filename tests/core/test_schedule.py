"""Schedules: monotone, exact at the ends, invertible, with the slope of γ that differences show."""

import pytest
import torch

from becalm.core.schedule import Betas, Cosine, Karras, Ladder, Linear, Rectified

T = torch.linspace(0, 1, 401, dtype=torch.float64)


def test_gamma_rises_strictly(schedule):
    assert (schedule.gamma(T).diff() > 0).all()


def test_the_scaling_holds_at_every_t_and_the_ratio_is_gamma(schedule):
    gamma, alpha, sigma = schedule(T)
    whole = {"preserve": alpha**2 + sigma**2, "explode": alpha, "interpolate": alpha + sigma}[schedule.scaling]
    torch.testing.assert_close(whole, torch.ones_like(T), rtol=1e-14, atol=0)
    inner = slice(1, -1)
    torch.testing.assert_close(2 * (sigma / alpha).log()[inner], gamma[inner], rtol=1e-10, atol=1e-10)


def test_time_is_the_inverse(schedule):
    torch.testing.assert_close(schedule.time(schedule.gamma(T)), T, rtol=1e-9, atol=1e-9)


def test_the_slope_is_that_of_finite_differences(schedule):
    t = torch.tensor([0.1003, 0.3337, 0.5002, 0.9001], dtype=torch.float64)
    h = 1e-6
    difference = (schedule.gamma(t + h) - schedule.gamma(t - h)) / (2 * h)
    torch.testing.assert_close(schedule.slope(t), difference, rtol=1e-5, atol=1e-5)


def test_nothing_is_nan_at_the_ends_or_between(schedule):
    level = schedule(T)
    assert not any(torch.isnan(part).any() for part in level)


@pytest.mark.parametrize("scaling", ["preserve", "interpolate"])
@pytest.mark.parametrize("family", [Rectified, Cosine])
def test_the_ends_without_bound_are_exact(family, scaling):
    gamma, alpha, sigma = family(scaling)(torch.tensor([0.0, 1.0]))
    assert gamma.tolist() == [-torch.inf, torch.inf]
    assert alpha.tolist() == [1, 0]
    assert sigma.tolist() == [0, 1]


def test_rectified_is_one_minus_t_and_t():
    _, alpha, sigma = Rectified()(T)
    torch.testing.assert_close(alpha, 1 - T, rtol=0, atol=1e-15)
    torch.testing.assert_close(sigma, T, rtol=0, atol=1e-15)


def test_cosine_is_a_quarter_turn():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    level = Cosine()(t)
    torch.testing.assert_close(level.alpha, torch.cos(torch.pi / 2 * t), rtol=0, atol=1e-12)
    torch.testing.assert_close(level.sigma, torch.sin(torch.pi / 2 * t), rtol=0, atol=1e-12)


def test_karras_is_linear_in_the_root():
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    middle = (0.002 ** (1 / 7) + 0.25 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    expected = torch.tensor([0.002, middle, 80.0], dtype=torch.float64)
    torch.testing.assert_close(Karras()(t).sigma, expected, rtol=1e-12, atol=0)


def test_the_ladder_s_rungs():
    t = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.125], dtype=torch.float64)
    expected = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(Ladder(8.0, 1.0, 4)(t).sigma, expected, rtol=1e-12, atol=0)
    assert Ladder(8.0, 1.0, 1)(torch.ones(1)).sigma.item() == 1


def test_linear_has_vdm_s_ends():
    assert Linear().gamma(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([-13.3, 5.0])


def test_betas_are_ddpm_s_products_on_the_grid():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    expected = torch.cumprod(1 - betas, 0)
    _, alpha, _ = Betas()(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(alpha**2, expected, rtol=1e-10, atol=0)
    assert Betas()(torch.zeros(1)).sigma == 0


@pytest.mark.parametrize("family", [Rectified, Cosine])
def test_exploding_without_bound_is_refused(family):
    with pytest.raises(ValueError, match="explode"):
        family("explode")


def test_a_scalar_and_a_vector_of_it_agree_bit_for_bit(schedule):
    for value in (0.1, 0.37, 0.9003):
        one = schedule(torch.tensor(value, dtype=torch.float64))
        many = schedule(torch.full((131,), value, dtype=torch.float64))
        assert all(torch.equal(b, a.expand(131)) for a, b in zip(one, many, strict=True))


def test_a_shifted_flow_spends_more_time_in_noise():
    """σ = st/(1 + (s − 1)t), and `time` takes it back."""
    schedule = Rectified(shift=5.0)
    level = schedule(T)
    torch.testing.assert_close(level.sigma, 5 * T / (1 + 4 * T), rtol=1e-12, atol=1e-12)
    inner = T[(T > 0) & (T < 1)]
    torch.testing.assert_close(schedule.time(schedule.gamma(inner)), inner, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="shift"):
        Rectified(shift=0.0)


def test_the_time_of_a_chain_of_steps_is_taken_back_within_every_step():
    schedule = Betas(steps=10)
    t = torch.arange(1, 100, dtype=torch.float64) / 100
    torch.testing.assert_close(schedule.time(schedule.gamma(t)), t, rtol=1e-9, atol=1e-12)
