"""The bound: reference numbers, closed forms of its terms, gradients."""

import math

import numpy as np
import pytest
import torch

from becalm.core import kinds
from becalm.core.denoiser import Denoiser
from becalm.core.learned import Learned
from becalm.core.likelihood import (
    Bound,
    bits_per_dim,
    concatenate_bounds,
    decoder_log_prob,
    discrete_time_weight,
    encode_levels,
    mean_estimate,
    nearest_level,
    noise_error,
    prior_kl,
    reconstruction_nats,
    variational_bound,
)
from becalm.core.process import Prediction, reverse_moments
from becalm.core.schedule import Betas, Cosine, Linear, Rectified

FLOAT = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Reference numbers


def test_the_reference_s_probability_of_pixels(shared):
    file = {name: torch.tensor(value) for name, value in np.load(shared("vectors/vdm.npz")).items()}
    x = encode_levels(file["decode_x"].long(), 256, FLOAT)
    torch.testing.assert_close(x, file["decode_f"], rtol=0, atol=1e-15)
    found = decoder_log_prob(x, file["decode_z0_rescaled"], file["decode_gamma0"], 256)
    torch.testing.assert_close(found.sum((1, 2, 3)), file["decode_logprob"], rtol=1e-10, atol=0)


def test_the_reference_s_ancestral_step(shared):
    """Linear from 0 to 1 is γ = t, which lets a test name the levels themselves."""
    file, schedule = np.load(shared("vectors/vdm.npz")), Linear(0.0, 1.0)
    z, eps, noise, s, t, expected = (torch.tensor(file[f"step_{n}"]) for n in ("zt", "eps", "noise", "gs", "gt", "zs"))
    _, alpha, sigma = schedule(t)
    mean, deviation = reverse_moments(Prediction((z - sigma * eps) / alpha, eps), z, t, s, schedule)
    torch.testing.assert_close(mean + deviation * noise, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("steps", "diffusion"), [(None, 343.875), (10, 905.200), (100, 374.347), (1000, 346.765)])
def test_the_reference_s_three_terms(shared, steps, diffusion):
    file = np.load(shared("vectors/vdm.npz"))
    x = encode_levels(torch.tensor(file["loss_x"]).long().reshape(8, 16, 3), 256, FLOAT).repeat(20, 1, 1)
    denoiser = Denoiser(lambda z, t, given: 0.9 * z, Linear(), kinds.eps)
    generator, scale = seeded(), 48 * math.log(2)
    terms = [variational_bound(denoiser, x, 256, steps, generator=generator).estimates() for _ in range(30)]
    reference, errors = file[f"loss_T{steps or 0}_mean"], file[f"loss_T{steps or 0}_sem"]
    names, truths = ("reconstruction", "prior", "diffusion"), (0.345977, 0.052296, diffusion)
    for name, truth, given, error in zip(names, truths, reference, errors, strict=True):
        values = torch.tensor([term[name].nats for term in terms], dtype=FLOAT)
        own = values.std().item() / 30**0.5
        assert values.mean().item() == pytest.approx(truth, abs=3 * own + 1e-6)
        assert values.mean().item() == pytest.approx(given, abs=3 * math.hypot(own, error) + 1e-6)
        assert terms[0][name].bits == pytest.approx(values[0].item() / scale, rel=1e-12)


# The single terms


def test_prior_is_the_divergence_torch_computes():
    x = torch.randn(5, 3, 2, generator=seeded(), dtype=FLOAT)
    for high in (-2.0, 1.0, 5.0, 6.8, 7.0, 12.0):
        level = Linear(-13.3, high)(torch.ones((), dtype=FLOAT))
        noise, target = (torch.distributions.Normal(m, s) for m, s in ((level.alpha * x, level.sigma), (0 * x, 1.0)))
        expected = torch.distributions.kl_divergence(noise, target).sum((1, 2))
        torch.testing.assert_close(prior_kl(x, Linear(-13.3, high)), expected, rtol=1e-10, atol=1e-14)


def test_prior_does_not_vanish_by_cancellation():
    found = prior_kl(torch.zeros(1, 1, 1, dtype=FLOAT), Linear(-13.3, 40.0))
    assert found.item() == pytest.approx(math.exp(-80) / 4, rel=1e-10)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("gamma", [-14.0, -9.0, -3.0, 5.0])
def test_probabilities_of_all_levels_sum_to_one(levels, gamma):
    values, gamma = encode_levels(torch.arange(levels), levels, FLOAT), torch.tensor(gamma, dtype=FLOAT)
    y = 0.3 + torch.exp(gamma / 2) * torch.randn(50, 1, generator=seeded(), dtype=FLOAT)
    logits = -torch.exp(-gamma) * (y - values).square() / 2
    found = decoder_log_prob(values.expand(50, levels), y.expand(50, levels), gamma, levels)
    slow = torch.log_softmax(logits, -1)
    torch.testing.assert_close(found, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(50, dtype=FLOAT), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("gamma", "bits"), [(-14.0, 0.0), (-13.3, 0.010412), (-12.5, 0.164611), (-11.0, 1.108037)])
def test_what_uniform_pixels_cost_to_decode(gamma, bits):
    x = encode_levels(torch.randint(0, 256, (100, 1000, 1), generator=seeded()), 256)
    costs = reconstruction_nats(x, Linear(gamma, 5.0), 256, generator=seeded(1))
    found = mean_estimate(costs, 1000)
    assert found.bits == pytest.approx(bits, abs=4 * found.bits_error + 1e-3 * (gamma == -14.0))


