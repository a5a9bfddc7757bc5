"""Contrastive divergence: its gradient is that of the likelihood for exact negatives; buffers go on where they stopped."""

import itertools

import pytest
import torch

from becalm.core.contrastive import LangevinChains, cd_negatives, contrastive_loss, persistent_negatives
from becalm.core.densities import Gaussian, GaussianMixture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(parts) -> torch.Tensor:
    return torch.cat([p.flatten() for p in parts])


def gaussian(mean, root):
    """E = ½‖Rᵀ(x − m)‖², whose log Z is −log|det R| + const."""
    return lambda x: ((x - mean) @ root).square().sum(1) / 2


def hidden_states(count: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)), dtype=torch.float64)


def machine(weights, bias):
    """A restricted Boltzmann machine, real x and binary hidden units summed out: ½‖x‖² − Σ softplus(b + xW)."""
    return lambda x: x.square().sum(1) / 2 - torch.nn.functional.softplus(bias + x @ weights).sum(1)


def machine_law(weights, bias) -> tuple[torch.Tensor, GaussianMixture]:
    """log Z and the law, by counting out the hidden states: a mixture of unit Gaussians about Wh."""
    h = hidden_states(len(bias))
    logits = h @ bias + (h @ weights.T).square().sum(1) / 2
    log_z = torch.logsumexp(logits, 0) + len(weights) / 2 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    law = GaussianMixture((h @ weights.T).detach(), logits.softmax(0).detach(), torch.ones(len(h)).double())
    return log_z, law


def agrees(energy, parameters, log_z, law, x) -> bool:
    """Whether the gradient with exact negatives, in 60 batches, is that of mean E + log Z within 4.5 standard errors."""
    exact = flat(torch.autograd.grad(energy(x).mean() + log_z, parameters))
    draws = []
    for seed in range(60):
        loss = contrastive_loss(energy, x, law.sample(len(x), generator(seed))).mean()
        draws.append(flat(torch.autograd.grad(loss, parameters)))
    gradients = torch.stack(draws)
    assert exact.norm() > 0.1, "there is something to agree about"
    return bool(((gradients.mean(0) - exact).abs() < 4.5 * gradients.std(0) / 60**0.5 + 1e-9).all())


