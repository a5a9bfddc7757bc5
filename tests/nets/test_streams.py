"""Two streams: cross-attention as it is defined, and a network that begins at zero."""

import torch

from becalm.nets.streams import CrossAttention, TwoStream


def test_cross_attention_is_as_defined():
    torch.manual_seed(0)
    made, h, source = CrossAttention(8, 6, 2), torch.randn(1, 3, 8), torch.randn(1, 5, 6)
    q = made.query(made.norm(h))[0].reshape(3, 2, 3)
    k, v = made.key_value(made.norm_source(source))[0].reshape(5, 2, 2, 3).unbind(1)
    heads = [torch.softmax(q[:, i] @ k[:, i].T / 3**0.5, 1) @ v[:, i] for i in range(2)]
    torch.testing.assert_close(made(h, source)[0], h[0] + made.output(torch.cat(heads, 1)))


def test_a_fresh_network_is_zero_and_depends_on_every_input():
    torch.manual_seed(0)
    made = TwoStream(4, 2, 3, (8, 8, 2, 1))
    z, t, c = torch.randn(2, 9, 4), torch.rand(2, 1, 1), torch.randn(2, 3)
    assert not made(z, t, c).any()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    output = made(z, t, c)
    for other in ((z + 1, t, c), (z, t / 2, c), (z, t, c + 1)):
        assert not torch.allclose(output, made(*other), atol=1e-3)
    far = z.clone()
    far[:, 0] += 1
    assert not torch.allclose(output[:, 5], made(far, t, c)[:, 5], atol=1e-5), (
        "points exchange information through the tokens"
    )