def test_values_go_to_levels_and_back_and_others_are_refused():
    v = torch.arange(17)
    x = encode_levels(v, 17)
    assert torch.equal(nearest_level(x, 17), v)
    torch.testing.assert_close(x.diff(), torch.full((16,), 2 / 17))
    with pytest.raises(ValueError, match="17 to 17 do not fit 17 levels"):
        encode_levels(torch.tensor([17]), 17)


def test_bits_standard_errors_and_joining():
    nats = torch.tensor([1.0, 2.0, 6.0])
    found = mean_estimate(nats, 5)
    assert found.bits == pytest.approx(3 / (5 * math.log(2)))
    assert found.nats_error == pytest.approx((7 / 3) ** 0.5)
    assert math.isnan(mean_estimate(nats[:1], 5).nats_error)
    one, both = Bound(nats, 2 * nats, 3 * nats, 5), concatenate_bounds([Bound(nats, 2 * nats, 3 * nats, 5)] * 2)
    torch.testing.assert_close(one.total, 6 * nats)
    assert both.estimates()["total"].nats == pytest.approx(18)
    assert len(both.total) == 6


def test_steps_never_reach_below_the_start_and_are_all_visited():
    u = torch.linspace(0, 0.9999, 5001, dtype=FLOAT)[:, None, None]
    t, weight = discrete_time_weight(Linear(), u, 7)
    torch.testing.assert_close(t.unique(), torch.arange(1, 8, dtype=FLOAT) / 7)
    assert t[0].item() == pytest.approx(1 / 7)
    torch.testing.assert_close(weight, torch.full_like(weight, 3.5 * math.expm1(18.3 / 7)))


def test_ddpm_s_chain_of_a_thousand_is_its_own_bound():
    """½ΔSNR|x − x̂|² summed over t = 2 … T, from the table itself."""
    u = ((torch.arange(999, dtype=FLOAT) + 0.5) / 999)[:, None, None]
    t, weight = discrete_time_weight(Betas(), u, 999, 1 / 1000)
    products = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=FLOAT), 0)
    snr = products / (1 - products)
    torch.testing.assert_close(t[:, 0, 0], torch.arange(2, 1001, dtype=FLOAT) / 1000)
    torch.testing.assert_close(weight / 999, (snr[:-1] - snr[1:]) / snr[1:] / 2, rtol=1e-8, atol=0)


@pytest.mark.parametrize("schedule", [Betas(), Cosine(), Rectified()])
def test_an_infinite_end_is_refused(schedule):
    denoiser = Denoiser(lambda z, t, given: z, schedule, kinds.v)
    with pytest.raises(ValueError, match="finite"):
        variational_bound(denoiser, torch.zeros(2, 1, 1), 2)


# Gradients and plumbing


@pytest.mark.parametrize("steps", [None, 8])
def test_gradients_of_the_whole_bound_reach_ends_and_course(steps):
    schedule = Learned(gamma_min=-6.0, width=3)
    x = encode_levels(torch.randint(0, 16, (3, 2, 1), generator=seeded()), 16, FLOAT)
    denoiser = Denoiser(lambda z, t, given: torch.tanh(z), schedule, kinds.eps)

    def total(low, raw_rise, b1):
        for name, weight in (("low", low), ("raw_rise", raw_rise), ("b1", b1)):
            if name in schedule._parameters:
                delattr(schedule, name)
            setattr(schedule, name, weight)
        return variational_bound(denoiser, x, 16, steps, 2, generator=seeded(5)).total

    weights = [getattr(schedule, name).detach().clone().requires_grad_() for name in ("low", "raw_rise", "b1")]
    assert torch.autograd.gradcheck(total, weights, atol=1e-6, rtol=1e-5)


def test_what_is_given_follows_its_rows_through_batches_and_draws():
    rows = torch.arange(5.0)
    x = encode_levels(torch.arange(5), 5)[:, None, None]
    seen = []

    def network(z, t, given):
        seen.append(given["row"])
        return z

    denoiser = Denoiser(network, Linear(), kinds.eps)
    found = bits_per_dim(denoiser, x, 5, draws=2, given={"row": rows}, generator=seeded(), batch=3)
    assert [part.tolist() for part in seen] == [[0, 1, 2], [0, 1, 2], [3, 4], [3, 4]]
    assert found.total.shape == (5,) and found.total.dtype == FLOAT


def test_single_precision_gives_the_same_bound():
    v = torch.randint(0, 256, (64, 16, 3), generator=seeded())
    denoiser = Denoiser(lambda z, t, given: 0.9 * z, Linear(), kinds.eps)
    single, double = (
        torch.stack(
            [
                noise_error(denoiser, encode_levels(v, 256, dtype), t, eps.to(dtype)).mean()
                for t, eps in [(torch.full((64, 1, 1), u, dtype=FLOAT), eps) for u in (0.0, 0.5, 1.0)]
            ]
        )
        for eps in [torch.randn(64, 16, 3, generator=seeded(1), dtype=FLOAT)]
        for dtype in (torch.float32, FLOAT)
    )
    torch.testing.assert_close(single, double, rtol=1e-5, atol=0)


def test_several_draws_lower_the_error_and_keep_the_mean():
    denoiser = Denoiser(lambda z, t, given: 0.9 * z, Linear(), kinds.eps)
    x = encode_levels(torch.randint(0, 256, (200, 4, 1), generator=seeded()), 256)
    one, many = (
        variational_bound(denoiser, x, 256, draws=n, generator=seeded(1)).estimates()["diffusion"] for n in (1, 16)
    )
    assert many.nats_error < one.nats_error / 2.5
    assert many.nats == pytest.approx(one.nats, abs=4 * one.nats_error)
