"""Every loss, followed downhill, finds the score of eight Gaussians: the true energy's own shape with all its numbers wrong."""

import pytest
import torch
from torch import nn

from becalm.core import contrastive, scores
from becalm.core.compare import score_agreement
from becalm.core.densities import GaussianMixture, eight_gaussians
from becalm.core.scores import score_of_energy

TRUTH, NOISE = eight_gaussians(), 0.1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Wrong(nn.Module):
    """A mixture whose centres are off by more than its width, and which is twice as wide; weights are not told."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(TRUTH.centres + 0.25 * torch.randn(8, 2, generator=generator(3)).double())
        self.log_wide = nn.Parameter(torch.full((8,), 0.4).double().log())

    def energy(self, x):
        return -GaussianMixture(self.centres, TRUTH.weights, self.log_wide.exp()).log_prob(x)


def probes(x, g):
    return scores.rademacher_probes(x, g, 2)


def noise(x, g):
    return torch.randn(x.shape, generator=g, dtype=x.dtype)


OBJECTIVES = {
    "explicit": lambda e, x, g: scores.explicit(score_of_energy(e), x, TRUTH.score),
    "implicit": lambda e, x, g: scores.implicit(score_of_energy(e), x),
    "sliced": lambda e, x, g: scores.sliced(score_of_energy(e), x, probes(x, g)),
    "sliced_reduced": lambda e, x, g: scores.sliced_reduced(score_of_energy(e), x, probes(x, g)),
    "finite_sliced": lambda e, x, g: scores.finite_sliced(score_of_energy(e), x, probes(x, g)),
    "finite_sliced_energy": lambda e, x, g: scores.finite_sliced_energy(e, x, probes(x, g), 0.02),
    "denoising": lambda e, x, g: scores.denoising(score_of_energy(e), x, noise(x, g), NOISE),
    "denoising_control_variate": lambda e, x, g: scores.denoising_control_variate(
        score_of_energy(e), x, noise(x, g), 0.01
    ),
    "denoising_multilevel": lambda e, x, g: scores.denoising_multilevel(
        lambda z, s: score_of_energy(e)(z), x, noise(x, g), torch.full((len(x),), NOISE).double()
    ),
    "contrastive": lambda e, x, g: contrastive.contrastive_loss(
        e, x, contrastive.cd_negatives(e, x, contrastive.LangevinChains(3, 0.005), g)
    ),
}
NOISY = ("denoising", "denoising_multilevel")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_loss_learns_the_eight_gaussians(name):
    model, truth = Wrong(), TRUTH.convolve(NOISE) if name in NOISY else TRUTH
    seen = truth.sample(4000, generator(99))
    before = score_agreement(score_of_energy(model.energy), seen, truth.score)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03, betas=(0.9, 0.95))
    for k in range(100):
        if k == 60:
            optimiser.param_groups[0]["lr"] = 0.006
        loss = OBJECTIVES[name](model.energy, TRUTH.sample(192, generator(k)), generator(1000 + k)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = score_agreement(score_of_energy(model.energy), seen, truth.score)
    assert before.fisher > 0.3 and before.cosine < 0.9, "there is something to learn"
    assert after.cosine > 0.98 and after.fisher < 0.05


def test_denoising_s_best_linear_score_is_the_inverse_of_the_noisy_covariance():
    """A quadratic in the matrix: one Newton step from 0 finds −(S + σ²I)⁻¹ to the precision of 400 000 samples."""
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
    x = torch.randn(400_000, 2, generator=generator(), dtype=torch.float64) @ torch.linalg.cholesky(covariance).mT
    eps, nothing = noise(x, generator(1)), torch.zeros(2, 2, dtype=torch.float64)

    def loss(matrix):
        return scores.denoising(lambda z: z @ matrix.mT, x, eps, 0.5).mean()

    slope = torch.func.grad(loss)(nothing)
    curve = torch.func.hessian(loss)(nothing)
    found = -torch.linalg.solve(curve.reshape(4, 4), slope.flatten()).reshape(2, 2)
    truth = -(covariance + 0.25 * torch.eye(2).double()).inverse()
    assert (found - truth).abs().max() < 1e-2
