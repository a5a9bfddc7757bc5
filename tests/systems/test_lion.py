"""LION and the diffusion of points: near the identity at first, equivariant, and with the paper's losses and chain."""

import pytest
import torch

from becalm.core import times
from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas
from becalm.nets.latent import Gaussian
from becalm.systems import lion, pvd
from becalm.systems.lion import KLWeights, Latent, Lion, elbo_weight
from becalm.systems.pvd import PointDiffusion
from becalm.weights.store import load, save

LABEL = torch.tensor([1, 0])


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(seed: int = 0, **more) -> Lion:
    torch.manual_seed(seed)
    return Lion(["a", "b"], [8, 16, 24, 2, 1, 1], **more)


def points(seed: int = 0) -> PointDiffusion:
    torch.manual_seed(seed)
    return PointDiffusion(["a", "b"], [16, 24, 2, 1], 0.5)


def randomized(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module


@pytest.mark.parametrize("seed", range(5))
def test_a_fresh_autoencoder_is_near_the_identity_whatever_z_is(seed):
    made, x = model(seed), torch.randn(3, 50, 3, generator=gen(seed))
    with torch.no_grad():
        posterior, latent = made.encode(x, gen(seed))
        decoded = made.decode(Latent(30 * torch.randn(3, 8, generator=gen()), latent.h))
    assert (decoded - x).abs().mean() < 1e-2
    assert ((posterior.h.log_sigma + 6).abs() < 1).all()
    assert torch.allclose(posterior.z.log_sigma, torch.tensor(-3.0))


def test_the_order_of_points_does_not_matter():
    made, x = randomized(model()).eval(), torch.randn(2, 40, 3, generator=gen())
    order = torch.randperm(40, generator=gen(1))
    with torch.no_grad():
        (z, _), latent = made.encode(x, gen())
        torch.testing.assert_close(z.mean, made.encode(x[:, order], gen())[0].z.mean, rtol=1e-4, atol=1e-4)
        moved = Latent(latent.z, latent.h[:, order])
        torch.testing.assert_close(made.decode(latent)[:, order], made.decode(moved), rtol=1e-4, atol=1e-4)


def test_h_is_encoded_and_decoded_given_z():
    made, x = randomized(model()).eval(), torch.randn(1, 40, 3, generator=gen())
    with torch.no_grad():
        means = [made.encode(x, gen(seed))[0].h.mean for seed in (0, 1)]
        h = torch.randn(1, 40, 4, generator=gen())
        clouds = [made.decode(Latent(torch.randn(1, 8, generator=gen(seed)), h)) for seed in (0, 1)]
    assert not torch.allclose(*means, atol=1e-5)
    assert not torch.allclose(*clouds, atol=1e-5)


def test_every_weight_learns_in_its_stage():
    made, x = randomized(model()), torch.randn(4, 40, 3, generator=gen())
    lion.autoencoder_losses(made, x, KLWeights(0.1, 0.1), gen())["loss"].backward()
    latent = Latent(torch.randn(4, 8, generator=gen()), torch.randn(4, 40, 4, generator=gen(1)))
    lion.prior_losses(made, latent, torch.tensor([1, 2, 1, 2]), gen())["loss"].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.5, 0.0), (0.0, 0.5), (0.02, 0.7), (0.0, 0.0)])
def test_the_loss_of_stage_1_is_the_papers(weights):
    """Each KL by torch's own formula, with its own λ: a loss without KL(h₀), or with the two λ exchanged, is caught."""
    made, x = randomized(model()), torch.randn(2, 40, 3, generator=gen())
    terms = lion.autoencoder_losses(made, x, KLWeights(*weights), gen(1))
    with torch.no_grad():
        posterior, latent = made.encode(x, gen(1))
        kl_z, kl_h = (torch_kl(part).sum() / 2 for part in posterior)
        l1 = (x - made.decode(latent)).abs().sum() / 2
    assert kl_z > 1 and kl_h > 1 and (kl_z / kl_h - 1).abs() > 0.5
    torch.testing.assert_close(terms["loss"] * 120, l1 + weights[0] * kl_z + weights[1] * kl_h, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms["l1"] * 120, l1, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms["kl_z"] * 8, kl_z, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms["kl_h"] * 160, kl_h, rtol=1e-4, atol=0)


def torch_kl(part: Gaussian) -> torch.Tensor:
    normal = torch.distributions.Normal(part.mean.double(), part.log_sigma.double().exp())
    return torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).float()


