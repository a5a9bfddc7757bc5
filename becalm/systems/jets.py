"""Jets: becalm's own denoiser of clouds. Local fits at every scale propose, a small equivariant network decides.

Every point gets planes and quadrics at five scales (points/jets.py); their residuals tell how noisy and how curved the
surface is there, their offsets are candidate displacements, and `Blend` (nets/blend.py) weighs them over a neighbour
graph. Trained on index-paired noise, the displacement tends to the posterior mean x̂ = E[x | scan], so each sweep is one
denoising step of the `explode` process from its own noise level to zero.
"""

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.blend import Blend, Graph, Settled
from becalm.nets.precision import inference_iter
from becalm.points.estimate import KEPT, THIN
from becalm.points.neighbours import Tree, morton
from becalm.points.polyfit import FEATURES_PER_SCALE, OFFSET, RADIUS, SCALES, VECTORS_PER_SCALE, jets, local_scale
from becalm.points.progress import Stage
from becalm.points.regularize import spread

RANKS = np.unique(np.concatenate([np.arange(1, 11), np.geomspace(13, max(SCALES) - 1, 8).round().astype(int)]))
"""Which neighbours, by nearness, an edge leads to: all of the ten nearest, then ever fewer outwards."""

THICK = 0.75
"""Where the noise, told by the first sweep, is this much of the local unit or more, a second sweep follows: it finds a thinner
cloud, where smaller scales fit."""


CLEAN = 0.08
"""A scan whose smallest fits leave less than this over, in local units, is nearly clean: there moves are restrained."""


class Fitted(NamedTuple):
    """A cloud as the network takes it."""

    graph: Graph
    features: Float[Tensor, "point feature"]
    candidates: Float[Tensor, "point candidate 3"]


def fitted(xyz: np.ndarray, block: int = 2**16) -> Fitted:
    """Fit every point of a cloud [n, 3], n ≥ 16; coordinates become float32 about their mean."""
    points = torch.as_tensor(xyz - xyz.mean(0), dtype=torch.float32)
    tree, most = Tree(xyz, min(max(SCALES), len(xyz))), max(SCALES)
    rows = torch.arange(len(xyz)).split(block)
    first = nearest(tree, xyz, 32 if len(rows) > 1 else most)
    scale = local_scale(points, first[:, :32])
    parts = []
    for some in rows:
        neighbours = nearest(tree, xyz[some], most) if len(rows) > 1 else first
        neighbours[:, 0] = some
        found = jets(points, neighbours, scale[some], some)
        parts.append((neighbours[:, RANKS], *found[1:]))
    edges, features, vectors, normals = (torch.cat(part) for part in zip(*parts, strict=True))
    return Fitted(Graph(points, scale, edges, normals[:, 1:4].contiguous()), features, vectors)


def nearest(tree: Tree, queries: np.ndarray, k: int) -> Int[Tensor, "query k"]:
    """The k nearest points of each query; where the cloud has fewer, the farthest is repeated."""
    found = torch.as_tensor(tree.nearest(queries, min(k, len(tree.points)))[1])
    return torch.cat([found, found[:, -1:].expand(-1, k - found.shape[1])], 1) if found.shape[1] < k else found


class Jets(nn.Module):
    """The packaged denoiser: from a cloud's fits to displacements."""

    def __init__(self, width: int = 64, layers: int = 4, channels: int = 4):
        super().__init__()
        self.config = {"width": width, "layers": layers, "channels": channels}
        self.network = Blend(FEATURES_PER_SCALE * len(SCALES), VECTORS_PER_SCALE * len(SCALES), width, layers, channels)

    def forward(self, cloud: Fitted, sigma: Float[Tensor, " point"]) -> Settled:
        """`sigma` is the known noise level per point in the cloud's units, NaN where it is not known."""
        for answer in self.rounds(cloud, sigma):
            pass
        return answer

    def rounds(self, cloud: Fitted, sigma: Float[Tensor, " point"], chunk: int | None = None) -> Iterator[Settled]:
        """The answer as it stands after each round, `chunk` points at a time; noise and error are told relative to `residual`."""
        base = 2 * residual(cloud).log()
        for move, log_var, log_noise in self.network.rounds(*cloud, sigma, chunk):
            yield Settled(move, base + log_var, base + log_noise)

    def sweeps(self, xyz: np.ndarray, sigma: float | np.ndarray | None = None, seed: int = 0) -> Iterator[Stage]:
        """Settle a cloud [n, 3] of at least 16 points; the noise level σ (one, or [n]; None: unknown) is told to the first sweep.

        Nothing is drawn at random: the same cloud gives the same answer whatever the seed.
        """
        del seed
        order = np.argsort(morton(xyz))  # near in memory what is near in space
        place = np.argsort(order)
        unknown = np.full(len(xyz), np.nan)
        level = unknown if sigma is None else np.broadcast_to(sigma, len(xyz))[order]
        first = found = yield from self._sweep(xyz[order], level, 0.0)
        if first.thickness >= THICK:
            yield Stage(0.5, found.xyz[place], first.noise[place], found.error[place])
            found = yield from self._sweep(found.xyz, unknown, 0.5)
        noise = first.noise if sigma is None else level
        yield Stage(1.0, spread(found.xyz, noise)[place], noise[place], found.error[place])

    def _sweep(self, xyz: np.ndarray, level: np.ndarray, begin: float) -> Generator[Stage, None, "Swept"]:
        """One sweep over a cloud [n, 3] with the noise level [n] told where it is not NaN."""
        cloud, layers = fitted(xyz), len(self.network.layers)
        told = torch.as_tensor(level, dtype=torch.float32)
        for i, answer in enumerate(inference_iter(self.rounds(cloud, told, chunk=512))):
            yield Stage(begin + 0.5 * (i + 2) / (layers + 2))
        thickness = (answer.log_noise / 2).exp()
        noise, error = (d * cloud.graph.scale for d in (thickness, (answer.log_var / 2).exp()))
        settled = xyz + restrained(cloud, answer.move).double().numpy()
        return Swept(settled, noise.double().numpy(), error.double().numpy(), float(thickness.median()))


