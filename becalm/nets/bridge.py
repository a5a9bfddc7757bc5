"""The head of a bridge that starts at a scan: from where a point is, how noisy, and what the scan says, to where it belongs.

It works on displacements from the scan's own points in units of the local scale. Scalars pass through a network, vectors are
only scaled and added, so turning the input turns the output.
"""

from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Tensor
from becalm.nets.blend import asinh, mlp

GAIN = 4.0
"""Largest coefficient of a vector."""

QUOTAS = (0.8, 0.1)
"""Share of the scan's noise variance that its answer leaves, along the surface and across it, before anything is learned."""


class Scan(NamedTuple):
    """What is known of each point of the scan, computed once; vectors and lengths in units of `scale`."""

    scale: Float[Tensor, " point"]
    """The local unit of length."""
    features: Float[Tensor, "point feature"]
    """Invariant features."""
    answer: Float[Tensor, "point 3"]
    """Displacement to the mean of what the point may be, given the whole scan."""
    vectors: Float[Tensor, "point vector 3"]
    """Other displacements proposed."""
    normals: Float[Tensor, "point normal 3"]
    """Unit normals of planes fitted there; their sign carries no meaning."""


class Bridge(nn.Module):
    """E[x | y, scan] for a point that stands at y with noise σ, on its way from the scan (noise σ_T) to its clean place x.

    Were x Gaussian about the scan's answer m with variance q σ_T², it would be (all from the scan's point, τ = σ/σ_T)

        x̂ = a y + b m,  a = 1/(1 + τ² (1/q − 1)),  b = a τ²/q:

    m at τ = 1, where y = 0, and y as τ → 0. The network tells q along the surface and across it, and adds b Σ c_j v_j with
    |c_j| ≤ GAIN; it begins with c = 0 and QUOTAS.
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
            last.bias[-2:] = torch.logit(torch.tensor(QUOTAS))

    def forward(
        self,
        y: Float[Tensor, "batch point 3"],
        sigma: Float[Tensor, "#batch #point 1"],
        top: Float[Tensor, "point 1"],
        scan: Scan,
    ) -> Float[Tensor, "batch point 3"]:
        """x̂; positions are displacements from the scan's points, y, σ and σ_T in units of the local scale."""
        sigma, top = sigma.clamp_min(1e-6), top.clamp_min(1e-6)
        fixed = torch.cat([scan.answer[:, None], scan.vectors], 1)
        height = (scan.normals * y[:, :, None]).sum(-1)
        said = self.network(self.scalars(y, height, sigma, top, fixed, scan)).to(y)
        gate = GAIN * torch.tanh(said[..., :-2] / GAIN)
        still, onto, own = gate.split([fixed.shape[1], height.shape[2], 1], -1)
        moved = (still[..., None] * fixed).sum(2) + ((onto * height)[..., None] * scan.normals).sum(2) + own * y
        kept, pulled = shares((sigma / top).square(), torch.sigmoid(said[..., -2:]))
        normal = scan.normals[:, scan.normals.shape[1] // 2]
        normal_y, normal_m = ((v * normal).sum(-1, keepdim=True) * normal for v in (y, scan.answer))
        along = kept[..., :1] * y + pulled[..., :1] * (scan.answer + moved)
        difference = kept.diff(dim=-1) * normal_y + pulled.diff(dim=-1) * normal_m
        return along + difference

    def scalars(self, y: Tensor, height: Tensor, sigma: Tensor, top: Tensor, fixed: Tensor, scan: Scan) -> Tensor:
        """What the network sees [batch, point, …]: features, noise levels, and products of vectors in units of σ_T."""
        unit = top.square()
        answer = scan.answer[:, None]
        lean = (scan.normals * answer).sum(-1)
        still = [
            scan.features,
            top.log(),
            asinh((fixed * answer).sum(-1) / unit),
            asinh(fixed.norm(dim=-1) / top),
            asinh(lean.abs() / top),
        ]
        moving = [
            (sigma / top).log(),
            asinh(y.norm(dim=-1, keepdim=True) / top),
            asinh((y - scan.answer).norm(dim=-1, keepdim=True) / top),
            asinh((fixed * y[:, :, None]).sum(-1) / unit),
            asinh(height.abs() / top),
            asinh(height * lean / unit),
        ]
        shape = y.shape[:2]
        return torch.cat([part.expand(*shape, -1) for part in [*still, *moving]], -1)


def shares(tau2: Tensor, quota: Tensor) -> tuple[Tensor, Tensor]:
    """a = 1/(1 + τ² (1/q − 1)) and b = a τ²/q, for τ² and q in (0, 1)."""
    quota = quota.clamp_min(1e-3)
    kept = 1 / (1 + tau2 * (1 / quota - 1))
    return kept, kept * tau2 / quota
