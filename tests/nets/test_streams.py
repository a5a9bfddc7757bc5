"""Two streams: cross-attention as it is defined, and a network that begins at zero."""

import torch

from becalm.nets.streams import Crossing, TwoStream


def test_crossing_is_attention():
    torch.manual_seed(0)
    made, h, source = Crossing(8, 6, 2), torch.randn(1, 3, 8), torch.randn(1, 5, 6)
    q = made.ask(made.norm(h))[0].reshape(3, 2, 3)
    k, v = made.tell(made.norm_source(source))[0].reshape(5, 2, 2, 3).unbind(1)
    heads = [torch.softmax(q[:, i] @ k[:, i].T / 3**0.5, 1) @ v[:, i] for i in range(2)]
    torch.testing.assert_close(made(h, source)[0], h[0] + made.gather(torch.cat(heads, 1)))


def test_a_fresh_network_says_nothing_and_hears_everything():
    torch.manual_seed(0)
    made = TwoStream(4, 2, 3, (8, 8, 2, 1))
    z, t, c = torch.randn(2, 9, 4), torch.rand(2, 1, 1), torch.randn(2, 3)
    assert not made(z, t, c).any()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    said = made(z, t, c)
    for other in ((z + 1, t, c), (z, t / 2, c), (z, t, c + 1)):
        assert not torch.allclose(said, made(*other), atol=1e-3)
    far = z.clone()
    far[:, 0] += 1
    assert not torch.allclose(said[:, 5], made(far, t, c)[:, 5], atol=1e-5), (
        "points hear of each other through the tokens"
    )
