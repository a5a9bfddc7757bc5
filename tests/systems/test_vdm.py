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
from becalm.systems import level_head, vdm
from becalm.systems.level_head import posterior_mean
from becalm.systems.vdm import (
    VDM,
    NetworkConfig,
    NoiseConfig,
    bound,
    decode_images,
    generate,
    images_to_variables,
    losses,
    variables_to_images,
)
from becalm.weights.store import load, save

SIZE = {"widths": [8, 16], "depth": 1}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(levels: int = 17, seed: int = 0, spread: float = 0.0, **how) -> VDM:
    torch.manual_seed(seed)
    how = {"shape": [4, 6, 2], "network": "unet", "size": SIZE, "octaves": 2, "schedule": "linear"} | how
    how = {"head": "levels", "gamma_min": -8.0, "gamma_max": 5.0, "features": 5} | how
    network = NetworkConfig(how["network"], how["size"], how["octaves"])
    noise = NoiseConfig(how["schedule"], how["gamma_min"], how["gamma_max"])
    made = VDM(how["shape"], levels, how["head"], network, noise, how["features"])
    with torch.no_grad():
        for weight in made.network.parameters():
            weight.add_(spread * torch.randn(weight.shape, generator=gen(7)))
        if spread and made.head == "levels":
            made.logits.weight.add_(torch.randn(made.logits.weight.shape, generator=gen(8)))
    return made


def images(count: int = 6, levels: int = 17, shape=(4, 6, 2)) -> torch.Tensor:
    return torch.randint(0, levels, (count, *shape), generator=gen(3))


# The level-aware head


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_zero_logits_cost_log2_k_and_the_prior(levels):
    """Whatever the data: ∫ ½γ′m of the exact denoiser of independent uniform levels, plus the decoder, is log K."""
    low, size = -13.3 + 2 * math.log(256 / levels), {"width": 8, "depth": 1}
    made = model(levels, shape=60, network="mlp", size=size, gamma_min=low).eval()
    v = images_to_variables(made, images(400, levels, (1, 60, 1)))
    with torch.no_grad():
        found = bound(made, v, None, 4, gen())
    whole = likelihood.mean_estimate(found.total - found.prior, found.dimensions)
    assert whole.bits == pytest.approx(math.log2(levels), abs=4 * whole.bits_error)
    assert whole.bits_error < 0.03 * math.log2(levels)


def test_the_head_is_the_kind_levels_said_with_pieces_at_a_time(monkeypatch):
    made, z = model(spread=0.1), torch.randn(3, 24, 2, generator=gen())
    t = torch.tensor([0.1, 0.5, 1.0]).double()[:, None, None]
    level = made.schedule(t)
    logits = made.logits(made.network_features(z, level.gamma))
    slow = kinds.levels(likelihood.encode_levels(torch.arange(17), 17))(logits, z, t, made.schedule)
    monkeypatch.setattr(level_head, "CHUNK_LOGITS", 17 * 5)
    fast = made.denoiser(z, t)
    torch.testing.assert_close(fast.x, slow.x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.eps, slow.eps, rtol=1e-4, atol=1e-3)


def test_pieces_give_the_same_gradients(monkeypatch):
    gradients = []
    for rows in (2**20, 17 * 7):
        monkeypatch.setattr(level_head, "CHUNK_LOGITS", rows)
        made = model(spread=0.1).train()
        losses(made, images_to_variables(made, images()), gen())["loss"].backward()
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
@pytest.mark.parametrize("head", vdm.KINDS)
def test_the_losses_are_the_bound(head, schedule, steps):
    made = model(head=head, schedule=schedule, spread=0.05)
    v = images_to_variables(made, images(64))
    found = bound(made, v, steps, 1, gen(5)).estimates()  # first: a schedule of least variance learns from every loss
    told = losses(made, v, gen(5), steps)
    for name in ("prior", "reconstruction", "diffusion"):
        assert float(told[name].detach()) == pytest.approx(found[name].bits, rel=1e-4, abs=1e-6)
    assert float(told["loss"].detach()) == pytest.approx(found["total"].bits, rel=1e-4)