def test_the_weight_of_the_bound_has_the_values_of_a_known_table():
    steps = torch.tensor([1, 2, 10, 100, 250, 500, 1000])
    large = [0.5, 0.273, 0.0737, 0.0101, 0.0053, 0.0055, 0.0102]
    small = [None, 0.600, 0.0864, 0.0103, 0.0054, 0.0055, 0.0102]
    assert elbo_weight(steps, "large").tolist() == pytest.approx(large, rel=0.01)
    assert elbo_weight(steps, "small").tolist()[1:] == pytest.approx(small[1:], rel=0.01)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    second = beta[1] * beta[0] / (1 - (1 - beta[0]) * (1 - beta[1]))
    expected = beta[0] ** 2 / (2 * second * (1 - beta[0]) * beta[0])
    assert float(elbo_weight(torch.tensor([1]), "small")) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("weight", ["simple", "elbo"])
@pytest.mark.parametrize("distribution", ["uniform", "importance"])
def test_training_steps_weigh_errors_by_w(weight, distribution):
    """E[factor · f(t)] over draws is the mean of w(t) f(t) over t = 1 … T, however steps are drawn."""
    t, factor = lion.draw_steps(times.stratified(20_000, 1, gen()), weight, "large", distribution)
    steps = torch.arange(1, 1001)
    assert t.dtype == torch.float64 and t.min() >= 0.001 and t.max() == 1
    torch.testing.assert_close(t * 1000, (t * 1000).round(), rtol=0, atol=1e-9)
    w = elbo_weight(steps, "large") if weight == "elbo" else torch.ones(1000).double()
    f = 1 + (steps / 1000) ** 2
    assert float((factor * (1 + t**2)).mean()) == pytest.approx(float((w * f).mean()), rel=0.01)
    if distribution == "importance" and weight == "elbo":
        assert factor.std() == 0 and float((t <= 0.01).double().mean()) > 0.03
    else:
        torch.testing.assert_close(factor[:, 0, 0], w[(t[:, 0, 0] * 1000).round().long() - 1])


def test_the_loss_of_stage_2_is_the_papers(monkeypatch):
    """Networks that give a fixed answer: mean squared errors of ε at x_t = √ᾱ x + √(1 − ᾱ) ε, one t for both, times w(t)."""
    made, label = model(variance="small"), torch.tensor([1, 2])
    made.fit_latent_std(Latent(3 * torch.randn(50, 8, generator=gen()), 2 * torch.randn(50, 40, 4, generator=gen(1))))
    latent = Latent(torch.randn(2, 8, generator=gen(2)), torch.randn(2, 40, 4, generator=gen(3)))
    asked = []

    def record(noisy, t, label):
        asked.append((noisy, t))
        return torch.full_like(noisy, 0.25)

    monkeypatch.setattr(made.global_denoiser, "forward", record)
    monkeypatch.setattr(made.point_denoiser, "given_global", lambda z: record)
    terms = lion.prior_losses(made, latent, label, gen(4), "elbo")
    (noisy_z, t), (noisy_h, t_h) = asked
    assert torch.equal(t, t_h) and not torch.equal(t[0], t[1])
    step = (t * 1000).round().long()
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[step - 1].float()
    clean = (latent.z / made.latent_std[-1])[:, None], latent.h / made.latent_std[:-1]
    for name, noisy, x in zip(("global", "points"), (noisy_z, noisy_h), clean, strict=True):
        eps = (noisy - abar.sqrt() * x) / (1 - abar).sqrt()
        assert abs(float(eps.mean())) < 0.6 and 0.5 < float(eps.std()) < 1.5
        error = (eps - 0.25).square().mean((1, 2)) * elbo_weight(step, "small")[:, 0, 0]
        torch.testing.assert_close(terms[name], error.mean(), rtol=1e-3, atol=1e-5, check_dtype=False)
    torch.testing.assert_close(terms["loss"], terms["global"] + terms["points"])


