"""Categorical channels: posterior mean, cross-entropy, and that rare categories are categorical_step as often as they are."""

import pytest
import torch

from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean
from becalm.core.process import Output
from becalm.core.sample import reverse, sample
from becalm.core.schedule import Rectified
from becalm.core.walk import together
from becalm.images.counting_polygons.categorical import categorical_step, cross_entropy, posterior_mean

KINDS = torch.tensor([[4.0, 0], [0, 4], [0, 0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0])
def test_the_posterior_mean_is_bayes_rule(sigma):
    value, alpha = torch.randn(6, 5, generator=seeded()), 1 - sigma
    z = alpha * KINDS[torch.tensor([0, 1, 2, 0, 1, 2])] + sigma * torch.randn(6, 2, generator=seeded(1))
    z = torch.cat([z, torch.randn(6, 3, generator=seeded(2))], -1)
    x, log_var = posterior_mean(value, z, torch.tensor(alpha), torch.tensor(sigma), 2)
    prior = torch.softmax(torch.cat([value[:, :2] - 6, torch.zeros(6, 1)], -1).double(), -1)
    likely = torch.exp(-(z[:, None, :2] - alpha * KINDS).double().square().sum(-1) / 2 / sigma**2)
    share = prior * likely / (prior * likely).sum(-1, keepdim=True)
    mean = share @ KINDS.double()
    torch.testing.assert_close(x[:, :2].double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x[:, 2:].double(), (1 - share[:, 2:]) * value[:, 2:].double(), rtol=1e-4, atol=1e-5)
    variance = (share @ KINDS.double().square() - mean.square()).mean(-1, keepdim=True)
    torch.testing.assert_close(log_var.exp().double(), variance, rtol=1e-3, atol=1e-7)


def test_given_categories_stay():
    value = torch.randn(3, 5, generator=seeded())
    x, _ = posterior_mean(value, torch.cat([KINDS, torch.zeros(3, 3)], -1), torch.tensor(1.0), torch.tensor(0.0), 2)
    torch.testing.assert_close(x[:, :2], KINDS)


def test_cross_entropy_is_of_whether_and_of_which():
    x = torch.tensor([[4.0, 0, 1], [0, 4, 0], [0, 0, 0]])
    thought = torch.tensor([[1.0, 2, 9], [0, 4, 9], [0.4, 1.6, 9]])
    expected_nats = torch.tensor([[-torch.log(torch.tensor(0.75)) + 5 * torch.log(torch.tensor(3.0))], [0], [0.6931]])
    torch.testing.assert_close(cross_entropy(thought, x, 2), expected_nats, atol=1e-3, rtol=1e-3)
    assert 10 < cross_entropy(torch.zeros(3, 3), x, 2)[:2].min() < 100, "finite, where it was thought impossible"
    share = torch.zeros(3, 3, requires_grad=True)
    cross_entropy(share, x, 2).sum().backward()
    assert torch.isfinite(share.grad).all()


def alone(rarity: float) -> Denoiser:
    """The best prediction for independent variables: each of two categories has the probability `rarity`."""

    def network(z, t, given=None):
        alpha, sigma = (part.float() for part in Rectified(shift=3.0)(t)[1:])
        logit = torch.log(torch.tensor(rarity / (1 - 2 * rarity))) + 6
        value = torch.cat([torch.full_like(z[..., :2], float(logit)), torch.full_like(z[..., 2:], 1.5)], -1)
        return Output(*posterior_mean(value, z, alpha, sigma, 2))

    return Denoiser(network, Rectified(shift=3.0), clean)


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_rare_categories_are_drawn_as_often_as_they_are(steps):
    z, start = torch.randn(4, 5000, 3, generator=seeded()), torch.ones(1, 1, 1)
    made = list(sample(alone(0.02), z, start, together(steps), categorical_step(2), None, seeded(1)))[-1].z
    settled = torch.isclose(made[..., None, :2], KINDS, atol=1e-3).all(-1)
    assert settled.any(-1).all(), "one category or none"
    assert settled[..., :2].double().mean((0, 1)).tolist() == pytest.approx([0.02, 0.02], abs=0.004)
    torch.testing.assert_close(made[..., 2], torch.where(settled[..., 2], 0.0, 1.5), msg="and the rest goes with them")


def test_steps_towards_the_mean_lose_rare_categories():
    z, start = torch.randn(4, 5000, 3, generator=seeded()), torch.ones(1, 1, 1)
    made = list(sample(alone(0.02), z, start, together(12), reverse(), None, seeded(1)))[-1].z
    assert (made[..., :2].amax(-1) > 2).double().mean() < 0.03, "of 0.04"