class GaussianNetwork(torch.nn.Module):
    """The raw output F with which a head is exact for numbers ~ N(0, s²): x̂ = αs²z/(α²s² + σ²)."""

    def __init__(self, head: str, std: float, gamma_min: float, gamma_max: float):
        super().__init__()
        self.head, self.std, self.ends = head, std, (gamma_min, gamma_max)

    def forward(self, inputs, noise):
        z = inputs[..., :1].double()
        gamma = (self.ends[0] + (self.ends[1] - self.ends[0]) * noise.double())[:, None, None, None]
        alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
        x = alpha * self.std**2 * z / (alpha**2 * self.std**2 + sigma**2)
        eps = (z - alpha * x) / sigma
        return {"eps": eps - z, "v": alpha * eps - sigma * x, "x": x - alpha * z}[self.head]


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("head", ["eps", "v", "x"])
def test_each_head_reaches_the_bound_of_a_gaussian_in_closed_form(head, steps):
    """Exact denoiser of N(0, s²): in continuous time h(x + e^{γ₀/2}ε) − log(2/K) + prior; for T steps a sum of T terms."""
    std, gamma_min, gamma_max, levels = 0.25, -6.0, 3.0, 256
    made = model(
        levels,
        shape=40,
        network="mlp",
        size={"width": 8, "depth": 1},
        head=head,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
    )
    made.network = GaussianNetwork(head, std, gamma_min, gamma_max)
    v = likelihood.nearest_level(std * torch.randn(1000, 40, 1, generator=gen(), dtype=torch.float64), levels)
    found = likelihood.variational_bound(
        made.denoiser, likelihood.encode_levels(v, levels), levels, steps, 4, generator=gen(1)
    ).estimates()
    gamma = torch.linspace(gamma_min, gamma_max, (steps or 1) + 1, dtype=torch.float64)
    snr = torch.exp(-gamma)
    mmse = std**2 / (1 + std**2 * snr)
    if steps is None:
        diffusion = torch.log((1 + std**2 * snr[0]) / (1 + std**2 * snr[-1])) / 2
    else:
        diffusion = ((snr[:-1] - snr[1:]) * mmse[1:]).sum() / 2
    reconstruction = math.log(2 * math.pi * math.e * math.exp(gamma_min)) / 2 - math.log(2 / levels)
    alpha2 = torch.sigmoid(-gamma[-1])
    prior = (alpha2 * (std**2 - 1) - torch.nn.functional.logsigmoid(gamma[-1])) / 2
    for name, nats in {"diffusion": diffusion, "reconstruction": reconstruction, "prior": prior}.items():
        assert found[name].nats / 40 == pytest.approx(float(nats), abs=4 * found[name].nats_error / 40 + 1e-5), name
    assert found["total"].nats_error < 0.01 * found["total"].nats


