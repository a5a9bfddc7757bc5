"""The transformer over variables: what it may and may not depend on."""

import pytest
import torch

from becalm.nets.embed import sinusoids
from becalm.nets.transformer import AttentionBlock, Shape, Transformer, attention

SIZES = (2, 3)
PLACES = torch.tensor([[i // 3, i % 3] for i in range(6)])


def network(loops: int = 1, axes: int = 0, places: bool = True) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(5, 4, SIZES if places and not axes else (), axes, Shape(32, 4, 2, loops))
    for parameter in made.parameters():  # a fresh one answers zero
        torch.nn.init.normal_(parameter, std=0.2)
    return made.double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 6, 5, generator=generator).double(), torch.rand(3, 6, 1, generator=generator).double()


def test_a_fresh_network_answers_zero():
    z, t = batch()
    assert not Transformer(5, 4, SIZES, shape=Shape(32))(z.float(), t.float(), PLACES).any()


@pytest.mark.parametrize("axes", [0, 2])
def test_variables_have_no_order_but_their_places(axes):
    z, t = batch()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    model, places = network(axes=axes), PLACES.double() if axes else PLACES
    plain, moved = model(z, t, places), model(z[:, order], t[:, order], places[order])
    torch.testing.assert_close(moved, plain[:, :, order])
    assert not torch.allclose(model(z[:, order], t[:, order], places), plain[:, :, order]), "places must tell"


def test_every_variable_sees_every_other_and_its_level():
    z, t = batch()
    model, far = network(), z.clone()
    far[:, 5] += 1
    assert not torch.allclose(model(far, t, PLACES)[:, :, 0], model(z, t, PLACES)[:, :, 0])
    t[:, 5] /= 2
    assert not torch.allclose(model(z, t, PLACES)[:, :, 0], network()(z, batch()[1], PLACES)[:, :, 0])


def test_data_do_not_see_each_other():
    z, t = batch()
    torch.testing.assert_close(network()(z[1:2], t[1:2], PLACES), network()(z, t, PLACES)[:, 1:2])


def test_loops_answer_each_and_share_their_weights():
    z, t = batch()
    once, thrice = network(1), network(3)
    assert sum(p.numel() for p in once.parameters()) == sum(p.numel() for p in thrice.parameters())
    answers = thrice(z, t, PLACES)
    assert answers.shape == (3, 3, 6, 4)
    torch.testing.assert_close(answers[:1], once(z, t, PLACES))
    assert not torch.allclose(answers[1], answers[2])


def test_exactly_given_and_exactly_unknown_differ_from_next_to_it():
    level = network().level
    ends, near = torch.tensor([[[0.0], [1.0]]]).double(), torch.tensor([[[1e-6], [1 - 1e-6]]]).double()
    assert (level(ends) - level(near)).abs().amin(0).max() > 1e-2


def test_waves_are_the_named_functions():
    x = torch.tensor([[0.25], [0.6]])
    found = sinusoids(x, 3, 8.0)
    for i, frequency in enumerate((0.5, 2.0, 8.0)):
        torch.testing.assert_close(found[:, i], torch.cos(2 * torch.pi * frequency * x[:, 0]))
        torch.testing.assert_close(found[:, 3 + i], torch.sin(2 * torch.pi * frequency * x[:, 0]))


def test_places_are_either_tables_or_axes_or_nothing():
    with pytest.raises(ValueError, match="either"):
        Transformer(5, 4, SIZES, 2)
    z, t = batch()
    model, order = network(places=False), torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(model(z[:, order], t[:, order]), model(z, t)[:, :, order])


def test_a_large_bias_attends_to_the_same_place_alone():
    torch.manual_seed(0)
    places = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    same_place = (places[:, None] == places).movedim(-1, 0).float()
    block = AttentionBlock(16, 4, 2, 2)
    with torch.no_grad():
        block.attention_bias.copy_(torch.tensor([[60.0, 0.0]]).expand(4, 2))
    h = torch.randn(3, 4, 16)
    changed = h.clone()
    changed[:, 2:] += 1
    moved = (block.mix_variables(changed, same_place) - block.mix_variables(h, same_place)).abs().amax((0, 2))
    assert (moved[:2] < 1e-5).all()
    assert (moved[2:] > 1e-2).all()


@pytest.mark.parametrize("bias", [None, torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(2))])
def test_attention_in_training_is_attention_in_inference(bias):
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        used = attention(q, k, v, bias)
    torch.testing.assert_close(attention(q, k, v, bias), used)


def test_at_first_each_table_has_heads_of_its_own():
    attention_bias = AttentionBlock(16, 8, 2, 3).attention_bias
    assert (attention_bias.count_nonzero(0) == 2).all()
    assert (attention_bias.count_nonzero(1) <= 1).all()


def test_a_pixel_depends_on_itself_its_token_and_the_mean_of_its_patch():
    torch.manual_seed(0)
    made = Transformer(7, 7, SIZES, 0, Shape(32, 4, 2), (3, 2))
    z, t = torch.randn(3, 6, 7), torch.rand(3, 6, 1)
    assert not made(z, t, PLACES).any()
    for parameter in made.pixel_head.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter, std=0.2)
    said = made(z, t, PLACES)[0]
    assert said[..., :6].all() and not said[..., 6:].any()
    head, token = made.pixel_head, torch.randn(3, 6, 32)
    changed = z.clone()
    changed[..., 2:4] += 1
    one, other = head(token, z), head(token, changed)  # type: ignore[misc]
    assert not torch.isclose(one, other).any(), "the mean of all grains has changed"
    for share in head.mix_mean:  # type: ignore[union-attr]
        torch.nn.init.zeros_(share.weight)
    one, other = head(token, z), head(token, changed)  # type: ignore[misc]
    assert torch.equal(one[..., [0, 1, 4, 5]], other[..., [0, 1, 4, 5]])
    assert not torch.isclose(one[..., 2:4], other[..., 2:4]).any()
