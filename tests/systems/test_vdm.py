"""VDM: the level-aware head, the bound and its training, drawing, and what is stored."""

import math

import numpy as np
import pytest
import torch

from becalm.core import kinds, likelihood
from becalm.core.flow_likelihood import log_density
from becalm.core.flow_solvers import runge_kutta
from becalm.core.learned import Learned
from becalm.core.sampler import Sampler
from becalm.systems import vdm
from becalm.systems.vdm import (
    VDM,
    bound,
    decode_images,
    denoiser_of,
    generate,
    images_of,
    losses,
    posterior_mean,
    variables,
)
from becalm.weights.store import load, save

SIZE = {"widths": [8, 16], "depth": 1}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(levels: int = 17, seed: int = 0, spread: float = 0.0, **how) -> VDM:
    torch.manual_seed(seed)
    made = VDM(**{"shape": [4, 6, 2], "levels": levels, "size": SIZE, "low": -8.0, "features": 5} | how)
    with torch.no_grad():
        for weight in made.network.parameters():
            weight.add_(spread * torch.randn(weight.shape, generator=gen(7)))
        if spread and made.config["head"] == "levels":
            made.logits.weight.add_(torch.randn(made.logits.weight.shape, generator=gen(8)))
    return made


def images(count: int = 6, levels: int = 17, shape=(4, 6, 2)) -> torch.Tensor:
    return torch.randint(0, levels, (count, *shape), generator=gen(3))


# The level-aware head


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_zero_logits_cost_log2_k_and_the_prior(levels):
    """Whatever the data: ∫ ½γ′m of the exact denoiser of independent uniform levels, plus the decoder, is log K."""
    low, size = -13.3 + 2 * math.log(256 / levels), {"width": 8, "depth": 1}
    made = model(levels, shape=60, network="mlp", size=size, low=low).eval()
    v = variables(made, images(400, levels, (1, 60, 1)))
    with torch.no_grad():
        found = bound(made, v, None, 4, gen())
    whole = likelihood.mean_estimate(found.total - found.prior, found.dimensions)
    assert whole.bits == pytest.approx(math.log2(levels), abs=4 * whole.bits_error)
    assert whole.bits_error < 0.03 * math.log2(levels)


def test_the_head_is_the_kind_levels_said_with_pieces_at_a_time(monkeypatch):
    made, z = model(spread=0.1), torch.randn(3, 24, 2, generator=gen())
    t = torch.tensor([0.1, 0.5, 1.0]).double()[:, None, None]
    level = made.schedule(t)
    logits = made.logits(made.told(z, level.gamma))
    slow = kinds.levels(likelihood.encode_levels(torch.arange(17), 17))(logits, z, t, made.schedule)
    monkeypatch.setattr(vdm, "ROWS", 17 * 5)
    fast = denoiser_of(made)(z, t)
    torch.testing.assert_close(fast.x, slow.x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.eps, slow.eps, rtol=1e-4, atol=1e-3)


