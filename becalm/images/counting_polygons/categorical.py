"""Flags: the first channels of variables, of which one at most is set, for what a variable shows, if it shows anything.

A network tells by logits which are to be expected; what z itself says of them is added by Bayes' rule, exactly. The other
channels are 0 where no flag is set.
"""

import torch
from torch.nn.functional import one_hot, pad

from becalm.core.sample import Stepper, reverse
from becalm.core.typing import Float, Tensor

FLAG = 4.0
"""Value of a flag that is set; it is 0 otherwise."""

RARE = 6.0
"""Taken from every logit, so that a network that has not learned yet has flags rarely set."""

WHICH = 5.0
"""Weight of which flag is set beside whether one is: few variables have one, and what it is they can know for sure."""


def expected(
    told: Float[Tensor, "*#variable channel"],
    z: Float[Tensor, "*#variable channel"],
    alpha: Tensor,
    sigma: Tensor,
    count: int,
) -> tuple[Tensor, Tensor]:
    """The mean of x and the logarithm of the mean variance of its flags, from the logits of `count` flags, against none, and
    the other channels where there is one.

    log N(z | 4α, σ²) − log N(z | 0, σ²) = (4 α z − 8 α²)/σ² is what z adds to a logit. x is the mean of what may be, by its
    probabilities (score interpolation; Dieleman et al. 2022).
    """
    shown = (FLAG * alpha * z[..., :count] - FLAG**2 / 2 * alpha.square()) / sigma.square().clamp_min(1e-4)
    share = torch.softmax(pad(told[..., :count] - RARE + shown, (0, 1)), -1)[..., :count]
    variance = FLAG**2 * (share * (1 - share)).mean(-1, keepdim=True)
    x = torch.cat([FLAG * share, share.sum(-1, keepdim=True) * told[..., count:]], -1)
    return x, variance.detach().clamp_min(1e-12).log()


def surprise(
    value: Float[Tensor, "*variable channel"], target: Float[Tensor, "*variable channel"], count: int
) -> Float[Tensor, "*variable 1"]:
    """−log p(whether a flag is set) − `WHICH` log p(which one, if so), in nats, of what was expected."""
    share, truth = value[..., :count] / FLAG, target[..., :count] / FLAG
    some, held = share.sum(-1, keepdim=True), truth.sum(-1, keepdim=True)
    whether = torch.where(held > 0.5, some, 1 - some).clamp_min(1e-6).log()
    which = ((share * truth).sum(-1, keepdim=True) / some.clamp_min(1e-6)).clamp_min(1e-6).log()
    return -whether - WHICH * held * which


def drawn(count: int, step: Stepper | None = None) -> Stepper:
    """Steps towards what variables may be, drawn anew before each by its probability, in place of their mean.

    Steps towards the mean, few as they are, go where most variables are: of flags that one in 37 has, ancestral sampling by the
    exact mean sets a third in 12 steps, and half in 24. A draw is as in D3PM (Austin et al. 2021), where x is a category.
    """
    inner = step or reverse()

    def stepper(ask, now, s, schedule, previous, generator):
        x = now.prediction.x
        share = (x[..., :count] / FLAG).clamp_min(0)
        some = share.sum(-1, keepdim=True).clamp(1e-6, 1)
        chance = torch.rand((*x.shape[:-1], 1), generator=generator).to(x)
        kind = (chance > share.cumsum(-1)).sum(-1)  # `count` of them for none
        flags = FLAG * one_hot(kind, count + 1)[..., :count].to(x)
        rest = torch.where(kind[..., None] < count, x[..., count:] / some, 0.0)
        x = torch.cat([flags, rest], -1)
        level = schedule(now.t)
        eps = (now.z - level.alpha.to(x) * x) / level.sigma.to(x).clamp_min(1e-6)
        meant = now._replace(prediction=now.prediction._replace(x=x, eps=eps))
        return inner(ask, meant, s, schedule, previous, generator)

    return stepper
