"""Traps that were met once: each test fails on the obvious form that it replaces."""

import pytest
import torch
from safetensors.torch import save_file

from becalm.core import kinds, trajectory
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError
from becalm.core.process import Output, Prediction, reverse_moments
from becalm.core.sample import sample
from becalm.core.schedule import Betas, Linear, Rectified
from becalm.core.times import inverse_density_weight, stratified, uniform, uniform_mean
from becalm.core.walk import by_certainty, in_order, together

FLOAT = torch.float64


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=FLOAT)[:, None, None]


def test_log_var_is_that_of_x_for_every_kind(schedule, kind):
    """The error of x is the finite difference of x along the output."""
    t, z, h = column(0.2, 0.5, 0.8), torch.full((3, 1, 1), 0.3, dtype=FLOAT), 1e-3
    low, high = (kind(Output(torch.full_like(z, v), torch.full_like(z, 0.4)), z, t, schedule) for v in (0.1, 0.1 + h))
    torch.testing.assert_close(low.log_var, 0.4 + 2 * ((high.x - low.x).abs() / h).log(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_no_noise_where_the_end_is_clean_and_some_where_it_is_not(variance):
    z = torch.zeros(1, 1, 1, dtype=FLOAT)
    prediction = Prediction(z, z, None, z + 0.5)
    for schedule, clean in ((Rectified(), True), (Linear(), False)):
        deviation = reverse_moments(prediction, z, z + 0.5, z, schedule, 1.0, variance)[1]
        assert (deviation.item() == 0) == clean
    assert reverse_moments(prediction, z, z + 0.5, z + 0.2, Rectified(), 0.0, variance)[1].item() == 0


def test_the_kept_noise_is_not_found_by_subtraction():
    z = torch.zeros(1, 1, 1, dtype=FLOAT)
    schedule, t = Linear(-60.0, 60.0), column(0.9)
    drop = 120 * 0.9
    mean = reverse_moments(Prediction(z, z + 1), z, t, t * 0, schedule, 1.0)[0]
    expected = schedule(t * 0).sigma * torch.exp(torch.tensor(-drop / 2, dtype=FLOAT))
    torch.testing.assert_close(mean, expected, rtol=1e-9, atol=0)


def test_below_the_first_beta_the_ratio_is_linear_in_t():
    level = Betas()(torch.tensor([0.0, 0.00025, 0.0005, 0.001], dtype=FLOAT))
    ratio = level.sigma / level.alpha
    torch.testing.assert_close(ratio / ratio[-1], torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=FLOAT))


@pytest.mark.parametrize("draw", [uniform, stratified])
def test_levels_can_be_set_for_one_variable_alone(draw):
    t = draw(4, 3, torch.Generator().manual_seed(0))
    t[:, 0] = 0
    assert (t[:, 1:] > 0).all()


def test_the_weight_is_right_in_the_outermost_bins():
    weight = inverse_density_weight(uniform_mean, 81, torch.Generator().manual_seed(0), 20_000)
    t = uniform_mean(20_000, 81, torch.Generator().manual_seed(1)).flatten()
    per_bin = torch.bincount((t * 1000).long().clamp(max=999), weight(t), 1000) / len(t) * 1000
    assert (per_bin[[*range(6), *range(994, 1000)]] - 1).abs().max() < 0.1
    assert 0.1 < weight(t).min() < 0.125 and 1.8 < weight(t).max() < 2.2, "SRM's table spans 0.11 to 1.96"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_wild_uncertainty_costs_no_steps(bad):
    log_var, start = torch.full((1, 4, 1), bad, dtype=FLOAT), torch.ones(1, 4, 1, dtype=FLOAT)
    walk, t = by_certainty(steps_per_variable=2), start
    for k in range(8):
        t = walk(k, t, start, Prediction(log_var, log_var, log_var))
    assert (t == 0).all()


@pytest.mark.parametrize("variables", [1, 5, 13])
@pytest.mark.parametrize(("group", "overlap"), [(1, 0.0), (2, 0.3), (3, 0.75), (1, 0.99)])
def test_a_walk_takes_exactly_its_budget(variables, group, overlap):
    start = torch.ones(1, variables, 1, dtype=FLOAT)
    for steps in (40, 41, 47):
        walk, t = in_order(group=group, overlap=overlap, steps=steps), start
        for k in range(steps):
            assert (t > 0).any()
            t = walk(k, t, start, Prediction(start, start))
        assert (t == 0).all()


def test_levels_stay_double_and_no_graph_grows():
    network = torch.nn.Linear(2, 2)
    denoiser = Denoiser(lambda z, t, given: network(z), Rectified(), kinds.velocity)
    levels = []
    for state in sample(denoiser, torch.zeros(1, 1, 2), torch.ones(1, 1, 1), together(1000)):
        assert not state.z.requires_grad
        levels.append(state.t.item())
    exact = torch.tensor([(999 - k) / 1000 for k in range(1000)], dtype=FLOAT)
    torch.testing.assert_close(torch.tensor(levels, dtype=FLOAT), exact, rtol=0, atol=1e-15)


@pytest.mark.parametrize("facts", ["[]", "null", "3"])
def test_facts_that_are_no_object_are_refused(tmp_path, facts):
    part = torch.zeros(2, 1, 1, 1)
    save_file({"z": part, "t": part.clone(), "x": part.clone()}, tmp_path / "a", {"becalm.record": facts})
    with pytest.raises(InputError, match="must be a JSON object"):
        trajectory.read(tmp_path / "a")