@pytest.mark.parametrize("variance", ["large", "small"])
def test_ancestral_steps_are_those_of_the_beta_chain(monkeypatch, variance):
    """x_{t−1} = (x_t − β/√(1 − ᾱ) ε̂)/√(1 − β) + ρη for a network that gives x/2, step by step, of z₀ and of h₀."""
    made = model(variance=variance)
    monkeypatch.setattr(made.global_denoiser, "forward", lambda x, t, label: x / 2)
    monkeypatch.setattr(made.point_denoiser, "given_global", lambda z: lambda x, t, label: x / 2)
    made.latent_std.copy_(torch.tensor([2.0, 2.0, 2.0, 3.0, 0.5]))
    decoded = []
    monkeypatch.setattr(made, "decode", lambda latent: decoded.append(latent) or latent.h[..., :3])
    monkeypatch.setattr(lion, "SCHEDULE", Betas(1e-4, 0.3, 30))
    lion.generate(made, LABEL, 5, Sampler(30, "ancestral"), gen())
    beta = torch.linspace(1e-4, 0.3, 30, dtype=torch.float64)
    abar = torch.cumprod(1 - beta, 0)
    generator = gen()
    whitened = decoded[0].z[:, None] / 0.5, decoded[0].h / made.latent_std[:-1]
    for shape, latent in zip(((2, 1, 8), (2, 5, 4)), whitened, strict=True):
        x = torch.randn(shape, generator=generator)
        for i in reversed(range(30)):
            before = abar[i - 1] if i else torch.tensor(1.0)
            rho2 = beta[i] if variance == "large" else beta[i] * (1 - before) / (1 - abar[i])
            noise = torch.randn(shape, generator=generator)
            mean = (x - (beta[i] / (1 - abar[i]).sqrt()).float() * x / 2) / (1 - beta[i]).sqrt().float()
            x = mean + (rho2.sqrt().float() * noise if i else 0)
        torch.testing.assert_close(latent, x, rtol=1e-4, atol=1e-4)


def test_shapes_are_generated_and_saved(tmp_path):
    made = randomized(model()).eval()
    made.fit_latent_std(Latent(2 * torch.randn(9, 8, generator=gen()), torch.randn(9, 40, 4, generator=gen(1))))
    one, same, other = (lion.generate(made, LABEL, 40, Sampler(2, "ancestral"), gen(seed)) for seed in (0, 0, 1))
    assert one.shape == (2, 40, 3)
    assert torch.isfinite(one).all() and torch.equal(one, same) and not torch.allclose(one, other)
    save(made, tmp_path / "d.safetensors", {})
    again = load(tmp_path / "d.safetensors", Lion)
    assert torch.equal(lion.generate(again, LABEL, 40, Sampler(2, "ancestral"), gen()), one)


def test_a_world_of_two_latents_is_learned():
    """Latents that are one of two fixed shapes: 15 DDIM steps of the class give it."""
    made, ends = model(), torch.randn(2, 13, generator=gen(5)).sign()
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    for step in range(400):
        label = torch.randint(1, 3, (16,), generator=gen(step))
        x = ends[label - 1]
        latent = Latent(x[:, :8], x[:, None, 8:12].repeat(1, 4, 1))
        optimiser.zero_grad()
        lion.prior_losses(made, latent, label, gen(step))["loss"].backward()
        optimiser.step()
    label = torch.tensor([1, 2] * 8)
    made.decode = lambda latent: latent.h[..., :3]  # type: ignore[method-assign]
    shapes = lion.generate(made, label, 4, Sampler(15, "ddim", guidance=1.0), gen())
    near = torch.cdist(shapes.mean(1), ends[:, 8:11]).argmin(1) + 1
    assert (near == label).float().mean() > 0.8


def test_points_are_diffused_in_any_number_and_any_order():
    made, order = randomized(points()).eval(), torch.randperm(30, generator=gen(1))
    z, t = torch.randn(2, 30, 3, generator=gen()), torch.full((1, 1, 1), 0.4)
    with torch.no_grad():
        output = made(z, t, LABEL)
        torch.testing.assert_close(output[:, order], made(z[:, order], t, LABEL), rtol=1e-4, atol=1e-4)
    assert pvd.generate(made, LABEL, 70, Sampler(2), gen()).shape == (2, 70, 3)
    guided = pvd.generate(made, LABEL, 70, Sampler(2, guidance=2.0), gen())
    plain = pvd.generate(made, LABEL, 70, Sampler(2), gen())
    assert torch.equal(guided[1], plain[1]) and not torch.allclose(guided[0], plain[0], atol=1e-4)


def test_a_diffusion_of_points_learns_where_points_are():
    """All points at one of two places, by class."""
    made = points()
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    places = torch.tensor([[0.5, 0.5, 0.0], [-0.5, 0.0, 0.5]])
    for step in range(120):
        label = torch.randint(1, 3, (32,), generator=gen(step))
        optimiser.zero_grad()
        terms = pvd.losses(made, places[label - 1][:, None].repeat(1, 4, 1), label, gen(step))
        terms["loss"].backward()
        optimiser.step()
    shapes = pvd.generate(made, torch.tensor([1, 2] * 8), 4, Sampler(10), gen())
    near = torch.cdist(shapes.flatten(0, 1), places).argmin(1).reshape(16, 4) + 1
    assert (near == torch.tensor([1, 2] * 8)[:, None]).float().mean() > 0.95
