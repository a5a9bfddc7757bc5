"""What every network does: no datum's output depends on another one in the batch, and every weight gets a gradient."""

import pytest
import torch

from becalm.nets.conv import ConvNet
from becalm.nets.mlp import Mlp
from becalm.nets.transformer import Shape, Transformer
from becalm.nets.unet import FlatUNet, Perceptron, UNet

PLACES = torch.tensor([[i // 4, i % 4] for i in range(16)])


def variables(batch: int):
    """Two inputs of networks over variables: z [batch, 16, 3] and a level for each variable."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 16, 3, generator=generator), torch.rand(batch, 16, 1, generator=generator)


def images(batch: int):
    """Two inputs of networks over images: [batch, 8, 8, 3] and a level for each image."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 8, 8, 3, generator=generator), torch.rand(batch, generator=generator)


NETWORKS = {
    "mlp": (lambda: Mlp(3, 5, width=16), variables),
    "convolutions": (lambda: ConvNet(3, 5, side=4, width=8, depth=2), variables),
    "transformer": (lambda: Transformer(3, 5, (4, 4), shape=Shape(32, 4, 2)), lambda n: (*variables(n), PLACES)),
    "flat": (lambda: FlatUNet((8, 8), 3, 5, width=8, depth=2), images),
    "unet": (lambda: UNet((8, 8), 3, 5, widths=[8, 16], depth=1), images),
    "perceptron": (lambda: Perceptron((8, 8), 3, 5, width=32, depth=2), images),
}
"""Every network joins here: how it is made small, and inputs for a batch."""


def perturbed(make):
    """A network in which no weight is zero."""
    torch.manual_seed(0)
    network, generator = make(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_datum_does_not_depend_on_the_rest_of_its_batch(name):
    make, inputs = NETWORKS[name]
    network, (x, level, *rest) = perturbed(make).eval(), inputs(3)
    together, alone = network(x, level, *rest), network(x[1:2], level[1:2], *rest)
    torch.testing.assert_close(together.select(-x.ndim, 1), alone.select(-x.ndim, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_gets_a_gradient(name):
    make, inputs = NETWORKS[name]
    network = perturbed(make)
    network(*inputs(2)).square().mean().backward()
    unused = [n for n, w in network.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]
    assert unused == []
