"""Objectives: what a network's answer costs, one number for each variable [batch, variables, 1]."""

import math

import torch

from becalm.core.process import Prediction, posterior, reverse_moments
from becalm.core.typing import Float, Tensor


def squared_error(
    value: Float[Tensor, "*data channel"], target: Float[Tensor, "*data channel"]
) -> Float[Tensor, "*data 1"]:
    """|target − value|² over the channels, as a mean."""
    return (target - value).square().mean(-1, keepdim=True)


def gaussian_nll(error: Float[Tensor, "*data 1"], log_var: Float[Tensor, "*data 1"]) -> Float[Tensor, "*data 1"]:
    """−log N(target | value, exp(log_var)) a channel, for a mean squared error that it does not change (SRM, uncertainty loss).

    The error is detached: the mean is learned by its own loss alone, and the variance only tells how far it is off.
    """
    return (math.log(2 * math.pi) + log_var + error.detach() * torch.exp(-log_var)) / 2


def variance_kl(
    prediction: Prediction, z: Tensor, x: Tensor, t: Tensor, schedule, width: float = 1e-3
) -> Float[Tensor, "batch variable 1"]:
    """KL(q(z_s | z_t, x) ‖ N(mean, learned deviation)) in bits a channel, s = max(t − width, t/2); only the deviation learns.

    The term of the bound that trains the learned range of variances (Nichol & Dhariwal 2021, eq. 16). It is 0 where t = 0.
    """
    s = torch.maximum(t - width, t / 2)
    fixed = Prediction(prediction.x.detach(), prediction.eps.detach(), None, prediction.spread)
    mean, deviation = posterior(z, x, t, s, schedule)
    guess, reach = reverse_moments(fixed, z, t, s, schedule, variance="learned")
    still = t == 0
    deviation, reach = (torch.where(still, 1.0, d.float()) for d in (deviation, reach))
    ratio = (deviation / reach).square()
    kl = (ratio - 1 - ratio.log() + ((mean - guess) / reach).square()) / 2
    return torch.where(still, 0.0, kl.mean(-1, keepdim=True) / math.log(2))
