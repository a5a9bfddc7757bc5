"""Aeroplanes: a fuselage, five kinds of wings, four of tails, five of engines, wheels and floats; the nose points to +x."""

from collections.abc import Callable

import numpy as np

from becalm.points.mesh import Mesh
from becalm.shapes.lofts import (
    SQUARE,
    Piece,
    beams,
    lathe,
    merge,
    mirrored_copies,
    rotate,
    rotated_copies,
    superellipse,
    translate,
)
from becalm.shapes.param_reader import ParamReader
from becalm.shapes.wings import WINGS, Body, Wing, body, wing


def aeroplane(wings: str, tail: str, u: ParamReader) -> Mesh:
    """An aeroplane with wings of `WINGS` and a tail of `TAILS`."""
    hull = body(u)
    main, pieces = WINGS[wings](hull, u)
    fly = [hull.to_piece(), *pieces, *TAILS[tail](hull, u)]
    kinds = (
        {"propeller": 3, "none": 1.5}
        if wings in ("biplane", "braced")
        else {"none": 1, "under": 4, "rear": 2, "props": 2}
    )
    fly += ENGINES[u.choice(kinds)](hull, main, u)
    if u.boolean(0.35):
        reach, (wide, middle) = u.uniform(0.1, 0.3), hull.at(0.3)
        canopy = lathe(
            np.c_[np.sin(np.linspace(0, np.pi, 8)), -np.cos(np.linspace(0, np.pi, 8))] * [0.7 * wide, reach / 2]
        )
        fly.append(
            translate(rotate(canopy, 2, np.pi / 2), (0.42 - nose_room(reach), middle + 0.75 * wide * hull.oval, 0))
        )
    if wings in ("biplane", "braced") or u.boolean(0.2):
        fly += gear(hull, main, u)
    return merge(fly)


def nose_room(reach: float) -> float:
    """How far behind the nose a canopy's middle must lie."""
    return 0.1 + reach / 2


def _fin(hull: Body, u: ParamReader) -> tuple[Piece, np.ndarray, float]:
    """An upright fin, the centre of its upper end and the chord there."""
    tall, chord, x = u.uniform(0.1, 0.2), u.uniform(0.1, 0.2), -0.4
    wide, middle = hull.at(x)
    tip = np.array([x - u.uniform(0.1, 0.7) * tall, middle + wide + tall, 0.0])
    chords = (chord, chord * u.uniform(0.35, 0.9))
    return wing((x, middle, 0), tuple(tip), chords, 0.08), tip, chords[1]


def _tailplane(centre: np.ndarray, u: ParamReader, rise: float) -> Piece:
    """The two halves of a tailplane."""
    span, chord = u.uniform(0.12, 0.22), u.uniform(0.08, 0.13)
    tip = centre + [-u.uniform(0.0, 0.6) * span, rise * span, span]
    return mirrored_copies(wing(tuple(centre), tuple(tip), (chord, chord * u.uniform(0.4, 0.9)), 0.08), axis=2)


def plain(hull: Body, u: ParamReader) -> list[Piece]:
    """A fin, and a tailplane on the body or part of the way up the fin."""
    fin, tip, _ = _fin(hull, u)
    foot = np.array([-0.41, hull.at(-0.41)[1], 0])
    share = 0.4 if u.boolean(0.2) else 0.0
    return [fin, _tailplane(foot + share * (tip - foot), u, u.uniform(-0.05, 0.2))]


def tee(hull: Body, u: ParamReader) -> list[Piece]:
    """A tailplane on top of the fin."""
    fin, tip, _ = _fin(hull, u)
    return [fin, _tailplane(tip - [0, 0.004, 0], u, u.uniform(-0.1, 0.05))]


def vee(hull: Body, u: ParamReader) -> list[Piece]:
    """Two slanting planes."""
    return [_tailplane(np.array([-0.4, hull.at(-0.4)[1], 0]), u, u.uniform(0.6, 1.1))]


def twin(hull: Body, u: ParamReader) -> list[Piece]:
    """A tailplane with a fin at each end."""
    span, chord, tall = u.uniform(0.1, 0.2), u.uniform(0.1, 0.14), u.uniform(0.06, 0.14)
    x, y = -0.42, hull.at(-0.42)[1]
    flat = wing((x, y, 0), (x, y, span), (chord, chord), 0.08)
    low = u.uniform(0.1, 0.5) * tall
    fin = wing((x - 0.01, y - low, span - 0.003), (x - 0.03, y + tall, span), (0.8 * chord, 0.6 * chord), 0.08)
    return [mirrored_copies(flat, axis=2), mirrored_copies(fin, axis=2)]


TAILS: dict[str, Callable[[Body, ParamReader], list[Piece]]] = {"plain": plain, "tee": tee, "vee": vee, "twin": twin}


