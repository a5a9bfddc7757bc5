"""Tables: a top of four kinds on seven kinds of supports, with aprons, shelves and drawers; metres."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.lofts import (
    ROUND,
    SQUARE,
    Piece,
    beams,
    box,
    lathe,
    merge,
    mirrored_copies,
    rotated_copies,
    slab,
    superellipse,
    sweep,
    translate,
)  # fmt: skip
from becalm.shapes.param_reader import ParamReader


@dataclass(frozen=True)
class Top:
    """What the supports carry."""

    x: float
    """Half width at which a leg at ±z still meets the top."""
    z: float
    """Half depth."""
    under: float
    """Height at which supports end: inside the board."""


def table(legs: str, top: str, u: ParamReader) -> Mesh:
    """A table with supports of `LEGS` and a top of `TOPS`."""
    half, depth = u.uniform(0.3, 0.9), u.uniform(0.25, 0.5)
    height, thick = u.uniform(0.35, 1.0), u.uniform(0.012, 0.06)
    outline = TOPS[top](u) * [half, depth if top in ("board", "oval") else half]
    if top in ("board", "oval"):
        outline = outline if u.boolean(0.75) else outline * [0.6 * depth / half + 0.2, 1]
    reach = np.abs(outline).max(axis=0)
    corner = 0.95 * _inscribed_half_side(outline / reach)
    edge = u.uniform(0.9, 1.0)
    board = slab(outline, [height - thick, height - 0.4 * thick, height], [edge, 1, 1])
    x, z = (reach * corner * edge * u.uniform(0.75, 1.0)).tolist()
    return merge([board, *LEGS[legs](Top(x, z, height - thick / 2), u)])


def _inscribed_half_side(outline: np.ndarray) -> float:
    """The largest c with (±c, ±c) inside an outline [m, 2] that is symmetric and convex."""
    return float(np.abs(outline).min(axis=1).max())


TOPS: dict[str, Callable[[ParamReader], np.ndarray]] = {
    "board": lambda u: superellipse(u.uniform(8, 40), 32) if u.boolean(0.4) else SQUARE,
    "round": lambda u: superellipse(2, 32),
    "oval": lambda u: superellipse(u.uniform(2.0, 5.0), 32),
    "corners": lambda u: superellipse(2, k := 2 * u.integer(3, 4)) / np.cos(np.pi / k),
}


def four(top: Top, u: ParamReader) -> list[Piece]:
    """Four legs, straight, tapering or splayed, with an apron, a shelf or drawers in some."""
    thick, thin, splay = u.uniform(0.015, 0.05), u.uniform(0.4, 1.0), u.uniform(-0.1, 0.15)
    section = SQUARE if u.boolean(0.55) else ROUND
    x, z = top.x - thick, top.z - thick
    ends = np.array([[x, z], [-x, z], [x, -z], [-x, -z]])
    feet = ends * (1 + max(splay, 0))
    ends = np.c_[ends[:, 0], [top.under] * 4, ends[:, 1]]
    legs = [beams(ends, np.c_[feet[:, 0], [0] * 4, feet[:, 1]], thick, thin, section)]
    kind, deep = u.choice({"none": 3, "apron": 4, "shelf": 2, "drawers": 2}), u.uniform(0.05, 0.14)
    if kind in ("apron", "drawers"):
        low = top.under - deep
        legs.append(mirrored_copies(box((x - 0.01, low, -z), (x + 0.01, top.under, z))))
        legs.append(mirrored_copies(box((-x, low, z - 0.01), (x, top.under, z + 0.01)), axis=2))
    if kind == "drawers":
        legs += knobs(-x, x, top.under - deep / 2, z, u.integer(1, 3))
    if kind == "shelf":
        low = u.uniform(0.15, 0.5) * top.under
        wide = 1 + max(splay, 0) * (1 - low / top.under)
        legs.append(box((-x * wide, low, -z * wide), (x * wide, low + 0.02, z * wide)))
    return legs


def knobs(left: float, right: float, y: float, z: float, count: int) -> list[Piece]:
    """Round handles in a row on a front at z."""
    x = left + (right - left) * (np.arange(count) + 0.5) / count
    row = np.c_[x, np.full((count, 1), y), np.full((count, 1), z)]
    return [beams(row, row + [0, 0, 0.035], 0.016)]


def pedestal(top: Top, u: ParamReader) -> list[Piece]:
    """A turned column on feet or a plate."""
    thick, waist, swell = u.uniform(0.025, 0.08), u.uniform(0.5, 1.0), u.uniform(0.0, 0.8)
    y = np.linspace(0, 1, 9)
    wave = 1 + swell * np.sin(np.pi * y * u.integer(1, 3)) ** 2
    column = lathe(np.c_[thick * wave * (1 + (waist - 1) * y), y * (top.under - 0.04) + 0.04])
    reach = min(top.x, top.z) * u.uniform(0.8, 1.2)
    plate = lathe(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [min(reach, 0.4), 0.02])
    support = beams([[0, top.under - 0.02, 0]], [[0, top.under, 0]], [0.7 * top.x, 0.7 * top.z], None, SQUARE)
    if u.boolean(0.5):
        return [column, translate(plate, (0, 0.025, 0)), support]
    foot = beams([[0, u.uniform(0.1, 0.3) * top.under, 0]], [[reach, 0.02, 0]], [0.025, 0.02], 0.7, SQUARE)
    return [column, rotated_copies(foot, u.integer(3, 5), 0.4), support]


def trestle(top: Top, u: ParamReader) -> list[Piece]:
    """Two frames shaped like an A or an I, joined by a beam."""
    thick, x, low = u.uniform(0.015, 0.04), top.x * u.uniform(0.75, 1.0), u.uniform(0.2, 0.6) * top.under
    beam = beams([[-x, low, 0]], [[x, low, 0]], [thick, 0.8 * thick], None, SQUARE)
    if u.boolean(0.5):
        side = beams(
            [[x, top.under, 0.3 * top.z], [x, top.under, -0.3 * top.z]], [[x, 0, top.z], [x, 0, -top.z]], thick
        )
        at = top.z * (1 - 0.7 * low / top.under)
        rung = beams([[x, low, -at]], [[x, low, at]], thick, None, SQUARE)
        return [mirrored_copies(side), mirrored_copies(rung), beam]
    post = beams([[x, 0.02, 0]], [[x, top.under, 0]], [thick, 2 * thick], None, SQUARE)
    foot = box((x - thick, 0, -top.z), (x + thick, 0.05, top.z))
    head = box((x - thick, top.under - 0.05, -0.8 * top.z), (x + thick, top.under, 0.8 * top.z))
    return [mirrored_copies(post), mirrored_copies(foot), mirrored_copies(head), beam]


def panels(top: Top, u: ParamReader) -> list[Piece]:
    """Boards at both ends, with a back or a shelf between."""
    board, inset = u.uniform(0.01, 0.03), u.uniform(0.8, 1.0)
    x = top.x * inset
    sides = mirrored_copies(box((x - board, 0, -top.z), (x + board, top.under, top.z)))
    kind, at = u.choice({"back": 2, "shelf": 2, "both": 1}), u.uniform(0.1, 0.8) * top.under
    pieces = [sides]
    if kind != "shelf":
        pieces.append(box((-x, at * 0.6, -top.z), (x, top.under, -top.z + 2 * board)))
    if kind != "back":
        pieces.append(box((-x, at, -top.z), (x, at + 0.02, top.z)))
    return pieces


def crossed_legs(top: Top, u: ParamReader) -> list[Piece]:
    """Two crosses of bars joined by a beam."""
    thick, x = u.uniform(0.015, 0.035), top.x * u.uniform(0.75, 1.0)
    z, y = top.z, top.under
    section = SQUARE if u.boolean(0.6) else ROUND
    cross = beams([[x, 0, z], [x, 0, -z]], [[x, y, -z], [x, y, z]], thick, None, section)
    return [mirrored_copies(cross), beams([[-x, y / 2, 0]], [[x, y / 2, 0]], 0.8 * thick)]


def desk(top: Top, u: ParamReader) -> list[Piece]:
    """A chest of drawers on one or both sides, legs on the other."""
    x, z, y = top.x, top.z, top.under
    wide, low, count = u.uniform(0.5, 0.8) * x, u.uniform(0.0, 0.4) * y, u.integer(2, 4)
    chest = [box((x - wide, low, -z), (x, y, z))]
    for row in range(count):
        chest += knobs(x - wide, x, low + (y - low) * (row + 0.5) / count, z, 1)
    thick = 0.022
    if low > 0.05:
        inner = x - wide + thick
        corners = [[x - thick, z - thick], [x - thick, thick - z], [inner, z - thick], [inner, thick - z]]
        chest.append(beams([[a, low + 0.01, b] for a, b in corners], [[a, 0, b] for a, b in corners], thick))
    if u.boolean(0.4):
        return [mirrored_copies(p) for p in chest]
    rows = [[thick - x, 0, z - thick], [thick - x, 0, thick - z]]
    return [*chest, beams(rows, [[a, y, b] for a, _, b in rows], thick, None, SQUARE)]


def bent(top: Top, u: ParamReader) -> list[Piece]:
    """Two frames of flat bar, each a U turned over or a hoop standing on its lower run."""
    bar, x, z = u.uniform(0.008, 0.02), top.x * u.uniform(0.7, 1.0), top.z * u.uniform(0.8, 1.0)
    y, foot = top.under, u.uniform(0.6, 1.0) * z
    path = [[x, y, -z], [x, 0.02, -foot], [x, bar, 0.02 - foot], [x, bar, foot - 0.02], [x, 0.02, foot], [x, y, z]]
    frame = mirrored_copies(sweep(np.array([path]), np.array([u.uniform(1.0, 3.0) * bar, bar]), (1, 0, 0), SQUARE))
    return [frame, beams([[-x, bar, 0]], [[x, bar, 0]], bar)] if u.boolean(0.3) else [frame]


LEGS: dict[str, Callable[[Top, ParamReader], list[Piece]]] = {
    "four": four,
    "pedestal": pedestal,
    "trestle": trestle,
    "panels": panels,
    "crossed": crossed_legs,
    "desk": desk,
    "bent": bent,
}