@pytest.mark.parametrize("head", vdm.KINDS)
def test_each_head_learns_that_all_numbers_are_equal(head):
    """Continuous vectors of four equal numbers: after training the bound is well below that of independent numbers."""
    made = model(32, shape=4, network="mlp", size={"width": 32, "depth": 1}, head=head, gamma_min=-6.0, octaves=0)
    optimiser = torch.optim.Adam(made.parameters(), 1e-2)
    v = torch.randint(0, 32, (64, 1, 1), generator=gen()).expand(64, 4, 1)
    first = bound(made.eval(), v, None, 4, gen()).estimates()["diffusion"].bits
    for step in range(40):
        loss = losses(made.train(), v, gen(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    last = bound(made.eval(), v, None, 4, gen()).estimates()["diffusion"].bits
    assert last < 0.8 * first


def test_every_weight_of_a_learned_schedule_and_of_the_network_learns():
    made = model(schedule="learned", spread=0.1)
    losses(made, images_to_variables(made, images()), gen())["loss"].backward()
    assert not [name for name, w in made.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]


def test_the_course_descends_on_the_variance_and_all_else_on_the_bound():
    made = model(schedule="learned", spread=0.1)
    schedule, v = made.schedule, images_to_variables(made, images(8))
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
    v = images_to_variables(made, images(8))
    losses(made, v, gen(4), 7)["loss"].backward()
    expected = torch.autograd.grad(bound(made, v, 7, 1, gen(4)).total.mean() / (48 * math.log(2)), made.schedule.b1)
    torch.testing.assert_close(made.schedule.b1.grad, expected[0], rtol=1e-4, atol=1e-8)


def test_the_schedule_of_least_variance_watches():
    made = model(schedule="least variance", spread=0.05)
    for seed in range(20):
        losses(made, images_to_variables(made, images(64)), gen(seed))
    widths = made.schedule.bin_edges().diff()
    assert widths.max() > 3 * widths.min()
    assert torch.equal(
        made.schedule(torch.tensor([0.0, 1.0])).gamma,
        made.schedule.low + made.schedule.gamma_range * torch.tensor([0.0, 1.0]).double(),
    )


def test_learning_lowers_the_bound_below_that_of_independent_numbers():
    """Vectors of four equal numbers: a quarter of log₂ 5 bits a number, where independent ones take all of it."""
    made = model(5, shape=4, network="mlp", size={"width": 32, "depth": 1}, gamma_min=-6.0)
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
    made = model(256, spread=0.05, gamma_min=-13.3).eval()
    v = images_to_variables(made, images(32, 256))
    with torch.no_grad():
        exact = bound(made, v, None, 2, gen()).total.mean()
        with torch.autocast("cpu", torch.bfloat16):
            rough = bound(made, v, None, 2, gen()).total.mean()
    assert float(rough) == pytest.approx(float(exact), rel=5e-3)


def test_a_draw_is_a_function_of_its_generator():
    made = model(spread=0.05)
    v = images_to_variables(made, images())
    one, again, other = (float(losses(made, v, gen(seed))["loss"].detach()) for seed in (1, 1, 2))
    assert one == again != other


def test_the_probability_flow_takes_the_model():
    """Zero logits: the density of uniform levels blurred by e^{γ/2}, for each of two independent numbers."""
    made = model(5, shape=2, network="mlp", size={"width": 8, "depth": 1}, gamma_min=-3.0, gamma_max=10.0).eval()
    y = torch.randn(4, 2, 1, generator=gen(), dtype=torch.float64) / 2
    found = log_density(made.denoiser, y, runge_kutta(40), None)
    levels = likelihood.encode_levels(torch.arange(5), 5, torch.float64)
    each = torch.logsumexp(-(y - levels).square() * math.exp(3) / 2, -1) - math.log(5 * math.sqrt(2 * math.pi)) + 1.5
    torch.testing.assert_close(found.nats, each.sum(1), rtol=0, atol=5e-3)


# Drawing


def test_variables_and_images_are_each_other_s_inverse():
    made, shown = model(), images().byte()
    v = images_to_variables(made, shown)
    assert v.shape == (6, 24, 2) and v.dtype == torch.long
    assert torch.equal(variables_to_images(made, v), shown.long())
    assert torch.equal(v[0, 7], shown[0, 1, 1].long())
    with pytest.raises(ValueError, match=r"\[4, 6, 2\]"):
        images_to_variables(made, images(shape=(6, 4, 2)))


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
    made = model(5, shape=50, network="mlp", size={"width": 8, "depth": 1}, gamma_min=-10.0).eval()
    for step in generate(made, 100, Sampler(150, "ancestral", eta=0.5), gen()):
        pass
    share = torch.bincount(decode_images(made, step.z, gen(1)).flatten(), minlength=5) / 5000
    assert (share - 0.2).abs().max() < 0.03


def test_the_end_is_drawn_with_the_probabilities_of_the_decoder():
    made = model(17, gamma_min=-4.0)
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
    v = images_to_variables(made, images())
    with torch.no_grad():
        assert torch.equal(bound(again, v, None, 1, gen()).total, bound(made, v, None, 1, gen()).total)


@pytest.mark.parametrize("head", ["eps", "v", "x"])
@pytest.mark.parametrize("schedule", ["linear", "learned linear", "learned"])
def test_all_is_computed_on_the_device_of_the_model(schedule, head, monkeypatch):
    """On torch's device "meta", which refuses tensors of the CPU as a GPU does; what looks at values is replaced."""
    monkeypatch.setattr(likelihood, "check_finite_ends", lambda schedule, start=0.0: None)
    monkeypatch.setattr(likelihood, "encode_levels", lambda v, levels, dtype=torch.float32: (v / levels).to(dtype))
    monkeypatch.setattr(likelihood, "decoder_log_prob", lambda x, y, gamma, levels: (x.double() - y) * gamma)
    made = model(head=head, schedule=schedule, shape=24, network="mlp", size={"width": 8, "depth": 1}).to("meta")
    v = torch.zeros(3, 24, 1, dtype=torch.long)
    for steps in (None, 7):
        assert losses(made.train(), v, gen(), steps)["loss"].is_meta
        assert bound(made.eval(), v, steps, 2, gen()).total.is_meta
    z, t = torch.zeros(3, 24, 1, device="meta"), torch.ones(3, 1, 1, device="meta")
    assert made.denoiser(z, t).x.is_meta
    assert decode_images(made, z).is_meta
    assert made.schedule(torch.ones(2)).gamma.is_meta == (schedule != "linear"), "a learned schedule moves t to itself"


def test_vectors_are_pictures_of_one_row():
    made = VDM(2, 256, network=NetworkConfig("mlp", {"width": 16, "depth": 1}, octaves=8))
    assert made.shape == (1, 2, 1) and made.config["shape"] == 2
    v = images_to_variables(made, torch.from_numpy(np.arange(8, dtype=np.uint8)).view(4, 1, 2, 1))
    assert torch.isfinite(losses(made, v, gen())["loss"])


@pytest.mark.parametrize(("field", "value"), [("network", "vgg"), ("head", "logits"), ("schedule", "quadratic")])
def test_unknown_names_are_refused_with_those_there_are(field, value):
    with pytest.raises(ValueError, match=f"{field}: {value!r} is not known; there is"):
        model(**{field: value})
