"""Chairs: a seat, six kinds of legs, six kinds of backs, arms, cushions and stretchers; metres, facing +z."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes import lofts
from becalm.shapes.lofts import ROUND, SQUARE, Piece, beams, box, merge, mirrored_copies, slab, superellipse, sweep
from becalm.shapes.param_reader import ParamReader


@dataclass(frozen=True)
class Seat:
    """What legs, backs and arms fasten to."""

    x: float
    """Half width at which a post still meets the seat."""
    z: float
    """Half depth at which a post at ±x still meets the seat."""
    height: float
    """Of the seat's upper side."""
    thick: float
    """Of the seat's board."""


def chair(legs: str, back: str, u: ParamReader) -> Mesh:
    """A chair with legs of `LEGS` and a back of `BACKS`."""
    half, depth = u.uniform(0.19, 0.31), u.uniform(0.18, 0.28)
    height, thick = u.uniform(0.36, 0.54), u.uniform(0.015, 0.07)
    exponent = float(np.exp(u.uniform(np.log(2.0), np.log(16.0))))
    outline = superellipse(exponent) * [half, depth]
    narrow = u.uniform(0.0, 0.22)
    outline[:, 0] *= 1 - narrow * (0.5 - 0.5 * outline[:, 1] / depth)
    corner = 0.93 * 2 ** (-1 / exponent)
    seat = Seat(half * corner * (1 - narrow), depth * corner, height, thick)
    pieces = [slab(outline, [height - thick, height])]
    if u.boolean(0.35):
        puff, inset = u.uniform(0.02, 0.08), u.uniform(0.85, 0.98)
        pieces.append(slab(outline * inset, [height, height + 0.6 * puff, height + puff], [1, 1, 0.9]))
    return merge([*pieces, *LEGS[legs](seat, u), *BACKS[back](seat, u), *arms(seat, u)])


# Legs


def four(seat: Seat, u: ParamReader) -> list[Piece]:
    """Four straight legs, splayed or not, tapering or not, with stretchers in some."""
    thick, thin = u.uniform(0.012, 0.03), u.uniform(0.5, 1.0)
    splay, section = u.uniform(0.0, 0.25), SQUARE if u.boolean(0.5) else ROUND
    top = seat.height - seat.thick / 2
    x, z = seat.x - 0.7 * thick, seat.z - 0.7 * thick
    ends = np.array([[x, z], [-x, z], [x, -z], [-x, -z]])
    feet = ends * (1 + splay)
    legs = [
        beams(np.c_[ends[:, 0], [top] * 4, ends[:, 1]], np.c_[feet[:, 0], [0] * 4, feet[:, 1]], thick, thin, section)
    ]
    kind, at, rod = u.choice({"none": 4, "sides": 2, "h": 2, "ring": 2}), u.uniform(0.2, 0.6), 0.6 * thick
    x, z = (np.array([x, z]) * (1 + splay * (1 - at))).tolist()
    y = at * top
    if kind != "none":
        legs.append(mirrored_copies(beams([[x, y, -z]], [[x, y, z]], rod)))
    if kind == "h":
        legs.append(beams([[-x, y, 0]], [[x, y, 0]], rod))
    if kind == "ring":
        legs.append(mirrored_copies(beams([[-x, y, z]], [[x, y, z]], rod), axis=2))
    return legs


def pedestal(seat: Seat, u: ParamReader) -> list[Piece]:
    """A column on a star of three to six feet, on castors or not, or on a disc."""
    column, reach = u.uniform(0.015, 0.04), u.uniform(0.8, 1.15) * max(seat.x, seat.z) / 0.9
    feet, castor, tilt = u.integer(3, 6), u.boolean(0.5), u.uniform(0.02, 0.08)
    top = seat.height - seat.thick / 2
    if u.boolean(0.35):
        foot = lofts.lathe(np.array([[0, 0], [1, 0], [1, 0.25], [0.2, 1.0], [0, 1.0]]) * [reach * 0.9, tilt])
        return [foot, beams([[0, tilt / 2, 0]], [[0, top, 0]], column)]
    lift = 0.05 if castor else 0.0
    star = lofts.rotated_copies(
        beams([[0, lift + tilt + 0.02, 0]], [[reach, lift + 0.02, 0]], [0.022, 0.018], 0.7, SQUARE), feet, 0.3
    )
    pieces = [star, beams([[0, lift + tilt, 0]], [[0, top, 0]], column)]
    if castor:
        wheel = beams([[0.97 * reach, 0.03, -0.02]], [[0.97 * reach, 0.03, 0.02]], 0.032)
        pieces.append(lofts.rotated_copies(wheel, feet, 0.3))
    return pieces


