"""Aeroplanes: a fuselage, five kinds of wings, four of tails, five of engines, wheels and floats; the nose points to +x."""

from collections.abc import Callable

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.lofts import SQUARE, Piece, around, beams, both_sides, joined, lathe, moved, superellipse, turned
from becalm.shapes.param_reader import Dials
from becalm.shapes.wings import WINGS, Body, Wing, body, wing


def aeroplane(wings: str, tail: str, d: Dials) -> Mesh:
    """An aeroplane with wings of `WINGS` and a tail of `TAILS`."""
    hull = body(d)
    main, pieces = WINGS[wings](hull, d)
    fly = [hull.piece(), *pieces, *TAILS[tail](hull, d)]
    kinds = (
        {"propeller": 3, "none": 1.5}
        if wings in ("biplane", "braced")
        else {"none": 1, "under": 4, "rear": 2, "props": 2}
    )
    fly += ENGINES[d.pick(kinds)](hull, main, d)
    if d.chance(0.35):
        reach, (wide, middle) = d.between(0.1, 0.3), hull.at(0.3)
        canopy = lathe(
            np.c_[np.sin(np.linspace(0, np.pi, 8)), -np.cos(np.linspace(0, np.pi, 8))] * [0.7 * wide, reach / 2]
        )
        fly.append(moved(turned(canopy, 2, np.pi / 2), (0.42 - nose_room(reach), middle + 0.75 * wide * hull.oval, 0)))
    if wings in ("biplane", "braced") or d.chance(0.2):
        fly += gear(hull, main, d)
    return joined(fly)


def nose_room(reach: float) -> float:
    """How far behind the nose a canopy's middle must lie."""
    return 0.1 + reach / 2


def _fin(hull: Body, d: Dials) -> tuple[Piece, np.ndarray, float]:
    """An upright fin, the centre of its upper end and the chord there."""
    tall, chord, x = d.between(0.1, 0.2), d.between(0.1, 0.2), -0.4
    wide, middle = hull.at(x)
    tip = np.array([x - d.between(0.1, 0.7) * tall, middle + wide + tall, 0.0])
    chords = (chord, chord * d.between(0.35, 0.9))
    return wing((x, middle, 0), tuple(tip), chords, 0.08), tip, chords[1]


def _plane(centre: np.ndarray, d: Dials, rise: float) -> Piece:
    """The two halves of a tailplane."""
    span, chord = d.between(0.12, 0.22), d.between(0.08, 0.13)
    tip = centre + [-d.between(0.0, 0.6) * span, rise * span, span]
    return both_sides(wing(tuple(centre), tuple(tip), (chord, chord * d.between(0.4, 0.9)), 0.08), axis=2)


def plain(hull: Body, d: Dials) -> list[Piece]:
    """A fin, and a tailplane on the body or part of the way up the fin."""
    fin, tip, _ = _fin(hull, d)
    foot = np.array([-0.41, hull.at(-0.41)[1], 0])
    share = 0.4 if d.chance(0.2) else 0.0
    return [fin, _plane(foot + share * (tip - foot), d, d.between(-0.05, 0.2))]


def tee(hull: Body, d: Dials) -> list[Piece]:
    """A tailplane on top of the fin."""
    fin, tip, _ = _fin(hull, d)
    return [fin, _plane(tip - [0, 0.004, 0], d, d.between(-0.1, 0.05))]


def vee(hull: Body, d: Dials) -> list[Piece]:
    """Two slanting planes."""
    return [_plane(np.array([-0.4, hull.at(-0.4)[1], 0]), d, d.between(0.6, 1.1))]


def twin(hull: Body, d: Dials) -> list[Piece]:
    """A tailplane with a fin at each end."""
    span, chord, tall = d.between(0.1, 0.2), d.between(0.1, 0.14), d.between(0.06, 0.14)
    x, y = -0.42, hull.at(-0.42)[1]
    flat = wing((x, y, 0), (x, y, span), (chord, chord), 0.08)
    low = d.between(0.1, 0.5) * tall
    fin = wing((x - 0.01, y - low, span - 0.003), (x - 0.03, y + tall, span), (0.8 * chord, 0.6 * chord), 0.08)
    return [both_sides(flat, axis=2), both_sides(fin, axis=2)]


TAILS: dict[str, Callable[[Body, Dials], list[Piece]]] = {"plain": plain, "tee": tee, "vee": vee, "twin": twin}


