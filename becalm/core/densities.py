"""Exactly known densities, with log p, score and samples, for training and tests; x is [..., d].

All are frozen dataclasses; parameters are cast to the dtype and device of x. Samples are drawn on the CPU.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from becalm.core.typing import Float, Tensor


@runtime_checkable
class Density(Protocol):
    """Protocol of all densities; log p is normalised."""

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]: ...
    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]: ...
    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]: ...


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, covariance)."""

    mean: Float[Tensor, " d"]
    """Mean."""
    covariance: Float[Tensor, "d d"]
    """Symmetric, positive definite."""

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        centered, root = self.center_and_factor(x)
        white = torch.linalg.solve_triangular(root, centered.mT, upper=False)
        log_det = 2 * root.diagonal().log().sum() + x.shape[-1] * math.log(2 * math.pi)
        return (-(white.square().sum(0) + log_det) / 2).reshape(x.shape[:-1])

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        centered, root = self.center_and_factor(x)
        return -torch.cholesky_solve(centered.mT, root).mT.reshape(x.shape)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        white = torch.randn(count, len(self.mean), generator=generator, dtype=self.mean.dtype)
        return self.mean.cpu() + white @ torch.linalg.cholesky(self.covariance.cpu()).mT

    def convolve(self, sigma: float) -> "Gaussian":
        """The density of x + σε, ε ~ N(0, I)."""
        return Gaussian(self.mean, self.covariance + sigma**2 * torch.eye(len(self.mean)).to(self.covariance))

    def center_and_factor(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x − mean as rows, and the Cholesky factor of the covariance in their dtype."""
        root = torch.linalg.cholesky(self.covariance).to(x)
        return (x - self.mean.to(x)).reshape(-1, x.shape[-1]), root


def isotropic_gaussian(dimension: int, deviation: float = 1.0) -> Gaussian:
    """N(0, deviation² I), float64."""
    eye = torch.eye(dimension, dtype=torch.float64)
    return Gaussian(eye[0] * 0, deviation**2 * eye)


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Σ w_k N(c_k, s_k² I). With a shape's points as centres it is the density of its noisy points (ShapeGF)."""

    centres: Float[Tensor, "k d"]
    """Means c_k of the components."""
    weights: Float[Tensor, " k"]
    """Mixture weights w_k, of sum 1."""
    deviations: Float[Tensor, " k"]
    """Standard deviations s_k of the components."""

    def logits(self, x: Tensor) -> Tensor:
        """log w_k N(x; c_k, s_k² I) [..., k]."""
        square = (self.centres.to(x) - x[..., None, :]).square().sum(-1)
        wide = self.deviations.to(x)
        norm = torch.log(wide) + math.log(2 * math.pi) / 2
        return self.weights.to(x).log() - square / (2 * wide**2) - x.shape[-1] * norm

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return torch.logsumexp(self.logits(x), -1)

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        share = torch.softmax(self.logits(x), -1) / self.deviations.to(x) ** 2
        return share @ self.centres.to(x) - share.sum(-1, keepdim=True) * x

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        which = torch.multinomial(self.weights.cpu(), count, replacement=True, generator=generator)
        white = torch.randn(count, self.centres.shape[1], generator=generator, dtype=self.centres.dtype)
        return self.centres.cpu()[which] + self.deviations.cpu()[which, None] * white

    def convolve(self, sigma: float) -> "GaussianMixture":
        """The density of x + σε, ε ~ N(0, I)."""
        return GaussianMixture(self.centres, self.weights, torch.sqrt(self.deviations**2 + sigma**2))


def eight_gaussians(radius: float = 2.0, deviation: float = 0.2) -> GaussianMixture:
    """Eight equal Gaussians evenly spaced on a circle, float64."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    centres = radius * torch.stack([angle.cos(), angle.sin()], -1)
    return GaussianMixture(centres, torch.full_like(angle, 1 / 8), torch.full_like(angle, deviation))


@dataclass(frozen=True)
class Ring:
    """p ∝ exp(−(‖x‖ − R)²/2w²): a circle or sphere of radius R blurred radially."""

    radius: float = 2.0
    """R ≥ 0."""
    width: float = 0.1
    """w > 0."""
    dimension: int = 2
    """d ≥ 2."""

    def __post_init__(self):
        if self.radius < 0 or self.width <= 0 or self.dimension < 2:
            raise ValueError(f"Ring: {self}: radius ≥ 0, width > 0 and dimension ≥ 2 are needed")

    def log_normalizer(self) -> float:
        """log normaliser: log of the unit sphere's area times ∫ r^{d−1} e^{−(r−R)²/2w²} dr.

        With I_k = ∫ r^k …: I_k = R I_{k−1} + (k − 1) w² I_{k−2} by parts, so q_k = I_k/I_{k−1} = R + (k − 1) w²/q_{k−1}.
        """
        d, r, w = self.dimension, self.radius, self.width
        whole = w * math.sqrt(math.pi / 2) * math.erfc(-r / (w * math.sqrt(2)))
        ratio = r + w**2 * math.exp(-((r / w) ** 2) / 2) / whole
        log = math.log(whole) + math.log(ratio)
        for k in range(2, d):
            ratio = r + (k - 1) * w**2 / ratio
            log += math.log(ratio)
        return log + math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return -((x.norm(dim=-1) - self.radius) / self.width).square() / 2 - self.log_normalizer()

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        length = x.norm(dim=-1, keepdim=True)
        outward = x / torch.where(length == 0, 1.0, length)
        return (self.radius - length) / self.width**2 * outward

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        """Radii by rejection: log r is below its tangent at the mode m, so c N(m, w²) bounds r^{d−1} e^{−(r−R)²/2w²}."""
        r, d, w = self.radius, self.dimension, self.width
        mode = (r + math.sqrt(r**2 + 4 * (d - 1) * w**2)) / 2
        radii = torch.empty(0, dtype=torch.float64)
        while len(radii) < count:
            tried = mode + w * torch.randn(2 * count, generator=generator, dtype=torch.float64)
            log = (d - 1) * (torch.log(tried.clamp_min(0) / mode) - (tried - mode) / mode)
            kept = torch.rand(2 * count, generator=generator, dtype=torch.float64).log() < log
            radii = torch.cat([radii, tried[kept]])
        white = torch.randn(count, d, generator=generator, dtype=torch.float64)
        return radii[:count, None] * white / white.norm(dim=1, keepdim=True)

    def convolve(self, sigma: float) -> "NoisyRing":
        """The density of x + σε, ε ~ N(0, I), for d = 2."""
        return NoisyRing(self, sigma)


@dataclass(frozen=True)
class NoisyRing:
    """A ring in the plane plus noise, p(x) = ∫ p(r) 2πr e^{−(ρ−r)²/2s²} i0e(ρr/s²)/2πs² dr at ‖x‖ = ρ, i0e(u) = e^{−u} I₀(u).

    The factor of p(r)2πr dr is the mean of N(x; y, s²I) over the circle ‖y‖ = r. The quadrature in r converges spectrally.
    """

    ring: Ring
    """Of dimension 2."""
    deviation: float
    """s > 0."""

    def __post_init__(self):
        if self.ring.dimension != 2 or self.deviation <= 0:
            raise ValueError(f"BlurredRing: {self}: a ring of dimension 2 and a deviation above 0 are needed")

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        ring, s = self.ring, self.deviation
        step = min(ring.width, s) / 4
        r = torch.arange(max(ring.radius - 9 * ring.width, step), ring.radius + 9 * ring.width, step).to(x)
        mass = -((r - ring.radius) / ring.width).square() / 2 - ring.log_normalizer() + torch.log(r * step / s**2)
        rho = (x.square().sum(-1, keepdim=True) + 1e-24).sqrt()
        return torch.logsumexp(mass - (rho - r).square() / (2 * s**2) + torch.special.i0e(rho * r / s**2).log(), -1)

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return torch.func.grad(lambda place: self.log_prob(place).sum())(x)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        clean = self.ring.sample(count, generator)
        return clean + self.deviation * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on the cells of even parity of a checkerboard plus noise N(0, s²I), so that the score exists everywhere."""

    cells_per_side: int = 4
    """Cells per side; even, so that half of the cells are occupied."""
    half_width: float = 2.0
    """Half the side length: the board is [−half_width, half_width]^d."""
    deviation: float = 0.05
    """s > 0."""
    dimension: int = 2
    """d ≥ 1."""

    def __post_init__(self):
        if (
            self.cells_per_side < 2
            or self.cells_per_side % 2
            or self.half_width <= 0
            or self.deviation <= 0
            or self.dimension < 1
        ):
            raise ValueError(
                f"Checkerboard: {self}: cells_per_side must be even, half_width and deviation above 0, dimension ≥ 1"
            )

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """log Σ over even cells of Π_i (Φ(b_i) − Φ(a_i)), recursively by axis: even = even·even + odd·odd, in logarithms."""
        width = 2 * self.half_width / self.cells_per_side
        middles = (torch.arange(self.cells_per_side).to(x) + 0.5) * width - self.half_width
        away = (x[..., None] - middles).abs()
        outer = torch.special.log_ndtr((width / 2 - away) / self.deviation)
        inner = torch.special.log_ndtr((-width / 2 - away) / self.deviation)
        mass = outer + torch.log1p(-torch.exp(inner - outer))
        evens, odds = torch.logsumexp(mass[..., ::2], -1), torch.logsumexp(mass[..., 1::2], -1)
        even, odd = evens[..., 0], odds[..., 0]
        for axis in range(1, self.dimension):
            a, b = evens[..., axis], odds[..., axis]
            even, odd = torch.logaddexp(even + a, odd + b), torch.logaddexp(even + b, odd + a)
        return even + math.log(2) - self.dimension * math.log(2 * self.half_width)

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return torch.func.grad(lambda place: self.log_prob(place).sum())(x)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        shape = (count, self.dimension)
        cell = torch.randint(0, self.cells_per_side, shape, generator=generator)
        cell[:, -1] = cell[:, -1] // 2 * 2 + cell[:, :-1].sum(1) % 2
        place = cell + torch.rand(shape, generator=generator, dtype=torch.float64)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return place * (2 * self.half_width / self.cells_per_side) - self.half_width + self.deviation * noise

    def convolve(self, sigma: float) -> "Checkerboard":
        """The density of x + σε, ε ~ N(0, I)."""
        return Checkerboard(self.cells_per_side, self.half_width, math.hypot(self.deviation, sigma), self.dimension)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Mixture Σ w_k p_k of any densities: concentric rings, Gaussians of different covariance."""

    components: tuple[Density, ...]
    """The densities p_k."""
    weights: Float[Tensor, " k"]
    """Mixture weights w_k, of sum 1."""

    def logits(self, x: Tensor) -> Tensor:
        """log w_k p_k(x) [..., k]."""
        return torch.stack([component.log_prob(x) for component in self.components], -1) + self.weights.to(x).log()

    def log_prob(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return torch.logsumexp(self.logits(x), -1)

    def score(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        share = torch.softmax(self.logits(x), -1)[..., None]
        return (share * torch.stack([component.score(x) for component in self.components], -2)).sum(-2)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count d"]:
        which = torch.multinomial(self.weights.cpu(), count, replacement=True, generator=generator)
        draws = torch.stack([component.sample(count, generator) for component in self.components])
        return draws[which, torch.arange(count)]

    def convolve(self, sigma: float) -> "Mixture":
        """The density of x + σε, ε ~ N(0, I); raises AttributeError where a component cannot be convolved."""
        return Mixture(tuple(component.convolve(sigma) for component in self.components), self.weights)  # type: ignore[attr-defined]


def rings(radii: tuple[float, ...] = (1.0, 2.0, 3.0), width: float = 0.1, dimension: int = 2) -> Mixture:
    """Mixture of concentric rings of equal weight, float64."""
    weights = torch.full((len(radii),), 1 / len(radii), dtype=torch.float64)
    return Mixture(tuple(Ring(radius, width, dimension) for radius in radii), weights)
