import pytest
import torch

from becalm.nets.blend import asinh
from becalm.nets.bridge import GAIN, INITIAL_VARIANCES, Bridge, ScanFeatures, bridge_coefficients


def known(count: int, generator: torch.Generator) -> tuple[ScanFeatures, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A scan of random vectors, with y, σ and σ_T."""
    vectors = torch.randn(count, 6, 3, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, 3, generator=generator), dim=-1)
    scan = ScanFeatures(
        torch.ones(count), torch.randn(count, 8, generator=generator), vectors[:, 0], vectors[:, 1:], normals
    )
    sigma_top = 0.1 + torch.rand(count, 1, generator=generator)
    sigma = sigma_top * torch.rand(2, count, 1, generator=generator)
    return scan, torch.randn(2, count, 3, generator=generator), sigma, sigma_top


@pytest.fixture
def head() -> Bridge:
    torch.manual_seed(2)
    net = Bridge(features=8, vectors=5, normals=3, hidden=16)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return net


def test_turning_and_reordering_the_scan_does_the_same_to_the_head(head):
    scan, y, sigma, sigma_top = known(30, torch.Generator().manual_seed(8))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(9)))[0]
    mirrored = torch.tensor([1.0, -1.0, 1.0])[:, None]  # the sign of a normal carries no meaning
    turned = ScanFeatures(*scan[:2], scan.posterior_mean @ turn, scan.vectors @ turn, scan.normals @ turn * mirrored)
    here = head(y, sigma, sigma_top, scan)
    torch.testing.assert_close(head(y @ turn, sigma, sigma_top, turned), here @ turn, rtol=1e-3, atol=1e-4)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(10))
    mixed = head(y[:, order], sigma[:, order], sigma_top[order], ScanFeatures(*(part[order] for part in scan)))
    torch.testing.assert_close(mixed, here[:, order])
    assert (here - y).abs().mean() > 0.1


def test_the_head_begins_at_the_scans_answer_and_ends_at_y(head):
    scan, y, _, sigma_top = known(30, torch.Generator().manual_seed(11))
    at_scan = Bridge(8, 5, 3, 16)(torch.zeros_like(y), sigma_top.expand(2, -1, -1), sigma_top, scan)
    torch.testing.assert_close(at_scan, scan.posterior_mean.expand_as(at_scan))
    gone = (head(y, 1e-4 * sigma_top.expand(2, -1, -1), sigma_top, scan) - y).norm(dim=-1).max()
    assert gone < 1e-3 * (1 + GAIN), "drawn weights, but hardly any noise"


def test_shares_are_the_gaussian_update():
    """Precisions add: prior 1/(q σ_T²) − 1/σ_T², observation 1/σ²."""
    q, tau2 = torch.tensor([0.05, 0.3, 0.9]), torch.tensor([[0.01], [0.4], [1.0]])
    kept, pulled = bridge_coefficients(tau2, q)
    prior = 1 / q - 1
    torch.testing.assert_close(kept, (1 / tau2) / (1 / tau2 + prior))
    torch.testing.assert_close(pulled, (1 / q) / (1 / tau2 + prior))


def test_the_untrained_head_has_a_variance_of_its_own_across_the_surface():
    """x̂ = a y + b m with q = 0.8 along the surface and q = 0.1 along the middle normal, as c = 0 at first."""
    scan, y, sigma, sigma_top = known(30, torch.Generator().manual_seed(12))
    untrained = Bridge(8, 5, 3, 16)(y, sigma, sigma_top, scan)
    tau2, normal = (sigma / sigma_top).square(), scan.normals[:, 1]
    parts = []
    for q, project in zip(
        INITIAL_VARIANCES, (lambda v: v - across(v, normal), lambda v: across(v, normal)), strict=True
    ):
        a = 1 / (1 + tau2 * (1 / q - 1))
        parts.append(a * project(y) + a * tau2 / q * project(scan.posterior_mean))
    torch.testing.assert_close(untrained, sum(parts), rtol=1e-4, atol=1e-5)


def across(vectors: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    return (vectors * normal).sum(-1, keepdim=True) * normal


def test_a_coefficient_of_one_adds_b_times_its_vector():
    scan, y, sigma, sigma_top = known(30, torch.Generator().manual_seed(13))
    head = Bridge(8, 5, 3, 16)
    before = head(y, sigma, sigma_top, scan)
    with torch.no_grad():  # the second fixed vector, tanh(1/4) · 4
        head.network[-1].bias[1] = 1.0
    tau2 = (sigma / sigma_top).square()
    b = bridge_coefficients(tau2, torch.tensor(INITIAL_VARIANCES[0]))[1]
    expected = b * GAIN * torch.tanh(torch.tensor(1 / GAIN)) * scan.vectors[:, 0]
    torch.testing.assert_close(head(y, sigma, sigma_top, scan) - before, expected, rtol=1e-3, atol=1e-5)


def test_the_network_sees_how_far_the_state_is_from_the_mean(head):
    """Of y and m only lengths, products and |y − m| are inputs: where all but the last are equal, the input differs."""
    scan, y, sigma, sigma_top = known(5, torch.Generator().manual_seed(14))
    fixed = torch.cat([scan.posterior_mean[:, None], scan.vectors], 1)
    height = (scan.normals * y[:, :, None]).sum(-1)
    inputs = head.scalars(y, height, sigma, sigma_top, fixed, scan)
    away = (y - scan.posterior_mean).norm(dim=-1) / sigma_top[:, 0]
    assert (inputs - asinh(away)[..., None]).abs().amin(-1).max() < 1e-5
