"""Sampling in analytic worlds: right laws, convergence orders, invariances, and records that give back what was written."""

import json

import pytest
import torch
from safetensors.torch import save_file

from becalm.core import kinds, trajectory
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError
from becalm.core.process import Output, Prediction
from becalm.core.sample import dpm_solver_pp_2m, heun, reverse, sample
from becalm.core.schedule import Cosine, Karras, Linear, Rectified
from becalm.core.walk import in_order, together
from tests.worlds import CORRELATED, MIXTURE, optimal


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def denoiser(world, schedule) -> Denoiser:
    """The optimal denoiser as a network of velocities, with a certainty that is any function of what it sees."""
    best = optimal(world, schedule)

    def network(z, t, given):
        found = best(z, t)
        return Output(found.eps - found.x, z[..., :1])

    return Denoiser(network, schedule, kinds.velocity)


def final(steps):
    *_, last = steps
    return last


def two_sample(a: torch.Tensor, b: torch.Tensor) -> float:
    """Energy distance of samples [n, d], in standard errors of what chance gives, by one random relabelling's scale."""

    def energy(x, y):
        return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()

    pool = torch.cat([a, b])
    null = []
    for seed in range(40):
        order = torch.randperm(len(pool), generator=generator(seed))
        null.append(energy(pool[order[: len(a)]], pool[order[len(a) :]]))
    null = torch.stack(null)
    return float((energy(a, b) - null.mean()) / null.std())