def _nacelle(reach: float, wide: float) -> Piece:
    """A pod along x about 0, open ends drawn in."""
    profile = np.array([[0.0, 0.8], [0.8, 0.9], [1, 0.6], [0.95, 0], [0.6, -0.9], [0.35, -1], [0, -0.9]])
    return rotate(lathe(profile[::-1] * [wide, reach / 2], superellipse(2, 16)), 2, -np.pi / 2)


def _blades(u: ParamReader, reach: float) -> Piece:
    """A propeller in the plane across x, about 0."""
    blade = beams([[0, 0, 0]], [[reach, 0, 0]], [0.005, 0.012], 0.8, SQUARE)
    return rotate(rotated_copies(blade, u.integer(2, 4), u.uniform(0, 1)), 2, np.pi / 2)


def under(hull: Body, main: Wing, u: ParamReader) -> list[Piece]:
    """Two or four pods on pylons below the wing."""
    wide = u.uniform(0.018, 0.035)
    reach, drop, shares = (
        u.uniform(0.09, 0.15),
        wide * u.uniform(1.05, 1.5),
        (0.33, 0.62) if u.boolean(0.35) else (0.35,),
    )
    pieces = []
    for share in shares:
        at, chord = main.at(share)
        pod = at + [0.35 * chord, -drop, 0]
        pylon = beams([at], [pod], [0.006, 0.25 * chord], 0.8, SQUARE)
        pieces += [mirrored_copies(translate(_nacelle(reach, wide), pod), axis=2), mirrored_copies(pylon, axis=2)]
    return pieces


def rear(hull: Body, main: Wing, u: ParamReader) -> list[Piece]:
    """Two pods beside the rear of the body."""
    x, size = u.uniform(-0.34, -0.26), u.uniform(0.018, 0.03)
    wide, middle = hull.at(x)
    pod = np.array([x, middle + 0.4 * wide, wide + 1.1 * size])
    stub = beams([[x, middle + 0.3 * wide, 0]], [pod], [0.04, 0.006], None, SQUARE)
    return [
        mirrored_copies(translate(_nacelle(u.uniform(0.1, 0.16), size), pod), axis=2),
        mirrored_copies(stub, axis=2),
    ]


def props(hull: Body, main: Wing, u: ParamReader) -> list[Piece]:
    """Two or four engines in the wing, with propellers."""
    reach, pieces = u.uniform(0.06, 0.09), []
    for share in (0.3, 0.58) if u.boolean(0.3) else (0.32,):
        at, chord = main.at(share)
        length = 0.8 * chord + 0.05
        front = at + [0.3 * chord + 0.4 * length, 0, 0]
        pod = mirrored_copies(translate(_nacelle(length, 0.022), at + [0.3 * chord, 0, 0]), axis=2)
        pieces += [pod, mirrored_copies(translate(_blades(u, reach), front - [0.005, 0, 0]), axis=2)]
    return pieces


def propeller(hull: Body, main: Wing, u: ParamReader) -> list[Piece]:
    """One at the nose."""
    return [translate(_blades(u, u.uniform(0.07, 0.12)), (0.496, hull.at(0.496)[1], 0))]


ENGINES: dict[str, Callable[[Body, Wing, ParamReader], list[Piece]]] = {
    "none": lambda hull, main, u: [],
    "under": under,
    "rear": rear,
    "props": props,
    "propeller": propeller,
}


def gear(hull: Body, main: Wing, u: ParamReader) -> list[Piece]:
    """Two wheels on legs below the body, and floats in place of them in some."""
    x, drop = float(np.clip(main.root[0] + 0.06, -0.2, 0.3)), u.uniform(0.07, 0.12)
    wide, middle = hull.at(x)
    low, apart = middle - wide * hull.oval - drop, wide + u.uniform(0.02, 0.07)
    if u.boolean(0.2):
        pod = mirrored_copies(translate(_nacelle(0.45, 0.022), (x - 0.02, low, apart)), axis=2)
        legs = beams(
            [[x + 0.1, middle, 0], [x - 0.12, middle, 0]], [[x + 0.1, low, apart], [x - 0.12, low, apart]], 0.006
        )
        return [pod, mirrored_copies(legs, axis=2)]
    leg = beams([[x, middle, 0]], [[x, low, apart]], 0.007)
    wheel = beams([[x, low, apart - 0.012]], [[x, low, apart + 0.012]], 0.03)
    tail = hull.at(-0.44)
    third = beams([[-0.44, tail[1], 0]], [[-0.45, tail[1] - tail[0] - 0.4 * drop, 0]], 0.006)
    return [mirrored_copies(leg, axis=2), mirrored_copies(wheel, axis=2), third]