def test_the_gradient_of_a_gaussian_energy_is_the_likelihood_s():
    mean = torch.tensor([0.3, -0.5], dtype=torch.float64, requires_grad=True)
    root = torch.tensor([[1.2, 0.0], [0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    law = Gaussian(mean.detach(), (root @ root.T).inverse().detach())
    x = 0.8 * torch.randn(2000, 2, generator=generator(9), dtype=torch.float64) + 0.5
    assert agrees(gaussian(mean, root), [mean, root], -torch.logdet(root), law, x)


def test_the_gradient_of_a_machine_is_the_likelihood_s_and_its_log_z_is_right():
    weights = torch.randn(2, 6, generator=generator(1), dtype=torch.float64).requires_grad_()
    bias = torch.randn(6, generator=generator(2), dtype=torch.float64).requires_grad_()
    log_z, law = machine_law(weights, bias)
    grid = torch.linspace(-14, 14, 281, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    energy = machine(weights, bias)
    assert abs(torch.logsumexp(-energy(places), 0) + 2 * torch.log(grid[1] - grid[0]) - log_z) < 1e-8
    torch.testing.assert_close(law.log_prob(places[:99]), (-energy(places[:99]) - log_z), rtol=1e-8, atol=1e-8)
    x = torch.randn(2000, 2, generator=generator(3), dtype=torch.float64)
    assert agrees(energy, [weights, bias], log_z, law, x)


def test_short_chains_from_the_data_stay_in_their_law():
    """CD-k of the true energy has no gradient, but for the step's own error: E[E⁻] is 1/(1 − h/2) of E[E] in the long run."""
    slope = torch.tensor(1.0, requires_grad=True)

    def energy(x):
        return slope * x.square().sum(1) / 2

    x = torch.randn(50_000, 1, generator=generator())
    negatives = cd_negatives(energy, x, LangevinChains(40, 0.05), generator(1))
    assert not negatives.requires_grad
    loss = contrastive_loss(energy, x, negatives)
    assert loss.shape == (50_000,)
    loss.mean().backward()
    assert slope.grad is not None
    assert abs(slope.grad - (1 - 1 / (1 - 0.025)) / 2) < 4 * loss.std().detach() / 50_000**0.5
    wide = cd_negatives(energy, 2 * x, LangevinChains(3, 0.05), generator(1))
    assert abs(wide.var() / (4 * 0.95**6 + 0.1 * (1 + 0.95**2 + 0.95**4)) - 1) < 0.02


def test_the_penalty_holds_the_energies():
    x, negatives = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [0.0]])
    loss = contrastive_loss(lambda x: x, x, negatives, penalty=0.1)
    torch.testing.assert_close(loss, torch.tensor([1 - 3 + 0.1 * (1 + 9), 2 - 0 + 0.1 * (4 + 0)]))


def test_the_contrast_has_the_gradient_of_its_value():
    parameters = [torch.randn(2, k, generator=generator(k), dtype=torch.float64).requires_grad_() for k in (2, 3)]
    x, negatives = (torch.randn(3, 2, generator=generator(s), dtype=torch.float64) for s in (5, 6))

    def loss(a, b):
        return contrastive_loss(lambda x: torch.tanh(x @ a @ b).sum(1), x, negatives, 0.1)

    assert torch.autograd.gradcheck(loss, parameters, atol=1e-7)


def test_a_buffer_s_chains_go_on_in_their_places():
    buffer = torch.arange(200.0)[:, None] * torch.ones(1, 3)
    before = buffer.clone()

    def start(count, generator):
        return torch.full((count, 3), -1000.0)

    still = LangevinChains(1, 1e-12)
    found = persistent_negatives(lambda x: x.sum(1), buffer, 50, start, still, generator())
    assert torch.equal(buffer, before)
    assert len(found.indices.unique()) == 50
    assert torch.equal(found.buffer[found.indices], found.z)
    others = torch.ones(200, dtype=torch.bool).index_fill(0, found.indices, False)
    assert torch.equal(found.buffer[others], before[others])
    fresh = found.z[:, 0] < -900
    torch.testing.assert_close(found.z[~fresh], before[found.indices][~fresh], atol=1e-4, rtol=0)
    share = [
        (persistent_negatives(lambda x: x.sum(1), buffer, 200, start, still, generator(s)).z[:, 0] < -900)
        .float()
        .mean()
        for s in range(40)
    ]
    assert abs(torch.stack(share).mean() - 0.05) < 4 * (0.05 * 0.95 / 8000) ** 0.5
    with pytest.raises(ValueError, match="201 chains of a buffer of 200"):
        persistent_negatives(lambda x: x.sum(1), buffer, 201, start, still)


def test_persistent_chains_learn_a_gaussian():
    mean = torch.tensor([0.0], requires_grad=True)
    log_root = torch.tensor([[0.0]], requires_grad=True)
    data = 1.0 + 0.5 * torch.randn(4000, 1, generator=generator())
    buffer = torch.randn(1000, 1, generator=generator(1))
    optimiser = torch.optim.Adam([mean, log_root], lr=0.05)
    kept = []

    def noise(count, generator):
        return torch.randn(count, 1, generator=generator)

    for k in range(150):

        def energy(x):
            return ((x - mean) * log_root.exp()).square().sum(1) / 2

        rows = torch.randint(0, 4000, (500,), generator=generator(k))
        found = persistent_negatives(
            energy, buffer, 500, noise, LangevinChains(5, 0.02), generator(k), keep_probability=1.0
        )
        buffer = found.buffer
        optimiser.zero_grad()
        contrastive_loss(energy, data[rows], found.z).mean().backward()
        optimiser.step()
        kept.append(torch.stack([mean.detach()[0], (-log_root.detach()).exp()[0, 0]]))
    learned = torch.stack(kept[75:]).mean(0)
    torch.testing.assert_close(learned, torch.tensor([1.0, 0.5]), atol=0.04, rtol=0)


def test_an_exploding_chain_is_told():
    with pytest.raises(ValueError, match="step size 3; try"):
        cd_negatives(lambda x: x.square().sum(1), torch.ones(4, 2), LangevinChains(50, 3.0))
