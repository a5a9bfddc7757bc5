"""The blending network: turning, moving and scaling the cloud does the same to the answer; chunks change nothing."""

import pytest
import torch

from becalm.nets.blend import N_EDGE_VECTORS, Blend, Graph, diagonal_blocks


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = Blend(features=5, candidates=3, width=16, layers=2, channels=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.double()


@pytest.fixture
def cloud():
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    edges = torch.cdist(points, points).argsort(1)[:, 1:9]
    normals = torch.nn.functional.normalize(torch.randn(40, 3, 3, generator=generator, dtype=torch.float64), dim=-1)
    offsets = points[edges] - points[:, None]
    graph = Graph(offsets, torch.rand(40, generator=generator, dtype=torch.float64) + 0.5, edges, normals)
    features = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    candidates = torch.randn(40, 3, 3, generator=generator, dtype=torch.float64)
    return graph, features, candidates, torch.full((40,), torch.nan, dtype=torch.float64)


def test_turning_and_scaling_the_cloud_does_the_same_to_the_displacements(network, cloud):
    graph, features, candidates, sigma = cloud
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    moved = Graph(3 * graph.offsets @ turn, 3 * graph.scale, graph.edges, graph.normals @ turn)
    here, there = network(*cloud), network(moved, features, candidates @ turn, sigma)
    torch.testing.assert_close(3 * here.displacement @ turn, there.displacement, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(here.log_var, there.log_var, rtol=1e-9, atol=1e-9)
    assert here.displacement.abs().max() > 0.1


def test_the_sign_of_a_normal_carries_no_meaning(network, cloud):
    graph, *rest = cloud
    flipped = graph._replace(normals=graph.normals * torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0)[:, None, None])
    torch.testing.assert_close(
        network(graph, *rest).displacement, network(flipped, *rest).displacement, rtol=1e-9, atol=1e-9
    )


def test_numbering_the_points_otherwise_only_renumbers_the_answer(network, cloud):
    graph, features, candidates, sigma = cloud
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    place = order.argsort()
    renumbered = Graph(graph.offsets[order], graph.scale[order], place[graph.edges[order]], graph.normals[order])
    here, there = network(*cloud), network(renumbered, features[order], candidates[order], sigma[order])
    torch.testing.assert_close(here.displacement[order], there.displacement, rtol=1e-9, atol=1e-9)


def test_estimates_see_a_point_and_the_mean_and_deviation_of_its_neighbours(network, cloud):
    seen = []
    network.leave.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(*cloud)
    own, mean, deviation = seen[0].chunk(3, 1)
    around = own[cloud[0].edges]
    torch.testing.assert_close(mean, around.mean(1))
    torch.testing.assert_close(deviation, around.std(1, correction=0), rtol=1e-6, atol=1e-7)
    assert deviation.mean() > 0.1


def test_chunks_change_nothing(network, cloud):
    *_, whole = network.iter_layers(*cloud)
    *_, parts = network.iter_layers(*cloud, chunk=7)
    torch.testing.assert_close(whole.displacement, parts.displacement, rtol=1e-9, atol=1e-9)


def test_wanted_points_are_what_they_are_in_the_whole(network, cloud):
    whole, wanted = network(*cloud), torch.arange(40) < 2
    computed = []
    for layer in network.layers:
        layer.move.register_forward_hook(lambda module, inputs, output: computed.append(len(output)))
    *_, part = network.iter_layers(*cloud, chunk=7, wanted=wanted)
    for name in ("displacement", "log_var", "log_noise", "shared", "log_length"):
        torch.testing.assert_close(getattr(part, name)[wanted], getattr(whole, name)[wanted], rtol=1e-9, atol=1e-9)
    assert sum(computed) < 2 * 40, "not all points were computed"


def test_a_known_noise_level_is_heard(network, cloud):
    graph, features, candidates, sigma = cloud
    told = network(graph, features, candidates, torch.full_like(sigma, 0.3))
    assert (told.displacement - network(*cloud).displacement).abs().max() > 1e-3


def test_a_stray_point_leaves_the_answer_finite(network, cloud):
    graph, *rest = cloud
    offsets = graph.offsets.clone()
    offsets[0] = 1e6
    assert torch.isfinite(network(graph._replace(offsets=offsets), *rest).displacement).all()


def test_blocks_are_the_diagonal_ones():
    product = torch.arange(2 * 4 * 6.0).reshape(2, 4, 6)
    expected = torch.stack([product[:, :2, :3], product[:, 2:, 3:]], 1)
    assert torch.equal(diagonal_blocks(product, 2), expected)
    assert N_EDGE_VECTORS == 4
