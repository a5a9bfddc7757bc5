"""log Z by annealed importance sampling: against closed forms and quadrature, with an honest effective number."""

import math

import pytest
import torch

from becalm.core.densities import Checkerboard, Gaussian, GaussianMixture, isotropic_gaussian
from becalm.core.partition import log_partition, log_partition_from_weights
from tests.core.test_contrastive import machine, machine_law


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


MODES = GaussianMixture(
    torch.tensor([[1.5, 0.0], [-1.5, 0.5]], dtype=torch.float64),
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([0.4, 0.4], dtype=torch.float64),
)


@pytest.mark.parametrize("levels", [50, 100])
def test_log_z_of_two_modes(levels):
    found = log_partition(
        lambda x: 30.0 - MODES.log_prob(x), isotropic_gaussian(2, 2.0), 2000, levels, 0.1, generator=generator()
    )
    assert abs(found.log_z + 30.0) < 0.05
    assert abs(found.log_z + 30.0) < 4 * found.error < 0.2
    assert found.effective_samples > 500
    assert 0.4 < found.acceptance < 0.99


def test_log_z_of_a_machine_is_that_of_its_counted_states():
    weights = torch.randn(2, 8, generator=generator(1), dtype=torch.float64)
    bias = torch.randn(8, generator=generator(2), dtype=torch.float64)
    found = log_partition(machine(weights, bias), isotropic_gaussian(2, 3.0), 2000, 60, 0.2, generator=generator(3))
    assert abs(found.log_z - machine_law(weights, bias)[0]) < max(0.05, 4 * found.error)


def test_more_levels_make_the_weights_more_even():
    runs = [
        log_partition(lambda x: -MODES.log_prob(x), isotropic_gaussian(2, 2.0), 1000, k, 0.1, generator=generator())
        for k in (4, 16, 64)
    ]
    assert runs[0].effective_samples < runs[1].effective_samples < runs[2].effective_samples
    assert runs[2].error < runs[0].error


def test_the_weights_are_unbiased_over_runs():
    energy = isotropic_gaussian(3, 0.5)
    runs = [
        log_partition(lambda x: -energy.log_prob(x), isotropic_gaussian(3), 200, 4, 0.1, generator=generator(s))
        for s in range(40)
    ]
    weights = torch.stack([r.log_weights.exp().mean() for r in runs])
    assert abs(weights.mean() - 1) < 4 * weights.std() / 40**0.5
    told = torch.tensor([r.error for r in runs]).mean()
    assert abs(told / weights.std() - 1) < 0.4, "the error that is told is the one that is made"


def test_importance_sampling_alone_where_the_start_is_the_target():
    wide = Gaussian(torch.zeros(2).double(), torch.eye(2).double())
    found = log_partition(lambda x: 1.0 - wide.log_prob(x), wide, 100, 1, 0.1, generator=generator())
    assert abs(found.log_z + 1) < 1e-12 and abs(found.effective_samples - 100) < 1e-6
    assert found.error < 1e-6 and math.isnan(found.acceptance)


def test_the_ends_with_their_weights_are_samples():
    board = Checkerboard(2, 1.0, 0.15)
    found = log_partition(
        lambda x: -board.log_prob(x), isotropic_gaussian(2, 1.5), 2000, 50, 0.02, generator=generator()
    )
    share = found.log_weights.softmax(0)
    moments = (share[:, None] * found.z.square()).sum(0)
    assert ((moments - (1 / 3 + 0.15**2)).abs() < 0.04).all()
    assert ((share * (found.z.prod(1) > 0)).sum() - 0.93).abs() < 0.05


def test_the_effective_number_is_that_of_the_weights():
    whole = log_partition_from_weights(torch.tensor([0.0, 0.0, math.log(2.0), -torch.inf]), torch.zeros(4, 1), 0.5)
    assert abs(whole.effective_samples - 16 / 6) < 1e-6
    assert abs(whole.log_z) < 1e-6


def test_an_energy_that_is_no_number_is_told():
    with pytest.raises(ValueError, match="NaN or infinite"):
        log_partition(lambda x: x.sum(1).log(), isotropic_gaussian(2), 10, 5, generator=generator())
