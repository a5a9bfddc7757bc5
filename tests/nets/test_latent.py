"""Sets of points and latent points: order does not matter, and a fresh network copies what is there."""

import pytest
import torch

from becalm.nets.latent import (
    Encoder,
    Gaussian,
    GlobalDenoiser,
    LatentDenoiser,
    assigned_moments,
    assignment_weights,
    farthest_points,
    gather_rows,
)
from becalm.nets.mixture import Decoder, symmetric_matrix


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(batch: int = 2, points: int = 96) -> torch.Tensor:
    return torch.rand(batch, points, 3, generator=gen()) * 2 - 1


def randomized(module: torch.nn.Module) -> torch.nn.Module:
    """The module with all its weights drawn anew, zeros too."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module


def test_farthest_points_are_those_of_the_slow_way():
    points = cloud(1)[0]
    chosen = [int((points - points.mean(0)).norm(dim=1).argmax())]
    while len(chosen) < 10:
        chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
    assert farthest_points(points[None], 10)[0].tolist() == chosen
    with pytest.raises(ValueError, match="97 of 96"):
        farthest_points(points[None], 97)


def test_moments_are_those_of_the_points_that_belong():
    points, reach = cloud(1, 400), 0.3
    anchors = gather_rows(points, farthest_points(points, 6))
    mean, form = assigned_moments(anchors, points, reach)
    weight = assignment_weights(anchors, points, 0.3 * reach)[0, 2]
    weight = weight / weight.sum()
    middle = (weight[:, None] * points[0]).sum(0)
    covariance = (weight[:, None] * (points[0] - middle)).T @ (points[0] - middle) / reach**2
    torch.testing.assert_close(mean[0, 2], middle)
    torch.testing.assert_close(
        torch.matrix_exp(-2 * symmetric_matrix(form, 99.0))[0, 2], covariance, rtol=1e-3, atol=1e-3
    )


def test_symmetric_matrices_have_a_finite_gradient_and_a_bound():
    six = torch.zeros(1, 6, requires_grad=True)
    symmetric_matrix(six).sum().backward()
    assert torch.isfinite(six.grad).all()
    assert symmetric_matrix(100 * torch.randn(50, 6, generator=gen())).flatten(1).norm(dim=1).max() <= 4.5001


def test_the_kl_is_that_of_torch():
    one = Gaussian(torch.randn(5, generator=gen()), torch.randn(5, generator=gen(1)))
    other = torch.distributions.Normal(torch.zeros(5), torch.ones(5))
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(one.mean, one.log_sigma.exp()), other)
    torch.testing.assert_close(one.kl(), expected)


def test_an_encoder_does_not_see_the_order_of_points():
    encoder, points = randomized(Encoder(32, 4, 2, 22, 8, 0.2)).eval(), cloud()
    anchors, z = encoder.encode_global(points, 12)
    again, z_again = encoder.encode_global(points[:, torch.randperm(96, generator=gen())], 12)
    torch.testing.assert_close(z.mean, z_again.mean, rtol=1e-4, atol=1e-4)
    one, other = encoder.encode_points(anchors, z.mean), encoder.encode_points(again, z.mean)
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_fresh_encoder_copies_what_is_there(seed):
    torch.manual_seed(seed)
    encoder, points = Encoder(32, 4, 2, 22, 8, 0.2), cloud()
    anchors, z = encoder.encode_global(points, 12)
    assert not z.mean.any()
    assert torch.allclose(z.log_sigma, torch.tensor(-3.0))
    h = encoder.encode_points(anchors, 100 * torch.randn(2, 22, generator=gen(seed)))
    assert torch.equal(h.mean[..., :3], anchors.mean)
    assert torch.equal(h.mean[..., 3:9], anchors.log_whitening)
    assert (h.log_sigma[..., :3].exp() < 0.15 * 0.2).all()
    assert torch.isfinite(h.mean).all()


def test_posterior_deviations_are_bounded():
    encoder = randomized(Encoder(32, 4, 2, 22, 8, 0.2))
    torch.nn.init.normal_(encoder.point_head.bias, std=1000.0)
    torch.nn.init.normal_(encoder.global_head.bias, std=1000.0)
    anchors, z = encoder.encode_global(cloud(), 12)
    h = encoder.encode_points(anchors, z.mean)
    for log_sigma in (z.log_sigma, h.log_sigma):
        assert log_sigma.min() >= -10
        assert log_sigma.max() <= 2


def test_a_decoder_treats_latent_points_alike():
    decoder = randomized(Decoder(32, 4, 2, 22, 8, 4)).eval()
    z, h = torch.randn(2, 22, generator=gen()), torch.randn(2, 10, 11, generator=gen(1))
    order = torch.randperm(10, generator=gen(2))
    one, other = decoder(z, h), decoder(z, h[:, order])
    for before, after in zip([*one.mixture, *one[1:]], [*other.mixture, *other[1:]], strict=True):
        torch.testing.assert_close(before[:, order], after, rtol=1e-4, atol=1e-4)


def test_a_denoiser_of_latents_treats_latent_points_alike_but_not_the_parts_of_the_global_one():
    denoiser = randomized(LatentDenoiser(2, 11, 3, (32, 4, 2))).eval()
    z, t, label = torch.randn(2, 12, 11, generator=gen()), torch.rand(2, 12, 1, generator=gen(1)), torch.tensor([0, 3])
    order = torch.cat([torch.arange(2), 2 + torch.randperm(10, generator=gen(2))])
    output = denoiser(z, t, label)
    torch.testing.assert_close(output[:, order], denoiser(z[:, order], t[:, order], label), rtol=1e-4, atol=1e-4)
    swapped = torch.cat([torch.tensor([1, 0]), torch.arange(2, 12)])
    assert not torch.allclose(output[:, swapped], denoiser(z[:, swapped], t[:, swapped], label), atol=1e-3)


@pytest.mark.parametrize("made", [lambda: LatentDenoiser(1, 11, 3, (32, 4, 1)), lambda: GlobalDenoiser(11, 3, 32, 1)])
def test_the_output_depends_on_level_and_class(made):
    denoiser, z = randomized(made()), torch.randn(1, 1, 11, generator=gen()).repeat(3, 1, 1)
    if isinstance(denoiser, LatentDenoiser):
        z = torch.randn(1, 5, 11, generator=gen()).repeat(3, 1, 1)
    t = torch.tensor([0.2, 0.2, 0.7])[:, None, None].expand(3, z.shape[1], 1)
    one, classed, noisier = denoiser(z, t, torch.tensor([1, 2, 1]))
    assert not torch.allclose(one, classed, atol=1e-4)
    assert not torch.allclose(one, noisier, atol=1e-4)
