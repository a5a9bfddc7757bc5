"""Measures of agreement: exact where they have a closed form, level where nothing differs, loud where something does."""

import math

import pytest
import torch

from becalm.core.compare import auroc, score_agreement, two_sample_test
from becalm.core.densities import eight_gaussians, isotropic_gaussian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_truth_agrees_with_itself_and_a_known_error_is_told():
    density, x = eight_gaussians(), eight_gaussians().sample(500, generator())
    same = score_agreement(density.score, x, density.score)
    assert same.fisher == 0 and same.cosine == pytest.approx(1) and same.pointwise == pytest.approx(1)
    double = score_agreement(lambda z: 2 * density.score(z), x, density.score)
    assert double.fisher == pytest.approx(1) and double.cosine == pytest.approx(1)
    turned = score_agreement(lambda z: density.score(z).flip(1) * torch.tensor([1.0, -1.0]), x, density.score)
    assert turned.cosine == pytest.approx(0, abs=1e-12) and turned.fisher == pytest.approx(2)


def test_the_relative_fisher_divergence_of_gaussians():
    narrow, wide = isotropic_gaussian(3, 0.5), isotropic_gaussian(3, 1.0)
    found = score_agreement(wide.score, narrow.sample(20_000, generator()), narrow.score)
    assert found.fisher == pytest.approx((1 - 0.25) ** 2)


def test_the_energy_distance_is_that_of_its_definition():
    a, b = torch.randn(60, 2, generator=generator()), 1 + torch.randn(40, 2, generator=generator(1))
    slow = 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()
    found = two_sample_test(a, b, 99, generator(2))
    assert found.distance == pytest.approx(float(slow), rel=1e-5)
    assert found.p == 0.01 and found.distance > found.critical_value


def test_one_law_passes_as_often_as_it_should():
    draws = [
        two_sample_test(*(torch.randn(50, 2, generator=generator(2 * s + i)) for i in (0, 1)), 99, generator(s)).p
        for s in range(100)
    ]
    assert abs(sum(draws) / 100 - 0.5) < 4 * math.sqrt(1 / 1200)
    assert sum(p <= 0.05 for p in draws) <= 14


def test_auroc_is_the_chance_of_being_higher_with_half_for_ties():
    usual, strange = (torch.randint(0, 9, (n,), generator=generator(n)).double() for n in (40, 30))
    pairs = strange[:, None] - usual
    assert auroc(usual, strange) == pytest.approx(float(((pairs > 0) + 0.5 * (pairs == 0)).mean()))
    assert auroc(usual, usual + 100) == 1 and auroc(usual, usual) == 0.5
