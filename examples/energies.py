"""EBM: learn an energy of eight Gaussians by denoising score matching, and sample it by Langevin dynamics."""

import torch
from torch import nn

from becalm import densities, langevin, scores


def main(steps: int = 1500, samples: int = 1000) -> None:
    """Train, sample, and print how near the score and the samples are to the truth."""
    generator = torch.Generator().manual_seed(0)
    truth, sigma = densities.eight_gaussians(), 0.1
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1))

    def energy(x):
        return network(x) + x.square().sum(-1, keepdim=True) / 8  # the square keeps e^{−E} integrable

    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(steps):
        x = truth.sample(512, generator).float()
        eps = torch.randn(x.shape, generator=generator)
        loss = scores.denoising(scores.score_of_energy(energy), x, eps, sigma).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    noisy = truth.convolve(sigma)  # the density of x + σε, whose score the loss learns
    x = noisy.sample(2000, generator).float()
    found, true = scores.detached_score(energy)(x), noisy.score(x)
    cosine = (found * true).sum() / (found.norm() * true.norm())
    print(f"cosine of the learned and the true score: {cosine:.3f}")

    z = 2 * torch.randn(samples, 2, generator=generator)
    for state in langevin.ula(scores.detached_score(energy), z, step_size=0.005, steps=300, generator=generator):
        z = state.z
    print(f"mean distance of samples from 0: {z.norm(dim=1).mean():.2f} (true: {x.norm(dim=1).mean():.2f})")


if __name__ == "__main__":
    main()
