"""Surfaces of triangles built from cross-sections: sweeps, lathes, slabs and boxes, the parts of furniture and machines.

Coordinates are right-handed with y up. Every function builds arrays of a few dozen vertices in some ten NumPy calls.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.param_reader import Number

Vector = np.ndarray | Sequence
"""Numbers, or rows of them."""


class Piece(NamedTuple):
    """A part of a shape."""

    vertices: np.ndarray
    """[v, 3]."""
    faces: np.ndarray
    """[f, 3], normals outwards for the parts made here."""


def superellipse(exponent: Number, corners: int = 24) -> np.ndarray:
    """|x|^e + |z|^e = 1, [corners, 2]: a circle at e = 2, towards a square as e grows (Lamé).

    With `corners` a multiple of 8 its extreme points and those on its diagonals are among them.
    """
    angle = 2 * np.pi * np.arange(corners) / corners
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return direction / (np.abs(direction) ** exponent).sum(axis=1, keepdims=True) ** (1 / exponent)


ROUND = superellipse(2, 12)
DISC = superellipse(2, 28)
SQUARE = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])


@lru_cache(maxsize=512)
def _faces(rings: int, corners: int, capped: bool, copies: int) -> np.ndarray:
    """Triangles of `copies` lofts whose vertices are rings of corners, ring by ring, then two cap centres each."""
    ring, corner = np.meshgrid(np.arange(rings - 1), np.arange(corners), indexing="ij")
    here = (ring * corners + corner).ravel()
    beside = (ring * corners + (corner + 1) % corners).ravel()
    sides = [np.stack([here, here + corners, beside], 1), np.stack([beside, here + corners, beside + corners], 1)]
    if capped:
        a, b = np.arange(corners), (np.arange(corners) + 1) % corners
        low, high, last = (
            np.full(corners, rings * corners),
            np.full(corners, rings * corners + 1),
            (rings - 1) * corners,
        )
        sides += [np.stack([low, a, b], 1), np.stack([high, last + b, last + a], 1)]
    one = np.concatenate(sides)
    size = rings * corners + 2 * capped
    return (one + size * np.arange(copies)[:, None, None]).reshape(-1, 3)


def loft(rings: np.ndarray, capped: bool = True) -> Piece:
    """Rings [copies, k, m, 3] joined one to the next, the ends closed by fans about their means if `capped`."""
    copies, k, m, _ = rings.shape
    vertices = rings.reshape(copies, k * m, 3)
    if capped:
        vertices = np.concatenate([vertices, rings[:, [0, -1]].mean(axis=2)], axis=1)
    return Piece(vertices.reshape(-1, 3), _faces(k, m, capped, copies))


def sweep(paths: np.ndarray, sizes: np.ndarray | Number, side: Vector, section: np.ndarray = ROUND) -> Piece:
    """A section [m, 2] moved along paths [p, k, 3]: its first axis along `side`, its second across side and path.

    sizes: half widths along both axes, broadcast to [p, k, 2]. No path may run along `side`.
    """
    along = np.empty_like(paths)
    along[:, 1:-1] = paths[:, 2:] - paths[:, :-2]
    along[:, 0], along[:, -1] = paths[:, 1] - paths[:, 0], paths[:, -1] - paths[:, -2]
    along /= np.sqrt((along * along).sum(-1, keepdims=True))
    towards = np.asarray(side, float)
    first = towards - (along @ towards)[..., None] * along
    first /= np.sqrt((first * first).sum(-1, keepdims=True))
    second = _cross(first, along)
    sizes = np.broadcast_to(np.asarray(sizes), (*paths.shape[:2], 2))
    reach = section[:, None] * sizes[:, :, None, None]  # [p, k, m, 1, 2]
    rings = paths[:, :, None] + reach[..., 0] * first[:, :, None] + reach[..., 1] * second[:, :, None]
    return loft(rings)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a × b; NumPy's own takes ten times as long on arrays this small."""
    (x, y, z), (u, v, w) = (np.moveaxis(c, -1, 0) for c in (a, b))
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=-1)