def test_every_walk_gives_the_law_of_independent_variables(walk_of):
    schedule, variables = Rectified(), 4
    z = torch.randn(500, variables, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(500, variables, 1, dtype=torch.float64)
    last = final(sample(denoiser(MIXTURE, schedule), z, t, walk_of(variables), generator=generator(1)))
    truth = MIXTURE.draw(500, variables, generator(2))
    assert (last.t == 0).all()
    for variable in range(variables):
        assert two_sample(last.z[:, variable], truth[:, variable]) < 4
    wrong = truth[:, 0] + 0.3
    assert two_sample(last.z[:, 0], wrong) > 4, "the test can tell"


def test_deterministic_sampling_carries_the_gaussian_over(deterministic):
    schedule = Linear()
    level = schedule(torch.ones(1))
    z = torch.randn(2000, 1, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(2000, 1, 1, dtype=torch.float64)
    last = final(sample(denoiser(CORRELATED, schedule), z * level.sigma, t, together(120), deterministic))
    torch.testing.assert_close(last.z[:, 0].T.cov(), CORRELATED.covariance, rtol=0.12, atol=0.05)


@pytest.mark.parametrize(("stepper", "order"), [(reverse(0.0), 1), (heun(), 2), (dpm_solver_pp_2m(), 2)])
def test_the_error_falls_with_the_order_of_the_method(stepper, order):
    schedule = Linear(-4.0, 4.0)
    z = torch.randn(16, 1, 2, generator=generator(), dtype=torch.float64) * schedule(torch.ones(1)).sigma
    t = torch.ones(16, 1, 1, dtype=torch.float64)

    def end(steps, method):
        return final(sample(denoiser(MIXTURE, schedule), z, t, together(steps), method)).z

    exact = end(900, heun())
    coarse, fine = ((end(n, stepper) - exact).abs().max() for n in (60, 120))
    assert coarse / fine > 2 ** (order - 0.35), f"{coarse / fine:.2f}"


@pytest.mark.parametrize("family", [Linear, Karras])
def test_a_deterministic_trajectory_is_the_same_in_every_scaling(family, deterministic):
    z = torch.randn(8, 2, 2, generator=generator(), dtype=torch.float64)
    ends = []
    for scaling in ("preserve", "explode", "interpolate"):
        schedule = family(scaling=scaling)
        level = schedule(torch.ones(1))
        ratio = level.sigma / level.alpha
        start = z * ratio * level.alpha
        t = torch.ones(8, 2, 1, dtype=torch.float64)
        states = list(sample(denoiser(MIXTURE, schedule), start, t, together(12), deterministic))
        ends.append(torch.stack([s.z / schedule(s.t).alpha for s in states]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_one_level_for_each_variable_is_bit_for_bit_one_for_all(eta):
    schedule = Cosine()
    z = torch.randn(3, 5, 2, generator=generator(), dtype=torch.float64)
    many = torch.full((3, 5, 1), 0.9, dtype=torch.float64)
    one = torch.tensor([[[0.9]]], dtype=torch.float64)
    a, b = (
        final(sample(denoiser(CORRELATED, schedule), z, t, together(7), reverse(eta), generator=generator(3))).z
        for t in (many, one)
    )
    assert torch.equal(a, b)


@pytest.mark.parametrize("stepper", [reverse(1.0), reverse(0.0), heun(), dpm_solver_pp_2m()])
def test_given_variables_are_not_touched_and_nothing_is_nan(stepper):
    z = torch.randn(4, 3, 2, generator=generator(), dtype=torch.float64)
    t = torch.ones(4, 3, 1, dtype=torch.float64)
    t[:, 1] = 0
    for state in sample(denoiser(CORRELATED, Rectified()), z, t, in_order(steps_per_variable=6), stepper):
        assert torch.equal(state.z[:, 1], z[:, 1])
        assert torch.isfinite(state.z).all()


def test_a_network_of_noise_cannot_start_without_signal():
    for kind in (kinds.eps, kinds.score):
        net = Denoiser(lambda z, t, given: z, Rectified(), kind)
        z = torch.zeros(1, 1, 1)
        with pytest.raises(ValueError, match="α = 0"):
            next(sample(net, z, torch.ones(1, 1, 1), together(3)))


def test_a_rising_walk_is_refused():
    net = denoiser(CORRELATED, Rectified())
    with pytest.raises(ValueError, match="never goes back"):
        next(sample(net, torch.zeros(1, 1, 2).double(), torch.full((1, 1, 1), 0.5), lambda k, t, start, p: t + 0.1))


def test_the_continuous_bound_depends_on_the_ends_of_gamma_alone():
    """½ ∫ γ′ E‖ε − ε̂‖² dt by quadrature over γ, through two schedules with equal ends and the same noise."""
    x = MIXTURE.draw(400, 1, generator())
    eps = torch.randn(400, 1, 2, generator=generator(1), dtype=torch.float64)

    class Bent(Linear):
        def gamma(self, t):
            return super().gamma(t**2)

    values = []
    for schedule in (Linear(-6.0, 4.0), Bent(-6.0, 4.0)):
        t = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
        rate = torch.stack([schedule.slope(a[None])[0] * error(schedule, a, x, eps) for a in t[::4]])
        values.append(0.5 * rate.mean())
    torch.testing.assert_close(values[0], values[1], rtol=2e-3, atol=0)


def error(schedule, t, x, eps):
    level = schedule(t.expand(1, 1, 1))
    found = optimal(MIXTURE, schedule)(level.alpha * x + level.sigma * eps, t.expand(1, 1, 1))
    return (eps - found.eps).square().sum(-1).mean()


def test_more_steps_never_loosen_the_bound():
    schedule = Linear(-6.0, 4.0)
    x = MIXTURE.draw(3000, 1, generator())
    eps = torch.randn(3000, 1, 2, generator=generator(1), dtype=torch.float64)
    bounds = []
    for steps in (8, 16, 32, 64):
        t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        rise = torch.expm1(schedule.gamma(t) - schedule.gamma(t - 1 / steps))
        bounds.append(0.5 * sum(r * error(schedule, a, x, eps) for r, a in zip(rise, t, strict=True)))
    assert all(b < a for a, b in zip(bounds, bounds[1:], strict=False))


def test_the_flow_s_likelihood_is_the_mixture_s_density():
    """log p(x) = log p(z₁) + ∫ div dt along y = z/α with dy/d(σ/α) = ε̂, by Heun over γ and exact traces."""
    schedule = Linear(-9.0, 9.0, scaling="explode")
    best = optimal(MIXTURE, schedule)
    points = MIXTURE.draw(12, 1, generator())
    t = torch.linspace(0, 1, 801, dtype=torch.float64)
    sigma = schedule(t).sigma

    def field(y, i):
        def one(p):
            return best(p.reshape(1, 1, 2), t[i].reshape(1, 1, 1)).eps.reshape(2)

        flat = y.reshape(-1, 2)
        trace = torch.func.vmap(torch.func.jacrev(one))(flat).diagonal(dim1=1, dim2=2).sum(1)
        return best(y, t[i].reshape(1, 1, 1)).eps, trace

    y, log = points, torch.zeros(12, dtype=torch.float64)
    for i in range(800):
        h = sigma[i + 1] - sigma[i]
        slope, trace = field(y, i)
        again, trace_again = field(y + h * slope, i + 1)
        y, log = y + h * (slope + again) / 2, log + h * (trace + trace_again) / 2
    log += MIXTURE.posterior(y, torch.ones(1), sigma[-1:])[1][:, 0]
    density = MIXTURE.posterior(points, torch.ones(1).double(), sigma[:1])[1][:, 0]
    assert (log - density).abs().max() < 2e-3


def test_a_record_gives_back_the_walk(tmp_path):
    z = torch.randn(2, 3, 2, generator=generator(), dtype=torch.float64)
    steps = list(sample(denoiser(CORRELATED, Rectified()), z, torch.ones(2, 3, 1), together(5), generator=generator(1)))
    kept = trajectory.record_steps(steps, {"schedule": "Rectified", "seed": 1})
    trajectory.write(kept, tmp_path / "run.safetensors")
    back = trajectory.read(tmp_path / "run.safetensors")
    assert torch.equal(back.z, torch.stack([s.z for s in steps]))
    assert torch.equal(back.t, torch.stack([s.t for s in steps]))
    assert back.facts == {"schedule": "Rectified", "seed": 1}


def test_what_is_no_record_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"z": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="of another program, not a trajectory of becalm"):
        trajectory.read(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is not a safetensors file, or a damaged one"):
        trajectory.read(path)
    tensors = {"z": torch.zeros(2, 1, 1, 1), "t": torch.zeros(1, 1, 1, 1), "x": torch.zeros(2, 1, 1, 1)}
    save_file(tensors, path, {"becalm.record": json.dumps({"version": 1})})
    with pytest.raises(InputError, match="do not fit"):
        trajectory.read(path)
    with pytest.raises(ValueError, match="no steps"):
        trajectory.record_steps([])


def test_a_prediction_is_a_pair():
    z = torch.zeros(1, 1, 1)
    assert Prediction(z, z).log_var is None
