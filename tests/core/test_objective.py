"""Objectives: their least values and where they lie."""

import numpy as np
import torch

from becalm.core import objective
from becalm.core.process import Prediction, corrupt, posterior
from becalm.core.schedule import Rectified


def state():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, 3, generator=generator).double()
    t = torch.rand(4, 6, 1, generator=generator, dtype=torch.float64)
    t[:, 0], t[:, 1] = 0, 1
    z, eps = corrupt(x, t, Rectified(), generator)
    return x, eps, z, t


def test_the_likeliest_variance_is_the_error():
    error = torch.tensor([[0.3]], dtype=torch.float64)
    log_var = error.log().requires_grad_()
    objective.gaussian_nll(error, log_var).sum().backward()
    assert log_var.grad is not None and log_var.grad.abs().max() < 1e-12
    worse = objective.gaussian_nll(error, error.log() + 0.2), objective.gaussian_nll(error, error.log() - 0.2)
    assert all(w > objective.gaussian_nll(error, error.log()) for w in worse)


def test_the_cost_is_the_density_s_in_nats():
    value, target = torch.tensor([[0.3, -1.0]], dtype=torch.float64), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    log_var = torch.tensor([[-0.7]], dtype=torch.float64)
    nats = -torch.distributions.Normal(value, (log_var / 2).exp()).log_prob(target).mean(-1, keepdim=True)
    error = objective.squared_error(value, target)
    assert error.item() == (0.7**2 + 1.5**2) / 2
    torch.testing.assert_close(objective.gaussian_nll(error, log_var), nats)


def test_the_variational_term_is_the_divergence_in_bits():
    """q(z_s | z_t, x) and the step with a variance at 0.3 of its range, s = max(t − 0.1, t/2), in `interpolate`."""
    x, _, _, t = state()
    t = t.clamp(0.05, 0.9)
    s = torch.maximum(t - 0.1, t / 2)
    z, _ = corrupt(x, t, Rectified(), torch.Generator().manual_seed(2))
    guess = x + 0.05
    prediction = Prediction(guess, (z - (1 - t) * guess) / t, None, torch.full_like(x, 0.3))
    true = torch.distributions.Normal(*posterior(z, x, t, s, Rectified()))
    mean, small = posterior(z, guess, t, s, Rectified())
    model = torch.distributions.Normal(mean, small * (t / s) ** 0.3)  # σ_large/σ_small = σ_t/σ_s
    bits = torch.distributions.kl_divergence(true, model).mean(-1, keepdim=True) / np.log(2)
    torch.testing.assert_close(objective.variance_kl(prediction, z, x, t, Rectified(), 0.1), bits, rtol=1e-4, atol=1e-6)


def test_the_truth_with_the_least_variance_costs_nothing():
    x, eps, z, t = state()
    exact = Prediction(x, eps, None, torch.zeros_like(x))
    assert objective.variance_kl(exact, z, x, t, Rectified()).abs().max() < 1e-5


def test_the_best_spread_is_that_of_the_error():
    """An estimate that is off: the KL is least where the variance holds the error as well, and its slope is there 0."""
    x, _, _, t = state()
    t = t.clamp(0.3, 0.9)
    s, off = torch.maximum(t - 1e-3, t / 2), 0.05
    z, _ = corrupt(x, t, Rectified(), torch.Generator().manual_seed(2))
    guess = x + off
    noise = (z - (1 - t) * guess) / t
    mean, deviation = posterior(z, x, t, s, Rectified())
    other = posterior(z, guess, t, s, Rectified())[0]
    best = (deviation.square() + (mean - other).square()).log() / 2
    large = (deviation / (s / t)).log()  # σ_large/σ_small = σ_t/σ_s
    spread = ((best - deviation.log()) / (large - deviation.log())).requires_grad_()
    objective.variance_kl(Prediction(guess, noise, None, spread), z, x, t, Rectified()).sum().backward()
    assert spread.grad is not None and spread.grad.abs().max() < 1e-6


def test_only_the_spread_learns_from_the_variational_term():
    x, eps, z, t = state()
    guess, spread = x.clone().requires_grad_(), torch.full_like(x, 0.4).requires_grad_()
    objective.variance_kl(Prediction(guess, eps, None, spread), z, x, t, Rectified()).sum().backward()
    assert guess.grad is None and spread.grad is not None
    assert torch.isfinite(spread.grad).all()