def sled(seat: Seat, u: ParamReader) -> list[Piece]:
    """Two loops of tube, one on each side, standing on their lower runs."""
    rod, slope = u.uniform(0.009, 0.02), u.uniform(0.9, 1.2)
    top, x, z = seat.height - seat.thick / 2, seat.x - rod, seat.z - rod
    path = [[x, top, z], [x, 3 * rod, slope * z], [x, rod, slope * z - 2 * rod]]
    path += [[x, rod, 2 * rod - slope * z], [x, 3 * rod, -slope * z], [x, top, -z]]
    loops = mirrored_copies(sweep(np.array([path]), rod, (1, 0, 0)))
    brace = beams([[-x, rod, -0.8 * z]], [[x, rod, -0.8 * z]], rod)
    return [loops, brace] if u.boolean(0.6) else [loops]


def cantilever(seat: Seat, u: ParamReader) -> list[Piece]:
    """Tubes that rise at the front only and run back along the floor."""
    rod, lean = u.uniform(0.011, 0.022), u.uniform(0.95, 1.1)
    top, x, z = seat.height - seat.thick / 2, seat.x - rod, seat.z
    path = [[x, rod, -lean * z], [x, rod, lean * z - 0.05], [x, 0.015 + rod, lean * z - 0.012], [x, 0.06, lean * z]]
    path += [
        [x, top - 0.05, z * 0.98],
        [x, top - 0.012, z * 0.98 - 0.012],
        [x, top, z * 0.98 - 0.05],
        [x, top, -z * 0.8],
    ]
    run = mirrored_copies(sweep(np.array([path]), rod, (1, 0, 0)))
    return [run, beams([[-x, rod, -lean * z]], [[x, rod, -lean * z]], rod)]


def panels(seat: Seat, u: ParamReader) -> list[Piece]:
    """Two boards under the sides of the seat, a third at the rear in some."""
    board, foot = u.uniform(0.01, 0.03), u.uniform(0.85, 1.1)
    top, x, z = seat.height - seat.thick / 2, seat.x, seat.z
    sides = mirrored_copies(beams([[x - board, 0, 0]], [[x - board, top, 0]], [board, foot * z], 1 / foot, SQUARE))
    if u.boolean(0.5):
        return [sides, box((-x, u.uniform(0, 0.5) * top, -0.8 * z), (x, top, -0.8 * z + 2 * board))]
    return [sides]


def crossed_legs(seat: Seat, u: ParamReader) -> list[Piece]:
    """Legs that cross like scissors on both sides, or across the front and the rear."""
    rod, top = u.uniform(0.011, 0.022), seat.height - seat.thick / 2
    section = SQUARE if u.boolean(0.5) else ROUND
    x, z = seat.x - rod, seat.z - rod
    if u.boolean(0.6):
        pair = beams([[x, 0, z], [x, 0, -z]], [[x, top, -z], [x, top, z]], rod, None, section)
        return [mirrored_copies(pair), beams([[-x, top / 2, 0]], [[x, top / 2, 0]], 0.8 * rod)]
    pair = beams([[x, 0, z], [-x, 0, z]], [[-x, top, z], [x, top, z]], rod, None, section)
    return [mirrored_copies(pair, axis=2), beams([[0, top / 2, -z]], [[0, top / 2, z]], 0.8 * rod)]


LEGS: dict[str, Callable[[Seat, ParamReader], list[Piece]]] = {
    "four": four,
    "pedestal": pedestal,
    "sled": sled,
    "cantilever": cantilever,
    "panels": panels,
    "crossed": crossed_legs,
}


