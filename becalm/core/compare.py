"""Comparisons with the truth: agreement of two score fields, two-sample test, area under the ROC curve."""

from typing import NamedTuple

import torch

from becalm.core.scores import Score
from becalm.core.typing import Float, Tensor


class ScoreAgreement(NamedTuple):
    """Agreement of a score s with the true score ∇ log p over samples of p."""

    cosine: float
    """E sᵀ∇log p / √(E‖s‖² E‖∇log p‖²)."""
    pointwise: float
    """Mean over samples of the cosine at each; low where the true score is near 0, however good s is."""
    fisher: float
    """Relative Fisher divergence E‖s − ∇log p‖² / E‖∇log p‖²."""


def score_agreement(score: Score, x: Float[Tensor, "batch *data"], truth: Score) -> ScoreAgreement:
    """Agreement of `score` with `truth` over the samples x."""
    with torch.no_grad():
        estimated, true = (f(x).flatten(1).double() for f in (score, truth))
    product, power = (estimated * true).sum(1), estimated.square().sum(1)
    whole = true.square().sum(1)
    each = product / (power * whole).sqrt().clamp_min(1e-300)
    cosine = product.mean() / (power.mean() * whole.mean()).sqrt()
    return ScoreAgreement(
        float(cosine), float(each.mean()), float((estimated - true).square().sum(1).mean() / whole.mean())
    )


class TwoSampleTest(NamedTuple):
    """Permutation test of whether two sets of samples have the same distribution."""

    distance: float
    """Energy distance 2E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖ (Székely & Rizzo 2013)."""
    critical_value: float
    """Its 99.9 % quantile under random relabelling."""
    p: float
    """p-value: share of labellings (random ones and the true one) whose distance is at least as great."""


def two_sample_test(
    a: Float[Tensor, "first d"],
    b: Float[Tensor, "second d"],
    permutations: int = 1999,
    generator: torch.Generator | None = None,
) -> TwoSampleTest:
    """Energy distance of a and b, compared with that of `permutations` random relabellings.

    With weights w of 1/n on the one and −1/m on the other set the distance is −wᵀDw, D the matrix of all distances.
    """
    pool = torch.cat([a, b]).double()
    distance = torch.cdist(pool, pool)
    weight = torch.cat([pool.new_full((len(a),), 1 / len(a)), pool.new_full((len(b),), -1 / len(b))])
    mixed = torch.rand(permutations, len(pool), generator=generator).argsort(1).to(pool.device)
    labels = torch.cat([weight[None], weight[mixed]])
    distances = -((labels @ distance) * labels).sum(1)
    limit = torch.quantile(distances[1:], 0.999)
    return TwoSampleTest(float(distances[0]), float(limit), float((distances >= distances[0] - 1e-15).double().mean()))


def auroc(negatives: Float[Tensor, " negative"], positives: Float[Tensor, " positive"]) -> float:
    """Area under the ROC curve: P(positive > negative) + ½P(equal) (Mann & Whitney 1947)."""
    negatives, positives = negatives.double().sort().values, positives.double().contiguous()
    below, upto = torch.searchsorted(negatives, positives), torch.searchsorted(negatives, positives, right=True)
    return float((below + upto).double().mean() / (2 * len(negatives)))
