"""Blend: a rotation-equivariant graph network whose output is a weighted sum of candidate displacements of each point.

Networks act on scalars; vectors are only scaled and added, so rotating the input rotates the output
(the principle of Satorras et al., "E(n) equivariant graph neural networks", 2021; the layers are ours).
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Bool, Float, Int, Tensor

N_EDGE_VECTORS = 4
"""Vectors of an edge: to the neighbour, onto the neighbour's tangent plane at two scales, and the neighbour's displacement."""

N_INVARIANTS = 20
"""Rotation-invariant features of an edge."""


class Graph(NamedTuple):
    """Points with directed edges from each to some of its neighbours; lengths are absolute."""

    offsets: Float[Tensor, "point edge 3"]
    """Vectors to each point's neighbours: positions themselves are not needed, and far from the origin float32 is too coarse."""
    scale: Float[Tensor, " point"]
    """The local unit of length at each point."""
    edges: Int[Tensor, "point edge"]
    """Indices of each point's neighbours."""
    normals: Float[Tensor, "point 3 3"]
    """Three unit normals of each point, at three scales, up to their signs."""


class BlendOutput(NamedTuple):
    """The network's estimates for each point."""

    displacement: Float[Tensor, "point 3"]
    """Displacement to the posterior mean, in absolute units."""
    log_var: Float[Tensor, " point"]
    """Logarithm of the expected squared error of `displacement`, per coordinate, in units of the local scale squared."""
    log_noise: Float[Tensor, " point"]
    """Logarithm of the noise variance at the point, across the surface, in units of the local scale squared."""
    shared: Float[Tensor, " point"]
    """Logit of the share of that variance which neighbouring points have in common."""
    log_length: Float[Tensor, " point"]
    """Logarithm of the distance over which they share it, in units of the local scale."""
    surface: Float[Tensor, " point"]
    """Logit of the probability that the point is of a surface, not of leaves, wires or strays."""


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Layer(nn.Module):
    """One message-passing layer: messages along edges, attention over neighbours, an updated displacement and features."""

    def __init__(self, width: int, candidates: int, channels: int):
        super().__init__()
        self.channels = channels
        self.here = nn.Linear(width, width)
        self.there = nn.Linear(width, width, bias=False)
        self.edge = nn.Linear(N_INVARIANTS, width)
        self.message = nn.Linear(width, width)
        self.coefficients = nn.Linear(width, N_EDGE_VECTORS * channels)
        self.attention = nn.Linear(width, channels)
        vectors = N_EDGE_VECTORS * channels
        self.update = mlp(2 * width + 2 * vectors, 2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.move = nn.Linear(width, vectors + candidates + 1)
        nn.init.normal_(self.move.weight, std=1e-3)
        nn.init.zeros_(self.move.bias)

    def forward(
        self, h: Tensor, move: Tensor, graph: Graph, candidates: Tensor, chunk: int | None, wanted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """New features and displacements, computed `chunk` points at a time (None: all at once); those of points that are not
        `wanted` stay as they are."""
        here, there, move = self.here(h), self.there(h), move / graph.scale[:, None]
        state = torch.cat([move, graph.normals.flatten(1), graph.scale[:, None]], 1)
        rows = torch.arange(h.shape[0], device=h.device) if wanted is None else wanted.nonzero()[:, 0]
        chunks = rows.split(chunk) if chunk else (rows,)
        parts = (self.forward_rows(r, h[r], here[r], there, state, graph, candidates[r]) for r in chunks)
        new_h, new_move = join_rows(parts, rows)
        if wanted is not None:
            new_h, new_move = h.index_copy(0, rows, new_h), move.index_copy(0, rows, new_move)
        return new_h, new_move * graph.scale[:, None]

    def forward_rows(
        self, rows: Tensor, h: Tensor, here: Tensor, there: Tensor, state: Tensor, graph: Graph, candidates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New features and displacements of the points numbered `rows`; `state` as in `edge_features`."""
        edges = graph.edges[rows]
        vectors, invariants = edge_features(state[rows], state, edges, graph.offsets[rows])
        edge = self.edge(invariants).unflatten(0, (rows.shape[0], -1))
        m = nn.functional.silu(here[:, None] + there[edges] + edge)
        m = nn.functional.silu(self.message(m))
        weight = self.attention(m).softmax(1)
        # One batched product for all pairs of heads and vectors is cheaper than permuting for the pairs that are wanted.
        gate = self.coefficients(m).tanh() * weight.repeat(1, 1, N_EDGE_VECTORS)
        gathered = diagonal_blocks(gate.mT @ vectors.type_as(gate), N_EDGE_VECTORS).flatten(1, 2).type_as(state)
        pooled = diagonal_blocks(weight.type_as(m).mT @ m, self.channels).flatten(1)
        own = state[rows, :3]
        length = asinh((gathered.square().sum(-1) + 1e-8).sqrt())
        along = asinh((gathered * own[:, None]).sum(-1))
        h = self.norm(h + self.update(torch.cat([h, pooled, length, along], -1)).type_as(state))
        proposals = torch.cat([gathered, candidates, own[:, None]], 1)
        return h, own + (self.move(h).type_as(state).tanh()[..., None] * proposals).sum(1)


def edge_features(
    here: Float[Tensor, "row 13"],
    state: Float[Tensor, "point 13"],
    edges: Int[Tensor, "row edge"],
    offsets: Float[Tensor, "row edge 3"],
) -> tuple[Tensor, Tensor]:
    """Vectors [row, edge, KINDS · 3] and invariants [row · edge, INVARIANTS] from points `here` to neighbours at `offsets`.

    The state of a point is its displacement in units of its own scale (3), three normals (9) and its scale (1).
    Edge vectors are between displaced points, in units of the row's scale. In memory axes and invariants come first and edges
    last, for speed.
    """
    here = here.T[..., None]
    there = state.index_select(0, edges.flatten()).T.unflatten(1, (edges.shape[0], -1)).contiguous()
    unit = here[12]
    start = offsets.permute(2, 0, 1) / unit
    ratio = there[12:] / unit
    moves, own = there[:3] * ratio, here[:3]
    now = start + moves - own
    n_i, n_j = here[3:12].unflatten(0, (3, 3)), there[3:12].unflatten(0, (3, 3))
    height = (n_j * now).sum(1)
    onto = n_j[:2] * height[:2, None]
    vectors = torch.cat([now, moves - own, onto.flatten(0, 1)])
    squared = now.square().sum(0, keepdim=True)
    invariants = torch.cat(
        [
            (squared + 1e-8).sqrt(),
            torch.exp(-squared),
            torch.exp(-squared / 4),
            (start.square().sum(0, keepdim=True) + 1e-8).sqrt(),
            (now * start).sum(0, keepdim=True) / (1 + squared),
            (own * now).sum(0, keepdim=True),
            (moves * now).sum(0, keepdim=True),
            (own * moves).sum(0, keepdim=True),
            (own.square().sum(0, keepdim=True) + 1e-8).sqrt().expand_as(ratio),
            (moves.square().sum(0, keepdim=True) + 1e-8).sqrt(),
            height.abs(),
            (n_i * now).sum(1).abs(),
            (n_i * n_j).sum(1).abs(),
            ratio.log(),
        ]
    )
    # The inverse hyperbolic sine bounds the influence of a distant outlier on its neighbours.
    return vectors.permute(1, 2, 0), asinh(invariants.flatten(1)).T


def asinh(x: Tensor) -> Tensor:
    """The inverse hyperbolic sine; torch's own is not vectorised on a CPU and takes six times as long."""
    size = x.abs()
    return torch.copysign(torch.log(size + (size * size + 1).sqrt()), x)


def diagonal_blocks(
    product: Float[Tensor, "point rows columns"], count: int
) -> Float[Tensor, "point block row column"]:
    """The `count` diagonal blocks of each matrix."""
    tiles = product.unflatten(2, (count, -1)).unflatten(1, (count, -1))
    return tiles.diagonal(dim1=1, dim2=3).movedim(-1, 1)


def receptive_fields(
    edges: Int[Tensor, "point edge"], wanted: Bool[Tensor, " point"] | None, layers: int
) -> list[Bool[Tensor, " point"] | None]:
    """The points that each layer must compute for the last one's at the `wanted` points and their neighbours; None: all."""
    if wanted is None:
        return [None] * layers
    fields = [wanted]
    for _ in range(layers):
        field = fields[0].clone()
        field[edges[fields[0]].flatten()] = True
        fields.insert(0, field)
    return list(fields[:-1])


class Blend(nn.Module):
    """The network: from features and candidate displacements of each point to `BlendOutput`.

    `features` is the number of invariant features of a point, `candidates` that of its candidate displacements, `width` that of
    the hidden features and `channels` the number of attention heads.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, candidates: int, width: int = 64, layers: int = 4, channels: int = 4):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.enter = mlp(features + 2, 2 * width, width)
        self.first = nn.Linear(width, candidates)
        self.layers = nn.ModuleList(Layer(width, candidates, channels) for _ in range(layers))
        self.leave = mlp(3 * (width + features + 2), width, 5)
        nn.init.normal_(self.first.weight, std=1e-2)
        nn.init.zeros_(self.first.bias)

    def set_standardisation(self, features: Float[Tensor, "point feature"]) -> None:
        """Set the mean and standard deviation by which features are standardised to those of these examples."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0))

    def forward(
        self,
        graph: Graph,
        features: Float[Tensor, "point feature"],
        candidates: Float[Tensor, "point candidate 3"],
        sigma: Float[Tensor, " point"],
    ) -> BlendOutput:
        """`candidates` in units of the local scale; `sigma` the known noise level in absolute units, NaN where unknown."""
        *_, output = self.iter_layers(graph, features, candidates, sigma)
        assert output is not None
        return output

    def iter_layers(
        self,
        graph: Graph,
        features: Tensor,
        candidates: Tensor,
        sigma: Tensor,
        chunk: int | None = None,
        wanted: Bool[Tensor, " point"] | None = None,
    ) -> Iterator[BlendOutput | None]:
        """None after each layer but the last, then the output; layers compute `chunk` points at a time (None: all at once).

        Where some points only are `wanted`, each layer computes those that their output depends on, but for `surface`; that of
        the others is void.
        """
        blocks = row_blocks(features, chunk)
        hint = noise_hint(sigma, graph.scale)
        entered = (self.enter_rows(self.inputs(features[b], hint[b]), candidates[b], graph.scale[b]) for b in blocks)
        h, move = join_rows(entered, features)
        fields = receptive_fields(graph.edges, wanted, len(self.layers))
        for layer, field in zip(self.layers, fields, strict=True):
            h, move = layer(h, move, graph, candidates, chunk, field)
            if layer is not self.layers[-1]:
                yield None
        known = ((torch.cat([h[b].detach(), self.inputs(features[b], hint[b]).clamp(-5, 5)], -1),) for b in blocks)
        (own,) = join_rows(known, features)
        square = own.square()
        *estimates, surface = join_rows((self.estimates(own[b], own, square, graph.edges[b]) for b in blocks), features)
        yield BlendOutput._make((move, *estimates, surface[graph.edges].mean(1)))

    def inputs(self, features: Float[Tensor, "row feature"], hint: Float[Tensor, "row 2"]) -> Tensor:
        """What the network sees of some points: standardised features and the known noise level, as `noise_hint`."""
        return torch.cat([(features - self.mean) / self.deviation, hint], -1)

    def enter_rows(self, inputs: Tensor, candidates: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden features and the displacements of some points before the first layer."""
        h = self.enter(inputs).type_as(candidates)
        return h, (self.first(h).type_as(h).tanh()[..., None] * candidates).sum(1) * scale[:, None]

    def estimates(
        self, own: Tensor, every: Tensor, square: Tensor, edges: Int[Tensor, "row edge"]
    ) -> tuple[Tensor, ...]:
        """All of `BlendOutput` but the displacement, for some points with such `edges`, from their `own` features and inputs and
        the mean and deviation over their neighbours of those of `every` point, with its `square`; the layers get no gradients."""
        around = nn.functional.embedding_bag(edges, every, mode="mean")
        deviation = (nn.functional.embedding_bag(edges, square, mode="mean") - around.square()).clamp_min(0).sqrt()
        return self.leave(torch.cat([own, around, deviation], -1)).type_as(own).unbind(-1)


def noise_hint(sigma: Float[Tensor, " point"], scale: Float[Tensor, " point"]) -> Float[Tensor, "point 2"]:
    """Whether the noise level of each point is known (1 or 0), and its logarithm in local units; 0 where it is NaN, unknown."""
    known = ~sigma.isnan()
    level = torch.where(known, sigma / scale, 0.0).clamp_min(1e-3).log()
    return torch.stack([known.type_as(scale), torch.where(known, level, 0.0)], -1)


def row_blocks(rows: Tensor, size: int | None) -> list[slice]:
    """The rows of a tensor in blocks of at most `size`; None: in one."""
    return [slice(start, start + size) for start in range(0, len(rows), size)] if size else [slice(None)]


def join_rows(parts: Iterable[tuple[Tensor, ...]], rows: Tensor) -> tuple[Tensor, ...]:
    """Tensors with as many rows as `rows`, from parts of theirs in order; unlike `torch.cat` it does not hold all twice."""
    left = iter(parts)
    first, second = next(left), next(left, None)
    if second is None:
        return first
    whole, start = tuple(x.new_empty(len(rows), *x.shape[1:]) for x in first), 0
    for part in chain((first, second), left):
        for to, x in zip(whole, part, strict=True):
            to[start : start + len(x)] = x
        start += len(part[0])
    return whole
