"""Learned schedules: pinned ends, a rising course, gradients through γ and γ′, and the course of least variance."""

import copy

import numpy as np
import pytest
import torch

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.learned import FewSteps, InteriorGradient, Learned, LearnedLinear, LeastVariance
from becalm.core.likelihood import continuous_time_weight, discrete_time_weight, noise_error
from becalm.core.schedule import Linear, Schedule
from tests.worlds import MIXTURE, optimal

FLOAT = torch.float64
T = torch.linspace(0, 1, 10_001, dtype=FLOAT)
FAMILIES = [Learned, LearnedLinear, LeastVariance, FewSteps]


def shaken(family, seed: int, scale: float = 1.0, **options):
    """A schedule with random weights, or random observations."""
    generator, schedule = torch.Generator().manual_seed(seed), family(**options)
    with torch.no_grad():
        for weight in schedule.interior_parameters():
            weight += scale * torch.randn(weight.shape, generator=generator, dtype=FLOAT)
    if isinstance(schedule, LeastVariance):
        t = torch.rand(500, generator=generator, dtype=FLOAT)
        error = torch.randn(500, generator=generator, dtype=FLOAT).exp() * (1 + 50 * t)
        schedule.observe(schedule.gamma(t), error)
    return schedule


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(10))
def test_the_course_rises_strictly_between_exact_ends_and_is_inverted(family, seed):
    schedule = shaken(family, seed, 2.0, gamma_min=-9.0, gamma_max=4.0, **({"width": 16} if family is Learned else {}))
    gamma = schedule.gamma(T).detach()
    assert (gamma.diff() > 0).all()
    assert gamma[0].item() == -9.0
    assert gamma[-1].item() == pytest.approx(4.0, abs=1e-12)
    torch.testing.assert_close(schedule.gamma(schedule.time(gamma[::100])), gamma[::100], rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", [Learned, LearnedLinear])
def test_the_slope_integrates_to_the_rise(family):
    schedule = shaken(family, 3)
    middles = (torch.arange(5_000, dtype=FLOAT) + 0.5) / 5_000
    assert schedule.slope(middles).mean().item() == pytest.approx(18.3, abs=1e-6)


def test_the_slope_integrates_to_the_rise_over_the_bins():
    schedule = shaken(LeastVariance, 3)
    edges = schedule.bin_edges()
    total = (schedule.slope((edges[1:] + edges[:-1]) / 2) * edges.diff()).sum()
    assert total.item() == pytest.approx(18.3, abs=1e-12)


def test_training_moves_the_ends_but_they_stay_the_ends():
    schedule = Learned()
    optimiser = torch.optim.Adam(schedule.parameters(), lr=0.05)
    for _ in range(100):
        loss = (schedule(T[::500]).gamma - torch.linspace(-3, 2, 21, dtype=FLOAT) ** 3).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ends = schedule.gamma(torch.tensor([0.0, 1.0], dtype=FLOAT))
    assert abs(schedule.low.item() + 13.3) > 0.1
    torch.testing.assert_close(
        ends, torch.stack([schedule.low, schedule.low + schedule.gamma_range]), rtol=0, atol=1e-12
    )


def test_the_ends_can_not_change_places():
    schedule = LearnedLinear()
    with torch.no_grad():
        schedule.raw_rise.fill_(-30.0)
    assert schedule.gamma_range > 0
    for family in FAMILIES:
        with pytest.raises(ValueError, match="below"):
            family(gamma_min=1.0, gamma_max=1.0)


@pytest.mark.parametrize("family", [Learned, LearnedLinear])
def test_gradients_reach_every_weight_through_gamma_and_its_slope(family):
    schedule, t = shaken(family, 0, **({"width": 4} if family is Learned else {})), T[[300, 5000, 9100]]
    names = [name for name, _ in schedule.named_parameters()]

    def both(*weights):
        """γ and γ′ as functions of the weights, which stand in for those of the schedule."""
        twin = copy.deepcopy(schedule)
        for name, weight in zip(names, weights, strict=True):
            delattr(twin, name)
            setattr(twin, name, weight)
        return twin.gamma(t), twin.slope(t)

    weights = [weight.detach().clone().requires_grad_() for weight in schedule.parameters()]
    assert torch.autograd.gradcheck(both, weights, atol=1e-6)


def test_weights_in_single_precision_keep_the_slope():
    single = shaken(Learned, 1).float()
    double = copy.deepcopy(single).double()
    assert torch.equal(single.slope(T[::100]), double.slope(T[::100]))
    assert single(T).gamma.dtype == FLOAT


def test_gamma_is_the_published_sum_of_sigmoids():
    """u = w₁t + b₁, g = u + Σ w₃ sigmoid(w₂u + b₂), γ = γ₀ + (γ₁ − γ₀)(g(t) − g(0))/(g(1) − g(0)), w = log(1 + eʳ)."""
    schedule = shaken(Learned, 4, 1.5, gamma_min=-9.0, gamma_max=4.0, width=3)
    raw = {name: weight.detach().numpy() for name, weight in schedule.named_parameters()}
    w1, w2, w3 = (np.log1p(np.exp(raw[f"raw_w{i}"])) for i in (1, 2, 3))

    def g(t):
        u = w1 * t + raw["b1"]
        return u + sum(c / (1 + np.exp(-(b * u + a))) for a, b, c in zip(raw["b2"], w2, w3, strict=True))

    t = T[::500].numpy()
    expected = -9 + 13 * (g(t) - g(0.0)) / (g(1.0) - g(0.0))
    np.testing.assert_allclose(schedule.gamma(T[::500]).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_the_reference_s_network_and_its_derivative(shared):
    """The released form: |w|, l2 fed with 2t − 1, 2(sigmoid − ½), l3 without bias over the width, ends not pinned."""
    file = np.load(shared("vectors/vdm.npz"))
    w1, b1, w2, b2, w3 = (
        torch.tensor(file[f"gamma_{name}"]) for name in ("l1_weight", "l1_bias", "l2_weight", "l2_bias", "l3_weight")
    )

    class Released(Schedule):
        scaling = "preserve"

        def gamma(self, t):
            t = t[:, None]
            bent = 2 * (torch.sigmoid((2 * t - 1) @ w2.abs() + b2) - 0.5)
            return (t @ w1.abs() + b1 + bent @ w3.abs() / w3.shape[0])[:, 0]

    t = torch.tensor(file["gamma_t"])
    torch.testing.assert_close(Released().gamma(t), torch.tensor(file["gamma"]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(Released().slope(t), torch.tensor(file["gamma_derivative"]), rtol=1e-10, atol=1e-10)


def exact(world, schedule) -> Denoiser:
    """The world's posterior mean as a denoiser of ε."""
    return Denoiser(lambda z, t, given: optimal(world, schedule)(z, t).eps, schedule, kinds.eps)


def losses(schedule, count: int, seed: int):
    """γ, m and l = ½γ′m of the mixture's exact denoiser, one draw of everything a datum."""
    generator = torch.Generator().manual_seed(seed)
    x = MIXTURE.draw(count, 1, generator)
    u = (torch.arange(count, dtype=FLOAT) + torch.rand(count, generator=generator, dtype=FLOAT)) / count
    t, weight = continuous_time_weight(schedule, u[:, None, None])
    error = noise_error(exact(MIXTURE, schedule), x, t, torch.randn(x.shape, generator=generator, dtype=FLOAT))
    return schedule(t).gamma[:, 0, 0], error, weight * error


def test_observed_errors_give_the_course_of_least_variance():
    """E[l²] of the fitted course reaches (½∫√E[m²] dγ)², its least value, and the mean stays."""
    gamma, error, linear = losses(Linear(), 100_000, 0)
    least = (9.15 * error.square().reshape(500, 200).mean(1).sqrt().mean()) ** 2
    schedule = LeastVariance()
    for part in range(10):
        schedule.observe(gamma[part::10], error[part::10])
    fitted = losses(schedule, 100_000, 1)[2].detach()
    assert linear.square().mean() > 1.2 * least
    assert fitted.square().mean().item() == pytest.approx(least.item(), rel=0.05)
    assert fitted.mean().item() == pytest.approx(linear.mean().item(), rel=0.02)


def test_the_course_of_few_steps_costs_less_than_any_other_here():
    """An error with a hump, m(γ), and its bound at T = 40: the fitted course is below the others and near the best grid."""

    def error(gamma):
        return 0.02 + torch.exp(-((gamma + 1) ** 2) / 8)

    def cost(schedule, steps=40):
        middles = ((torch.arange(steps, dtype=FLOAT) + 0.5) / steps)[:, None, None]
        t, weight = discrete_time_weight(schedule, middles, steps)
        return float((weight * error(schedule(t).gamma[:, 0, 0])).mean().detach())

    found, gamma = {}, Linear().gamma(torch.linspace(0, 1, 5001, dtype=FLOAT))
    for family in (LeastVariance, FewSteps):
        schedule = family(decay=1.0)
        schedule.observe(gamma, error(gamma))
        found[family] = cost(schedule)
    edges = gamma[::10]
    price = torch.expm1((edges - edges[:, None]).clamp(max=30)) / 2 * error(edges)
    price[torch.ones_like(price).tril().bool()] = torch.inf
    best = torch.where(torch.arange(len(edges)) == 0, 0.0, torch.inf).double()
    for _ in range(40):
        best = (best[:, None] + price).min(0).values
    assert best[-1] < found[FewSteps] < 1.06 * best[-1]
    assert found[FewSteps] < 0.95 * min(found[LeastVariance], cost(Linear()))


def test_the_course_forgets_and_a_bin_never_closes():
    schedule = LeastVariance(bins=4, decay=0.9)
    gamma = Linear().gamma(torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=FLOAT)).repeat(50)
    torch.testing.assert_close(schedule.gamma(T), Linear().gamma(T), rtol=0, atol=1e-12)
    schedule.observe(gamma, torch.tensor([0.0, 0.0, 0.0, 1e3], dtype=FLOAT).repeat(50))
    assert (schedule.gamma(T).diff() > 0).all()
    for _ in range(300):
        schedule.observe(gamma, torch.tensor([1.0, 1.0, 3.0, 3.0], dtype=FLOAT).repeat(50))
    expected = torch.tensor([0.125, 0.125, 0.375, 0.375], dtype=FLOAT)
    torch.testing.assert_close(schedule.bin_edges().diff(), expected, rtol=0.01, atol=0)


def test_the_course_learns_to_lower_the_variance():
    """For an error that γ alone decides, l can be the same at every t: E[l²] falls to (E l)², and E l stays."""

    def cost(schedule):
        t, weight = continuous_time_weight(schedule, middles)
        return weight * 2 * torch.sigmoid(-schedule(t).gamma[:, 0, 0] - 4)

    middles, schedule = ((torch.arange(100, dtype=FLOAT) + 0.5) / 100)[:, None, None], Learned(width=16)
    optimiser, before = torch.optim.Adam(schedule.interior_parameters(), lr=0.2), cost(schedule).detach()
    for _ in range(60):
        optimiser.zero_grad()
        routed = InteriorGradient(schedule)
        diffusion = cost(routed)
        routed.factor = 2 * diffusion.detach()[:, None, None]
        diffusion.mean().backward()
        optimiser.step()
    after = cost(schedule).detach()
    assert after.mean().item() == pytest.approx(before.mean().item(), rel=0.01)
    assert after.var() < 0.2 * before.var()


def test_a_step_gives_the_bound_to_the_ends_and_the_variance_to_the_course():
    schedule, network = shaken(Learned, 2, width=4), torch.nn.Linear(2, 2).double()

    def costs(schedule):
        generator = torch.Generator().manual_seed(0)
        x, eps = torch.randn(2, 64, 1, 2, generator=generator, dtype=FLOAT)
        t, weight = continuous_time_weight(schedule, torch.rand(64, 1, 1, generator=generator, dtype=FLOAT))
        level = schedule(t)
        error = (eps - network(level.alpha * x + level.sigma * eps)).square().sum((1, 2))
        return weight * error

    routed = InteriorGradient(schedule)
    diffusion = costs(routed)
    routed.factor = diffusion.detach()[:, None, None]
    outer = [schedule.low, schedule.raw_rise, *network.parameters()]
    expected = torch.autograd.grad(costs(schedule).mean(), outer)
    diffusion.mean().backward()
    for weight, gradient in zip(outer, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)
    values = []
    with torch.no_grad():
        for shift in (1e-6, -2e-6):
            schedule.b1 += shift
            values.append(0.5 * costs(schedule).square().mean())
    difference = (values[0] - values[1]) / 2e-6
    torch.testing.assert_close(schedule.b1.grad, difference, rtol=1e-4, atol=1e-6)
