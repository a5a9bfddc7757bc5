"""The fuselage and the wings of aeroplanes: five kinds; the nose points to +x, a fuselage is 1 long."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from becalm.shapes.lofts import Piece, Vector, beams, loft, mirrored_copies, superellipse
from becalm.shapes.param_reader import ParamReader

OVAL = superellipse(2, 18)
AEROFOIL = np.array([[0.5, 0], [0.42, 0.5], [0.2, 0.95], [0, 0.85], [-0.25, 0.5], [-0.5, 0.0]])
AEROFOIL = np.concatenate([AEROFOIL, AEROFOIL[-2:0:-1] * [1, -0.6]])[::-1]
"""[10, 2] chord × thickness, each of size about 1."""


@dataclass(frozen=True)
class Body:
    """A fuselage about the x axis, from −0.5 to 0.5."""

    x: np.ndarray
    """[k] stations."""
    radius: np.ndarray
    """[k] half width."""
    middle: np.ndarray
    """[k] height of the centre line."""
    oval: float
    """Height over width."""

    def at(self, x: float) -> tuple[float, float]:
        """Half width and height of the centre line at a station."""
        return float(np.interp(x, self.x, self.radius)), float(np.interp(x, self.x, self.middle))

    def to_piece(self) -> Piece:
        rings = np.empty((1, len(self.x), len(OVAL), 3))
        rings[0, :, :, 0] = self.x[:, None]
        rings[0, :, :, 1] = self.middle[:, None] + self.oval * self.radius[:, None] * OVAL[:, 1]
        rings[0, :, :, 2] = self.radius[:, None] * OVAL[:, 0]
        return loft(rings)


def body(u: ParamReader) -> Body:
    """A nose, a straight middle and a tail that rises."""
    x = np.concatenate([np.linspace(-0.5, 0.2, 8), np.linspace(0.28, 0.5, 7)])
    nose, tail, wide = u.uniform(0.08, 0.25), u.uniform(0.2, 0.55), u.uniform(0.03, 0.075)
    end, blunt = u.uniform(0.08, 0.4), u.uniform(0.4, 0.75)
    ahead = np.clip((x - (0.5 - nose)) / nose, 0, 1)
    behind = np.clip((tail - 0.5 - x) / tail, 0, 1)
    radius = wide * (1 - ahead**2) ** blunt * (1 - (1 - end) * behind**1.5)
    middle = wide * (u.uniform(0.2, 0.9) * behind**1.5 - u.uniform(0.0, 0.3) * ahead**2)
    return Body(x, np.maximum(radius, 0.003), middle, u.uniform(0.9, 1.25))


def wing(root: Vector, tip: Vector, chords: tuple[float, float], thick: float) -> Piece:
    """A lofted half wing between two section centres (x, y, z), with chords in x; it must run across x."""
    start, end = np.asarray(root, float), np.asarray(tip, float)
    run = (end - start) * [0, 1, 1]
    up = np.array([0, run[2], -run[1]]) / np.hypot(run[1], run[2])
    share = np.array([0, 0.5, 0.97, 1.0])
    chord = chords[0] + (chords[1] - chords[0]) * share
    height = chord * thick * np.array([1, 1, 1, 0.3])
    centre = start + share[:, None] * (end - start)
    flat = chord[:, None, None] * AEROFOIL[:, :1] * np.array([1.0, 0, 0])
    return loft((centre[:, None] + flat + height[:, None, None] * AEROFOIL[:, 1:] * up)[None])


@dataclass(frozen=True)
class Wing:
    """Where the main wing lies, for what hangs on it."""

    root: np.ndarray
    """Centre of the root section [3]."""
    tip: np.ndarray
    """Centre of the tip section [3]."""
    chords: tuple[float, float]
    """At root and tip."""

    def at(self, share: float) -> tuple[np.ndarray, float]:
        """Centre of the section and its chord at a share of the half span."""
        return self.root + share * (self.tip - self.root), self.chords[0] + share * (self.chords[1] - self.chords[0])


def _wing(
    hull: Body, u: ParamReader, x: float, level: float, sweep_back: float, rise: float, chords: tuple[float, float]
) -> Wing:
    wide, middle = hull.at(x)
    span = u.uniform(0.32, 0.6)
    root = np.array([x, middle + level * wide * hull.oval, 0.0])
    return Wing(root, root + [-sweep_back * span, rise * span, span], chords)


def _mirrored_wing(main: Wing, thick: float) -> Piece:
    return mirrored_copies(wing(tuple(main.root), tuple(main.tip), main.chords, thick), axis=2)


def swept_wing(hull: Body, u: ParamReader) -> tuple[Wing, list[Piece]]:
    """An airliner's wing: swept back, low or high, with winglets in some."""
    root = u.uniform(0.14, 0.26)
    chords = (root, root * u.uniform(0.2, 0.5))
    level = -0.6 if u.boolean(0.7) else 0.75
    main = _wing(
        hull, u, u.uniform(-0.02, 0.12), level, u.uniform(0.3, 0.8), u.uniform(0.0, 0.15) * np.sign(-level), chords
    )
    pieces = [_mirrored_wing(main, u.uniform(0.05, 0.12))]
    if u.boolean(0.4):
        top = main.tip + [-0.06, u.uniform(0.04, 0.1), 0.015]
        pieces.append(mirrored_copies(wing(tuple(main.tip), tuple(top), (chords[1], 0.5 * chords[1]), 0.1), axis=2))
    return main, pieces


