import numpy as np
import pytest
import torch

from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean
from becalm.core.process import Prediction, posterior, reverse_moments
from becalm.core.sample import Step, sample
from becalm.core.schedule import Betas, Karras
from becalm.core.walk import together
from becalm.points.cloud import Cloud
from becalm.points.progress import final_points
from becalm.shapes.cloud_pairs import white_pair
from becalm.systems.jets_fits import fit_cloud
from becalm.systems.jets_training import training_item
from becalm.systems.sbd import (
    RULES,
    SBD,
    ddpm_weight,
    extract_features,
    likelihood_weight,
    linear_schedule,
    losses,
    run_sampler,
    sample_bridge,
    scan_features,
    time_at,
    uncertainty,
    uniform_weight,
)
from becalm.tasks.denoise import denoise
from tests.worlds import Gaussian, optimal

TRUNK = {"width": 16, "layers": 2, "channels": 4}


def sphere(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 3))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    return truth, truth + noise * rng.normal(size=truth.shape)


def item(n: int, noise: float, seed: int = 0):
    truth, noisy = sphere(n, noise, seed)
    return training_item(white_pair(truth, noisy, np.full(n, noise)))


@pytest.fixture
def model() -> SBD:
    """A small network whose every part moves points: its weights are sample_bridge, not trained."""
    torch.manual_seed(0)
    net = SBD(TRUNK, hidden=32)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.eval()


@pytest.fixture
def fresh() -> SBD:
    torch.manual_seed(1)
    return SBD(TRUNK, hidden=32).eval()


def near(found: torch.Tensor, expected: float, spread: torch.Tensor) -> bool:
    """Within four standard errors of a mean over draws."""
    return bool((found - expected).abs() < 4 * spread)


@pytest.mark.parametrize("tau", [0.25, 0.7])
def test_the_bridge_has_the_marginal_of_the_process_and_its_covariance_with_the_scan(tau):
    generator = torch.Generator().manual_seed(3)
    count, sigma_top, x = 100_000, 0.04, 0.3
    schedule = Karras(0.0, sigma_top, 1.0)
    eps = torch.randn(count, generator=generator, dtype=torch.float64)
    scan, truth = x + sigma_top * eps, torch.full((count,), x, dtype=torch.float64)
    t, end = (torch.full((count,), v, dtype=torch.float64) for v in (tau, 1.0))
    mean, deviation = posterior(scan, truth, end, t, schedule)
    y = mean + deviation * torch.randn(count, generator=generator, dtype=torch.float64)
    sigma = tau * sigma_top
    root = count**-0.5
    assert near(y.mean(), x, torch.tensor(sigma * root))
    assert near(y.var(), sigma**2, torch.tensor(2**0.5 * sigma**2 * root))
    product = (y - x) * (scan - x)
    assert near(product.mean(), sigma**2, product.std() * root)


def test_draws_follow_the_bridge_of_each_point():
    generator = torch.Generator().manual_seed(4)
    sigma_top = torch.tensor([[0.01], [0.1]]).repeat(50, 1)
    x = sigma_top * torch.tensor([1.0, -2.0, 0.5])
    y, level = sample_bridge(x, sigma_top, 2000, generator)
    tau = level / sigma_top
    assert tau.min() > 0 and tau.max() <= 1
    assert near(tau.mean(), 0.5, torch.tensor(12**-0.5 * tau.numel() ** -0.5))
    white = (y - x * (1 - tau.square())) / (level * (1 - tau.square()).sqrt())
    kept = white[tau.expand_as(white) < 0.999]
    assert near(kept.mean(), 0, torch.tensor(kept.numel() ** -0.5))
    assert near(kept.var(), 1, torch.tensor((2 / kept.numel()) ** 0.5))


def ends(world, y, t, schedule, steps, rule, generator=None):
    best = optimal(world, schedule)
    denoiser = Denoiser(lambda z, t, given: best(z, t).x, schedule, clean)
    for state in sample(denoiser, y, t, together(steps), RULES[rule], None, generator):
        pass
    return state.z


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 50])
def test_in_a_gaussian_world_the_mean_rule_gives_the_posterior_mean(steps):
    covariance = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.05]], dtype=torch.float64)
    world = Gaussian(torch.tensor([0.2, -1.0, 0.5]), covariance)
    generator = torch.Generator().manual_seed(5)
    sigma_top = 0.1 + 0.9 * torch.rand(1, 40, 1, generator=generator, dtype=torch.float64)
    y = world.draw(1, 40, generator) + sigma_top * torch.randn(1, 40, 3, generator=generator, dtype=torch.float64)
    schedule = linear_schedule(sigma_top)
    expected = world.posterior(y, torch.ones_like(sigma_top), sigma_top)[0]
    found = ends(world, y, time_at(sigma_top, schedule), schedule, steps, "mean")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("steps", "ratio"), [(4, 1.20), (8, 1.33), (100, 1.50)])