def test_pieces_give_the_same_gradients(monkeypatch):
    gradients = []
    for rows in (2**20, 17 * 7):
        monkeypatch.setattr(vdm, "ROWS", rows)
        made = model(spread=0.1).train()
        losses(made, variables(made, images()), gen())["loss"].backward()
        gradients.append([weight.grad for weight in made.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_next_to_no_noise_makes_the_head_exact_whatever_the_network_says():
    told, y = torch.randn(40, 3, generator=gen()), likelihood.encode_levels(torch.arange(40), 40)
    weight = 5 * torch.randn(40, 3, generator=gen(1))
    near = y + 1e-3 * torch.randn(40, generator=gen(2))
    found = posterior_mean(told, near, torch.full((40,), 1e6), weight, torch.zeros(40))
    torch.testing.assert_close(found, y, rtol=0, atol=1e-6)


def test_half_precision_leaves_the_posterior_in_full():
    told, y = torch.randn(9, 3, generator=gen()), torch.linspace(-1, 1, 9)
    rest = torch.full((9,), 1e4), torch.randn(256, 3, generator=gen(1)), torch.zeros(256)
    with torch.autocast("cpu", torch.bfloat16):
        rough = posterior_mean(told, y, *rest)
    assert torch.equal(rough, posterior_mean(told, y, *rest))


# The bound and its training


@pytest.mark.parametrize("steps", [None, 10])
@pytest.mark.parametrize("schedule", vdm.SCHEDULES)
@pytest.mark.parametrize("head", ["levels", "eps"])
def test_the_losses_are_the_bound(head, schedule, steps):
    made = model(head=head, schedule=schedule, spread=0.05)
    v = variables(made, images(64))
    found = bound(made, v, steps, 1, gen(5)).estimates()  # first: a schedule of least variance learns from every loss
    told = losses(made, v, gen(5), steps)
    for name in ("prior", "reconstruction", "diffusion"):
        assert float(told[name].detach()) == pytest.approx(found[name].bits, rel=1e-4, abs=1e-6)
    assert float(told["loss"].detach()) == pytest.approx(found["total"].bits, rel=1e-4)


def test_every_weight_of_a_learned_schedule_and_of_the_network_learns():
    made = model(schedule="learned", spread=0.1)
    losses(made, variables(made, images()), gen())["loss"].backward()
    assert not [name for name, w in made.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]


def test_the_course_descends_on_the_variance_and_all_else_on_the_bound():
    made = model(schedule="learned", spread=0.1)
    schedule, v = made.schedule, variables(made, images(8))
    assert isinstance(schedule, Learned)
    losses(made, v, gen(4))["loss"].backward()
    course = schedule.interior_parameters()
    rest = [w for w in made.parameters() if all(w is not other for other in course)]
    routed = [[w.grad.clone() for w in group] for group in (course, rest)]
    found = bound(made, v, None, 1, gen(4))
    scale = found.dimensions * math.log(2)
    cost = found.diffusion
    spread = cost.square().mean() / (cost.mean().detach() * scale)
    slow = torch.autograd.grad(spread, course, retain_graph=True), torch.autograd.grad(found.total.mean() / scale, rest)
    for group, expected in zip(routed, slow, strict=True):
        for one, other in zip(group, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_in_discrete_time_the_course_descends_on_the_bound():
    made = model(schedule="learned", spread=0.1)
    v = variables(made, images(8))
    losses(made, v, gen(4), 7)["loss"].backward()
    expected = torch.autograd.grad(bound(made, v, 7, 1, gen(4)).total.mean() / (48 * math.log(2)), made.schedule.b1)
    torch.testing.assert_close(made.schedule.b1.grad, expected[0], rtol=1e-4, atol=1e-8)


def test_the_schedule_of_least_variance_watches():
    made = model(schedule="least variance", spread=0.05)
    for seed in range(20):
        losses(made, variables(made, images(64)), gen(seed))
    widths = made.schedule.bin_edges().diff()
    assert widths.max() > 3 * widths.min()
    assert torch.equal(
        made.schedule(torch.tensor([0.0, 1.0])).gamma,
        made.schedule.low + made.schedule.gamma_range * torch.tensor([0.0, 1.0]).double(),
    )


def test_learning_lowers_the_bound_below_that_of_independent_numbers():
    """Vectors of four equal numbers: a quarter of log₂ 5 bits a number, where independent ones take all of it."""
    made = model(5, shape=4, network="mlp", size={"width": 32, "depth": 1}, low=-6.0)
    optimiser = torch.optim.Adam(made.parameters(), 1e-2)
    v = torch.randint(0, 5, (256, 1, 1), generator=gen()).expand(256, 4, 1)
    for step in range(80):
        loss = losses(made, v, gen(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = bound(made.eval(), v, None, 4, gen()).estimates()["total"]
    assert 0.25 * math.log2(5) < found.bits < 0.6 * math.log2(5)


def test_the_bound_of_half_precision_is_about_the_same():
    made = model(256, spread=0.05, low=-13.3).eval()
    v = variables(made, images(32, 256))
    with torch.no_grad():
        exact = bound(made, v, None, 2, gen()).total.mean()
        with torch.autocast("cpu", torch.bfloat16):
            rough = bound(made, v, None, 2, gen()).total.mean()
    assert float(rough) == pytest.approx(float(exact), rel=5e-3)


def test_a_draw_is_a_function_of_its_generator():
    made = model(spread=0.05)
    v = variables(made, images())
    one, again, other = (float(losses(made, v, gen(seed))["loss"].detach()) for seed in (1, 1, 2))
    assert one == again != other


def test_the_probability_flow_takes_the_model():
    """Zero logits: the density of uniform levels blurred by e^{γ/2}, for each of two independent numbers."""
    made = model(5, shape=2, network="mlp", size={"width": 8, "depth": 1}, low=-3.0, high=10.0).eval()
    y = torch.randn(4, 2, 1, generator=gen(), dtype=torch.float64) / 2
    found = log_density(denoiser_of(made), y, runge_kutta(40), None)
    levels = likelihood.encode_levels(torch.arange(5), 5, torch.float64)
    each = torch.logsumexp(-(y - levels).square() * math.exp(3) / 2, -1) - math.log(5 * math.sqrt(2 * math.pi)) + 1.5
    torch.testing.assert_close(found.nats, each.sum(1), rtol=0, atol=5e-3)


# Drawing


def test_variables_and_images_are_each_other_s_inverse():
    made, shown = model(), images().byte()
    v = variables(made, shown)
    assert v.shape == (6, 24, 2) and v.dtype == torch.long
    assert torch.equal(images_of(made, v), shown.long())
    assert torch.equal(v[0, 7], shown[0, 1, 1].long())
    with pytest.raises(ValueError, match=r"\[4, 6, 2\]"):
        variables(made, images(shape=(6, 4, 2)))


@pytest.mark.parametrize("schedule", ["linear", "least variance", "betas"])
def test_generation_ends_in_levels(schedule):
    made = model(spread=0.05, schedule=schedule).eval()
    steps = list(generate(made, 3, Sampler(8, "ancestral", eta=0.5), gen()))
    assert len(steps) == 8
    drawn = decode_images(made, steps[-1].z, gen(1))
    assert drawn.shape == (3, 4, 6, 2) and drawn.min() >= 0 and drawn.max() < 17
    mode = decode_images(made, steps[-1].z)
    assert (drawn - mode).abs().max() <= 1


def test_fresh_models_draw_uniform_levels():
    """Zero logits: independent uniform levels."""
    made = model(5, shape=50, network="mlp", size={"width": 8, "depth": 1}, low=-10.0).eval()
    for step in generate(made, 100, Sampler(150, "ancestral", eta=0.5), gen()):
        pass
    share = torch.bincount(decode_images(made, step.z, gen(1)).flatten(), minlength=5) / 5000
    assert (share - 0.2).abs().max() < 0.03


def test_the_end_is_drawn_with_the_probabilities_of_the_decoder():
    made = model(17, low=-4.0)
    level = made.schedule(torch.zeros((), dtype=torch.float64))
    z = (level.alpha * 0.1).float().expand(500, 24, 2)
    seen = torch.bincount(decode_images(made, z, gen()).flatten(), minlength=17) / 24000
    x = likelihood.encode_levels(torch.arange(17), 17, torch.float64)
    expected = likelihood.decoder_log_prob(x, torch.full_like(x, 0.1), level.gamma, 17).exp()
    assert (seen - expected).abs().max() < 5 * (0.25 / 24000) ** 0.5


# What is stored


@pytest.mark.parametrize("schedule", vdm.SCHEDULES)
def test_stored_and_read_again_it_says_the_same(schedule, tmp_path):
    made = model(schedule=schedule, spread=0.05).eval()
    save(made, tmp_path / "vdm.safetensors", {"task": "test"})
    again = load(tmp_path / "vdm.safetensors", VDM)
    v = variables(made, images())
    with torch.no_grad():
        assert torch.equal(bound(again, v, None, 1, gen()).total, bound(made, v, None, 1, gen()).total)


def test_vectors_are_pictures_of_one_row():
    made = VDM(2, 256, "mlp", size={"width": 16, "depth": 1}, octaves=8)
    assert made.shape == (1, 2, 1) and made.config["shape"] == 2
    v = variables(made, torch.from_numpy(np.arange(8, dtype=np.uint8)).view(4, 1, 2, 1))
    assert torch.isfinite(losses(made, v, gen())["loss"])


@pytest.mark.parametrize(("field", "value"), [("network", "vgg"), ("head", "x"), ("schedule", "quadratic")])
def test_unknown_names_are_refused_with_those_there_are(field, value):
    with pytest.raises(ValueError, match=f"{field}: {value!r} is not known; there is"):
        VDM(**{"shape": [4, 4, 1], field: value})
