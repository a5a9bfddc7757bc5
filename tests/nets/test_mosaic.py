"""The network over variables in a square: what it sees, and what it tells."""

import pytest
import torch

from becalm.nets.mosaic import Mosaic, Near
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


def test_convolutions_see_next_to_them_alone():
    near, h = Near(8, 2), torch.zeros(1, 25, 8)
    h[0, 12] = 1
    moved = (near.gathered(h, None) - near.gathered(torch.zeros_like(h), None)).abs().amax((0, 2)).view(5, 5) > 1e-6
    assert torch.equal(moved, torch.nn.functional.pad(torch.ones(3, 3), (1, 1, 1, 1)) > 0)


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


def test_loops_are_refused():
    with pytest.raises(ValueError, match="run once"):
        Mosaic(7, 15, Shape(32, 2, 1, 2))
