"""Categorical channels: mutually exclusive categories encoded 0/4 in the first channels of a variable; all zero means none.

A network gives their logits; what z itself says is added by Bayes' rule, exactly. The other channels are 0 where there is none.
"""

import torch
from torch.nn.functional import one_hot, pad

from becalm.core.sample import Stepper, reverse
from becalm.core.typing import Float, Tensor

ON = 4.0
"""Value of the channel of the category that a variable has; the others are 0."""

LOGIT_SHIFT = 6.0
"""Taken from every logit, so that an untrained network expects a category rarely."""

CATEGORY_WEIGHT = 5.0
"""Weight of which category a variable has, against whether it has one: few do, and what it is can then be known for sure."""


def posterior_mean(
    value: Float[Tensor, "*#variable channel"],
    z: Float[Tensor, "*#variable channel"],
    alpha: Tensor,
    sigma: Tensor,
    count: int,
) -> tuple[Tensor, Tensor]:
    """E[x | z] and the logarithm of the mean posterior variance of the categorical channels.

    The first `count` channels of `value` are logits of the categories against none; its others are the mean of the remaining
    channels where there is a category. z adds log N(z | 4α, σ²) − log N(z | 0, σ²) = (4αz − 8α²)/σ² to a logit. The mean is taken
    over the categories by their probabilities (score interpolation; Dieleman et al. 2022).
    """
    evidence = (ON * alpha * z[..., :count] - ON**2 / 2 * alpha.square()) / sigma.square().clamp_min(1e-4)
    probability = torch.softmax(pad(value[..., :count] - LOGIT_SHIFT + evidence, (0, 1)), -1)[..., :count]
    variance = ON**2 * (probability * (1 - probability)).mean(-1, keepdim=True)
    x = torch.cat([ON * probability, probability.sum(-1, keepdim=True) * value[..., count:]], -1)
    return x, variance.detach().clamp_min(1e-12).log()


def cross_entropy(
    value: Float[Tensor, "*variable channel"], target: Float[Tensor, "*variable channel"], count: int
) -> Float[Tensor, "*variable 1"]:
    """−log p(whether there is a category) − 5 log p(which | there is one), in nats; `value` is the posterior mean of x."""
    probability, truth = value[..., :count] / ON, target[..., :count] / ON
    any_probability, any_truth = probability.sum(-1, keepdim=True), truth.sum(-1, keepdim=True)
    whether = torch.where(any_truth > 0.5, any_probability, 1 - any_probability).clamp_min(1e-6).log()
    which = ((probability * truth).sum(-1, keepdim=True) / any_probability.clamp_min(1e-6)).clamp_min(1e-6).log()
    return -whether - CATEGORY_WEIGHT * any_truth * which


def categorical_step(count: int, step: Stepper | None = None) -> Stepper:
    """A stepper that replaces the predicted x by a draw: a category by its probability, and the other channels given that one.

    Steps towards the mean, few as they are, end in the most frequent value: of categories that one variable in 37 has, ancestral
    sampling by the exact mean makes a third in 12 steps, and half in 24. A draw is as in D3PM (Austin et al. 2021).
    """
    inner = step or reverse()

    def stepper(ask, now, s, schedule, previous, generator):
        x = now.prediction.x
        probability = (x[..., :count] / ON).clamp_min(0)
        any_probability = probability.sum(-1, keepdim=True).clamp(1e-6, 1)
        uniform = torch.rand((*x.shape[:-1], 1), generator=generator).to(x)
        category = (uniform > probability.cumsum(-1)).sum(-1)  # `count` of them for none
        chosen = ON * one_hot(category, count + 1)[..., :count].to(x)
        rest = torch.where(category[..., None] < count, x[..., count:] / any_probability, 0.0)
        x = torch.cat([chosen, rest], -1)
        level = schedule(now.t)
        eps = (now.z - level.alpha.to(x) * x) / level.sigma.to(x).clamp_min(1e-6)
        sampled = now._replace(prediction=now.prediction._replace(x=x, eps=eps))
        return inner(ask, sampled, s, schedule, previous, generator)

    return stepper