class Swept(NamedTuple):
    """What a sweep leaves: positions [n, 3], noise found and error expected [n] in the cloud's units, noise in local units."""

    xyz: np.ndarray
    noise: np.ndarray
    error: np.ndarray
    thickness: float


def residual(cloud: Fitted) -> Float[Tensor, " point"]:
    """The noise level in local units as the fits alone tell it, robustly: what the network's own estimate refines.

    At each scale the median over the neighbours of the offset from the quadric, over 0.6745 and `KEPT`, and the mean of that
    over the neighbours again; of the scales the smallest that is wide against this level, here and in most of the cloud.
    """
    features = cloud.features.unflatten(1, (len(SCALES), FEATURES_PER_SCALE))
    offsets, radii = features[..., OFFSET].exp(), features[..., RADIUS].exp()
    levels = offsets[cloud.graph.edges].median(1).values / (0.6745 * offsets.new_tensor(KEPT))
    levels = levels[cloud.graph.edges].mean(1)
    fits = levels <= THIN * radii
    fits &= (fits.float().mean(0) >= 0.5).cummax(0).values
    fits[:, -1] = True
    return levels.gather(1, fits.int().argmax(1, keepdim=True))[:, 0].clamp_min(1e-3)


def restrained(cloud: Fitted, move: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
    """The moves, shortened in a scan so clean that what looks like noise may well be detail.

    With ρ the median over the scan of what the smallest fits leave over, in local units, and q the lower quartile of the same, in
    local units or in the cloud's (whichever allows more), no move is longer than 1.2 q/(1 − ρ/CLEAN); from ρ = CLEAN on, nothing
    is shortened.
    """
    left, scale = cloud.features[:, 0].exp(), cloud.graph.scale
    share = float(left.median()) / CLEAN
    if share >= 1:
        return move
    quarter = 1 + len(left) // 4
    usual = torch.maximum(left.kthvalue(quarter).values * scale, (left * scale).kthvalue(quarter).values)
    longest = 1.2 / (1 - share) * usual[:, None]
    return move * (longest / move.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)


class Sample(NamedTuple):
    """A training item: a fitted noisy cloud and what is known of the clean one."""

    cloud: Fitted
    clean: Float[Tensor, "point 3"]
    """The clean position of each noisy point, by index."""
    normals: Float[Tensor, "point 3"]
    """Unit normals of the surface at the clean positions."""
    sigma: Float[Tensor, " point"]
    """The noise level at each point."""
    interior: Float[Tensor, " point"]
    """1 where the neighbourhood of the point was not cut, 0 elsewhere."""
    around: Int[Tensor, "point k"]
    """The nearest noisy points: among them (or their clean places) nearest points are looked for."""


def sample_of(clean: np.ndarray, noisy: np.ndarray, sigma: np.ndarray, interior: np.ndarray) -> Sample:
    """A training item from a pair of clouds [n, 3], the noise level per point and the mask of uncut neighbourhoods."""
    truth = torch.as_tensor(clean - noisy.mean(0), dtype=torch.float32)
    around = nearest(Tree(clean, 12), clean, 12)
    spread = truth[around] - truth[around].mean(1, keepdim=True)
    normals = torch.linalg.eigh(spread.mT @ spread)[1][..., 0]
    level, inside = (torch.as_tensor(a, dtype=torch.float32) for a in (sigma, interior))
    return Sample(fitted(noisy), truth, normals, level, inside, nearest(Tree(noisy, 96), noisy, 96))


def joined(samples: list[Sample]) -> Sample:
    """Several items as one graph of several parts: their numbers are shifted."""
    starts = np.cumsum([0] + [len(s.clean) for s in samples])[:-1].tolist()
    graphs = [s.cloud.graph for s in samples]
    graph = Graph(
        torch.cat([g.points for g in graphs]),
        torch.cat([g.scale for g in graphs]),
        torch.cat([g.edges + start for g, start in zip(graphs, starts, strict=True)]),
        torch.cat([g.normals for g in graphs]),
    )
    return Sample(
        Fitted(graph, torch.cat([s.cloud.features for s in samples]), torch.cat([s.cloud.candidates for s in samples])),
        torch.cat([s.clean for s in samples]),
        torch.cat([s.normals for s in samples]),
        torch.cat([s.sigma for s in samples]),
        torch.cat([s.interior for s in samples]),
        torch.cat([s.around + start for s, start in zip(samples, starts, strict=True)]),
    )


def placed(sample: Sample, device: torch.device) -> Sample:
    """The item with its tensors on a device."""
    cloud = sample.cloud
    graph = Graph(*(part.to(device) for part in cloud.graph))
    rest = [part.to(device) for part in sample[1:]]
    return Sample(Fitted(graph, cloud.features.to(device), cloud.candidates.to(device)), *rest)  # type: ignore[arg-type]


def losses(model: Jets, sample: Sample, told: bool) -> dict[str, Tensor]:
    """Errors of one sweep, each relative to what is attainable at the noise level, and their weighted sum as "loss".

    `pair` is the squared error to the index-paired clean point, whose minimiser is the posterior mean; `near` and `cover`
    are the two halves of the Chamfer distance, `plane` the squared distance to the tangent plane of the nearest clean point
    (the surface, where tangential noise cannot hide what the other terms average). `error` is the negative log-likelihood of
    the model's own error, `noise` the squared logarithm of the ratio of the noise it tells to the scan's, so that light noise
    counts as much as heavy noise. With `told` the model is given σ.
    """
    points, scale = sample.cloud.graph.points, sample.cloud.graph.scale
    answer = model(sample.cloud, sample.sigma if told else torch.full_like(sample.sigma, torch.nan))
    settled, target = points + answer.move, sample.clean - points
    error = (answer.move - target).square().sum(-1)
    small = (0.02 * scale).square()
    noise = sample.sigma.square() + small
    reach = noise * (0.5 * scale).square() / (noise + (0.5 * scale).square())
    here = settled.detach()
    forth, back = closest(here, sample.clean, sample.around), closest(sample.clean, here, sample.around)
    gap = settled - sample.clean[forth]
    terms = {
        "pair": error / (3 * noise),
        "plane": (gap * sample.normals[forth]).sum(-1).square() / reach,
        "near": gap.square().sum(-1) / (3 * reach),
        "cover": (settled[back] - sample.clean).square().sum(-1) / (3 * reach),
        "error": student_loss(error.detach() / scale.square(), answer.log_var),
        "noise": (answer.log_noise - (sample.sigma / scale).square().add(1e-6).log()).square() / 4,
    }
    mean = {name: (value * sample.interior).sum() / sample.interior.sum().clamp_min(1) for name, value in terms.items()}
    total = torch.stack([WEIGHTS[name] * value for name, value in mean.items()]).sum()
    # Where there is no noise, all is relative to next to nothing: the logarithm keeps such items from ruling the rest.
    return mean | {"loss": 8 * torch.log1p(total.clamp_min(0) / 8)}


WEIGHTS = {"pair": 0.7, "plane": 1.5, "near": 0.8, "cover": 0.8, "error": 0.1, "noise": 0.1}


def student_loss(squared: Float[Tensor, " point"], log_var: Float[Tensor, " point"]) -> Float[Tensor, " point"]:
    """−log t₄(e | 0, exp(log_var) I) per coordinate of a 3-vector of squared length `squared` + 3·10⁻⁶, without its constant.

    Student's t with four degrees of freedom, where a Gaussian would let a few points, wrong by far, rule the rest.
    """
    return (7 * torch.log1p((squared + 3e-6) * torch.exp(-log_var) / 4) + 3 * log_var) / 6


@torch.no_grad()
def closest(
    queries: Float[Tensor, "point 3"], points: Float[Tensor, "point 3"], among: Int[Tensor, "point k"]
) -> Int[Tensor, " point"]:
    """For each query the nearest of `points` among the numbers given in its row."""
    choice = (points[among] - queries[:, None]).square().sum(-1).argmin(1)
    return among.gather(1, choice[:, None])[:, 0]