# Backs


@dataclass(frozen=True)
class Rest:
    """The plane of a back: where (x, s) of it lies in space, s from the seat up."""

    x: float
    """Half width."""
    tall: float
    """Above the seat."""
    lean: float
    """How far back per metre of height."""
    bow: float
    """How far the middle lies behind the sides."""
    seat: Seat

    def at(self, x: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Points [..., 3]."""
        x, s = np.broadcast_arrays(x, s)
        behind = self.bow * (1 - (x / self.x) ** 2) + self.lean * np.maximum(s, 0)
        return np.stack([x, self.seat.height + s, -0.95 * self.seat.z - behind], axis=-1)

    def rails(self, s: np.ndarray, sizes: tuple[float, float]) -> Piece:
        """Bars across the back at heights s [p], bowed: half height and half thickness."""
        x = np.linspace(-self.x, self.x, 9)
        paths = self.at(x, s[:, None])
        return sweep(paths, np.array(sizes), (0, 1, -self.lean), SQUARE)

    def posts(self, x: np.ndarray, top: float, rod: float, section: np.ndarray = ROUND) -> Piece:
        """Uprights at x [p] from inside the seat to s = top, curved as the back is."""
        s = np.linspace(-self.seat.thick / 2, top, 3)
        return sweep(self.at(x[:, None], s), rod, (1, 0, 0), section)


def rest(seat: Seat, u: ParamReader) -> Rest:
    """The plane of a back and the two posts' places."""
    return Rest(seat.x * u.uniform(0.85, 1.0), u.uniform(0.24, 0.68), u.uniform(0.0, 0.35), u.uniform(0.0, 0.06), seat)


def stool(seat: Seat, u: ParamReader) -> list[Piece]:
    """No back."""
    return []


def panel(seat: Seat, u: ParamReader) -> list[Piece]:
    """One bowed board, from the seat up or on two posts."""
    r, board, gap = rest(seat, u), u.uniform(0.008, 0.03), u.uniform(-0.5, 0.5)
    low = max(gap, 0.0) * r.tall - (seat.thick / 2 if gap <= 0 else 0)
    pieces = [r.rails(np.array([(low + r.tall) / 2]), ((r.tall - low) / 2, board))]
    if gap > 0 or r.bow > 0.01:
        ends = r.x * np.array([-1, 1]) * 0.97
        pieces.append(r.posts(ends, r.tall * (0.97 if u.boolean(0.5) else 0.6), max(board, 0.011)))
    return pieces


def ladder(seat: Seat, u: ParamReader) -> list[Piece]:
    """Two posts and two to six slats across."""
    r, rod, count = rest(seat, u), u.uniform(0.011, 0.022), u.integer(2, 6)
    fill, section = u.uniform(0.25, 0.7), SQUARE if u.boolean(0.5) else ROUND
    low = u.uniform(0.15, 0.5) * r.tall
    step = (r.tall - low) / count
    heights = low + step * (np.arange(count) + 1 - fill / 2)
    return [r.posts(r.x * np.array([-1.0, 1]), r.tall, rod, section), r.rails(heights, (step * fill / 2, 0.6 * rod))]


def spindle(seat: Seat, u: ParamReader) -> list[Piece]:
    """A top rail on two posts and three to nine thin bars."""
    r, rod, count = rest(seat, u), u.uniform(0.011, 0.02), u.integer(3, 9)
    rail = u.uniform(0.015, 0.06)
    r = Rest(r.x, r.tall, r.lean, min(r.bow, 0.02), seat)
    inner = np.linspace(-r.x, r.x, count + 2)[1:-1]
    pieces = [r.posts(r.x * np.array([-1.0, 1]), r.tall, rod), r.rails(np.array([r.tall - rail]), (rail, rod))]
    if u.boolean(0.4):
        low = u.uniform(0.1, 0.35) * r.tall
        paths = r.at(inner[:, None], np.array([low, r.tall - rail]))
        return [*pieces, r.rails(np.array([low]), (0.018, rod)), sweep(paths, 0.6 * rod, (1, 0, 0))]
    return [*pieces, r.posts(inner, r.tall - rail, 0.6 * rod)]


def hoop(seat: Seat, u: ParamReader) -> list[Piece]:
    """A bent tube from one side of the seat to the other, with a board, bars or nothing in it."""
    r, rod = rest(seat, u), u.uniform(0.011, 0.022)
    r = Rest(r.x, r.tall, r.lean, 0.0, seat)
    turn, exponent = np.linspace(0, np.pi, 19), u.uniform(2.0, 6.0)
    c, s = np.cos(turn), np.sin(turn)
    scale = (np.abs(c) ** exponent + np.abs(s) ** exponent) ** (-1 / exponent)
    foot = seat.thick / 2
    pieces = [sweep(r.at(r.x * c * scale, r.tall * s * scale - foot)[None], rod, (0, 0.1, 1))]
    filling = u.choice({"none": 1, "bars": 2, "board": 2})
    if filling == "bars":
        x = np.linspace(-0.6, 0.6, u.integer(2, 5))
        top = r.tall * (1 - np.abs(x) ** exponent) ** (1 / exponent) - foot
        paths = r.at(r.x * x[:, None] * np.ones(2), np.stack([np.full_like(x, -foot), top], 1))
        pieces.append(sweep(paths, 0.6 * rod, (1, 0, 0)))
    if filling == "board":
        wide = u.uniform(0.12, 0.3) * r.x
        path = r.at(np.zeros(5), np.linspace(-foot, r.tall - foot, 5))
        pieces.append(sweep(path[None], np.array([wide, 0.008]), (1, 0, 0), SQUARE))
    return pieces


def oval(seat: Seat, u: ParamReader) -> list[Piece]:
    """A cushioned disc or medallion on one or two posts."""
    r, rod = rest(seat, u), u.uniform(0.011, 0.02)
    r = Rest(r.x, r.tall, r.lean, 0.0, seat)
    half = np.array([r.x * u.uniform(0.7, 1.1), r.tall * u.uniform(0.28, 0.42)])
    thick, swell = u.uniform(0.012, 0.04), u.uniform(0.6, 1.0)
    disc = slab(superellipse(u.uniform(2.0, 4.0)) * half, [-thick, 0, thick], [swell, 1, swell])
    tilt = np.arctan(r.lean)
    centre = r.at(np.zeros(1), np.array([r.tall - half[1]]))[0]
    disc = lofts.translate(lofts.rotate(disc, 0, np.pi / 2 - tilt), centre)
    x = np.array([0.0]) if u.boolean(0.3) else half[0] * 0.5 * np.array([-1.0, 1])
    x = np.clip(x, -seat.x, seat.x)
    return [disc, r.posts(x, r.tall - half[1], rod)]


BACKS: dict[str, Callable[[Seat, ParamReader], list[Piece]]] = {
    "stool": stool,
    "panel": panel,
    "ladder": ladder,
    "spindle": spindle,
    "hoop": hoop,
    "oval": oval,
}


def arms(seat: Seat, u: ParamReader) -> list[Piece]:
    """None in most; bars on two supports each, or closed sides."""
    kind = u.choice({"none": 6, "bars": 3, "sides": 1.2})
    if kind == "none":
        return []
    rise, thick = u.uniform(0.14, 0.26), u.uniform(0.012, 0.03)
    low, top, x = seat.height - seat.thick / 2, seat.height + rise, seat.x - thick
    front, rear = seat.z * u.uniform(0.3, 0.95), -0.9 * seat.z
    if kind == "sides":
        return [mirrored_copies(box((x - thick, low, rear), (x + thick, top, front)))]
    flat = np.array([thick, thick * u.uniform(0.4, 1.0)])
    over = u.uniform(0.0, 0.05)
    rest_ = beams([[x, top, rear - over]], [[x, top, front + over]], flat, None, SQUARE)
    posts = beams([[x, low, front], [x, low, rear]], [[x, top, front], [x, top, rear]], 0.7 * thick)
    return [mirrored_copies(rest_), mirrored_copies(posts)]