def test_the_flow_rule_drifts_from_the_mean_towards_a_sample(steps, ratio):
    """The end is c y_T, so its mean squared error is (1 − c)² s² + c² σ², here at σ = 3 s."""
    s, sigma_top = 1 / 3, torch.ones(1, 1, 1, dtype=torch.float64)
    world = Gaussian(torch.zeros(1), s**2 * torch.eye(1))
    c = float(ends(world, sigma_top, sigma_top, Karras(0.0, 1.0, 1.0), steps, "flow"))
    error = (1 - c) ** 2 * s**2 + c**2
    assert error / (s**2 / (1 + s**2)) == pytest.approx(ratio, abs=0.006)


def test_the_ancestral_rule_samples_the_posterior():
    s, count = 1 / 3, 40_000
    world = Gaussian(torch.zeros(1), s**2 * torch.eye(1))
    y, t = torch.full((1, count, 1), 0.8, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    # With many steps: a step's own noise is that of the bridge to x̂, not to x, and lacks what x̂ is uncertain by.
    found = ends(world, y, t, Karras(0.0, 1.0, 1.0), 400, "ancestral", torch.Generator().manual_seed(6))
    variance = s**2 / (1 + s**2)
    assert near(found.mean(), 0.8 * variance, torch.tensor((variance / count) ** 0.5))
    assert float(found.var()) == pytest.approx(variance, rel=0.04)


def test_the_notes_sampling_step_is_ours_after_rescaling():
    """x^{t−1} = (x^t − β_t/√(1 − ᾱ_t) ε)/√α_t becomes the ancestral mean of y = x/√ᾱ at σ² = (1 − ᾱ)/ᾱ."""
    generator = torch.Generator().manual_seed(7)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, 0)
    place = torch.arange(1, 1000)
    x, eps = (torch.randn(999, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    now, before, b = (v[:, None] for v in (bar[place], bar[place - 1], beta[place]))
    theirs = (x - b / (1 - now).sqrt() * eps) / (1 - b).sqrt() / before.sqrt()
    y, sigma, lower = x / now.sqrt(), ((1 - now) / now).sqrt(), ((1 - before) / before).sqrt()
    schedule = linear_schedule(sigma)
    t, s = time_at(sigma, schedule), time_at(lower, schedule)
    ours = reverse_moments(Prediction(y - sigma * eps, eps), y, t, s, schedule)[0]
    assert ((ours - theirs).abs() / (1 + theirs.abs())).max() < 1e-12


def test_weights_agree_with_closed_forms():
    tau = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    sigma_top, unit = torch.full_like(tau, 0.03), torch.full_like(tau, 0.05)
    assert torch.equal(uniform_weight(tau * sigma_top, sigma_top, unit), torch.ones_like(tau))
    # The bound's weight in DDPM's form, summed over many small steps of a chain whose σ is σ_T τ: ½ (SNR(s)/SNR(t) − 1) a step.
    steps = 10**6
    ratio = (tau / (tau - 1 / steps)).square()
    torch.testing.assert_close(
        likelihood_weight(tau * sigma_top, sigma_top, unit), steps * (ratio - 1) / 2, rtol=1e-4, atol=0
    )
    # At the grid points of DDPM's chain.
    chain = Betas()
    beta = torch.linspace(chain.beta_start, chain.beta_end, chain.steps, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, 0)
    sigma = 0.05 * ((1 - bar) / bar).sqrt()
    expected = beta.square() / (1 - bar)
    torch.testing.assert_close(ddpm_weight(sigma, sigma, torch.full_like(sigma, 0.05)), expected, rtol=1e-6, atol=0)


def test_the_bound_in_sigma_is_ddpms():
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, 0)
    now, before, b = bar[1:], bar[:-1], beta[1:]
    theirs = b.square() / (2 * b * (1 - before) / (1 - now) * (1 - b) * (1 - now))
    ratio = ((1 - now) / now) / ((1 - before) / before)
    torch.testing.assert_close(theirs, (ratio - 1) / 2, rtol=1e-10, atol=0)


def test_features_are_the_trunks_answer(model):
    _, noisy = sphere(300, 0.05)
    cloud, sigma = fit_cloud(noisy), torch.full((300,), 10.0)
    with torch.no_grad():
        scan, answer = scan_features(model.trunk, cloud, sigma), model.trunk(cloud, sigma)
    torch.testing.assert_close(scan.posterior_mean * scan.scale[:, None], answer.displacement)
    assert scan.features.shape == (300, TRUNK["width"])
    assert not model.trunk.network.layers[-1]._forward_hooks, "the hook is taken off again"


def test_no_candidate_is_longer_than_four_sigma(model):
    _, noisy = sphere(300, 0.05)
    cloud, sigma = fit_cloud(noisy), torch.full((300,), 0.004)
    with torch.no_grad():
        scan = scan_features(model.trunk, cloud, sigma)
    lengths = (
        torch.cat([scan.posterior_mean[:, None], scan.vectors], 1).norm(dim=-1) * scan.scale[:, None] / sigma[:, None]
    )
    assert lengths.max() == pytest.approx(4, rel=1e-4) and lengths.median() > 1


def test_the_loss_is_a_weighted_mean_of_squared_errors_over_sigma(fresh, monkeypatch):
    one = item(200, 0.03)
    truth = one.clean - one.noisy if hasattr(one, "noisy") else one.clean - one.cloud.graph.points
    shift = torch.tensor([0.002, -0.001, 0.003])
    monkeypatch.setattr(SBD, "forward", lambda self, y, sigma, sigma_top, scan: truth - shift * sigma + 0 * y)
    terms = losses(fresh, one, one.sigma, "uniform", 3, torch.Generator().manual_seed(15))
    inside = one.interior / one.interior.mean()
    pair = (inside * shift.square().sum()).mean() / 3
    plane = (inside * (one.normals @ shift).square()).mean()
    torch.testing.assert_close(terms["pair"], pair, rtol=1e-3, atol=0)
    torch.testing.assert_close(terms["plane"], plane, rtol=1e-3, atol=0)
    torch.testing.assert_close(terms["loss"], 8 * torch.log1p((pair + plane) / 8), rtol=1e-3, atol=0)


def test_uncertainty_is_the_deviation_over_runs_with_seeds_of_their_own(fresh, monkeypatch):
    ends, seeds = iter([0.0, 3.0, 6.0]), []

    def run(model, scan, level, steps, rule, seed):
        seeds.append((rule, seed))
        yield Step(torch.full((1, 20, 3), next(ends)), None, None)

    monkeypatch.setattr("becalm.systems.sbd.run_sampler", run)
    found = uncertainty(fresh, sphere(20, 0.03)[1], runs=3, seed=7, sigma=0.03)
    assert found == pytest.approx(np.full(20, 3.0))
    assert seeds == [("ancestral", 21), ("ancestral", 22), ("ancestral", 23)]


@pytest.mark.parametrize("rule", ["mean", "flow", "ancestral"])
def test_sweeps_keep_count_and_order(model, rule):
    _, noisy = sphere(400, 0.02)
    order = np.random.default_rng(0).permutation(400)
    stages = list(model.iter_denoise(noisy, 0.02, rule=rule))
    assert [s.done for s in stages] == sorted(s.done for s in stages) and stages[-1].done == 1
    result = final_points(stages)
    assert result.shape == noisy.shape
    assert np.linalg.norm(result - noisy, axis=1).max() < 0.5, (
        "a point stays near where it was, also with random weights"
    )
    if rule == "mean":
        mixed = final_points(model.iter_denoise(noisy[order], 0.02))
        assert np.median(np.abs(result[order] - mixed)) < 1e-3


def test_turning_the_cloud_turns_the_result(model):
    _, noisy = sphere(400, 0.03)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    level = np.full(400, 0.03)
    here, there = (
        [*run_sampler(model, extract_features(model, x, level), level, 3)][-1].z[0].numpy()
        for x in (noisy, noisy @ turn)
    )
    error = np.linalg.norm(there - here @ turn, axis=1) / np.linalg.norm(here, axis=1).mean()
    assert np.median(error) < 0.05


def test_seeds_matter_to_the_ancestral_rule_alone(model):
    _, noisy = sphere(200, 0.03)
    for rule in ("mean", "flow", "ancestral"):
        one, same, other = (final_points(model.iter_denoise(noisy, 0.03, seed, rule=rule)) for seed in (0, 0, 1))
        assert np.array_equal(one, same)
        assert np.array_equal(one, other) == (rule != "ancestral")


def test_each_point_starts_at_its_own_level(model):
    _, noisy = sphere(300, 0.03)
    level = np.where(np.arange(300) < 150, 0.0, 0.03)
    moved = np.linalg.norm(
        [*run_sampler(model, extract_features(model, noisy, level), level, 3)][-1].z[0].numpy(), axis=1
    )
    assert (moved[:150] == 0).all(), "without noise there is nothing to undo"
    assert np.median(moved[150:]) > 1e-4


def test_uncertainty_is_in_proportion_to_the_noise(fresh):
    _, noisy = sphere(300, 0.03)
    level = np.where(np.arange(300) < 150, 0.005, 0.03)
    found = uncertainty(fresh, noisy, runs=16, sigma=level)
    assert found.shape == (300,)
    share = found / level
    assert np.median(share[:150]) == pytest.approx(np.median(share[150:]), rel=0.1)
    assert 0.2 < np.median(share) < 1
    assert np.array_equal(found, uncertainty(fresh, noisy, runs=16, sigma=level))


@pytest.mark.parametrize("weight", ["uniform", "likelihood", "ddpm"])
def test_training_reduces_the_loss(fresh, weight):
    fresh.trunk.requires_grad_(False)
    one = item(400, 0.03)
    optimiser = torch.optim.Adam(fresh.head.parameters(), lr=3e-3)
    found = []
    for _ in range(30):
        optimiser.zero_grad()
        terms = losses(fresh, one, one.sigma, weight, 4, torch.Generator().manual_seed(12))
        terms["loss"].backward()
        optimiser.step()
        found.append(float(terms["loss"].detach()))
    assert found[-1] < 0.93 * found[0]


def test_the_loss_of_the_truth_is_none(fresh, monkeypatch):
    one = item(200, 0.03)
    monkeypatch.setattr(SBD, "forward", lambda self, y, sigma, sigma_top, scan: (one.clean - one.noisy).expand_as(y))
    terms = losses(fresh, one, one.sigma, "likelihood", 2, torch.Generator().manual_seed(13))
    assert all(float(value.detach()) < 1e-9 for value in terms.values())


@pytest.mark.parametrize("shape", ["plane", "line", "cluster and far points", "few"])
def test_degenerate_clouds_stay_finite(fresh, shape):
    rng = np.random.default_rng(3)
    xyz = rng.normal(size=(16 if shape == "few" else 300, 3))
    if shape == "plane":
        xyz[:, 2] = 0
    if shape == "line":
        xyz[:, 1:] = 0
    if shape == "cluster and far points":
        xyz[:5] *= 1e5
    stages = list(fresh.iter_denoise(xyz))
    assert np.isfinite(final_points(stages)).all() and np.isfinite(uncertainty(fresh, xyz, runs=2)).all()


def test_without_noise_nothing_moves(fresh):
    _, noisy = sphere(100, 0.03)
    assert np.allclose(final_points(fresh.iter_denoise(noisy, 0.0)), noisy, atol=1e-6)
    assert (uncertainty(fresh, noisy, runs=2, sigma=0.0) == 0).all()


@pytest.mark.parametrize(("noise", "reads"), [(0.01, 1), (0.3, 2)])
def test_a_thick_scan_is_read_twice(fresh, monkeypatch, noise, reads):
    seen = []
    monkeypatch.setattr(
        "becalm.systems.sbd.extract_features", lambda *given: seen.append(given[2]) or extract_features(*given)
    )
    _, noisy = sphere(500, noise)
    stages = list(fresh.iter_denoise(noisy, noise))
    assert len(seen) == reads == sum(stage.xyz is not None for stage in stages)
    assert seen[-1].mean() <= seen[0].mean()


def test_the_denoiser_takes_it_for_a_model(fresh):
    _, noisy = sphere(100, 0.03)
    assert denoise(Cloud(noisy + 1e6), fresh, sigma=0.03).points.shape == (100, 3)
