"""How near what was learned is to the truth: two score fields, two sets of samples, a number that should tell two kinds apart."""

from typing import NamedTuple

import torch

from becalm.core.scores import Score
from becalm.core.typing import Float, Tensor


class ScoreAgreement(NamedTuple):
    """Of a score s with the true one, ∇ log p, over samples of p."""

    cosine: float
    """E sᵀ∇log p / √(E‖s‖² E‖∇log p‖²)."""
    pointwise: float
    """Mean over samples of the cosine at each; low where the true score is near 0, whatever is learned."""
    fisher: float
    """Relative Fisher divergence E‖s − ∇log p‖² / E‖∇log p‖²."""


def score_agreement(score: Score, x: Float[Tensor, "batch *data"], truth: Score) -> ScoreAgreement:
    """How near `score` is to `truth` over the samples x."""
    with torch.no_grad():
        found, wanted = (f(x).flatten(1).double() for f in (score, truth))
    along, power = (found * wanted).sum(1), found.square().sum(1)
    whole = wanted.square().sum(1)
    each = along / (power * whole).sqrt().clamp_min(1e-300)
    cosine = along.mean() / (power.mean() * whole.mean()).sqrt()
    return ScoreAgreement(
        float(cosine), float(each.mean()), float((found - wanted).square().sum(1).mean() / whole.mean())
    )


class TwoSampleTest(NamedTuple):
    """A permutation test of whether two sets of samples have one law."""

    distance: float
    """Energy distance 2E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖ (Székely & Rizzo 2013)."""
    critical_value: float
    """The 99.9 % quantile of it when the labels are drawn at random."""
    p: float
    """Share of random labellings, with the true one among them, whose distance is at least as great."""


def two_sample_test(
    a: Float[Tensor, "first d"],
    b: Float[Tensor, "second d"],
    permutations: int = 1999,
    generator: torch.Generator | None = None,
) -> TwoSampleTest:
    """The energy distance of a and b beside that of `draws` random relabellings.

    With weights w of 1/n on the one and −1/m on the other set the distance is −wᵀDw, D the matrix of all distances.
    """
    pool = torch.cat([a, b]).double()
    apart = torch.cdist(pool, pool)
    weight = torch.cat([pool.new_full((len(a),), 1 / len(a)), pool.new_full((len(b),), -1 / len(b))])
    mixed = torch.rand(permutations, len(pool), generator=generator).argsort(1).to(pool.device)
    labels = torch.cat([weight[None], weight[mixed]])
    distances = -((labels @ apart) * labels).sum(1)
    limit = torch.quantile(distances[1:], 0.999)
    return TwoSampleTest(float(distances[0]), float(limit), float((distances >= distances[0] - 1e-15).double().mean()))


def auroc(negatives: Float[Tensor, " usual"], positives: Float[Tensor, " strange"]) -> float:
    """The chance that something strange has a higher number than something usual; ties count half (Mann & Whitney 1947)."""
    negatives, positives = negatives.double().sort().values, positives.double().contiguous()
    below, upto = torch.searchsorted(negatives, positives), torch.searchsorted(negatives, positives, right=True)
    return float((below + upto).double().mean() / (2 * len(negatives)))
