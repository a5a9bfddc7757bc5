"""Score matching: every loss is the Fisher divergence up to what it is said to differ by, and has the gradient of its value."""

import re
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck

from becalm.core import kinds, scores
from becalm.core.denoiser import Denoiser
from becalm.core.densities import Gaussian, GaussianMixture
from becalm.core.objective import squared_error
from becalm.core.schedule import Linear

PLANE = GaussianMixture(
    torch.tensor([[1.5, 0.0], [-1.0, 1.0]], dtype=torch.float64),
    torch.tensor([0.7, 0.3], dtype=torch.float64),
    torch.tensor([0.4, 0.6], dtype=torch.float64),
)
LINE = GaussianMixture(
    torch.tensor([[1.2], [-1.0]], dtype=torch.float64),
    torch.tensor([0.6, 0.4], dtype=torch.float64),
    torch.tensor([0.4, 0.5], dtype=torch.float64),
)
MODELS = {
    "linear": lambda x: -0.8 * x + 0.1,
    "cubic": lambda x: 0.2 * x - 0.05 * x**3,
    "wavy": lambda x: torch.tanh(x.flip(-1)) - x,
    "curl": lambda x: torch.sin(x) * x.square().sum(-1, keepdim=True) / 10,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def axis(reach: float, width: float) -> torch.Tensor:
    """A grid whose sum times the width is spectrally exact for what vanishes at ±reach."""
    count = round(2 * reach / width)
    return (torch.arange(count + 1, dtype=torch.float64) - count / 2) * width


def weights(count: int = 6, seed: int = 0) -> list[torch.Tensor]:
    shapes = [(2, count), (count,), (count, 2)]
    return [torch.randn(s, generator=generator(seed), dtype=torch.float64).requires_grad_() for s in shapes]


def network(a, b, c):
    return lambda x: torch.tanh(x @ a + b) @ c


def scalar(a, b, c):
    return lambda x: (torch.nn.functional.softplus(x @ a + b) @ c).square().sum(1)


def within(draws: torch.Tensor, expected, errors: float = 4.0) -> bool:
    """Whether the mean over the first axis is as expected, in standard errors."""
    error = draws.std(0) / len(draws) ** 0.5
    return bool(((draws.mean(0) - expected).abs() <= errors * error + 1e-12).all())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_implicit_is_explicit_less_half_the_truth_s_square(model):
    grid = axis(7, 0.1)
    x = torch.cartesian_prod(grid, grid)
    p = PLANE.log_prob(x).exp() * 0.01
    implicit = (p * scores.implicit(model, x)).sum()
    explicit = (p * scores.explicit(model, x, PLANE.score)).sum()
    constant = (p * scores.half_squared_norm(PLANE.score(x))).sum()
    assert abs(implicit - (explicit - constant)) < 1e-9
    assert constant > 0.1, "the test can tell"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_denoising_is_explicit_for_the_noisy_density_plus_a_constant(model, sigma):
    grid, noise = axis(7, 0.1), axis(9, 0.15)
    x, eps = torch.cartesian_prod(grid, noise).unbind(1)
    p = (LINE.log_prob(x[:, None]) - eps.square() / 2).exp() / (2 * torch.pi) ** 0.5 * 0.015
    denoising = (p * scores.denoising(model, x[:, None], eps[:, None], sigma)).sum()
    noisy, wide = LINE.convolve(sigma), axis(14, 0.05)[:, None]
    q = noisy.log_prob(wide).exp() * 0.05
    explicit = (q * scores.explicit(model, wide, noisy.score)).sum()
    constant = 1 / (2 * sigma**2) - (q * scores.half_squared_norm(noisy.score(wide))).sum()
    assert abs(denoising - explicit - constant) < 1e-9


def test_denoising_s_best_linear_score_is_that_of_the_noisy_gaussian():
    variance, sigma = 0.7, 0.5
    slope = torch.tensor(-1 / (variance + sigma**2), dtype=torch.float64, requires_grad=True)
    x, eps = torch.cartesian_prod(axis(9, 0.1), axis(9, 0.1)).unbind(1)
    p = torch.exp(-(x**2) / (2 * variance) - eps**2 / 2) / (2 * torch.pi * variance**0.5) * 0.01
    (p * scores.denoising(lambda z: slope * z, x[:, None], eps[:, None], sigma)).sum().backward()
    assert slope.grad is not None
    assert abs(slope.grad) < 1e-8


def test_twice_explicit_is_the_fisher_divergence_of_gaussians():
    here = Gaussian(torch.tensor([0.5, -1.0]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double())
    other = Gaussian(torch.zeros(2).double(), torch.tensor([[1.5, -0.2], [-0.2, 0.5]]).double())
    gap = other.covariance.inverse() - here.covariance.inverse()
    shift = other.covariance.inverse() @ (here.mean - other.mean)
    fisher = torch.trace(gap @ here.covariance @ gap) + shift @ shift
    assert within(2 * scores.explicit(other.score, here.sample(100_000, generator()), here.score), fisher)


def test_the_exact_trace_is_the_jacobian_s():
    model, x = MODELS["curl"], torch.randn(5, 3, 2, generator=generator(), dtype=torch.float64)
    whole = torch.autograd.functional.jacobian(model, x)
    slow = torch.stack([torch.trace(whole[i, :, :, i].reshape(6, 6)) for i in range(5)])
    value, trace = scores.score_and_trace(model, x)
    torch.testing.assert_close(trace, slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(value, model(x))


@pytest.mark.parametrize("probe", [scores.rademacher_probes, scores.normal_probes, scores.sphere_probes])
def test_probes_are_white(probe):
    v = probe(torch.zeros(3, 2, 2).double(), generator(), 20_000)
    assert v.shape == (20_000, 3, 2, 2)
    flat = v.flatten(2)
    assert within(flat[..., :, None] * flat[..., None, :], torch.eye(4).double())
    if probe is not scores.normal_probes:
        torch.testing.assert_close(flat.norm(dim=2), torch.full((20_000, 3), 2.0).double())


def test_hutchinson_s_trace_is_unbiased_with_the_two_variances():
    jacobian = torch.randn(6, 6, generator=generator(3), dtype=torch.float64)
    symmetric = (jacobian + jacobian.T) / 2
    off = symmetric - symmetric.diagonal().diag()
    x = torch.zeros(1, 6, dtype=torch.float64)
    for probe, variance in (
        (scores.rademacher_probes, 2 * off.square().sum()),
        (scores.normal_probes, 2 * symmetric.square().sum()),
    ):
        forms = scores.score_and_quadratic_forms(lambda z: z @ jacobian.T, x, probe(x, generator(), 50_000))[1][:, 0]
        assert within(forms, jacobian.trace())
        assert abs(forms.var() / variance - 1) < 0.05


def test_rademacher_is_exact_for_a_diagonal_jacobian():
    x = torch.randn(4, 5, generator=generator(), dtype=torch.float64)
    _, forms = scores.score_and_quadratic_forms(torch.sin, x, scores.rademacher_probes(x, generator(), 3))
    torch.testing.assert_close(forms, x.cos().sum(1).expand(3, 4), rtol=1e-12, atol=1e-12)


def test_sliced_losses_have_implicit_s_gradient_and_the_reduced_one_less_variance():
    x = PLANE.sample(32, generator())
    parameters = weights()
    exact = torch.autograd.grad(scores.implicit(network(*parameters), x).mean(), parameters)
    spreads = []
    for loss in (scores.sliced, scores.sliced_reduced):
        draws = []
        for seed in range(100):
            v = scores.normal_probes(x, generator(seed), 16)
            grads = torch.autograd.grad(loss(network(*parameters), x, v).mean(), parameters)
            draws.append(torch.cat([g.flatten() for g in grads]))
        gradients = torch.stack(draws)
        assert within(gradients, torch.cat([g.flatten() for g in exact]), 4.5)
        spreads.append(gradients.var(0).sum())
    assert spreads[1] < spreads[0]


def test_finite_differences_agree_to_second_order():
    x = PLANE.sample(50, generator())
    v = scores.normal_probes(x, generator(1), 4)  # of every length: entries of 1 and -1 hide where the step divides
    model, energy = network(*weights()), scalar(*weights(seed=1))
    cases = (
        (scores.finite_sliced, model, scores.sliced_reduced(model, x, v)),
        (scores.finite_sliced_energy, energy, scores.sliced(scores.score_of_energy(energy), x, v)),
    )
    for loss, function, exact in cases:
        coarse, fine = ((loss(function, x, v, h) - exact).norm() for h in (0.02, 0.01))
        assert abs(coarse / fine - 4) < 0.1
        assert fine < 1e-2 * exact.norm()


def test_the_control_variate_keeps_the_mean_and_bounds_the_spread():
    model, size = network(*weights()), 40_000
    x = torch.tensor([[0.3, -0.2]]).double().expand(size, 2)
    eps = torch.randn(size, 2, generator=generator(), dtype=torch.float64)
    with torch.no_grad():
        for sigma in (1.0, 0.1):
            gap = scores.denoising(model, x, eps, sigma) - scores.denoising_control_variate(model, x, eps, sigma)
            assert within(gap, 0.0)
        plain = [scores.denoising(model, x, eps, s).std() for s in (1e-2, 1e-3, 1e-4)]
        bounded = [scores.denoising_control_variate(model, x, eps, s).std() for s in (1e-2, 1e-3, 1e-4)]
        limit = scores.denoising_control_variate(model, x, eps, 1e-5) - 1 / 1e-10
        assert (limit - scores.sliced_reduced(model, x, eps[None])).abs().max() < 1e-2
    assert plain[1] > 50 * plain[0] and plain[2] > 50 * plain[1]
    assert max(bounded) < 1.1 * min(bounded)


def test_many_levels_are_the_error_of_the_noise():
    schedule = Linear(-4.0, 2.0, scaling="explode")
    model = network(*weights())
    denoiser = Denoiser(lambda z, t, given: model(z) - z, schedule, kinds.score)
    x = torch.randn(7, 1, 2, generator=generator(), dtype=torch.float64)
    eps = torch.randn(7, 1, 2, generator=generator(1), dtype=torch.float64)
    t = torch.rand(7, 1, 1, generator=generator(2), dtype=torch.float64)
    sigma = schedule(t).sigma

    def leveled(z, sigma):
        return scores.score_at_level(denoiser, schedule.time(2 * sigma.log()))(z)

    many = scores.denoising_multilevel(leveled, x, eps, sigma.flatten())
    noise = squared_error(denoiser(x + sigma * eps, t).eps, eps)[:, 0, 0]
    torch.testing.assert_close(many, noise, rtol=1e-10, atol=1e-10)
    each = scores.denoising(scores.score_at_level(denoiser, t), x, eps, sigma.flatten())
    torch.testing.assert_close(many, sigma.flatten() ** 2 * each, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spread", [0.1, 0.5, 2.0])
def test_shared_targets_keep_the_gradient(spread):
    """Batches of 4 of a mixture: a bias of the averaged targets would show at so few."""
    held, count = weights(), 1500
    x = PLANE.sample(4 * count, generator(1)).reshape(count, 4, 2)
    eps, sigma = torch.randn(x.shape, generator=generator(2), dtype=torch.float64), torch.full((4,), spread).double()

    def gradients(loss):
        parts = zip(x, eps, strict=True)
        one = lambda a, e: loss(lambda z, s: network(*held)(z) / s, a, e, sigma).mean()  # noqa: E731
        return torch.stack([torch.autograd.grad(one(a, e), held[0])[0] for a, e in parts])

    plain, shared = gradients(scores.denoising_multilevel), gradients(scores.denoising_stable_target)
    assert within(shared - plain, 0.0)
    assert shared.var(0).sum() < plain.var(0).sum()


def test_at_the_true_score_shared_targets_hardly_err():
    x, sigma = PLANE.sample(1024, generator(1)), torch.full((1024,), 0.5).double()
    eps = torch.randn(x.shape, generator=generator(2), dtype=torch.float64)
    true = PLANE.convolve(0.5).score
    plain, shared = (
        loss(lambda z, s: true(z), x, eps, sigma).mean()
        for loss in (scores.denoising_multilevel, scores.denoising_stable_target)
    )
    assert shared < 0.05 * plain


def test_a_batch_of_one_keeps_its_axes():
    x, eps = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    whole = scores.denoising_multilevel(lambda z, sigma: -z / sigma, x, eps, torch.tensor([0.5]))
    assert whole.shape == (1,)
    torch.testing.assert_close(whole[0], ((0.5 * eps + x - eps).square().sum() / 2))


X = torch.randn(3, 2, generator=generator(8), dtype=torch.float64)
EPS = torch.randn(3, 2, generator=generator(9), dtype=torch.float64)
SIGMA = torch.tensor([0.3, 0.7, 1.1]).double()
LOSSES = {
    "explicit": lambda *p: scores.explicit(network(*p), X, torch.sin),
    "implicit": lambda *p: scores.implicit(network(*p), X),
    "implicit of an energy": lambda *p: scores.implicit(scores.score_of_energy(scalar(*p)), X),
    "sliced": lambda *p: scores.sliced(network(*p), X, EPS[None]),
    "sliced_reduced": lambda *p: scores.sliced_reduced(network(*p), X, EPS[None]),
    "finite_sliced": lambda *p: scores.finite_sliced(network(*p), X, EPS[None]),
    "finite_sliced_energy": lambda *p: scores.finite_sliced_energy(scalar(*p), X, EPS[None], 0.5),
    "denoising": lambda *p: scores.denoising(network(*p), X, EPS, SIGMA),
    "denoising of an energy": lambda *p: scores.denoising(scores.score_of_energy(scalar(*p)), X, EPS, SIGMA),
    "denoising_control_variate": lambda *p: scores.denoising_control_variate(network(*p), X, EPS, SIGMA),
    "denoising_multilevel": lambda *p: scores.denoising_multilevel(lambda z, s: network(*p)(z) / s, X, EPS, SIGMA),
    "denoising_stable_target": lambda *p: scores.denoising_stable_target(
        lambda z, s: network(*p)(z) / s, X, EPS, SIGMA
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_every_loss_is_one_number_a_sample_with_the_gradient_of_its_value(loss):
    parameters = weights(3, seed=4)
    assert loss(*parameters).shape == (3,)
    assert gradcheck(loss, parameters, eps=1e-6, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        assert not loss(*parameters).requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(loss(*parameters), loss(*parameters))


def test_in_parts_a_loss_is_the_same_with_the_same_gradient(monkeypatch):
    monkeypatch.setattr(scores, "SAMPLE_CHUNK", 7)
    held, x = weights(), PLANE.sample(20, generator())
    v = scores.rademacher_probes(x, generator(1), 2)
    whole = scores.sliced(network(*held), x, v)
    parts = scores.loss_in_chunks(partial(scores.sliced, network(*held)), x, v)
    torch.testing.assert_close(parts, whole)
    for one, other in zip(*(torch.autograd.grad(loss.sum(), held) for loss in (whole, parts)), strict=True):
        torch.testing.assert_close(other, one)


def test_too_many_numbers_for_an_exact_trace_name_the_estimator():
    with pytest.raises(ValueError, match=re.escape("1025 numbers per sample")) as error:
        scores.implicit(lambda x: -x, torch.zeros(2, 1025))
    assert "sliced_reduced(score, x, rademacher_probes(x, generator))" in str(error.value)


def test_a_piecewise_linear_energy_is_refused_where_a_trace_is_wanted():
    a, b, c = weights()
    score = scores.score_of_energy(lambda x: (torch.relu(x @ a + b) @ c).sum(1))
    for loss in (scores.sliced, scores.sliced_reduced):
        with pytest.raises(ValueError, match="ReLU"):
            loss(score, X, EPS[None])
    with pytest.raises(ValueError, match="ReLU"):
        scores.implicit(score, X)
    assert (scores.implicit(torch.zeros_like, X) == 0).all(), "a network that starts at 0 is none"
    assert scores.denoising(score, X, EPS, 0.5).shape == (3,)


def test_vectors_are_no_energy():
    for wrong in (lambda x: x, lambda x: x.sum(), lambda x: x.sum(0)):
        with pytest.raises(ValueError, match="one number per sample"):
            scores.score_of_energy(wrong)(X)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_slopes_are_the_gradient_in_pieces_and_record_nothing(context):
    weights = torch.randn(2, 5, generator=generator(1), dtype=torch.float64).requires_grad_()
    x = torch.randn(2 * scores.SAMPLE_CHUNK + 3, 2, generator=generator(), dtype=torch.float64)

    def energy(z: torch.Tensor) -> torch.Tensor:
        return torch.sin(z @ weights).sum(1)

    with context():
        values, slope = scores.energy_and_gradient(energy, x)
        torch.testing.assert_close(scores.detached_score(energy)(x), scores.score_of_energy(energy)(x))
    torch.testing.assert_close(values, energy(x).detach())
    torch.testing.assert_close(slope, (torch.cos(x @ weights) @ weights.T).detach())
    assert not slope.requires_grad and weights.grad is None
