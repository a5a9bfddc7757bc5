"""Operations are counted, those of derivatives within modules among them."""

import torch
from torch import nn

from becalm.training.flops import flop_counter


class Slope(nn.Module):
    """The gradient of a linear layer's square."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return torch.func.grad(lambda place: self.layer(place).square().sum())(x)


def test_a_gradient_within_a_module_is_counted():
    model, x = Slope(), torch.randn(16, 8)
    with flop_counter() as counter:
        model(x).square().sum().backward()
    product = 2 * 16 * 8 * 8
    assert counter.get_total_flops() >= 4 * product
    with flop_counter() as counter:
        model.layer(x)
    assert counter.get_total_flops() == product
