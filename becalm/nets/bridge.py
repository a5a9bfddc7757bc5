"""The head of SBD: the clean position of a point, estimated from its position on the bridge, its noise and the scan's features.

Positions are displacements from the scan's points in units of the local scale. A network acts on scalars; vectors are only scaled
and added, so rotating the input rotates the output.
"""

from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.blend import asinh, mlp

GAIN = 4.0
"""Largest coefficient of a vector."""

INITIAL_VARIANCES = (0.8, 0.1)
"""Posterior variance q along the surface and across it, in σ_T², of the untrained network."""


class ScanFeatures(NamedTuple):
    """Features F_T of each point of the scan, computed once; vectors and lengths are in units of `scale`."""

    scale: Float[Tensor, " point"]
    """The local unit of length."""
    features: Float[Tensor, "point feature"]
    """Invariant features."""
    posterior_mean: Float[Tensor, "point 3"]
    """Displacement to the estimated mean of the clean position, given the whole scan."""
    vectors: Float[Tensor, "point vector 3"]
    """Candidate displacements."""
    normals: Float[Tensor, "point normal 3"]
    """Unit normals of fitted planes, up to their sign."""


class Bridge(nn.Module):
    """E[x | y, scan] for a point at y with noise σ, on the bridge from the scan (noise σ_T) to its clean position x.

    If x were Gaussian about the posterior mean m with variance q σ_T², it would be (relative to the scan's point, τ = σ/σ_T)

        x̂ = a y + b m,  a = 1/(1 + τ² (1/q − 1)),  b = a τ²/q:

    m at τ = 1, where y = 0, and y as τ → 0. The network estimates q along the surface and across it, and adds b Σ c_j v_j with
    |c_j| ≤ GAIN; initially c = 0 and q = INITIAL_VARIANCES.
    """

    def __init__(self, features: int, vectors: int, normals: int, hidden: int = 128):
        super().__init__()
        inputs = features + 4 + 3 * (vectors + 1) + 3 * normals
        self.network = mlp(inputs, hidden, hidden, vectors + normals + 4)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[-2:] = torch.logit(torch.tensor(INITIAL_VARIANCES))

    def forward(
        self,
        y: Float[Tensor, "batch point 3"],
        sigma: Float[Tensor, "#batch #point 1"],
        sigma_top: Float[Tensor, "point 1"],
        scan: ScanFeatures,
    ) -> Float[Tensor, "batch point 3"]:
        """x̂; positions are displacements from the scan's points, y, σ and σ_T in units of the local scale."""
        sigma, sigma_top = sigma.clamp_min(1e-6), sigma_top.clamp_min(1e-6)
        fixed = torch.cat([scan.posterior_mean[:, None], scan.vectors], 1)
        height = (scan.normals * y[:, :, None]).sum(-1)
        output = self.network(self.scalars(y, height, sigma, sigma_top, fixed, scan)).to(y)
        c = GAIN * torch.tanh(output[..., :-2] / GAIN)
        c_fixed, c_normals, c_y = c.split([fixed.shape[1], height.shape[2], 1], -1)
        correction = (c_fixed[..., None] * fixed).sum(2)
        correction = correction + ((c_normals * height)[..., None] * scan.normals).sum(2) + c_y * y
        a, b = bridge_coefficients((sigma / sigma_top).square(), torch.sigmoid(output[..., -2:]))
        normal = scan.normals[:, scan.normals.shape[1] // 2]
        normal_y, normal_m = ((v * normal).sum(-1, keepdim=True) * normal for v in (y, scan.posterior_mean))
        along = a[..., :1] * y + b[..., :1] * (scan.posterior_mean + correction)
        difference = a.diff(dim=-1) * normal_y + b.diff(dim=-1) * normal_m
        return along + difference

    def scalars(
        self, y: Tensor, height: Tensor, sigma: Tensor, sigma_top: Tensor, fixed: Tensor, scan: ScanFeatures
    ) -> Tensor:
        """The network's input [batch, point, …]: features, noise levels, and inner products of vectors in units of σ_T."""
        unit = sigma_top.square()
        mean = scan.posterior_mean[:, None]
        mean_height = (scan.normals * mean).sum(-1)
        constant = [
            scan.features,
            sigma_top.log(),
            asinh((fixed * mean).sum(-1) / unit),
            asinh(fixed.norm(dim=-1) / sigma_top),
            asinh(mean_height.abs() / sigma_top),
        ]
        varying = [
            (sigma / sigma_top).log(),
            asinh(y.norm(dim=-1, keepdim=True) / sigma_top),
            asinh((y - scan.posterior_mean).norm(dim=-1, keepdim=True) / sigma_top),
            asinh((fixed * y[:, :, None]).sum(-1) / unit),
            asinh(height.abs() / sigma_top),
            asinh(height * mean_height / unit),
        ]
        shape = y.shape[:2]
        return torch.cat([part.expand(*shape, -1) for part in [*constant, *varying]], -1)


def bridge_coefficients(tau2: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """a = 1/(1 + τ² (1/q − 1)) and b = a τ²/q, for τ² and q in (0, 1)."""
    q = q.clamp_min(1e-3)
    a = 1 / (1 + tau2 * (1 / q - 1))
    return a, a * tau2 / q
