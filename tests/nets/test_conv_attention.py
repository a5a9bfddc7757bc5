"""The network over variables in a square: what it sees, and what it tells."""

import pytest
import torch

from becalm.nets.conv_attention import ConvAttention, ConvBlock, radial_kernels
from becalm.nets.transformer import Shape

AT = torch.linspace(-1, 1, 4)
PLACES = torch.stack(torch.meshgrid(AT, AT, indexing="ij"), -1).view(-1, 2)
"""Sixteen patches, of seven numbers below."""


RADIUS = 5
KERNELS = radial_kernels(RADIUS, 0.8)


def network(n_context: int = 0) -> ConvAttention:
    torch.manual_seed(0)
    made = ConvAttention(7 + n_context, 15, Shape(32, 2, 1, 1, 2), n_context)
    for parameter in made.parameters():  # a fresh one answers zero
        torch.nn.init.normal_(parameter, std=0.1)
    return made.double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 16, 7, generator=generator).double(), torch.rand(2, 16, 1, generator=generator).double()


def test_a_fresh_network_answers_zero_in_the_right_shape():
    z, t = batch()
    said = ConvAttention(7, 15, Shape(32, 2, 1, 1, 2))(z.float(), t.float(), PLACES)
    assert said.shape == (1, 2, 16, 15) and not said.any()


def test_channels_mix_nearby_and_each_alone_reaches_the_radius():
    near, h = ConvBlock(8, 2, KERNELS), torch.zeros(1, 15 * 15, 8)
    torch.nn.init.normal_(near.radial_weights)
    h[0, 7 * 15 + 7, 2] = 1
    moved = (near.mix_variables(h, None) - near.mix_variables(torch.zeros_like(h), None)).abs().view(15, 15, 8) > 1e-7
    at = (torch.arange(15) - 7).abs()
    around, distance = torch.maximum(at[:, None], at), (at[:, None] ** 2 + at**2) ** 0.5
    assert torch.equal(moved[..., 1], around <= 1)
    assert torch.equal(moved[..., 2], (around <= RADIUS) & (distance < 6.4))


def test_kernels_interpolate_distance_and_direction():
    ring, down, across = KERNELS.view(-1, 3, 11, 11).unbind(1)
    at = torch.arange(11.0) - 5
    distance = (at[:, None] ** 2 + at**2) ** 0.5
    inside = distance <= 5.6
    torch.testing.assert_close(ring.sum(0)[inside], torch.ones(int(inside.sum())))
    middle = 0.8 * torch.arange(len(ring))[:, None, None]
    torch.testing.assert_close((ring * middle).sum(0)[inside], distance[inside])
    torch.testing.assert_close((down.sum(0) * distance)[inside], at[:, None].expand(11, 11)[inside])
    torch.testing.assert_close((across.sum(0) * distance)[inside], at.expand(11, 11)[inside])


def test_every_patch_sees_every_other_its_level_and_its_place():
    z, t = batch()
    model, said = network(), network()(z, t, PLACES)
    far, level = z.clone(), t.clone()
    far[:, 15] += 1
    level[:, 15] /= 2
    for other in (model(far, t, PLACES), model(z, level, PLACES), model(z, t, PLACES.flip(0))):
        assert not torch.isclose(other[:, :, 0], said[:, :, 0]).all(-1).any()
    torch.testing.assert_close(model(z[1:], t[1:], PLACES), said[:, 1:])


def test_the_context_reaches_every_patch():
    z, t = batch()
    counts = torch.tensor([[3.0, 0], [3, 1]]).double()[:, None].expand(-1, 16, -1)
    model = network(2)
    one, other = (
        model(torch.cat([z, context], -1), t, PLACES) for context in (counts, counts + torch.tensor([1.0, 0]))
    )
    assert not torch.isclose(one, other).all(-1).any()
    twice = [model(torch.cat([z, k * counts], -1), t, PLACES) for k in (1, 2, 3)]
    assert not torch.allclose(twice[2] - twice[1], twice[1] - twice[0], rtol=0.05), "not as a mere product"
    torch.nn.init.zeros_(model.leave.weight)
    one, other = (model(torch.cat([z, context], -1), t, PLACES) for context in (counts, 2 * counts))
    assert not torch.isclose(one, other).all(-1).any(), "nor through the patches alone"


def test_loops_are_refused():
    with pytest.raises(ValueError, match="run once"):
        ConvAttention(7, 15, Shape(32, 2, 1, 2))
