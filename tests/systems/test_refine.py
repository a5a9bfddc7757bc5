"""Refinement: what fits worst is resampled; its cost against a closed form."""

import numpy as np
import torch

from becalm.core.sampler import Sampler
from becalm.core.schedule import Rectified
from becalm.systems.refine import pseudo_nll, refine
from becalm.systems.srm import SRM


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pseudo_nll_is_that_of_each_variable_hidden_with_its_part():
    """With as many parts as variables each is hidden alone; a network that predicts 1 with variance e² gives a closed form."""

    class One(torch.nn.Module):
        def forward(self, z, t, places):
            assert ((t == 1).sum(1) <= 1).all() and ((t == 0) | (t == 1)).all()
            return torch.cat([torch.ones_like(z), torch.zeros_like(z), 2 * torch.ones_like(t).to(z)], -1)[None]

    made, unknown = SRM(One(), 3, Rectified()), torch.tensor([[True, False, True, True]]).repeat(5, 1)
    x = torch.randn(5, 4, 3, generator=gen())
    nll = pseudo_nll(made, x, unknown, gen(1), parts=4)
    expected = -torch.distributions.Normal(1.0, float(np.e)).log_prob(x).mean(-1)
    torch.testing.assert_close(nll, torch.where(unknown, expected, 0.0))


def test_refinement_resamples_what_fits_worst_and_rounds_up():
    class One(torch.nn.Module):
        def forward(self, z, t, places):
            return torch.cat([torch.ones_like(z), torch.zeros_like(z), torch.zeros_like(t).to(z)], -1)[None]

    x = torch.tensor([1.0, 5, 2, 9, 1.5]).view(1, 5, 1)
    unknown = torch.tensor([[True, True, True, False, True]])
    rounds = list(refine(SRM(One(), 1, Rectified()), x, unknown, 2, 0.3, Sampler(2, "ddim"), gen()))
    assert rounds[0].flatten().tolist() == [1, 1, 1, 9, 1.5], "two of four: 30 % rounded up"
    assert len(rounds) == 2 and rounds[1].flatten().tolist()[4] == 1, "then the next worst"
