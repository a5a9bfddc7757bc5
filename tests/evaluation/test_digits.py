"""The distance of generated digits to real ones, by the features of a classifier."""

import pytest
import torch
from torch import nn

from becalm.cli import main
from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.evaluation.digits import SAMPLERS, evaluate_samplers, features_and_clarity, frechet_distance
from becalm.images.digits import Digits
from becalm.nets.digit_classifier import DigitClassifier, init_weights


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_frechet_distance_is_that_of_gaussians():
    one = torch.randn(300, 5, generator=seeded(), dtype=torch.float64)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one + torch.arange(5)) == pytest.approx(30)
    middle = one.mean(0)
    assert frechet_distance(one, middle + 3 * (one - middle)) == pytest.approx(
        4 * float(one.var(0).sum())
    )  # (3 − 1)² of C


def classifier() -> DigitClassifier:
    small = DigitClassifier(14, width=4)
    init_weights(small, seeded())
    return small.eval()


def stripes(number: int, seed: int) -> torch.Tensor:
    """Images [number, 28, 28] of vertical stripes of random phase."""
    phase = 6 * torch.rand(number, 1, 1, generator=seeded(seed))
    return (0.5 + 0.5 * torch.sin(torch.arange(28) + phase)).expand(-1, 28, -1)


class Stripes(nn.Module):
    """A generator of the stripes, or with ancestral sampling of noise."""

    makes, classes, default_sampler, levels = "images", (), Sampler(2), 256

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def generate(self, label, points, sampler=None, generator=None):
        good = stripes(len(label), 5)
        images = torch.rand(good.shape, generator=generator) if sampler.update == "ancestral" else good
        yield (255 * images).round().long()[..., None]


def test_what_is_like_the_real_ones_is_nearer():
    real = Digits(stripes(200, 1), torch.zeros(200, dtype=torch.long))
    rows = list(evaluate_samplers(Stripes(), classifier(), real, 60))  # type: ignore[arg-type]
    assert [row.images for row in rows] == ["real", *(f"{s.update}, {s.steps} steps" for s in SAMPLERS)]
    near, far = rows[1].frechet, rows[3].frechet
    assert 20 * max(rows[0].frechet, near) < far
    assert rows[1].frechet == pytest.approx(rows[2].frechet)
    assert all(row.number == 60 for row in rows)


def test_a_sure_classifier_calls_all_clear():
    sure = classifier()
    nn.init.zeros_(sure.classes.weight)
    features, clear = features_and_clarity(sure, stripes(3, 0))
    assert features.shape == (3, 16) and clear == pytest.approx(torch.full((3,), 0.1))
    sure.classes.bias.data[4] = 20
    assert features_and_clarity(sure, stripes(3, 0))[1].min() > 0.99


def test_what_cannot_be_compared_is_refused(capsys, tmp_path):
    real = Digits(stripes(20, 1), torch.zeros(20, dtype=torch.long))
    for number in (1, 11):
        with pytest.raises(InputError, match="from 2 to 10 can be compared"):
            next(evaluate_samplers(Stripes(), classifier(), real, number))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="8 pixels a side; the classifier reads 14"):
        features_and_clarity(classifier(), torch.zeros(2, 8, 8))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "jets", "digits", "--digits", "digits8"])
    assert ended.value.code == 1 and "jets: is a denoiser of scans (jets)" in capsys.readouterr().err
