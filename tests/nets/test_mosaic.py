"""The network over an image in patches: what it cuts, what it sees, and what it tells."""

import pytest
import torch

from becalm.images.grid import cut
from becalm.nets.mosaic import Mosaic, Near, gathered, quarters, scattered, spread, whole
from becalm.nets.transformer import Shape

AT = torch.linspace(-1, 1, 4)
PLACES = torch.stack(torch.meshgrid(AT, AT, indexing="ij"), -1).view(-1, 2)
"""Sixteen patches, of 4 × 4 pixels of three colours below."""


def network() -> Mosaic:
    torch.manual_seed(0)
    made = Mosaic(48, 97, 3, (16, 1), Shape(32, 2, 1, 1, 2))
    for parameter in made.parameters():  # a fresh one answers zero
        torch.nn.init.normal_(parameter, std=0.1)
    return made.double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 16, 48, generator=generator).double(), torch.rand(2, 16, 1, generator=generator).double()


def test_quarters_are_smaller_patches_of_the_same_image_and_come_back():
    images = torch.randn(2, 16, 16, 3)
    z = cut(images, 4)
    assert torch.equal(quarters(z, 4, 3), cut(images, 2))
    assert torch.equal(whole(quarters(z, 4, 3), 4, 3), z)
    assert torch.equal(gathered(scattered(z)), z)


def test_what_is_known_of_a_patch_is_known_at_its_quarters():
    number = torch.arange(16.0)[None, :, None]
    assert torch.equal(gathered(spread(number)), number.expand(1, 16, 4))


def test_a_fresh_network_answers_zero_in_the_right_shape():
    z, t = batch()
    said = Mosaic(48, 97, 3, (16, 1), Shape(32, 2, 1, 1, 2))(z.float(), t.float(), PLACES)
    assert said.shape == (1, 2, 16, 97) and not said.any()


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


def test_a_plan_is_heard_and_told_by_tokens():
    torch.manual_seed(0)
    made = Mosaic(55, 103, 3, (16, 1), Shape(32, 2, 1, 1, 2), plan=3, heard=4).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    z, t = batch()
    z = torch.cat([z, torch.ones(2, 16, 7)], -1)
    other, third = z.clone(), z.clone()
    other[:, 0, 48:51], third[:, 0, 51:] = 0, 0
    one, two, three = (made(x, t, PLACES) for x in (z, other, third))
    assert one.shape == (1, 2, 16, 103)
    assert not torch.isclose(one[:, :, 0], two[:, :, 0]).all(-1).any()
    assert not torch.isclose(one[:, :, 0], three[:, :, 0]).all(-1).any()
    seen = []
    made.rest.register_forward_hook(lambda module, inputs, output: seen.append(output))
    said = made(z, t, PLACES)[0]
    parts = torch.cat([said[..., 48:51], said[..., 99:102], said[..., 102:]], -1)
    assert torch.equal(parts, seen[0]), "after the pixels of the value, and after those of the spread"


@pytest.mark.parametrize("bad", [{"channels": 27}, {"channels": 50}, {"shape": Shape(32, 2, 1, 2)}])
def test_only_squares_of_an_even_side_run_once(bad):
    with pytest.raises(ValueError, match="patch of an even side"):
        Mosaic(**{"channels": 48, "outputs": 97, "colours": 3, "fine": (16, 1), "shape": Shape(32, 2, 1)} | bad)
