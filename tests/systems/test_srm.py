"""SRM on small data: its losses, and what solving may touch."""

import pytest
import torch

from becalm.core import objective, process, times, walk
from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.core.schedule import Cosine, Linear, Rectified
from becalm.nets.transformer import Shape, Transformer
from becalm.systems.refine import pseudo_nll, refine
from becalm.systems.srm import SRM, last_state, losses, noise_and_predict
from becalm.systems.srm_pixels import SATURATION, PixelSRM
from becalm.systems.srm_polygons import PolygonSRM
from becalm.weights.store import save

PLACES = [[0, 0], [0, 1], [1, 0], [1, 1]]


def model(places=PLACES) -> SRM:
    torch.manual_seed(0)
    return SRM.build(channels=3, places=places, shape=[32, 4, 2, 2, 2])


def decoded(made: SRM, value: torch.Tensor, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x from what the head puts out."""
    raw = torch.cat([value, torch.zeros(*value.shape[:-1], value.shape[-1] + 1)], -1)
    return made.decode(raw[None], z, t).value[0]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uncertainty_is_about_the_features_alone():
    made = SRM.build(channels=3, places=PLACES, shape=[32, 4, 2, 2, 2], features=1)
    made.features.copy_(torch.tensor([[0.0], [2.0], [0.0]]))
    value, target = torch.zeros(1, 4, 3), torch.tensor([5.0, 1.0, -7.0]).expand(1, 4, 3)
    assert torch.equal(made.feature_error(value, target), torch.full((1, 4, 1), 4.0))
    assert torch.equal(model().feature_error(value, target), torch.full((1, 4, 1), 25.0))


def test_the_velocity_s_error_follows_from_that_of_x():
    made, x, t = model(), torch.randn(8, 4, 3, generator=gen()), torch.full((8, 4, 1), 0.6).double()
    predicted = noise_and_predict(made, x, t, gen(1))
    velocity = (predicted.z - predicted.prediction.x) / 0.6
    target = (predicted.z - x) / 0.6
    expected = (velocity - target).square().mean()
    torch.testing.assert_close(losses(made, predicted, x, t, torch.ones_like(t))["last"], expected, rtol=1e-4, atol=0)


def test_the_feature_loss_is_added_with_its_weight():
    made, x, t = (
        SRM.build(channels=3, places=PLACES, shape=[32, 4, 2, 2, 2], features=1),
        torch.randn(8, 4, 3, generator=gen()),
        torch.ones(8, 4, 1),
    )
    predicted, weight = noise_and_predict(made, x, t.double(), gen(1)), torch.ones_like(t)
    plain, stressed = (losses(made, predicted, x, t.double(), weight, stress)["last"] for stress in (0.0, 2.0))
    torch.testing.assert_close(stressed - plain, 2 * made.feature_error(predicted.loop_outputs[-1].value, x).mean())


def test_the_pooled_context_is_the_sum_of_settled_features():
    made, x = (
        PixelSRM.build(channels=3, places=PLACES, shape=[32, 4, 2, 2, 2], features=1),
        torch.randn(2, 4, 3, generator=gen()),
    )
    seen = []
    made.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    t = torch.tensor([0.0, 0.0, 0.5, 1.0])[None, :, None].expand(2, -1, -1)
    made(x, t)
    bounded = torch.tanh(SATURATION * x[..., 0])
    expected = bounded[:, 0] + bounded[:, 1] + bounded[:, 2] / 2
    torch.testing.assert_close(seen[0][..., 3], expected[:, None].expand(2, 4))


def test_a_fresh_residual_head_is_the_best_linear_estimate():
    made, x, t = (
        PixelSRM.build(
            channels=4,
            places=PLACES,
            shape=[32, 4, 2, 2, 2],
            data_variance=0.25,
            pixel_channels=2,
            head="residual",
        ),
        0.5 * torch.randn(4000, 4, 4),
        torch.full((1, 1, 1), 0.3),
    )
    z = 0.7 * x + 0.3 * torch.randn_like(x)
    slope = (z * x).mean() / (z * z).mean()
    torch.testing.assert_close(made(z, t).value, slope * z, rtol=0.03, atol=0)


def test_the_velocity_head_predicts_the_velocity():
    made, x, eps = (
        SRM.build(channels=3, places=PLACES, shape=[32, 4, 2, 2, 2], shift=3.0, head="velocity"),
        *torch.randn(2, 2, 4, 3, generator=gen()),
    )
    t = torch.tensor([0.1, 0.4, 0.7, 1.0]).view(1, 4, 1).expand(2, -1, -1)
    sigma = made.schedule(t).sigma.float()
    z = (1 - sigma) * x + sigma * eps
    torch.testing.assert_close(decoded(made, eps - x, z, t), x, atol=1e-5, rtol=1e-4)
    assert torch.equal(made(z, t).value, z), "a fresh network tells no velocity"
    assert not SRM.build(channels=3, places=PLACES, shape=[32, 4, 2, 2, 2])(z, t).value.any(), "and no x"


@pytest.mark.parametrize("places", [PLACES, [[0.0, 0.5], [-1.0, 1.0], [0.2, 0.0], [1.0, 1.0]]])
def test_losses_are_finite_at_both_ends_and_every_weight_learns(places):
    made, x = model(places), torch.randn(8, 4, 3, generator=gen())
    for parameter in made.network.leave.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    t = times.independent(8, 4, gen(1))
    t[:, 0], t[:, 1] = 0, 1
    terms = losses(made, noise_and_predict(made, x, t, gen(2)), x, t, torch.ones_like(t))
    terms["loss"].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_a_step_of_its_own_leads_from_above():
    made, x = model(), torch.randn(8, 4, 3, generator=gen())
    for parameter in made.network.leave.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    t = times.independent(8, 4, gen(1))
    t[:, 0], above = 0, (t + 0.3).clamp_max(1)
    above[:, 0] = 0
    here, same, led = (noise_and_predict(made, x, t, gen(2), u).z for u in (None, t, above))
    torch.testing.assert_close(same, here)
    assert torch.equal(led[:, 0], x[:, 0]) and not torch.isclose(led[:, 1:], here[:, 1:]).any(-1).all()
    predicted = noise_and_predict(made, x, above, gen(2))
    expected = process.posterior(predicted.z, predicted.loop_outputs[-1].value, above, t, made.schedule)[0]
    spread = process.posterior(predicted.z, x, above, t, made.schedule)[1]
    assert ((led - expected).abs() <= 5 * spread + 1e-5).all()


def test_categories_are_counted():
    places = [[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    made = PolygonSRM.build(channels=5, places=places, shape=[16, 1, 1, 1, 1], features=2)
    z, t = torch.zeros(1, 4, 5), torch.tensor([0.0, 0, 1, 0.5])[None, :, None]
    z[0, :, 0] = 4
    z[0, 0, 1] = 4
    torch.testing.assert_close(made.category_counts(z, t), torch.tensor([[[2.5, 1.0]]]), atol=1e-3, rtol=0)
    assert made(z, t).value.shape == z.shape


def test_categories_follow_from_logits_and_from_z():
    places = [[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    made = PolygonSRM.build(channels=5, places=places, shape=[16, 1, 1, 1, 1], features=2)
    x, t = torch.tensor([[4.0, 0, 1, 1, 1], [0, 4, 0, 2, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]), torch.zeros(1, 4, 1)
    predicted = made(x[None], t)
    torch.testing.assert_close(
        predicted.value[..., :2], x[None, :, :2], atol=1e-4, rtol=0, msg="noise_and_predict, though nothing is learned"
    )
    nothing = made(torch.randn(1, 4, 5), t + 1)
    assert nothing.value[..., :2].max() < 0.02, "rare, where nothing is noise_and_predict"
    assert predicted.log_var.max() < nothing.log_var.min() < -3
    torch.testing.assert_close(made.feature_loss(x[None], x[None]), torch.zeros(1, 4, 1), atol=1e-5, rtol=0)
    without = model(), x[None, :, :3], x[None, :, 2:]
    assert torch.equal(SRM.feature_loss(*without), SRM.feature_error(*without))


def test_the_network_sees_the_posterior_mean_and_no_noise():
    places = [[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    made, seen = PolygonSRM.build(channels=5, places=places, shape=[16, 1, 1, 1, 1], features=2), []
    made.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    z = torch.cat([torch.tensor([[0.0, 4, 1, 2, 3]]), torch.randn(3, 5, generator=gen())])[None]
    made(z, torch.tensor([0.0, 1, 1, 1])[None, :, None])
    torch.testing.assert_close(seen[0][:, 0, :5], z[:, 0], atol=1e-4, rtol=0)
    assert seen[0][:, 1:, :5].abs().max() < 0.03


def noisy_losses(head: str = "clean", schedule=None, feature_loss_weight: float = 0.0):
    """Losses of a network with random outputs, and all that they are computed from."""
    torch.manual_seed(0)
    network = Transformer(3, 7, (2, 2), 0, Shape(32, 4, 2, 2, 2))
    for parameter in network.leave.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    made = SRM(network, 3, schedule or Rectified(shift=2.0), PLACES, head)  # type: ignore[arg-type]
    x, t = torch.randn(64, 4, 3, generator=gen()), times.independent(64, 4, gen(1))
    t[:, 0], t[:, 1] = 0, 0.02
    weight = torch.rand(64, 4, 1, generator=gen(2))
    predicted = noise_and_predict(made, x, t, gen(3))
    return made, x, t, weight, predicted, losses(made, predicted, x, t, weight, feature_loss_weight)


def test_the_loss_is_the_sum_of_its_three_terms():
    """SRM, § 4: velocity + variational term + 0.01 uncertainty, each as written here once more."""
    made, x, t, weight, predicted, terms = noisy_losses()
    sigma = made.schedule(t).sigma.float()
    w = weight * (t > 0)
    velocity = [(w * (x - o.value) ** 2 / sigma.clamp_min(0.2) ** 2).mean() for o in predicted.loop_outputs]
    torch.testing.assert_close(terms["velocity"], sum(velocity) / 2)
    nll = []
    for output in predicted.loop_outputs:
        deviation = (output.log_var / 2).exp().expand_as(x)
        likelihood = torch.distributions.Normal(output.value, deviation).log_prob(x)
        nll.append(-(w * likelihood.mean(-1, keepdim=True)).mean())
    torch.testing.assert_close(terms["uncertainty"], sum(nll) / 2)
    kl = objective.variance_kl(predicted.prediction, predicted.z, x, t, made.schedule)
    torch.testing.assert_close(terms["variance"], (w * (sigma / 0.2).clamp_max(1) ** 2 * kl).mean())
    total = terms["velocity"] + terms["variance"] + 0.01 * terms["uncertainty"]
    torch.testing.assert_close(terms["loss"], total)
    assert 0.01 * terms["uncertainty"].abs() > 1e-3 * total, "which would be missed"


def test_each_output_learns_from_its_own_term():
    """log_var learns from the uncertainty alone, the place of the variance from the variational term, x from the velocity."""
    *_, predicted, terms = noisy_losses()
    value, log_var, place = predicted.loop_outputs[-1]
    for name, learns in (("velocity", value), ("uncertainty", log_var), ("variance", place)):
        grads = torch.autograd.grad(terms[name], (value, log_var, place), retain_graph=True, allow_unused=True)
        for output, grad in zip((value, log_var, place), grads, strict=True):
            assert (grad is not None and bool(grad.any())) == (output is learns), name
    assert torch.autograd.grad(terms["loss"], log_var)[0].any()


def test_the_head_of_eps_is_trained_by_the_error_of_eps():
    made, x, t, weight, predicted, _ = noisy_losses("eps", Linear())
    level = made.schedule(t)
    alpha, sigma = level.alpha.float(), level.sigma.float()
    eps = (predicted.z - alpha * x) / sigma.clamp_min(1e-6)
    guess = (predicted.z - alpha * predicted.prediction.x) / sigma.clamp_min(1e-6)
    use = (alpha > 0.03) & (sigma > 0.2)
    kept = losses(made, predicted, x, t, weight * use)
    torch.testing.assert_close(kept["last"], (weight * use * (eps - guess) ** 2).mean(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("schedule", [Rectified(shift=2.0), Linear(), Cosine()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("head", ["clean", "eps", "velocity"])
def test_every_head_gives_x_back_from_its_own_target(head, schedule):
    made = SRM(torch.nn.Identity(), 3, schedule, None, head)
    x, eps = torch.randn(2, 8, 4, 3, generator=gen()).double()
    t = (0.05 + 0.8 * torch.rand(8, 4, 1, generator=gen(1))).double()
    level = schedule(t)
    z = level.alpha * x + level.sigma * eps
    target = {"clean": x, "eps": eps, "velocity": eps - x}[head]
    torch.testing.assert_close(decoded(made, target.float(), z, t), x.float(), rtol=1e-3, atol=1e-3)


def test_the_variance_of_eps_is_turned_into_that_of_x():
    """x = (z − σε)/α, so var x = (σ/α)² var ε; the other heads give the variance of x itself."""
    raw = torch.full((1, 8, 4, 7), 0.3)
    z, t = torch.randn(8, 4, 3, generator=gen()), (0.05 + 0.8 * torch.rand(8, 4, 1, generator=gen(1))).double()
    level = Linear()(t)
    for head, shift in (("eps", 2 * (level.sigma / level.alpha).log().float()), ("clean", 0.0)):
        found = SRM(torch.nn.Identity(), 3, Linear(), None, head).decode(raw, z, t).log_var
        torch.testing.assert_close(found, (0.3 + shift + torch.zeros(8, 4, 1))[None], rtol=1e-4, atol=1e-4)


def test_a_network_of_one_s_own_solves_but_is_not_stored(tmp_path):
    class Mean(torch.nn.Module):
        """Predicts for every variable the mean of those given; the first is the most certain."""

        def forward(self, z, t, places):
            given = (t == 0).to(z)
            mean = (given * z).sum(1, keepdim=True) / given.sum(1, keepdim=True)
            log_var = torch.arange(z.shape[1]).to(z).view(1, -1, 1).expand(len(z), -1, 1)
            return torch.cat([mean.expand_as(z), torch.zeros_like(z), log_var], -1)[None]

    made = SRM(Mean(), 3, Rectified())
    x, unknown = torch.arange(12.0).view(1, 4, 3), torch.tensor([[True, False, True, False]])
    sampler = Sampler(update="ddim", order=walk.by_certainty(steps_per_variable=2))
    steps = list(made.solve(x, unknown, sampler, gen()))
    torch.testing.assert_close(steps[-1].z[0, [0, 2]], torch.tensor([[6.0, 7, 8], [6, 7, 8]]))
    assert steps[1].t[0, :, 0].tolist() == [0, 0, 1, 0], "the most certain one first"
    with pytest.raises(InputError, match="a network of one's own cannot be stored"):
        save(made, tmp_path / "own.safetensors", {})


def test_known_variables_have_no_loss():
    made, x = model(), torch.randn(8, 4, 3, generator=gen())
    t = torch.zeros(8, 4, 1).double()
    terms = losses(made, noise_and_predict(made, x, t, gen()), x, t, torch.ones(8, 4, 1))
    assert terms["loss"] == 0


def test_given_variables_stay_bit_for_bit():
    x, unknown = torch.randn(5, 4, 3, generator=gen()), torch.tensor([[True, False, True, False]]).repeat(5, 1)
    steps = list(
        model().solve(x, unknown, Sampler(update="ancestral", order=walk.by_certainty(steps_per_variable=2)), gen(1))
    )
    assert len(steps) == 4
    end = steps[-1]
    assert not end.t.any()
    assert torch.equal(end.z[~unknown], x[~unknown])
    assert not torch.isclose(end.z[unknown], x[unknown]).all(-1).any()


def test_nothing_unknown_is_already_solved():
    x = torch.randn(2, 4, 3, generator=gen())
    assert torch.equal(last_state(model().solve(x, torch.zeros(2, 4, dtype=torch.bool)), x), x)


def test_refining_changes_its_share_and_nothing_given():
    x, unknown = torch.randn(5, 4, 3, generator=gen()), torch.tensor([[True, False, True, True]]).repeat(5, 1)
    (after,) = refine(model(), x, unknown, 1, 0.3, Sampler(2, "ancestral"), gen(1))
    changed = (after != x).any(-1)
    assert (changed.sum(1) == 1).all()
    assert not (changed & ~unknown).any()


def test_a_small_world_is_learned_and_what_does_not_fit_costs_most():
    """Four variables that are all +1 or all −1: one known tells the others, a lone wrong one stands out."""
    made = model()
    optimiser = torch.optim.AdamW(made.parameters(), lr=3e-3)
    for step in range(150):
        x = torch.randint(0, 2, (64, 1, 1), generator=gen(step)).float().mul(2).sub(1).expand(64, 4, 3)
        t = torch.cat([times.uniform_mean(32, 4, gen(step)), times.sequential(32, 4, gen(step))])
        optimiser.zero_grad()
        losses(made, noise_and_predict(made, x, t, gen(step)), x, t, torch.ones_like(t))["loss"].backward()
        optimiser.step()
    x = torch.randint(0, 2, (50, 1, 1), generator=gen()).float().mul(2).sub(1).repeat(1, 4, 3)
    unknown = torch.tensor([[False, True, True, True]]).repeat(50, 1)
    found = last_state(made.solve(x, unknown, generator=gen(1)), x)
    assert (found.sign() == x).all((1, 2)).float().mean() > 0.9
    wrong = x.clone()
    wrong[:, 2] *= -1
    assert (pseudo_nll(made, wrong, unknown, gen(2)).argmax(1) == 2).float().mean() > 0.8