def beams(
    start: Vector, end: Vector, thick: Number | Vector,
    thin: Number | None = None, section: np.ndarray = ROUND,
) -> Piece:  # fmt: skip
    """Straight bars from `start` [p, 3] to `end` [p, 3]: half width `thick` (one, or two of them), tapering to `thin` of it.

    The first half width lies along the axis that the bars run along least, x before y before z.
    """
    paths = np.stack([np.asarray(start, float), np.asarray(end, float)], axis=1)
    run = np.abs(paths[:, 1] - paths[:, 0])
    side = np.eye(3)[(run / run.max(axis=1, keepdims=True)).max(axis=0).argmin()]
    half = np.broadcast_to(np.asarray(thick, float), (2,))
    return sweep(paths, half * np.array([[1.0], [1.0 if thin is None else thin]]), side, section)


def box(low: Vector, high: Vector) -> Piece:
    """A block along the axes."""
    (x, y, z), (u, v, w) = low, high
    ring = [[x, z], [x, w], [u, w], [u, z]]
    rings = np.array([[[a, height, b] for a, b in ring] for height in (y, v)])
    return loft(rings[None, :, ::-1])


def slab(outline: np.ndarray, heights: Vector, scales: Vector | None = None) -> Piece:
    """An outline [m, 2] in (x, z), star-shaped about its mean, stacked at heights [k] and scaled there."""
    scale = np.ones(len(heights)) if scales is None else np.asarray(scales, float)
    rings = np.empty((1, len(heights), len(outline), 3))
    rings[0, :, :, 0] = outline[:, 0] * scale[:, None]
    rings[0, :, :, 1] = np.asarray(heights, float)[:, None]
    rings[0, :, :, 2] = outline[:, 1] * scale[:, None]
    return loft(rings)


def lathe(profile: np.ndarray, outline: np.ndarray = DISC, capped: bool = False) -> Piece:
    """A profile [k, 2] of (radius, height) turned about the y axis; another outline [m, 2] makes it square or oval."""
    piece = slab(outline, profile[:, 1], np.maximum(profile[:, 0], 1e-4))
    return piece if capped else Piece(piece.vertices[:-2], _faces(len(profile), len(outline), False, 1))


def translate(piece: Piece, shift: Vector) -> Piece:
    """The piece shifted."""
    return Piece(piece.vertices + np.asarray(shift, float), piece.faces)


def rotate(piece: Piece, axis: int, angle: Number) -> Piece:
    """The piece turned about a coordinate axis by an angle in radians."""
    turn, (a, b) = np.eye(3), [c for c in range(3) if c != axis]
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[a, b], turn[b, a] = (-1) ** (axis + 1) * np.sin(angle), (-1) ** axis * np.sin(angle)
    return Piece(piece.vertices @ turn.T, piece.faces)


def rotated_copies(piece: Piece, count: int, start: Number = 0.0) -> Piece:
    """Copies of a piece at equal angles about the y axis, the first turned by `start` radians."""
    angle = start + 2 * np.pi * np.arange(count) / count
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(count), np.ones(count)
    turn = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=1).reshape(count, 3, 3)
    vertices = np.einsum("pij,vj->pvi", turn, piece.vertices).reshape(-1, 3)
    faces = piece.faces + len(piece.vertices) * np.arange(count)[:, None, None]
    return Piece(vertices, faces.reshape(-1, 3))


def mirrored_copies(piece: Piece, axis: int = 0) -> Piece:
    """The piece and its mirror image across the plane where a coordinate is 0."""
    image = piece.vertices.copy()
    image[:, axis] *= -1
    faces = np.concatenate([piece.faces, piece.faces[:, ::-1] + len(image)])
    return Piece(np.concatenate([piece.vertices, image]), faces)


def merge(pieces: Sequence[Piece]) -> Mesh:
    """One mesh of several pieces."""
    starts = np.cumsum([0] + [len(p.vertices) for p in pieces[:-1]])
    faces = [p.faces + start for p, start in zip(pieces, starts, strict=True)]
    return Mesh(np.concatenate([p.vertices for p in pieces]), np.concatenate(faces))
