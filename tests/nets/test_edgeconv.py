import numpy as np
import pytest
import torch

from becalm.nets.edgeconv import EdgeConv, FeatureNetwork, ScoreNetwork, freeze, frozen_scores, nearest_features


def randomised(module, seed=0):
    """Every parameter and running statistic drawn anew, so that nothing is zero or one by construction."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator) * (
                0.3 if value.ndim == 1 else value.shape[-1] ** -0.5
            )
            value.copy_(noise.abs() + 0.5 if "var" in name else noise)
    return module.eval()


@pytest.mark.parametrize(("n", "k"), [(5, 16), (60, 16), (60, 1)])
def test_feature_neighbours_are_those_of_direct_differences(n, k):
    f = torch.randn(3, n, 24, generator=torch.Generator().manual_seed(n)) + 100
    distance = (f[:, :, None] - f[:, None]).double().norm(dim=-1)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    want = distance.topk(min(k, n - 1), largest=False).values
    found = nearest_features(f, k)
    torch.testing.assert_close(distance.gather(2, found), want, rtol=1e-5, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_features(f, k), found)


def test_edge_convolution_is_its_plain_formula():
    net = randomised(EdgeConv(6, 3, 4))
    f = torch.randn(1, 20, 6, generator=torch.Generator().manual_seed(1))
    own, rows = net.own.weight.chunk(3), []
    bias = net.own.bias.chunk(3)
    for i, edges in enumerate(nearest_features(f, 4)[0]):
        ends = []
        for j in edges:
            a, b = f[0, i], f[0, j]
            y1 = torch.relu(own[0] @ a + bias[0] + net.other.weight @ b)
            y2 = torch.relu(net.middle.weight @ y1 + own[1] @ a + bias[1])
            y3 = net.last.weight @ torch.cat([y2, y1]) + own[2] @ a + bias[2]
            ends.append(torch.cat([y3, y2, y1, a]))
        rows.append(torch.stack(ends).amax(0))
    torch.testing.assert_close(net(f)[0], torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_features_move_with_their_points():
    net, generator = randomised(FeatureNetwork()), torch.Generator().manual_seed(2)
    x, order = torch.randn(2, 100, 3, generator=generator), torch.randperm(100, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(net(x[:, order]), net(x)[:, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("anchors", "k", "chunk"), [(1, 1, 2048), (70, 4, 64), (9, 5, 1)])
def test_frozen_network_is_the_plain_one(anchors, k, chunk):
    net, generator = randomised(ScoreNetwork(10, 16, 3)), torch.Generator().manual_seed(3)
    offset = torch.randn(anchors, k, 3, generator=generator)
    features = torch.randn(anchors, 10, generator=generator)
    with torch.no_grad():
        want = net(offset, features)
        torch.testing.assert_close(
            frozen_scores(freeze(net, torch.float32), offset, features, chunk), want, rtol=1e-4, atol=1e-4
        )
        rough = frozen_scores(freeze(net, torch.bfloat16), offset, features, chunk)
    assert (rough - want).abs().mean() < 0.05 * want.abs().mean()


def test_authors_numbers(shared):
    from becalm.weights.importer import read_official

    model = read_official(shared("weights/score_denoise_official.safetensors"))
    given = {name: torch.as_tensor(value) for name, value in np.load(shared("vectors/spd.npz")).items()}
    with torch.no_grad():
        features = model.features(given["noisy"][None])[0]
    assert ((features - given["features"]).abs().amax(1) <= 1e-5).float().mean() >= 0.97
    distance = (given["noisy"][:, None] - given["noisy"]).norm(dim=-1)
    near = given["noisy"][distance.topk(4, largest=False).indices]
    with torch.no_grad():
        found = model.score(near - given["noisy"][:, None], given["features"])
    assert ((found - given["score_knn4"]).abs().amax((1, 2)) <= 1e-5).float().mean() >= 0.97
