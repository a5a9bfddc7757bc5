"""Tables: a top of four kinds on seven kinds of supports, with aprons, shelves and drawers; metres."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.lofts import (
    ROUND,
    SQUARE,
    Piece,
    around,
    beams,
    both_sides,
    box,
    joined,
    lathe,
    moved,
    slab,
    superellipse,
    sweep,
)  # fmt: skip
from becalm.shapes.param_reader import Dials


@dataclass(frozen=True)
class Top:
    """What the supports carry."""

    x: float
    """Half width at which a leg at ±z still meets the top."""
    z: float
    """Half depth."""
    under: float
    """Height at which supports end: inside the board."""


def table(legs: str, top: str, d: Dials) -> Mesh:
    """A table with supports of `LEGS` and a top of `TOPS`."""
    half, depth = d.between(0.3, 0.9), d.between(0.25, 0.5)
    height, thick = d.between(0.35, 1.0), d.between(0.012, 0.06)
    outline = TOPS[top](d) * [half, depth if top in ("board", "oval") else half]
    if top in ("board", "oval"):
        outline = outline if d.chance(0.75) else outline * [0.6 * depth / half + 0.2, 1]
    reach = np.abs(outline).max(axis=0)
    corner = 0.95 * _inscribed(outline / reach)
    edge = d.between(0.9, 1.0)
    board = slab(outline, [height - thick, height - 0.4 * thick, height], [edge, 1, 1])
    x, z = (reach * corner * edge * d.between(0.75, 1.0)).tolist()
    return joined([board, *LEGS[legs](Top(x, z, height - thick / 2), d)])


def _inscribed(outline: np.ndarray) -> float:
    """The largest c with (±c, ±c) inside an outline [m, 2] that is symmetric and convex."""
    return float(np.abs(outline).min(axis=1).max())


TOPS: dict[str, Callable[[Dials], np.ndarray]] = {
    "board": lambda d: superellipse(d.between(8, 40), 32) if d.chance(0.4) else SQUARE,
    "round": lambda d: superellipse(2, 32),
    "oval": lambda d: superellipse(d.between(2.0, 5.0), 32),
    "corners": lambda d: superellipse(2, k := 2 * d.whole(3, 4)) / np.cos(np.pi / k),
}


def four(top: Top, d: Dials) -> list[Piece]:
    """Four legs, straight, tapering or splayed, with an apron, a shelf or drawers in some."""
    thick, thin, splay = d.between(0.015, 0.05), d.between(0.4, 1.0), d.between(-0.1, 0.15)
    section = SQUARE if d.chance(0.55) else ROUND
    x, z = top.x - thick, top.z - thick
    ends = np.array([[x, z], [-x, z], [x, -z], [-x, -z]])
    feet = ends * (1 + max(splay, 0))
    ends = np.c_[ends[:, 0], [top.under] * 4, ends[:, 1]]
    legs = [beams(ends, np.c_[feet[:, 0], [0] * 4, feet[:, 1]], thick, thin, section)]
    kind, deep = d.pick({"none": 3, "apron": 4, "shelf": 2, "drawers": 2}), d.between(0.05, 0.14)
    if kind in ("apron", "drawers"):
        low = top.under - deep
        legs.append(both_sides(box((x - 0.01, low, -z), (x + 0.01, top.under, z))))
        legs.append(both_sides(box((-x, low, z - 0.01), (x, top.under, z + 0.01)), axis=2))
    if kind == "drawers":
        legs += knobs(-x, x, top.under - deep / 2, z, d.whole(1, 3))
    if kind == "shelf":
        low = d.between(0.15, 0.5) * top.under
        wide = 1 + max(splay, 0) * (1 - low / top.under)
        legs.append(box((-x * wide, low, -z * wide), (x * wide, low + 0.02, z * wide)))
    return legs


def knobs(left: float, right: float, y: float, z: float, count: int) -> list[Piece]:
    """Round handles in a row on a front at z."""
    x = left + (right - left) * (np.arange(count) + 0.5) / count
    row = np.c_[x, np.full((count, 1), y), np.full((count, 1), z)]
    return [beams(row, row + [0, 0, 0.035], 0.016)]


def pedestal(top: Top, d: Dials) -> list[Piece]:
    """A turned column on feet or a plate."""
    thick, waist, swell = d.between(0.025, 0.08), d.between(0.5, 1.0), d.between(0.0, 0.8)
    y = np.linspace(0, 1, 9)
    wave = 1 + swell * np.sin(np.pi * y * d.whole(1, 3)) ** 2
    column = lathe(np.c_[thick * wave * (1 + (waist - 1) * y), y * (top.under - 0.04) + 0.04])
    reach = min(top.x, top.z) * d.between(0.8, 1.2)
    plate = lathe(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [min(reach, 0.4), 0.02])
    support = beams([[0, top.under - 0.02, 0]], [[0, top.under, 0]], [0.7 * top.x, 0.7 * top.z], None, SQUARE)
    if d.chance(0.5):
        return [column, moved(plate, (0, 0.025, 0)), support]
    foot = beams([[0, d.between(0.1, 0.3) * top.under, 0]], [[reach, 0.02, 0]], [0.025, 0.02], 0.7, SQUARE)
    return [column, around(foot, d.whole(3, 5), 0.4), support]


def trestle(top: Top, d: Dials) -> list[Piece]:
    """Two frames shaped like an A or an I, joined by a beam."""
    thick, x, low = d.between(0.015, 0.04), top.x * d.between(0.75, 1.0), d.between(0.2, 0.6) * top.under
    beam = beams([[-x, low, 0]], [[x, low, 0]], [thick, 0.8 * thick], None, SQUARE)
    if d.chance(0.5):
        side = beams(
            [[x, top.under, 0.3 * top.z], [x, top.under, -0.3 * top.z]], [[x, 0, top.z], [x, 0, -top.z]], thick
        )
        at = top.z * (1 - 0.7 * low / top.under)
        rung = beams([[x, low, -at]], [[x, low, at]], thick, None, SQUARE)
        return [both_sides(side), both_sides(rung), beam]
    post = beams([[x, 0.02, 0]], [[x, top.under, 0]], [thick, 2 * thick], None, SQUARE)
    foot = box((x - thick, 0, -top.z), (x + thick, 0.05, top.z))
    head = box((x - thick, top.under - 0.05, -0.8 * top.z), (x + thick, top.under, 0.8 * top.z))
    return [both_sides(post), both_sides(foot), both_sides(head), beam]


def panels(top: Top, d: Dials) -> list[Piece]:
    """Boards at both ends, with a back or a shelf between."""
    board, inset = d.between(0.01, 0.03), d.between(0.8, 1.0)
    x = top.x * inset
    sides = both_sides(box((x - board, 0, -top.z), (x + board, top.under, top.z)))
    kind, at = d.pick({"back": 2, "shelf": 2, "both": 1}), d.between(0.1, 0.8) * top.under
    pieces = [sides]
    if kind != "shelf":
        pieces.append(box((-x, at * 0.6, -top.z), (x, top.under, -top.z + 2 * board)))
    if kind != "back":
        pieces.append(box((-x, at, -top.z), (x, at + 0.02, top.z)))
    return pieces


def crossed(top: Top, d: Dials) -> list[Piece]:
    """Two crosses of bars joined by a beam."""
    thick, x = d.between(0.015, 0.035), top.x * d.between(0.75, 1.0)
    z, y = top.z, top.under
    section = SQUARE if d.chance(0.6) else ROUND
    cross = beams([[x, 0, z], [x, 0, -z]], [[x, y, -z], [x, y, z]], thick, None, section)
    return [both_sides(cross), beams([[-x, y / 2, 0]], [[x, y / 2, 0]], 0.8 * thick)]


def desk(top: Top, d: Dials) -> list[Piece]:
    """A chest of drawers on one or both sides, legs on the other."""
    x, z, y = top.x, top.z, top.under
    wide, low, count = d.between(0.5, 0.8) * x, d.between(0.0, 0.4) * y, d.whole(2, 4)
    chest = [box((x - wide, low, -z), (x, y, z))]
    for row in range(count):
        chest += knobs(x - wide, x, low + (y - low) * (row + 0.5) / count, z, 1)
    thick = 0.022
    if low > 0.05:
        inner = x - wide + thick
        corners = [[x - thick, z - thick], [x - thick, thick - z], [inner, z - thick], [inner, thick - z]]
        chest.append(beams([[a, low + 0.01, b] for a, b in corners], [[a, 0, b] for a, b in corners], thick))
    if d.chance(0.4):
        return [both_sides(p) for p in chest]
    rows = [[thick - x, 0, z - thick], [thick - x, 0, thick - z]]
    return [*chest, beams(rows, [[a, y, b] for a, _, b in rows], thick, None, SQUARE)]


def bent(top: Top, d: Dials) -> list[Piece]:
    """Two frames of flat bar, each a U turned over or a hoop standing on its lower run."""
    bar, x, z = d.between(0.008, 0.02), top.x * d.between(0.7, 1.0), top.z * d.between(0.8, 1.0)
    y, foot = top.under, d.between(0.6, 1.0) * z
    path = [[x, y, -z], [x, 0.02, -foot], [x, bar, 0.02 - foot], [x, bar, foot - 0.02], [x, 0.02, foot], [x, y, z]]
    frame = both_sides(sweep(np.array([path]), np.array([d.between(1.0, 3.0) * bar, bar]), (1, 0, 0), SQUARE))
    return [frame, beams([[-x, bar, 0]], [[x, bar, 0]], bar)] if d.chance(0.3) else [frame]


LEGS: dict[str, Callable[[Top, Dials], list[Piece]]] = {
    "four": four,
    "pedestal": pedestal,
    "trestle": trestle,
    "panels": panels,
    "crossed": crossed,
    "desk": desk,
    "bent": bent,
}