def _nacelle(reach: float, wide: float) -> Piece:
    """A pod along x about 0, open ends drawn in."""
    profile = np.array([[0.0, 0.8], [0.8, 0.9], [1, 0.6], [0.95, 0], [0.6, -0.9], [0.35, -1], [0, -0.9]])
    return turned(lathe(profile[::-1] * [wide, reach / 2], superellipse(2, 16)), 2, -np.pi / 2)


def _blades(d: Dials, reach: float) -> Piece:
    """A propeller in the plane across x, about 0."""
    blade = beams([[0, 0, 0]], [[reach, 0, 0]], [0.005, 0.012], 0.8, SQUARE)
    return turned(around(blade, d.whole(2, 4), d.between(0, 1)), 2, np.pi / 2)


def under(hull: Body, main: Wing, d: Dials) -> list[Piece]:
    """Two or four pods on pylons below the wing."""
    wide = d.between(0.018, 0.035)
    reach, drop, shares = (
        d.between(0.09, 0.15),
        wide * d.between(1.05, 1.5),
        (0.33, 0.62) if d.chance(0.35) else (0.35,),
    )
    pieces = []
    for share in shares:
        at, chord = main.at(share)
        pod = at + [0.35 * chord, -drop, 0]
        pylon = beams([at], [pod], [0.006, 0.25 * chord], 0.8, SQUARE)
        pieces += [both_sides(moved(_nacelle(reach, wide), pod), axis=2), both_sides(pylon, axis=2)]
    return pieces


def rear(hull: Body, main: Wing, d: Dials) -> list[Piece]:
    """Two pods beside the rear of the body."""
    x, size = d.between(-0.34, -0.26), d.between(0.018, 0.03)
    wide, middle = hull.at(x)
    pod = np.array([x, middle + 0.4 * wide, wide + 1.1 * size])
    stub = beams([[x, middle + 0.3 * wide, 0]], [pod], [0.04, 0.006], None, SQUARE)
    return [both_sides(moved(_nacelle(d.between(0.1, 0.16), size), pod), axis=2), both_sides(stub, axis=2)]


def props(hull: Body, main: Wing, d: Dials) -> list[Piece]:
    """Two or four engines in the wing, with propellers."""
    reach, pieces = d.between(0.06, 0.09), []
    for share in (0.3, 0.58) if d.chance(0.3) else (0.32,):
        at, chord = main.at(share)
        length = 0.8 * chord + 0.05
        front = at + [0.3 * chord + 0.4 * length, 0, 0]
        pod = both_sides(moved(_nacelle(length, 0.022), at + [0.3 * chord, 0, 0]), axis=2)
        pieces += [pod, both_sides(moved(_blades(d, reach), front - [0.005, 0, 0]), axis=2)]
    return pieces


def propeller(hull: Body, main: Wing, d: Dials) -> list[Piece]:
    """One at the nose."""
    return [moved(_blades(d, d.between(0.07, 0.12)), (0.496, hull.at(0.496)[1], 0))]


ENGINES: dict[str, Callable[[Body, Wing, Dials], list[Piece]]] = {
    "none": lambda hull, main, d: [],
    "under": under,
    "rear": rear,
    "props": props,
    "propeller": propeller,
}


def gear(hull: Body, main: Wing, d: Dials) -> list[Piece]:
    """Two wheels on legs below the body, and floats in place of them in some."""
    x, drop = float(np.clip(main.root[0] + 0.06, -0.2, 0.3)), d.between(0.07, 0.12)
    wide, middle = hull.at(x)
    low, apart = middle - wide * hull.oval - drop, wide + d.between(0.02, 0.07)
    if d.chance(0.2):
        pod = both_sides(moved(_nacelle(0.45, 0.022), (x - 0.02, low, apart)), axis=2)
        legs = beams(
            [[x + 0.1, middle, 0], [x - 0.12, middle, 0]], [[x + 0.1, low, apart], [x - 0.12, low, apart]], 0.006
        )
        return [pod, both_sides(legs, axis=2)]
    leg = beams([[x, middle, 0]], [[x, low, apart]], 0.007)
    wheel = beams([[x, low, apart - 0.012]], [[x, low, apart + 0.012]], 0.03)
    tail = hull.at(-0.44)
    third = beams([[-0.44, tail[1], 0]], [[-0.45, tail[1] - tail[0] - 0.4 * drop, 0]], 0.006)
    return [both_sides(leg, axis=2), both_sides(wheel, axis=2), third]
