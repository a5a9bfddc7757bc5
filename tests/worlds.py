"""Analytic worlds: data whose posterior mean, score and density at any noise level are known in closed form."""

import torch
from torch import Tensor

from becalm.core.process import Prediction


class Gaussian:
    """x ~ N(mean, covariance), the channels [d] of each variable correlated, the variables independent."""

    def __init__(self, mean: Tensor, covariance: Tensor):
        self.mean, self.covariance = mean.double(), covariance.double()

    def draw(self, batch: int, variables: int, generator: torch.Generator) -> Tensor:
        white = torch.randn(batch, variables, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + white @ torch.linalg.cholesky(self.covariance).T

    def posterior(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """E[x | z] and the log-density of z; alpha and sigma broadcast over z [batch, variables, d]."""
        alpha, sigma = (a.expand(*z.shape[:2], 1)[..., None] for a in (alpha, sigma))
        total = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=torch.float64)
        away = (z - alpha[..., 0] * self.mean)[..., None]
        solved = torch.linalg.solve(total, away)
        x = self.mean + (alpha * (self.covariance @ solved))[..., 0]
        log = -0.5 * ((away * solved).sum((-1, -2)) + torch.logdet(2 * torch.pi * total))
        return x, log


class Mixture:
    """A mixture of Gaussians with equal covariance s² I."""

    def __init__(self, centres: Tensor, weights: Tensor, s: float):
        self.centres, self.weights = centres.double(), weights.double()
        self.parts = [Gaussian(c, s**2 * torch.eye(len(c))) for c in self.centres]

    def draw(self, batch: int, variables: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, batch * variables, replacement=True, generator=generator)
        white = self.parts[0].draw(batch, variables, generator) - self.centres[0]
        return self.centres[which].reshape(white.shape) + white

    def posterior(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        xs, logs = zip(*(part.posterior(z, alpha, sigma) for part in self.parts), strict=True)
        logs = torch.stack(logs, -1) + self.weights.log()
        share = torch.softmax(logs, -1)
        return (share[..., None] * torch.stack(xs, -2)).sum(-2), torch.logsumexp(logs, -1)


def optimal(world, schedule):
    """The denoiser that cannot be bettered in this world, as (z, t, given) → Prediction."""

    def denoise(z: Tensor, t: Tensor, given=None) -> Prediction:
        level = schedule(t)
        x = world.posterior(z, level.alpha, level.sigma)[0]
        eps = torch.where(
            level.sigma == 0, 0.0, (z - level.alpha * x) / torch.where(level.sigma == 0, 1.0, level.sigma)
        )
        return Prediction(x, eps)

    denoise.schedule, denoise.kind = schedule, None
    return denoise


CORRELATED = Gaussian(torch.tensor([0.5, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 0.8]]))
MIXTURE = Mixture(torch.tensor([[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]]), torch.tensor([0.5, 0.3, 0.2]), 0.3)