def straight_wing(hull: Body, u: ParamReader) -> tuple[Wing, list[Piece]]:
    """A wing straight across the body, low, middle or high, that tapers."""
    root = u.uniform(0.12, 0.22)
    chords = (root, root * u.uniform(0.4, 1.0))
    main = _wing(
        hull, u, u.uniform(0.0, 0.18), u.uniform(-0.8, 0.85), u.uniform(-0.05, 0.12), u.uniform(0.0, 0.14), chords
    )
    return main, [_mirrored_wing(main, u.uniform(0.08, 0.16))]


def delta_wing(hull: Body, u: ParamReader) -> tuple[Wing, list[Piece]]:
    """A triangular wing far back, with small wings ahead in some."""
    root = u.uniform(0.4, 0.62)
    chords = (root, root * u.uniform(0.05, 0.25))
    sweep_back, x = u.uniform(0.5, 0.8), u.uniform(-0.2, -0.05)
    main = _wing(hull, u, x, u.uniform(-0.6, 0.2), sweep_back * root / 0.5 * 0.6, u.uniform(-0.05, 0.08), chords)
    pieces = [_mirrored_wing(main, u.uniform(0.03, 0.07))]
    if u.boolean(0.45):
        wide, middle = hull.at(0.26)
        ahead = wing(
            (0.26, middle + 0.3 * wide, 0), (0.2, middle + 0.3 * wide, u.uniform(0.1, 0.18)), (0.11, 0.05), 0.08
        )
        pieces.append(mirrored_copies(ahead, axis=2))
    return main, pieces


def biplane_wing(hull: Body, u: ParamReader) -> tuple[Wing, list[Piece]]:
    """Two wings one above the other, with struts between them and to the body."""
    chord, x, gap = u.uniform(0.12, 0.19), u.uniform(0.08, 0.2), u.uniform(0.11, 0.17)
    main = _wing(hull, u, x, -0.7, 0.0, u.uniform(0.0, 0.06), (chord, chord * u.uniform(0.8, 1.0)))
    stagger = u.uniform(0.0, 0.05)
    lift = np.array([stagger, gap + hull.at(x)[0], 0.0])
    upper = Wing(main.root + lift, main.tip * [1, 1, u.uniform(0.9, 1.1)] + lift, main.chords)
    pieces = [_mirrored_wing(main, 0.09), _mirrored_wing(upper, 0.09)]
    for share in (0.12, u.uniform(0.5, 0.85)) if u.boolean(0.7) else (0.12, 0.45, 0.85):
        (low, wide), (high, _) = main.at(share), upper.at(share)
        off = np.array([0.3 * wide, 0, 0])
        high = high * [1, 1, 0] + low * [0, 0, 1]
        pieces.append(mirrored_copies(beams([low + off, low - off], [high + off, high - off], 0.006), axis=2))
    return main, pieces


def braced_wing(hull: Body, u: ParamReader) -> tuple[Wing, list[Piece]]:
    """One wing on top of the body, with a slanting strut on each side."""
    chord = u.uniform(0.13, 0.2)
    main = _wing(
        hull,
        u,
        u.uniform(0.05, 0.18),
        0.9,
        u.uniform(-0.03, 0.06),
        u.uniform(0, 0.05),
        (chord, chord * u.uniform(0.6, 1)),
    )
    pieces = [_mirrored_wing(main, u.uniform(0.09, 0.15))]
    (end, _), (wide, middle) = main.at(u.uniform(0.4, 0.65)), hull.at(float(main.root[0]))
    foot = np.array([main.root[0], middle - 0.5 * wide * hull.oval, 0.7 * wide])
    pieces.append(mirrored_copies(beams([foot], [end], [0.012, 0.006]), axis=2))
    return main, pieces


WINGS: dict[str, Callable[[Body, ParamReader], tuple[Wing, list[Piece]]]] = {
    "swept": swept_wing,
    "straight": straight_wing,
    "delta": delta_wing,
    "biplane": biplane_wing,
    "braced": braced_wing,
}
