"""The network over variables in a square: what it sees, and what it tells."""

import pytest
import torch

from becalm.nets.mosaic import REACH, RINGS, Mosaic, Near
from becalm.nets.transformer import Shape

AT = torch.linspace(-1, 1, 4)
PLACES = torch.stack(torch.meshgrid(AT, AT, indexing="ij"), -1).view(-1, 2)
"""Sixteen patches, of seven numbers below."""


def network(heard: int = 0) -> Mosaic:
    torch.manual_seed(0)
    made = Mosaic(7 + heard, 15, Shape(32, 2, 1, 1, 2), heard)
    for parameter in made.parameters():  # a fresh one answers zero
        torch.nn.init.normal_(parameter, std=0.1)
    return made.double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 16, 7, generator=generator).double(), torch.rand(2, 16, 1, generator=generator).double()


def test_a_fresh_network_answers_zero_in_the_right_shape():
    z, t = batch()
    said = Mosaic(7, 15, Shape(32, 2, 1, 1, 2))(z.float(), t.float(), PLACES)
    assert said.shape == (1, 2, 16, 15) and not said.any()


def test_all_numbers_are_seen_nearby_and_each_on_its_own_as_far_as_it_reaches():
    near, h = Near(8, 2), torch.zeros(1, 15 * 15, 8)
    torch.nn.init.normal_(near.beyond)
    h[0, 7 * 15 + 7, 2] = 1
    moved = (near.gathered(h, None) - near.gathered(torch.zeros_like(h), None)).abs().view(15, 15, 8) > 1e-7
    at = (torch.arange(15) - 7).abs()
    around, distance = torch.maximum(at[:, None], at), (at[:, None] ** 2 + at**2) ** 0.5
    assert torch.equal(moved[..., 1], around <= 1)
    assert torch.equal(moved[..., 2], (around <= REACH) & (distance < 6.4))


def test_rings_share_out_every_place_by_its_distance_and_tell_its_direction():
    ring, down, across = RINGS.view(-1, 3, 11, 11).unbind(1)
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


def test_what_is_heard_is_told_to_every_patch():
    z, t = batch()
    counts = torch.tensor([[3.0, 0], [3, 1]]).double()[:, None].expand(-1, 16, -1)
    model = network(2)
    one, other = (model(torch.cat([z, heard], -1), t, PLACES) for heard in (counts, counts + torch.tensor([1.0, 0])))
    assert not torch.isclose(one, other).all(-1).any()
    twice = [model(torch.cat([z, k * counts], -1), t, PLACES) for k in (1, 2, 3)]
    assert not torch.allclose(twice[2] - twice[1], twice[1] - twice[0], rtol=0.05), "not as a mere product"
    torch.nn.init.zeros_(model.leave.weight)
    one, other = (model(torch.cat([z, heard], -1), t, PLACES) for heard in (counts, 2 * counts))
    assert not torch.isclose(one, other).all(-1).any(), "nor through the patches alone"


def test_loops_are_refused():
    with pytest.raises(ValueError, match="run once"):
        Mosaic(7, 15, Shape(32, 2, 1, 2))
